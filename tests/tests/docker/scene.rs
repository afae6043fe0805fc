// SPDX-License-Identifier: Apache-2.0
//! What the scenarios share: running containers, looking into them, reading what ciao records.

use std::thread::sleep;
use std::time::{Duration, Instant};

use ciao_common::cli::client::Client;
use ciao_tests::lab::Host;
use serde_json::{Value, json};

/// What containers run: it ends at SIGTERM, so that `docker stop` need not wait.
pub(crate) const LIVE: [&str; 4] = ["busybox", "sh", "-c", "trap exit TERM; sleep 600 & wait"];
/// Facts of the host, and what happened on it, which stay.
const FACTS: [&str; 5] = ["setting", "host_setting", "host_route", "endpoint_event", "lease_event"];
/// How long something that happens in the background may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// `docker network create` of both our drivers; returns the network's id.
pub(crate) fn network(host: &Host, name: &str, args: &[&str]) -> String {
    let create = ["network", "create", "-d", "ciao-net", "--ipam-driver", "ciao-ipam"];
    host.docker(&[&create, args, &[name]].concat()).unwrap()
}

/// `docker run` in the background, with arguments before the image.
pub(crate) fn run(host: &Host, name: &str, args: &[&str]) {
    host.docker(&[&["run", "-d", "--name", name], args, &LIVE].concat()).unwrap();
}

/// What a shell script prints inside a container.
pub(crate) fn exec(host: &Host, container: &str, script: &str) -> String {
    host.docker(&["exec", container, "sh", "-euc", script]).unwrap()
}

/// Whether one of three pings from a container is answered: the first one over IPv6 may be sent before its bridge
/// forwards multicast.
pub(crate) fn reaches(host: &Host, container: &str, target: &str) -> bool {
    let script = "for i in 1 2 3; do ping -c 1 -W 1 \"$0\" >/dev/null && exit; done; exit 1";
    host.try_docker(&["exec", container, "sh", "-c", script, target]).unwrap().code == 0
}

/// Whether a ping from a container is unanswered.
pub(crate) fn is_cut_off(host: &Host, container: &str, target: &str) -> bool {
    host.try_docker(&["exec", container, "ping", "-c", "1", "-W", "1", target]).unwrap().code == 1
}

/// A container's interfaces.
pub(crate) fn interfaces(host: &Host, container: &str) -> Vec<String> {
    exec(host, container, "ls /sys/class/net").split_whitespace().map(str::to_owned).collect()
}

/// The container's addresses of an interface, with their prefixes, without link-local ones.
pub(crate) fn addresses(host: &Host, container: &str, interface: &str) -> Vec<String> {
    let printed = exec(host, container, &format!("ip -o addr show {interface}"));
    let fields = printed.lines().filter_map(|line| line.split_whitespace().nth(3));
    fields.filter(|address| !address.starts_with("fe80:")).map(str::to_owned).collect()
}

/// An interface's MAC address and MTU.
pub(crate) fn mac_and_mtu(host: &Host, container: &str, interface: &str) -> (String, String) {
    let printed = exec(host, container, &format!("cd /sys/class/net/{interface}; cat address mtu"));
    printed.split_once('\n').map(|(mac, mtu)| (mac.to_owned(), mtu.to_owned())).unwrap()
}

/// Runs shell commands at the same time; each must succeed.
pub(crate) fn at_once(host: &Host, commands: impl IntoIterator<Item = String>) {
    let start = |command: String| format!("{command} & all=\"$all $!\"\n");
    let starts: String = commands.into_iter().map(start).collect();
    host.sh(&format!("all=\n{starts}for one in $all; do wait $one; done")).unwrap();
}

/// A template of `docker inspect`.
pub(crate) fn inspect(host: &Host, what: &str, template: &str) -> String {
    host.docker(&["inspect", "-f", template, what]).unwrap()
}

/// What a script prints, as JSON.
pub(crate) fn printed_json(host: &Host, script: &str) -> Value {
    serde_json::from_str(&host.sh(script).unwrap()).unwrap()
}

/// What a statement finds in ciao's database, beside the running daemons, as an administrator would ask.
pub(crate) fn sql(host: &Host, statement: &str) -> String {
    let output = host.command(["sqlite3", "-readonly", "/var/lib/ciao/ciao.db", statement]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{statement}: {printed} (is there a sqlite3? apt-get install sqlite3)");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(50));
    }
}

/// The command fails, and its error has all of `words`.
pub(crate) fn refused(host: &Host, script: &str, words: &[&str]) {
    let output = host.try_sh(script).unwrap();
    assert_ne!(output.code, 0, "`{script}` should be refused");
    for word in words {
        assert!(output.stderr.contains(word), "`{script}` should print {word:?}, it prints: {}", output.stderr);
    }
}

/// The kernel's part of what must go: namespaces, links, and rules of ours in the host's firewall.
const TRACES: &str = "
    ip netns list | grep ^ciao || true
    nft list tables | grep ciao || true
    for family in iptables ip6tables; do
        for chain in DOCKER-USER FORWARD; do
            $family -S $chain 2>/dev/null | grep -e '-[io] cu' || true
        done
    done
    ls /sys/class/net
";

/// No row, no container and no network of Docker's, no network namespace, no rule, and no link but the loopback,
/// Docker's own bridge and what the scenario made itself. Waits for it: ciao deletes links in the background, and a
/// lease or a rule may go a moment after the command that made it needless.
pub(crate) fn assert_nothing_left(host: &Host, own_links: &[&str]) {
    let docker = Client::new("dockerd", host.path("/run/docker.sock")).unwrap();
    let tables = sql(host, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'");
    let count = |table: &str| format!("SELECT '{table}: '||count(*) AS n FROM {table} HAVING count(*) > 0");
    let counts: Vec<_> = tables.lines().filter(|table| !FACTS.contains(table)).map(count).collect();
    let left = || {
        let rows = sql(host, &counts.join(" UNION ALL "));
        let known = |line: &&str| ["lo", "docker0"].contains(line) || own_links.contains(line);
        let traces = host.sh(TRACES).unwrap();
        let traces: Vec<_> = traces.split('\n').filter(|line| !known(line)).collect();
        [rows, traces.join("\n")].join("\n").trim().to_owned()
    };
    let since = Instant::now();
    while since.elapsed() < PATIENCE && !left().is_empty() {
        sleep(Duration::from_millis(50));
    }
    assert_eq!(left(), "");
    for of_docker in ["/containers/json?all=true", "/networks?filters=%7B%22type%22:%5B%22custom%22%5D%7D"] {
        assert_eq!(docker.get(of_docker).unwrap().body, json!([]), "{of_docker}");
    }
}
