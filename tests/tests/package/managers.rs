// SPDX-License-Identifier: Apache-2.0
//! Beside network managers that run: systemd-udevd, systemd-networkd and NetworkManager change nothing of ciao's links,
//! and do their work on the others.

use ciao_tests::lab::{Booted, Engine};
use ciao_tests::world::soon;

use crate::hosts::INSTALL;
use crate::scene::{boot_with, difference};

/// A machine outside, 203.0.113.2. That the host's end has an address and the default route is the manager's work.
const OUTSIDE: &str = "ip netns add inet; ip -n inet link set lo up
    ip link add ext0 type veth peer name eth0 netns inet
    ip -n inet address add 203.0.113.2/24 dev eth0; ip -n inet link set eth0 up";

/// A manager of links.
struct Manager {
    /// Of Debian's, where systemd's own are not enough.
    package: Option<&'static str>,
    unit: &'static str,
    /// What an administrator writes: an address for `ext0`.
    configure: &'static str,
    /// That every other link is the manager's, too.
    greedy: &'static str,
    /// What makes it look at all links again.
    again: &'static str,
    /// Prints each link and the manager's state of it.
    list: &'static str,
}

const NETWORKD: Manager = Manager {
    package: None,
    unit: "systemd-networkd",
    configure: "cd /etc/systemd/network
        printf '[Match]\nName=ext0\n[Network]\nAddress=203.0.113.1/24\nGateway=203.0.113.2\n' >20-ext.network
        printf '[Match]\nName=*\n[Network]\nDHCP=yes\n' >90-all.network
        systemctl start systemd-networkd",
    greedy: "",
    again: "networkctl reload; networkctl reconfigure $(ls /sys/class/net)",
    list: "networkctl --no-legend --no-pager list | awk '{ print $2, $NF }'",
};

const NETWORK_MANAGER: Manager = Manager {
    package: Some("network-manager"),
    unit: "NetworkManager",
    configure: "systemctl start NetworkManager
        nmcli connection add type ethernet ifname ext0 con-name ext ipv4.method manual \\
            ipv4.addresses 203.0.113.1/24 ipv4.gateway 203.0.113.2
        nmcli connection up ext",
    greedy: "printf '[device]\nmatch-device=*\nmanaged=1\n' >/etc/NetworkManager/conf.d/all.conf",
    again: "nmcli general reload",
    list: "nmcli --terse --fields DEVICE,STATE device | tr : ' '",
};

/// All that a manager could change of ciao's links and of the host's ways, on the host and in the tenants' namespaces.
const STATE: &str = "
    for link in $(ls /sys/class/net | grep -E '^c[uv]'); do
        echo $link $(cd /sys/class/net/$link; cat address addr_assign_type flags mtu ifalias)
        ip -oneline address show dev $link | grep -v 'inet6 fe80' || true
        for family in -4 -6; do ip $family route show dev $link | sed \"s/^/$link /\"; done
        ip neighbour show dev $link nud permanent | sed \"s/^/$link /\"
        cd /proc/sys/net; grep . ipv4/conf/$link/rp_filter ipv4/conf/$link/route_localnet ipv4/conf/$link/forwarding \\
            ipv6/conf/$link/accept_ra ipv6/conf/$link/disable_ipv6
    done
    grep . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding
    ip route show default | sed 's/ *$//'
    for tenant in $(ip netns list | sed 's/ .*//' | grep ^ciao-); do
        # The kernel's own view of a link comes a moment after the link.
        ip -n $tenant -oneline link | sed \"s/^/$tenant /; s/ <.*> / /; s/ state [A-Z]*//\"
        ip -n $tenant route | sed \"s/^/$tenant /\"
    done";

/// A tenant's network of both families with a container, and a VNIC of a launcher's whose link is still on the host.
fn tenant(host: &Booted, name: &str) {
    host.sh(&format!(
        "docker network create -d ciao-net --ipam-driver ciao-ipam -o tenant={name} --ipam-opt tenant={name} \
             --ipv6 --subnet 10.9.0.0/24 --subnet fd00:9::/64 {name}
         docker run -d --name {name} --net {name} busybox sleep 3600
         ciao-net vnic create --tenant {name} --instance later --subnet 10.9.0.0/24 --ip 10.9.0.9 --mac 02:00:00:00:00:09"
    ))
    .unwrap();
    assert!(soon(|| gets_out(host, name)), "{name}");
}

fn gets_out(host: &Booted, container: &str) -> bool {
    host.try_sh(&format!("docker exec {container} ping -c 1 -W 1 203.0.113.2")).unwrap().code == 0
}

/// Whether each uplink has the MAC address by which its tenant knows the host.
fn assert_known(host: &Booted) {
    let known = "for tenant in $(ip netns list | sed 's/ .*//' | grep ^ciao-); do
            ip -n $tenant -4 neighbour show dev up0 nud permanent | sed 's/.*lladdr \\([^ ]*\\).*/\\1/'
        done | sort";
    assert_eq!(host.sh(known).unwrap(), host.sh("cat /sys/class/net/cu*/address | sort").unwrap());
}

/// All that a manager does at a start, at a reload, and at an event of udev's for each link.
fn disturb(host: &Booted, manager: &Manager) {
    let Manager { unit, again, .. } = manager;
    host.sh(&format!(
        "for action in add change; do udevadm trigger --subsystem-match=net --action=$action --settle; done
         systemctl restart {unit}
         for try in $(seq 100); do ! ip route show default | grep -q ext0 || break; sleep 0.1; done
         {again}; udevadm settle; sleep 3"
    ))
    .unwrap();
}

/// What the manager says of ciao's links.
fn states(host: &Booted, manager: &Manager) -> Vec<String> {
    let listed = host.sh(manager.list).unwrap();
    let ours = listed.lines().filter(|line| line.starts_with("cu") || line.starts_with("cv"));
    ours.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

fn beside(manager: &Manager) {
    let host = boot_with(Engine::Trixie, "managers", manager.package);
    host.sh(&format!("systemctl stop {}; {OUTSIDE}", manager.unit)).unwrap();
    println!("{}", host.sh("systemctl --version | head -n 1; NetworkManager --version 2>&1 || true").unwrap());
    host.sh(manager.configure).unwrap();
    host.sh(INSTALL).unwrap();
    tenant(&host, "red");
    let before = host.sh(STATE).unwrap();
    disturb(&host, manager);
    assert_eq!(difference(&before, &host.sh(STATE).unwrap()), "");
    tenant(&host, "blue");
    assert!(gets_out(&host, "red"));
    assert_known(&host);
    assert_eq!(states(&host, manager), ["unmanaged"; 4]);

    // They do their work: the manager's own link is up, and udevd gives one of nobody's another MAC address.
    let listed = host.sh(manager.list).unwrap();
    assert!(listed.contains("ext0 connected") || listed.contains("ext0 configured"), "{listed}");
    host.sh("ip link add other0 type veth peer name other1; udevadm settle").unwrap();
    assert_eq!(host.sh("cat /sys/class/net/other0/addr_assign_type").unwrap(), "3", "MACAddressPolicy=persistent");
    host.sh("ip link delete other0").unwrap();

    // Without the package's hints, where the administrator gave every link to the manager.
    host.sh("rm /usr/lib/systemd/network/*ciao* /usr/lib/udev/rules.d/*ciao*; udevadm control --reload").unwrap();
    host.sh(manager.greedy).unwrap();
    tenant(&host, "green");
    let before = host.sh(STATE).unwrap();
    disturb(&host, manager);
    println!("without hints: {:?}\n{}", states(&host, manager), difference(&before, &host.sh(STATE).unwrap()));
    assert_known(&host);
    for tenant in ["red", "blue", "green"] {
        assert!(soon(|| gets_out(&host, tenant)), "{tenant}");
    }
}

#[test]
#[ignore = "boots a Debian: make test-package"]
fn systemd_networkd_leaves_ciao_s_links_alone() {
    beside(&NETWORKD);
}

#[test]
#[ignore = "boots a Debian: make test-package"]
fn network_manager_leaves_ciao_s_links_alone() {
    beside(&NETWORK_MANAGER);
}
