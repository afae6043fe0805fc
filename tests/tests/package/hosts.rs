// SPDX-License-Identifier: Apache-2.0
//! The package on bare hosts of two Debian suites under systemd: installed, upgraded, rolled back, removed, purged.

use std::collections::BTreeMap;
use std::fs;

use ciao_tests::lab::{Booted, Engine, workspace};

use crate::scene::{FILES, boot, calling, difference, starts};

pub(crate) const INSTALL: &str = "apt-get install -qy /root/0.deb 2>&1";
const UPGRADE: &str = "apt-get install -qy /root/1.deb 2>&1";
const ROLLBACK: &str = "apt-get install -qy --allow-downgrades /root/0.deb 2>&1";

/// A network of tenant red with a container, and a launcher's instance.
pub(crate) fn use_it(host: &Booted) {
    host.sh("docker network create -d ciao-net --ipam-driver ciao-ipam -o tenant=red --ipam-opt tenant=red \
         --subnet 10.9.0.0/24 app
         docker run -d --name by-hand --net app --ip 10.9.0.9 busybox sleep 3600
         ciao-net launch --tenant blue --instance web --subnet 10.9.0.0/24 --ip 10.9.0.9 \
         --mac 02:00:00:00:00:09 busybox sleep 3600")
        .unwrap();
    assert!(works(host));
}

/// Whether both containers reach their gateways.
pub(crate) fn works(host: &Booted) -> bool {
    let pinged = host.try_sh(
        "docker exec by-hand ping -c 1 -W 2 10.9.0.1
         docker exec $(docker ps -q --filter name=web) ping -c 1 -W 2 10.9.0.1",
    );
    pinged.unwrap().code == 0
}

fn once() -> BTreeMap<&'static str, usize> {
    BTreeMap::from([("ciao-net", 1), ("ciao-ipam", 1)])
}

fn owners(host: &Booted) -> String {
    host.sh("stat -c '%n %U:%G %a' /run/ciao/*.sock").unwrap()
}

/// Scrapes both daemons over TCP, with the units and options of the page on monitoring.
fn scrape(host: &Booted) {
    let page = fs::read_to_string(workspace().join("docs/monitoring.md")).unwrap();
    let units = page.split("```ini\n").find(|block| block.starts_with("# /etc/systemd/system/ipam-metrics-proxy"));
    for unit in units.unwrap().split("```").next().unwrap().split("# ").skip(1) {
        let (path, text) = unit.split_once('\n').unwrap();
        fs::write(host.path(path), text).unwrap();
    }
    host.sh("sed -i 's/\"$/ --metrics 127.0.0.1:9477\"/' /etc/default/ciao-net
        systemctl daemon-reload; systemctl restart ciao-net; systemctl start ipam-metrics-proxy.socket")
        .unwrap();
    for (port, metric) in [(9477, "ciao_networks 2.0"), (9478, "ciao_pools 2.0")] {
        let ask = format!(
            "bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}; printf \"GET /metrics HTTP/1.1\\r\\nHost: ciao\\r\\n\\r\\n\" >&3; timeout 5 cat <&3 || true'"
        );
        let answer = host.sh(&ask).unwrap();
        println!("{}", answer.lines().take(12).collect::<Vec<_>>().join("\n"));
        assert!(answer.contains("200 OK") && answer.contains(metric), "{port}: {answer}");
    }
    host.sh("systemctl stop ipam-metrics-proxy.socket ipam-metrics-proxy.service
        rm /etc/systemd/system/ipam-metrics-proxy.*; systemctl daemon-reload")
        .unwrap();
}

fn installed_to_purged(suite: Engine) {
    let host = boot(suite, "package");
    let before = host.sh(FILES).unwrap();
    println!("{suite}: {}", host.sh(INSTALL).unwrap());
    assert_eq!(starts(&host), once(), "each daemon is started once");
    assert_eq!(
        owners(&host),
        "/run/ciao/ciao-ipam.sock root:root 660\n/run/ciao/ciao-net.sock root:root 660\n/run/ciao/control.sock root:ciao 660\n\
         /run/ciao/ipam-control.sock root:root 660\n/run/ciao/ipam-metrics.sock root:root 660\n\
         /run/ciao/net-metrics.sock root:root 660"
    );
    let limit = host.sh("systemctl show -P LimitNOFILE ciao-net; systemctl show -P LimitNOFILESoft ciao-net").unwrap();
    assert_eq!(limit, "1048576\n1048576");
    let enabled = "systemctl is-enabled ciao-net.service ciao-net.socket ciao-ipam.service ciao-ipam.socket | sort -u";
    assert_eq!(host.sh(enabled).unwrap(), "enabled");
    use_it(&host);

    // A launcher without root's rights, by its groups alone; and somebody without them.
    let group = host.sh("getent group ciao docker | cut -d: -f3 | paste -sd,").unwrap();
    let run_as = |groups: &str, command: &str| {
        let (user, command) = ("setpriv --reuid=65534 --regid=65534", format!("ciao-net {command} 2>&1"));
        host.try_sh(&format!("{user} {groups} {command}")).unwrap()
    };
    let launch = "launch --tenant green --instance own --subnet 10.9.0.0/24 --ip 10.9.0.7 --mac 02:00:00:00:00:07 \
                  busybox sleep 3600";
    for (command, shown) in [(launch, ""), ("vnic list", "green"), ("terminate own", "")] {
        let member = run_as(&format!("--groups={group}"), command);
        assert!(member.code == 0 && member.stdout.contains(shown), "{command}: {member:?}");
        let other = run_as("--clear-groups", command);
        assert!(other.code == 1 && other.stdout.contains("ermission denied"), "{command}: {other:?}");
    }

    // An upgrade under load, with a changed file of the administrator's.
    host.sh("sed -i 's/^CIAO_NET_OPTIONS=.*/CIAO_NET_OPTIONS=\"--reconcile-every 30\"/' /etc/default/ciao-net")
        .unwrap();
    for step in [UPGRADE, ROLLBACK] {
        let calls = calling(&host, || println!("{suite}: {}", host.sh(step).unwrap()));
        println!("{suite}: {} calls answered meanwhile, {} failed", calls.answered, calls.failures.len());
        assert!(calls.failures.is_empty() && calls.answered > 100, "{:?}", calls.failures.first());
        assert!(host.sh("tr '\\0' ' ' </proc/$(pidof ciao-net)/cmdline").unwrap().contains("--reconcile-every 30"));
        assert!(works(&host));
    }
    assert_eq!(starts(&host), BTreeMap::from([("ciao-net", 3), ("ciao-ipam", 3)]));
    scrape(&host);

    let removed = host.sh("apt-get remove -qy ciao 2>&1").unwrap();
    println!("{suite}: {removed}");
    for left in
        ["left: Docker networks", "app", "left: VNICs", "web", "namespace ciao-blue  left", "left: the database"]
    {
        assert!(removed.contains(left), "{left}: {removed}");
    }
    assert!(works(&host), "containers keep their network");
    assert!(host.sh("ls /run/ciao 2>&1 || true").unwrap().contains("No such file"), "no socket that nobody answers");

    // It comes back with everything that was there.
    host.sh(INSTALL).unwrap();
    assert!(works(&host));
    host.sh("docker rm -f by-hand; docker network rm app; ciao-net terminate --tenant blue web; docker rmi busybox")
        .unwrap();
    assert_eq!(host.sh("docker network ls -q -f driver=ciao-net; ip netns list").unwrap(), "");
    println!("{suite}: {}", host.sh("apt-get purge -qy ciao 2>&1").unwrap());
    assert_eq!(difference(&before, &host.sh(FILES).unwrap()), "");
    let left =
        "{ getent group ciao; ls /sys/class/net | grep -v -e lo -e docker0; nft list tables | grep ciao; } || true";
    assert_eq!(host.sh(left).unwrap(), "");
    assert_eq!(
        host.sh("systemctl --failed --no-legend; systemctl list-unit-files 'ciao*' --no-legend || true").unwrap(),
        ""
    );
}

#[test]
#[ignore = "boots a Debian: make test-package"]
fn bookworm_is_as_before_after_everything() {
    installed_to_purged(Engine::Bookworm);
}

#[test]
#[ignore = "boots a Debian: make test-package"]
fn trixie_is_as_before_after_everything() {
    installed_to_purged(Engine::Trixie);
}

/// Neither daemon is started again, so each start made or opened the database at the first attempt. `CIAO_STARTS` asks
/// for more than a hundred.
#[test]
#[ignore = "boots a Debian: make test-package"]
fn first_starts_of_both_daemons_at_once_fail_none() {
    let asked = std::env::var("CIAO_STARTS").map_or(100, |count| count.parse().expect("CIAO_STARTS is a number"));
    let host = boot(Engine::Trixie, "starts");
    host.sh(INSTALL).unwrap();
    let before = starts(&host);
    host.sh("systemctl mask --runtime --now docker.service docker.socket 2>&1").unwrap();
    for _ in 0..asked {
        host.sh("systemctl stop ciao-net.service ciao-ipam.service
             rm -r /var/lib/ciao/*
             systemctl reset-failed ciao-net.service ciao-ipam.service
             systemctl start ciao-net.service ciao-ipam.service")
            .unwrap();
    }
    assert_eq!(starts(&host), before.into_iter().map(|(name, count)| (name, count + asked)).collect());
    assert_eq!(host.sh("journalctl -q -u ciao-net -u ciao-ipam -p warning -o cat").unwrap(), "");
}
