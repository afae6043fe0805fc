// SPDX-License-Identifier: Apache-2.0
//! A host with the packages on it, and what is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::scope;

use ciao_tests::lab::{Booted, Engine};
use ciao_tests::proxy::call;

use crate::made::packages;

/// Prints every file, folder and link of the root filesystem that belongs to the host's lasting state. Left out: what
/// the kernel makes, the packages' own book-keeping, logs, caches, and what cargo builds meanwhile.
pub(crate) const FILES: &str = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /root \
    -o -path /run -o -path /var/lib/docker -o -path /var/lib/containerd -o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg \
    -o -path /var/lib/apt -o -path /var/tmp -o -path /var/lib/systemd/random-seed \
    -o -name '*-' -path '/etc/*' -o -name target -path '*/target' \\) -prune -o -print | sort";

/// The lines of two sorted lists that only one has.
pub(crate) fn difference(before: &str, after: &str) -> String {
    let mark = |sign: &str, lines: &str, others: &str| {
        let others: BTreeSet<_> = others.lines().collect();
        lines.lines().filter(|line| !others.contains(line)).map(|line| format!("{sign}{line}\n")).collect::<String>()
    };
    mark("-", before, after) + &mark("+", after, before)
}

/// Boots a suite and puts both packages into /root, as 0.deb and 1.deb.
pub(crate) fn boot(suite: Engine, name: &str) -> Booted {
    boot_with(suite, name, None)
}

/// The same with one more package of Debian's on the host.
pub(crate) fn boot_with(suite: Engine, name: &str, package: Option<&str>) -> Booted {
    let host = Booted::start_with(suite, &format!("{name}-{suite}"), package).unwrap();
    for (index, package) in packages().iter().enumerate() {
        fs::copy(package, host.path(format!("/root/{index}.deb"))).unwrap();
    }
    host
}

/// The answers to a plugin's and a launcher's calls while something else is done.
pub(crate) struct Calls {
    pub(crate) answered: usize,
    pub(crate) failures: Vec<String>,
}

/// Calls all three sockets without a pause while `act` runs.
pub(crate) fn calling(host: &Booted, act: impl FnOnce()) -> Calls {
    let (done, answered, failures) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let ask = |path: &Path, method: &str| {
        while !done.load(Ordering::Acquire) {
            match call(path, method, "{}") {
                Ok((200, _)) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                Ok((status, reply)) => failures.lock().unwrap().push(format!("{method}: {status} {reply}")),
                Err(error) => failures.lock().unwrap().push(format!("{method}: {error}")),
            }
        }
    };
    scope(|scope| {
        for (socket, method) in [
            ("/run/ciao/ciao-net.sock", "NetworkDriver.GetCapabilities"),
            ("/run/ciao/ciao-ipam.sock", "IpamDriver.GetCapabilities"),
        ] {
            let path = host.path(socket);
            let ask = &ask;
            scope.spawn(move || ask(&path, method));
        }
        act();
        done.store(true, Ordering::Release);
    });
    Calls { answered: answered.into_inner(), failures: failures.into_inner().unwrap() }
}

/// How often each daemon was started since the host was booted.
pub(crate) fn starts(host: &Booted) -> BTreeMap<&'static str, usize> {
    let count = |name| host.sh(&format!("journalctl -q -u {name}.service -o cat | grep -c '^Started ' || true"));
    ["ciao-net", "ciao-ipam"].into_iter().map(|name| (name, count(name).unwrap().parse().unwrap())).collect()
}
