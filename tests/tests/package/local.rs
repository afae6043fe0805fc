// SPDX-License-Identifier: Apache-2.0
//! `make install`, and hosts where an installation without a package came first.

use ciao_tests::lab::{Booted, Engine, workspace};

use crate::hosts::{INSTALL, use_it, works};
use crate::made::{binaries, manual};
use crate::scene::{FILES, boot, calling, difference, starts};

/// The first installation there was, with programs of today: `tests/former`.
fn first_install() -> String {
    format!("sh {}/tests/former/install.sh {} 2>&1", workspace().display(), binaries().display())
}

fn script(name: &str) -> String {
    format!("sh {}/deploy/{name}.sh", workspace().display())
}

fn install() -> String {
    format!("{} {} {} 2>&1", script("install"), binaries().display(), manual().display())
}

/// Where the running daemons' programs are, and which unit files are theirs.
fn in_use(host: &Booted) -> String {
    host.sh(
        "for name in ciao-net ciao-ipam; do
         readlink /proc/$(pidof $name)/exe; systemctl show -P FragmentPath $name.service $name.socket | sed 's|^/lib|/usr/lib|'
         systemctl is-enabled $name.service $name.socket | sort -u; done | grep -v '^$'",
    )
    .unwrap()
}

fn all_in(programs: &str, units: &str) -> String {
    let of = |name| format!("{programs}/{name}\n{units}/{name}.service\n{units}/{name}.socket\nenabled");
    format!("{}\n{}", of("ciao-net"), of("ciao-ipam"))
}

fn the_package_takes_over(suite: Engine) {
    let host = boot(suite, "takeover");
    let before = host.sh(FILES).unwrap();
    host.sh(&first_install()).unwrap();
    assert_eq!(in_use(&host), all_in("/usr/local/bin", "/etc/systemd/system"));
    use_it(&host);
    let started = starts(&host)["ciao-net"];
    let calls = calling(&host, || println!("{suite}: {}", host.sh(INSTALL).unwrap()));
    println!("{suite}: {} calls answered meanwhile, {} failed", calls.answered, calls.failures.len());
    assert!(calls.failures.is_empty() && calls.answered > 100, "{:?}", calls.failures.first());
    assert_eq!(in_use(&host), all_in("/usr/bin", "/usr/lib/systemd/system"));
    assert_eq!(starts(&host)["ciao-net"], started + 1);
    assert_eq!(host.sh("stat -c %U:%G /run/ciao/control.sock").unwrap(), "root:ciao");
    assert!(works(&host));
    let refused = host.try_sh(&install()).unwrap();
    assert!(refused.code == 1 && refused.stdout.contains("the Debian package ciao is installed"), "{refused:?}");

    // Back to what was there before the package, and forth again.
    host.sh("apt-get remove -qy ciao").unwrap();
    host.sh(&first_install()).unwrap();
    assert_eq!(in_use(&host), all_in("/usr/local/bin", "/etc/systemd/system"));
    assert!(works(&host));
    host.sh(INSTALL).unwrap();
    assert_eq!(in_use(&host), all_in("/usr/bin", "/usr/lib/systemd/system"));
    assert!(works(&host));
    host.sh("docker rm -f by-hand; docker network rm app; ciao-net terminate --tenant blue web; docker rmi busybox")
        .unwrap();
    host.sh("apt-get purge -qy ciao").unwrap();
    assert_eq!(difference(&before, &host.sh(FILES).unwrap()), "");
}

#[test]
#[ignore = "boots a Debian: make test-package"]
fn the_package_takes_over_a_first_installation_on_bookworm() {
    the_package_takes_over(Engine::Bookworm);
}

#[test]
#[ignore = "boots a Debian: make test-package"]
fn the_package_takes_over_a_first_installation_on_trixie() {
    the_package_takes_over(Engine::Trixie);
}

#[test]
#[ignore = "boots a Debian: make test-package"]
fn a_changed_unit_stays_the_administrator_s() {
    let host = boot(Engine::Trixie, "changed");
    host.sh(&first_install()).unwrap();
    host.sh("sed -i 's/ serve$/ serve --reconcile-every 30/' /etc/systemd/system/ciao-net.service").unwrap();
    let printed = host.sh(INSTALL).unwrap();
    assert!(printed.contains("kept: /etc/systemd/system/ciao-net.service"), "{printed}");
    let running = "readlink /proc/$(pidof ciao-net)/exe; tr '\\0' ' ' </proc/$(pidof ciao-net)/cmdline";
    let running = host.sh(running).unwrap();
    assert!(running.starts_with("/usr/bin/ciao-net\n") && running.ends_with("--reconcile-every 30"), "{running}");
    host.sh("ls /usr/local/bin/ciao-ipam 2>/dev/null && exit 1; apt-get purge -qy ciao").unwrap();
    assert_eq!(
        host.sh("ls /etc/systemd/system/ciao-* /usr/local/bin").unwrap(),
        "/etc/systemd/system/ciao-net.service\n\n/usr/local/bin:"
    );
}

#[test]
#[ignore = "boots a Debian: make test-package"]
fn an_installation_without_a_package_is_upgraded_and_removed() {
    let host = boot(Engine::Bookworm, "local");
    let before = host.sh(FILES).unwrap();
    let packages = host.sh("dpkg-query -W").unwrap();
    host.sh(&first_install()).unwrap();
    host.sh(&install()).unwrap();
    assert_eq!(in_use(&host), all_in("/usr/local/bin", "/usr/local/lib/systemd/system"));
    assert_eq!(host.sh("stat -c '%G %a' /run/ciao/control.sock").unwrap(), "ciao 660");
    use_it(&host);
    // What was changed stays changed, what was removed stays away; the rest is renewed.
    host.sh("echo 'CIAO_NET_OPTIONS=\"--reconcile-every 30\"' >/etc/default/ciao-net; rm /etc/default/ciao-ipam")
        .unwrap();
    host.sh("echo stale >>/usr/local/share/man/man8/ciao-net.8").unwrap();
    let started = starts(&host)["ciao-net"];
    let mut printed = String::new();
    let calls = calling(&host, || printed = host.sh(&install()).unwrap());
    assert!(calls.failures.is_empty() && calls.answered > 100, "{:?}", calls.failures.first());
    assert!(printed.contains("kept: /etc/default/ciao-net, which was changed"), "{printed}");
    assert_eq!(starts(&host)["ciao-net"], started + 1);
    assert!(host.sh("tr '\\0' ' ' </proc/$(pidof ciao-net)/cmdline").unwrap().contains("--reconcile-every 30"));
    host.sh("[ ! -e /etc/default/ciao-ipam ]; ! grep stale /usr/local/share/man/man8/ciao-net.8").unwrap();
    assert!(works(&host));

    let refused = host.try_sh(&script("uninstall")).unwrap();
    assert!(refused.code == 1 && refused.stderr.contains("Docker still has networks"), "{refused:?}");
    host.sh("docker rm -f by-hand; docker network rm app; ciao-net terminate --tenant blue web; docker rmi busybox")
        .unwrap();
    let printed = host.sh(&format!("{} 2>&1", script("uninstall"))).unwrap();
    assert!(printed.contains("left: the database") && printed.contains("left: /etc/default/ciao-net"), "{printed}");
    host.sh(&format!("rm /etc/default/ciao-net; {} --purge", script("uninstall"))).unwrap();
    assert_eq!(difference(&before, &host.sh(FILES).unwrap()), "");
    assert_eq!(
        host.sh("getent group ciao || true; systemctl list-unit-files 'ciao*' --no-legend || true").unwrap(),
        ""
    );
    assert_eq!(host.sh("dpkg-query -W").unwrap(), packages, "no package came or went");
}
