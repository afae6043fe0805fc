// SPDX-License-Identifier: Apache-2.0
//! A host between networks that have nothing to do with each other: a LAN, a management network, and the internet.

use ciao_tests::lab::{Builder, Host};
use ciao_tests::world::{Place, network, serve};

/// Subnets of a tenant's network, and its container's addresses.
pub(crate) const SUBNETS: &str = "--ipv6 --subnet 10.5.0.0/24 --subnet fd00:5::/64";

/// `lan0` (198.51.100.1) leads to the LAN's machine 198.51.100.2, `mgmt0` (192.0.2.1) to 192.0.2.2. Both machines have
/// the host as their router, and answer at port 80 with their names.
const SEGMENTS: &str = "
    segment() {
        ip netns add $1
        ip link add ${1}0 type veth peer name eth0 netns $1
        ip address add $2.1/24 dev ${1}0
        ip address add $3::1/64 dev ${1}0 nodad
        ip link set ${1}0 up
        ip -n $1 address add $2.2/24 dev eth0
        ip -n $1 address add $3::2/64 dev eth0 nodad
        ip -n $1 link set lo up
        ip -n $1 link set eth0 up
        ip -n $1 route add default via $2.1
        ip -n $1 -6 route add default via $3::1
        mkdir -p /run/$1
        echo $1 >/run/$1/index.html
        ip netns exec $1 busybox httpd -p 80 -h /run/$1
    }
    segment lan 198.51.100 2001:db8:a
    segment mgmt 192.0.2 2001:db8:b";

/// A host with all that stands around it.
pub(crate) struct Scene {
    pub(crate) host: Host,
    pub(crate) itself: Place,
    /// Which answers as long as it lives.
    _internet: Place,
    pub(crate) lan: Place,
    pub(crate) mgmt: Place,
}

/// The scene of a stock host.
pub(crate) fn open(name: &str) -> Scene {
    scene(Host::builder().name(name))
}

pub(crate) fn scene(builder: Builder) -> Scene {
    let host = builder.start().unwrap();
    let internet = Place::internet(&host).unwrap();
    host.sh(SEGMENTS).unwrap();
    let place = |name| Place::named(&host, name).unwrap();
    Scene { itself: Place::host(&host).unwrap(), _internet: internet, lan: place("lan"), mgmt: place("mgmt"), host }
}

impl Scene {
    /// What of one IPv4 and one IPv6 datagram the host forwards from the LAN to the management network.
    pub(crate) fn forwarded(&self) -> Vec<String> {
        // The neighbours are known then.
        assert!(self.itself.pings("2001:db8:b::2") && self.lan.pings("2001:db8:a::1"));
        let wire = self.mgmt.wire("eth0").unwrap();
        self.lan.send_datagram("192.0.2.2:9", "IPv4").unwrap();
        self.lan.send_datagram("[2001:db8:b::2]:9", "IPv6").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        self.itself.send_datagram("192.0.2.2:9", "end").unwrap();
        wire.received("end").unwrap().into_iter().filter(|name| name != "end").collect()
    }

    /// A tenant's network, and its container, which serves port 80 at 8080 of the host.
    pub(crate) fn publish(&self, tenant: &str, options: &str) -> Place {
        network(&self.host, tenant, tenant, &format!("{SUBNETS} {options}")).unwrap();
        serve(&self.host, tenant, &format!("--network {tenant} -p 8080:80")).unwrap()
    }

    /// What a reboot leaves: nothing in the kernel, all that is on the disk. The daemons start in the order of their
    /// units.
    pub(crate) fn reboot(&self) {
        let host = &self.host;
        host.dockerd().stop().unwrap();
        host.ciao_net().stop().unwrap();
        host.sh("for namespace in $(ip netns list | sed 's/ .*//' | grep '^ciao'); do ip netns delete $namespace; done
            ! [ -e /sys/class/net/docker0 ] || ip link delete docker0
            nft flush ruleset
            for tool in iptables ip6tables; do
                for table in filter nat; do $tool -t $table -F; $tool -t $table -X; done
                $tool -P FORWARD ACCEPT
            done
            echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding
            while ls /sys/class/net | grep -q '^cu'; do sleep 0.05; done")
            .unwrap();
        // A record of before this boot means nothing.
        host.sh(
            "sqlite3 /var/lib/ciao/ciao.db \"UPDATE host_setting SET boot = 'an earlier one'\" 2>/dev/null || true",
        )
        .unwrap();
        host.ciao_net().start().unwrap();
        host.dockerd().start().unwrap();
    }
}

pub(crate) fn page(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub(crate) fn sql(host: &Host, statement: &str) -> String {
    host.sh(&format!("sqlite3 -readonly /var/lib/ciao/ciao.db \"{statement}\"")).unwrap()
}

/// The policies of FORWARD, IPv4's first.
pub(crate) fn policies(host: &Host) -> String {
    host.sh("for tool in iptables ip6tables; do $tool -S FORWARD | grep -e -P; done").unwrap()
}
