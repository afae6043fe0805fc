// SPDX-License-Identifier: Apache-2.0
//! What tenants and the host share: each has its part, and what one leaves behind does not stay.

mod ports;

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use ciao_netdriver::Shares;
use nix::sched::{CloneFlags, setns};
use serde_json::json;

use crate::apart::{run, soon, tests};
use crate::driver::{Bench, id};

/// A network namespace of a name.
pub(crate) struct Place(pub(crate) &'static str);

impl Place {
    /// Runs `work` with a thread in it.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(File::open(format!("/run/netns/{}", self.0)).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }

    fn udp(&self, at: &str) -> UdpSocket {
        let socket = self.within(|| UdpSocket::bind(at).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket
    }
}

pub(crate) const BOX2: Place = Place("box2");
pub(crate) const BOX4: Place = Place("box4");
pub(crate) const LAN: Place = Place("lan");

/// A machine beyond the host, 198.51.100.2 and 2001:db8::2; the host is 198.51.100.1 and 2001:db8::1.
pub(crate) fn lan() {
    run("ip netns add lan");
    run("ip link add lan0 address 02:00:00:00:01:01 type veth peer name eth0 address 02:00:00:00:01:02 netns lan");
    run("ip addr add 198.51.100.1/24 dev lan0");
    run("ip link set lan0 up");
    run("ip addr add 2001:db8::1/64 dev lan0 nodad");
    run("ip -n lan addr add 2001:db8::2/64 dev eth0 nodad");
    run("ip route add default via 198.51.100.2");
    run("ip -n lan addr add 198.51.100.2/24 dev eth0");
    run("ip -n lan link set eth0 up");
    run("ip -n lan link set lo up");
    // The kernel's table of neighbours is one for all namespaces, and other tests fill it.
    for (family, host, there) in [("-4", "198.51.100.1", "198.51.100.2"), ("-6", "2001:db8::1", "2001:db8::2")] {
        run(&format!("ip {family} neigh replace {there} lladdr 02:00:00:00:01:02 nud permanent dev lan0"));
        run(&format!("ip {family} -n lan neigh replace {host} lladdr 02:00:00:00:01:01 nud permanent dev eth0"));
    }
}

/// Tenants red and blue with a container each, which is 10.1.0.2 and fd00:1::2.
pub(crate) fn two_tenants(bench: &Bench) {
    for (tenant, n) in [("red", 2), ("blue", 4)] {
        let data = ["10.1.0.0/16 10.1.0.1/16", "fd00:1::/64 fd00:1::1/64"].map(|of| {
            let (pool, gateway) = of.split_once(' ').unwrap();
            json!([{ "AddressSpace": "LocalDefault", "Pool": pool, "Gateway": gateway }])
        });
        let options = json!({ "com.docker.network.generic": { "tenant": tenant, "bridge": "br0", "egress": "nat" } });
        let id = id(tenant);
        bench.ok(
            "CreateNetwork",
            &json!({ "NetworkID": id, "Options": options, "IPv4Data": data[0], "IPv6Data": data[1] }),
        );
        bench.run_dual(tenant, n, "10.1.0.2/16", "fd00:1::2/64");
        run(&format!("ip -n box{n} route add default via fd00:1::1"));
    }
}

/// A socket beyond the host for each family.
fn receivers() -> [UdpSocket; 2] {
    ["198.51.100.2:53", "[2001:db8::2]:53"].map(|at| {
        let (receiver, to) = (LAN.udp(at), at.parse::<SocketAddr>().unwrap());
        let any: IpAddr = if to.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
        let sender = UdpSocket::bind((any, 0)).unwrap();
        // The neighbours are found first, which takes its time with a new IPv6 link.
        assert!(soon(|| sender.send_to(b"x", to).is_ok() && receiver.recv_from(&mut [0; 8]).is_ok()));
        while receiver.recv_from(&mut [0; 8]).is_ok() {}
        receiver
    })
}

/// A container's own address of the family of another one.
pub(crate) fn own(to: SocketAddr, port: u16) -> SocketAddr {
    let own: IpAddr = if to.is_ipv4() { "10.1.0.2" } else { "fd00:1::2" }.parse().unwrap();
    SocketAddr::new(own, port)
}

/// The source addresses that datagrams had which were sent from so many ports of a container.
fn sources(from: &Place, to: SocketAddr, ports: std::ops::Range<u16>, receiver: &UdpSocket) -> BTreeSet<SocketAddr> {
    let mut seen = BTreeSet::new();
    for port in ports {
        let socket = from.udp(&own(to, port).to_string());
        // What is refused is dropped in silence. On a busy machine a datagram may be late: it is sent again.
        let received = (0..4).find_map(|_| {
            drop(socket.send_to(b"x", to));
            std::iter::from_fn(|| receiver.recv_from(&mut [0; 8]).ok())
                .map(|(_, source)| source)
                .find(|source| !seen.contains(source))
        });
        seen.extend(received);
    }
    seen
}

fn all_at_once(from: &Place, to: SocketAddr, ports: std::ops::Range<u16>) {
    from.within(|| {
        for port in ports {
            drop(UdpSocket::bind(own(to, port)).unwrap().send_to(b"x", to));
        }
    });
}

/// How many entries the host's table of connections has.
pub(crate) fn tracked() -> usize {
    run("cat /proc/sys/net/netfilter/nf_conntrack_count").trim().parse().unwrap()
}

tests! {
    fn each_tenant_leaves_by_source_ports_of_its_own(_kernel) {
        lan();
        let bench = Bench::new();
        two_tenants(&bench);
        for receiver in receivers() {
            let to = receiver.local_addr().unwrap();
            let red = sources(&BOX2, to, 2000..2020, &receiver);
            let blue = sources(&BOX4, to, 2000..2020, &receiver);
            assert!(red.len() == 20 && blue.len() == 20, "{red:?} {blue:?}");
            let ports = |sources: &BTreeSet<SocketAddr>| {
                let ports: BTreeSet<_> = sources.iter().map(SocketAddr::port).collect();
                (*ports.first().unwrap(), *ports.last().unwrap())
            };
            let ((red_first, red_last), (blue_first, blue_last)) = (ports(&red), ports(&blue));
            assert!(red_last < blue_first || blue_last < red_first, "{red:?} {blue:?}");
            assert!(red_first >= 1024 && blue_last < 32768, "{red:?} {blue:?}");
        }
    }

    fn a_tenant_that_uses_up_its_source_ports_takes_none_of_others_or_of_the_host(_kernel) {
        lan();
        let bench = Bench::with_shares(Shares { nat_ports: 64, ..Shares::default() });
        two_tenants(&bench);
        for receiver in receivers() {
            let to = receiver.local_addr().unwrap();
            all_at_once(&BOX2, to, 2000..4000);
            while receiver.recv_from(&mut [0; 8]).is_ok() {}
            assert_eq!(sources(&BOX4, to, 5000..5040, &receiver).len(), 40, "blue");
            let host = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            for _ in 0..40 {
                host.send_to(b"x", to).unwrap();
                receiver.recv_from(&mut [0; 8]).unwrap();
            }
            assert!(sources(&BOX2, to, 5000..5004, &receiver).len() < 4, "the test sees that red has no more");
        }
    }

    fn a_tenant_has_so_many_flows_to_other_hosts_and_no_more(_kernel) {
        lan();
        // Eight in each group of source ports: which ports share a group is chance, but blue's few never fill one.
        let bench = Bench::with_shares(Shares { flows: 4096, ..Shares::default() });
        two_tenants(&bench);
        let receivers = receivers();
        let [v4, v6] = receivers.each_ref().map(|receiver| receiver.local_addr().unwrap());
        let before = tracked();
        // One share for both families.
        all_at_once(&BOX2, v6, 2000..2500);
        let flows = tracked() - before;
        assert!((490..=510).contains(&flows), "{flows} flows of 500 by IPv6");
        // Each destination has fewer source ports.
        for port in 53..60 {
            all_at_once(&BOX2, SocketAddr::new(v4.ip(), port), 2000..3500);
        }
        all_at_once(&BOX2, v6, 12000..14000);
        let flows = tracked() - before;
        assert!((3700..=4150).contains(&flows), "{flows} flows for a share of 4096");
        let refused = run("ip netns exec ciao-red nft list counter inet ciao flows_refused");
        assert!(!refused.contains("packets 0 "), "{refused}");
        for (receiver, ports) in receivers.iter().zip([5000..5040, 6000..6040]) {
            while receiver.recv_from(&mut [0; 8]).is_ok() {}
            let to = receiver.local_addr().unwrap();
            let arrived = sources(&BOX4, to, ports, receiver).len();
            assert_eq!(arrived, 40, "blue to {to}: {}", run("ip netns exec ciao-blue nft list counters"));
        }
        // They go with the tenant's uplink.
        bench.stop("red", 2);
        bench.ok("DeleteNetwork", &json!({ "NetworkID": id("red") }));
        assert!(tracked() < before + 100, "{} flows", tracked());
    }

    fn without_port_security_a_routed_tenant_leaves_with_no_address_of_another_one(_kernel) {
        lan();
        let bench = Bench::new();
        for (n, tenant) in [(2, "red"), (4, "blue")] {
            let data = json!([{ "AddressSpace": "LocalDefault", "Pool": format!("fd00:{n}::/64"), "Gateway": format!("fd00:{n}::1/64") }]);
            let generic = json!({ "tenant": tenant, "bridge": "br0", "egress6": "route", "port_security": "off" });
            let options = json!({ "com.docker.network.generic": generic });
            bench.ok("CreateNetwork", &json!({ "NetworkID": id(tenant), "Options": options, "IPv6Data": data }));
            bench.run_v6(tenant, n, &format!("fd00:{n}::2/64"));
            run(&format!("ip -n box{n} route add default via fd00:{n}::1"));
        }
        run("ip -n lan route add fd00::/8 via 2001:db8::1");
        let [_, receiver] = receivers();
        let to: SocketAddr = "[2001:db8::2]:53".parse().unwrap();
        run("ip -n box2 addr add fd00:4::9/128 dev eth0 nodad");
        let seen = |from: &str| {
            let socket = BOX2.udp(from);
            (0..10).find_map(|_| {
                drop(socket.send_to(b"x", to));
                receiver.recv_from(&mut [0; 8]).ok().map(|(_, source)| source.ip().to_string())
            })
        };
        assert_eq!(seen("[fd00:2::2]:4000").as_deref(), Some("fd00:2::2"), "its own is routed");
        let forged = seen("[fd00:4::9]:4000");
        assert!(forged.as_deref().is_none_or(|source| source == "2001:db8::1"), "{forged:?}");
    }
}
