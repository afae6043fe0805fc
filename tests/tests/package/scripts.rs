// SPDX-License-Identifier: Apache-2.0
//! The package's scripts on a host where systemd does not run, such as a container or an image that is being built.

use std::fs;
use std::path::PathBuf;

use ciao_tests::lab::{Engine, Host, workspace};

use crate::made::packages;
use crate::scene::{FILES, difference};

/// Without systemd, the daemons are an administrator's to start and to end.
const START: &str = "for daemon in ciao-ipam ciao-net; do $daemon serve >/dev/null 2>&1 & done; \
    until ciao-net vnic list >/dev/null 2>&1 && [ -S /run/ciao/control.sock ]; do sleep 0.1; done";
const END: &str = "kill $(pidof ciao-net ciao-ipam); while pidof ciao-net ciao-ipam; do sleep 0.1; done";

/// A network of both families, as soon as the daemons answer.
const CREATE: &str = "until docker network create -d ciao-net --ipam-driver ciao-ipam --ipv6 --subnet 10.9.0.0/24 \
    --subnet fd00:9::/64 app; do sleep 0.1; done";
/// The host's settings that it needs, and what there is of ciao's rules.
const STATE: &str = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding; iptables -S; \
    ip6tables -S; nft list tables | grep ciao || true";

/// A private host over the machine's own root filesystem, which is a Debian with dpkg.
fn host() -> Host {
    host_with([])
}

/// [`FILES`] without the folder that has the workspace, where people and cargo work meanwhile.
fn files() -> String {
    let folder: PathBuf = workspace().components().take(2).collect();
    FILES.replace("-path /root ", &format!("-path /root -o -path {} ", folder.display()))
}

fn host_with<const N: usize>(dockerd_args: [&str; N]) -> Host {
    let builder = Host::builder().name("package").engine(Engine::Machine).ciao(false);
    let host = builder.dockerd_args(dockerd_args).start().unwrap();
    for (index, package) in packages().iter().enumerate() {
        fs::copy(package, host.path(format!("/root/{index}.deb"))).unwrap();
    }
    host
}

#[test]
#[ignore = "builds cargo-deb and the package: make test-package"]
fn purging_leaves_the_files_of_the_host_as_before() {
    let host = host();
    host.sh("groupdel ciao 2>/dev/null || rmdir /etc/docker/plugins && rmdir /etc/docker || true").unwrap();
    let before = host.sh(&files()).unwrap();
    assert!(before.contains("/usr/bin/dpkg"), "{before}");
    host.sh("dpkg -i /root/0.deb").unwrap();
    assert!(host.sh("getent group ciao").unwrap().starts_with("ciao:"));
    for (program, line) in
        ["ciao-net", "ciao-ipam"].iter().zip(host.sh("ciao-net --version; ciao-ipam --version").unwrap().lines())
    {
        let version = line.strip_prefix(&format!("{program} {}", env!("CARGO_PKG_VERSION")));
        let commit = version.unwrap().strip_prefix(" (").and_then(|rest| rest.strip_suffix(')'));
        let is_commit =
            commit.is_some_and(|hash| hash.len() == 12 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(version == Some("") || is_commit, "{line}");
    }
    // What an administrator changed stays, over an upgrade and a removal.
    host.sh("echo 'CIAO_NET_OPTIONS=\"--scope local\"' >/etc/default/ciao-net; rm /etc/default/ciao-ipam").unwrap();
    host.sh("dpkg -i /root/1.deb; dpkg -i --force-downgrade /root/0.deb; dpkg -r ciao").unwrap();
    assert_eq!(host.sh("cat /etc/default/ciao-net").unwrap(), "CIAO_NET_OPTIONS=\"--scope local\"");
    assert!(host.sh("ls /etc/default/ciao-ipam /usr/bin/ciao-net").is_err());
    host.sh("dpkg -P ciao").unwrap();
    assert_eq!(difference(&before, &host.sh(&files()).unwrap()), "");
    assert_eq!(host.sh("getent group ciao || true").unwrap(), "");
}

#[test]
#[ignore = "builds cargo-deb and the package: make test-package"]
fn a_group_with_members_outlives_a_purge() {
    let host = host();
    host.sh("dpkg -i /root/0.deb; usermod -aG ciao nobody").unwrap();
    let printed = host.try_sh("dpkg -P ciao").unwrap();
    assert!(printed.stderr.contains("left: group ciao, with members nobody"), "{printed:?}");
    assert!(host.sh("getent group ciao").unwrap().ends_with(":nobody"));
}

#[test]
#[ignore = "builds cargo-deb and the package: make test-package"]
fn removing_lists_what_a_launcher_still_has_and_purging_removes_it() {
    let host = host();
    let before = host.sh("ls /sys/class/net; nft list tables").unwrap();
    host.sh("dpkg -i /root/0.deb").unwrap();
    host.sh(START).unwrap();
    host.sh("until ciao-net vnic create --tenant red --instance web --subnet 10.9.0.0/24 --ip 10.9.0.2 \
         --mac 02:00:00:00:00:02; do sleep 0.1; done")
        .unwrap();
    host.sh(END).unwrap();
    let removed = host.try_sh("dpkg -r ciao").unwrap();
    assert_eq!(removed.code, 0, "{removed:?}");
    for left in ["left: VNICs", "web", "left: the database in /var/lib/ciao"] {
        assert!(removed.stderr.contains(left), "{left}: {removed:?}");
    }
    let restored = "network namespace ciao-red";
    assert!(removed.stderr.contains(restored) && removed.stderr.contains("--remove-vnics"), "{removed:?}");
    assert!(host.sh("ip netns list").unwrap().contains("ciao-red"));
    host.sh("dpkg -P ciao").unwrap();
    assert_eq!(host.sh("ip netns list").unwrap(), "");
    // The kernel takes links away a moment later.
    let gone = format!(
        "for i in $(seq 50); do [ \"$(ls /sys/class/net; nft list tables)\" != '{before}' ] || exit 0; sleep 0.1; done; ls /sys/class/net; nft list tables; exit 1"
    );
    host.sh(&gone).unwrap();
}

#[test]
#[ignore = "builds cargo-deb and the package: make test-package"]
fn removal_restores_the_settings_of_the_host() {
    let host = host_with(["--iptables=false", "--ip-forward=false"]);
    let before = host.sh(STATE).unwrap();
    host.sh("dpkg -i /root/0.deb").unwrap();
    host.sh(START).unwrap();
    host.sh(CREATE).unwrap();
    assert_ne!(host.sh(STATE).unwrap(), before);
    host.sh("docker network rm app").unwrap();
    host.sh(END).unwrap();
    let removed = host.try_sh("dpkg -r ciao").unwrap();
    println!("{}", removed.stderr);
    assert!(removed.code == 0 && removed.stderr.contains("net.ipv4.ip_forward"), "{removed:?}");
    assert_eq!(host.sh(STATE).unwrap(), before);
    assert!(host.sh("ls /var/lib/ciao/ciao-net").is_err(), "nothing is left for a purge");
}

#[test]
#[ignore = "builds cargo-deb and the package: make test-package"]
fn a_purge_restores_what_a_removal_had_to_leave() {
    let host = host_with(["--iptables=false", "--ip-forward=false"]);
    let state = format!("{STATE}; ls /var/lib /run | grep ciao || true");
    let before = host.sh(&state).unwrap();
    host.sh("ip netns add ciao-lab; dpkg -i /root/0.deb").unwrap();
    host.sh(START).unwrap();
    host.sh(CREATE).unwrap();
    host.sh(END).unwrap();
    let removed = host.try_sh("dpkg -r ciao").unwrap();
    assert!(removed.stderr.contains("--remove-vnics"), "{removed:?}");
    let purged = host.try_sh("dpkg -P ciao").unwrap();
    assert!(purged.code == 0 && purged.stderr.contains("net.ipv4.ip_forward"), "{purged:?}");
    assert_eq!(host.sh(&state).unwrap(), before);
    assert_eq!(host.sh("ls /run/netns").unwrap(), "ciao-lab");
}

#[test]
#[ignore = "builds cargo-deb and the package: make test-package"]
fn a_purge_cuts_off_no_container() {
    let host = host();
    host.sh("dpkg -i /root/0.deb; ip link add lan type bridge; ip link set lan up; ip addr add 10.7.0.1/24 dev lan")
        .unwrap();
    host.sh(START).unwrap();
    let create = "docker network create -d ciao-net --ipam-driver ciao-ipam";
    host.sh(&format!(
        "until {create} -o tenant=red --subnet 10.5.0.0/24 red; do sleep 0.1; done
         {create} -o host_bridge=lan --subnet 10.7.0.0/24 --gateway 10.7.0.1 lan
         docker run -d --network red --name one busybox sleep 1000
         docker run -d --network lan --name two busybox sleep 1000"
    ))
    .unwrap();
    host.sh(END).unwrap();
    host.sh("dpkg -r ciao").unwrap();
    let purged = host.try_sh("dpkg -P ciao").unwrap();
    assert!(purged.code == 0 && purged.stderr.matches("running containers (hv").count() == 2, "{purged:?}");
    for (container, gateway) in [("one", "10.5.0.1"), ("two", "10.7.0.1")] {
        host.sh(&format!("docker exec {container} ping -c 1 -W 2 {gateway}")).unwrap();
    }
}

#[test]
#[ignore = "builds cargo-deb and the package: make test-package"]
fn the_programs_stay_if_the_host_cannot_be_restored() {
    let host = host();
    host.sh("dpkg -i /root/0.deb").unwrap();
    host.sh(START).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/uninstall.sh");
    let refused = host.try_sh(&format!("sh {script}")).unwrap();
    assert!(refused.code != 0 && refused.stderr.contains("ciao-net"), "{refused:?}");
    assert!(!refused.stdout.contains("uninstalled"), "{refused:?}");
}
