// SPDX-License-Identifier: Apache-2.0
//! A tenant's packets leave by a concentrator on another host.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::apart::{run, soon, tests};
use crate::cluster::{Cluster, DENIED, Member};
use crate::driver::id;
use crate::frames::{BOX, datagram_from, packets, sending};
use crate::routed::{TENANTS, at, inhabit, mac, subnet, ttl};

/// The machine outside, beside the hosts.
const OUTSIDE: &str = "192.0.2.99";
const OUTSIDE6: &str = "2001:db8::99";

/// Counts echo requests outside by the host that they come from.
const COUNT: &str = "table inet from {
    counter h1 { }
    counter h2 { }
    counter h3 { }
    chain input {
        type filter hook input priority 0;
        icmp type echo-request ip saddr 192.0.2.1 counter name h1
        icmp type echo-request ip saddr 192.0.2.2 counter name h2
        icmp type echo-request ip saddr 192.0.2.3 counter name h3
        icmpv6 type echo-request ip6 saddr 2001:db8::1 counter name h1
        icmpv6 type echo-request ip6 saddr 2001:db8::2 counter name h2
        icmpv6 type echo-request ip6 saddr 2001:db8::3 counter name h3
    }
}
";

/// Hosts whose way to other networks is the machine outside.
fn open() -> Cluster {
    let cluster = Cluster::start();
    std::fs::write("/run/netns/from.nft", COUNT).unwrap();
    run("nft -f /run/netns/from.nft");
    run(&format!("ip addr add {OUTSIDE6}/64 dev lan nodad"));
    cluster.give_hosts(1, [1, 2, 3]);
    for member in &cluster.members {
        member.type_in(&format!("ip route add default via {OUTSIDE}"));
        member.type_in(&format!("ip addr add 2001:db8::{}/64 dev u0 nodad", member.n));
        member.type_in(&format!("ip route add default via {OUTSIDE6}"));
    }
    cluster
}

/// Red's and blue's subnet n on host n, for hosts 1 and 2; host 3 has none.
fn start() -> Cluster {
    let cluster = open();
    cluster.members[..2].iter().for_each(inhabit);
    cluster
}

/// Red's list, with these concentrators, to one host.
fn tell(member: &Member, generation: u64, cnci: &[&str]) {
    let (tenant, first, middle, _) = TENANTS[0];
    let remotes: Vec<_> = (1..=2).map(|n| json!([at(n), mac(middle, n), format!("h{n}")])).collect();
    let networks: Vec<_> = (1..=2).map(|n| subnet(n, first)).collect();
    let body = json!({ "generation": generation, "remotes": remotes, "networks": networks, "cnci": cnci });
    let (status, reply) = member.control("PUT", &format!("/v1/tenants/{tenant}/remotes"), &body);
    assert_eq!(status, 200, "{reply}");
}

fn give(cluster: &Cluster, generation: u64, cnci: &[&str]) {
    cluster.members.iter().for_each(|member| tell(member, generation, cnci));
}

/// The host that a container's echo request leaves by.
fn leaves_by(member: &Member, container: u8) -> Option<u8> {
    leaves_for(member, container, OUTSIDE)
}

/// The same of one to this address.
fn leaves_for(member: &Member, container: u8, to: &str) -> Option<u8> {
    let counted = || [1, 2, 3].map(|n| packets(&run(&format!("nft list counter inet from h{n}"))));
    let before = counted();
    ttl(member, container, to)?;
    let after = counted();
    (1..=3).zip(before.iter().zip(after)).find(|(_, (before, after))| *before < after).map(|(n, _)| n)
}

/// Sends back all that one client sends to TCP port 7; in the end, the address that it has.
fn echo(address: &str) -> JoinHandle<IpAddr> {
    let listener = TcpListener::bind((address, 7)).unwrap();
    std::thread::spawn(move || {
        let (mut client, from) = listener.accept().unwrap();
        let mut sent = Vec::new();
        client.read_to_end(&mut sent).unwrap();
        client.write_all(&sent).unwrap();
        from.ip()
    })
}

tests! {
    fn a_tenant_leaves_by_a_concentrator_and_follows_the_order_of_the_list(_kernel) {
        let folder = tempfile::tempdir().unwrap();
        let cluster = start();
        let [one, two, three] = &cluster.members[..] else { panic!() };
        assert!(soon(|| leaves_by(one, 10) == Some(1) && leaves_by(two, 10) == Some(2)));
        give(&cluster, 1, &["h3", "h2"]);
        assert!(soon(|| leaves_by(one, 10) == Some(3) && leaves_by(two, 10) == Some(3)));
        // Neither another tenant, nor what has no egress elsewhere.
        assert_eq!((leaves_by(one, 11), leaves_by(two, 11)), (Some(1), Some(2)));
        assert!(soon(|| ttl(one, 10, &at(2)) == Some(63)), "between subnets as before");
        for member in &cluster.members {
            assert_eq!(member.reconcile(), json!([]), "host {}", member.n);
        }
        // Full-sized packets.
        let large = format!("ip netns exec box10 busybox ping -c 1 -W 1 -s 1422 {OUTSIDE}");
        assert!(one.attempt(&large).status.success());
        // TCP, whose replies the container's host does not route: both ways, and to its end.
        let from = echo(OUTSIDE);
        std::fs::write(folder.path().join("ask.sh"), format!("busybox seq 9999 | busybox nc -w 2 {OUTSIDE} 7\n")).unwrap();
        let asked = one.type_in(&format!("ip netns exec box10 sh {}", folder.path().join("ask.sh").display()));
        assert_eq!(asked, run("busybox seq 9999"));
        assert_eq!(from.join().unwrap().to_string(), "192.0.2.3");
        // What the container's host denies is denied there too: host 3 denies nothing.
        run(&format!("ip addr add {DENIED}/32 dev lo"));
        assert_eq!((ttl(one, 10, DENIED), leaves_by(one, 10)), (None, Some(3)));
        assert!(ttl(two, 10, DENIED).is_some());
        // A published port stays with its host.
        let binding = json!({ "Proto": 6, "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080 });
        let options = json!({ "com.docker.network.portmap": [binding] });
        one.docker("ProgramExternalConnectivity", &json!({ "NetworkID": id("red1"), "EndpointID": id("e10"), "Options": options }));
        std::fs::write(folder.path().join("serve.sh"), "while [ -e $0 ]; do echo hi | timeout 5 busybox nc -l -p 80; done >/dev/null 2>&1 &\n").unwrap();
        one.type_in(&format!("ip netns exec box10 sh {}", folder.path().join("serve.sh").display()));
        assert!(soon(|| crate::apart::attempt("busybox nc -w 2 192.0.2.1 8080").stdout == b"hi\n"));
        // The other concentrator: one message to each host, while a container pings.
        std::fs::write(
            folder.path().join("ping.sh"),
            format!("busybox ping -q -i 0.005 -c 600 {OUTSIDE} >{}/pinged 2>&1 &\n", folder.path().display()),
        )
        .unwrap();
        one.type_in(&format!("ip netns exec box10 sh {}", folder.path().join("ping.sh").display()));
        run("sleep 1");
        give(&cluster, 2, &["h2", "h3"]);
        assert!(soon(|| leaves_by(one, 10) == Some(2) && leaves_by(two, 10) == Some(2)));
        let pinged = || std::fs::read_to_string(folder.path().join("pinged")).unwrap_or_default();
        assert!(soon(|| pinged().contains("packets received")));
        println!("while the order changed: {}", pinged().lines().find(|line| line.contains("received")).unwrap());
        // What somebody changes is restored.
        for broken in ["ip -n ciao-red rule del pref 1001", "ip -n ciao-red route flush table 3238002789"] {
            one.attempt(broken);
            one.reconcile();
            assert_eq!(leaves_by(one, 10), Some(2), "{broken}");
        }
        // Nobody but a concentrator speaks for the world outside, and it not for the tenant.
        std::fs::write(folder.path().join("box.nft"), BOX).unwrap();
        one.type_in(&format!("ip netns exec box10 nft -f {}", folder.path().join("box.nft").display()));
        let forged = || one.control("GET", "/v1/hosts", &Value::Null).1["dropped"]["forged"].as_u64().unwrap();
        let received = || packets(&one.type_in("ip netns exec box10 nft list counter inet seen received"));
        let gateway = [0xe, 0xc1, 0xa0, 0, 0, 0x65];
        let mut so_far = (forged(), received());
        for (name, mac, source, passes) in [
            ("outside", gateway, [198, 51, 100, 1], true),
            ("own_subnet", gateway, [10, 1, 0, 77], false),
            ("another_s", gateway, [10, 2, 0, 12], false),
            ("another_mac", [2, 0, 0, 0, 0, 0x98], [198, 51, 100, 1], false),
        ] {
            three.type_in(&format!("{} 192.0.2.1", sending(folder.path(), name, &datagram_from(mac, source))));
            if passes { so_far.1 += 1 } else { so_far.0 += 1 }
            assert!(soon(|| (forged(), received()) == so_far), "{name}: {:?}, not {so_far:?}", (forged(), received()));
        }
        // Each by its own host again, and the concentrator has nothing left.
        give(&cluster, 3, &[]);
        assert!(soon(|| leaves_by(one, 10) == Some(1) && leaves_by(two, 10) == Some(2)));
        assert!(!three.attempt("ip netns exec ciao-red true").status.success());
        for member in &cluster.members {
            assert_eq!(member.reconcile(), json!([]), "host {}", member.n);
        }
        // What led there from a bridge that is gone goes with its network, or is found.
        give(&cluster, 4, &["h2", "h1"]);
        let rules = || one.type_in("ip -n ciao-red rule");
        let former = format!("br-{}", &id("red1")[..12]);
        assert!(soon(|| rules().contains(&former)), "{}", rules());
        one.stop("red1", 10);
        one.docker("DeleteNetwork", &json!({ "NetworkID": id("red1") }));
        assert!(soon(|| rules().contains("br-vni101") && !rules().contains(&former)), "{}", rules());
        one.type_in("ip -n ciao-red rule add pref 1001 iif gone fwmark 0xc1a0 table 3238002789");
        one.reconcile();
        assert!(!rules().contains("gone") && rules().contains("br-vni101"), "{}", rules());
        assert_eq!(one.reconcile(), json!([]));
    }

    fn a_concentrator_whose_address_was_away_is_one_again_within_seconds(_kernel) {
        let cluster = start();
        let [one, _, three] = &cluster.members[..] else { panic!() };
        let goes = || drop(three.type_in("ip addr del 192.0.2.3/24 dev u0"));
        let comes = || {
            three.type_in("ip addr add 192.0.2.3/24 dev u0");
            three.type_in(&format!("ip route replace default via {OUTSIDE}"));
            assert!(soon(|| leaves_by(one, 10) == Some(3)));
        };
        give(&cluster, 1, &["h3"]);
        assert!(soon(|| leaves_by(one, 10) == Some(3)));
        let uplink = || three.type_in("ip -n ciao-red link show up0");
        let before = uplink();
        goes();
        assert_eq!(ttl(one, 10, OUTSIDE), None);
        // A pass meanwhile, as at a boot.
        three.reconcile();
        comes();
        assert_eq!(uplink(), before, "the same one");
        give(&cluster, 2, &[]);
        goes();
        // Given while it is away.
        give(&cluster, 3, &["h3"]);
        comes();
    }

    fn ipv6_leaves_by_a_concentrator_too_and_a_dead_one_is_replaced(_kernel) {
        let cluster = open();
        let one = &cluster.members[0];
        let data = |pool: &str, gateway: &str| json!([{ "AddressSpace": "l", "Pool": pool, "Gateway": gateway }]);
        let generic = json!({ "tenant": "red", "vni": "101" });
        one.docker("CreateNetwork", &json!({
            "NetworkID": id("red1"), "Options": { "com.docker.network.generic": generic },
            "IPv4Data": data("10.1.0.0/24", "10.1.0.1/24"), "IPv6Data": data("fd00:1::/64", "fd00:1::1/64"),
        }));
        one.ask(&json!({ "run": "red1", "n": 10, "address": "10.1.0.11/24", "address6": "fd00:1::11/64" }));
        one.type_in("ip -n box10 route add default via fd00:1::1");
        let mac = one.type_in("ip netns exec box10 cat /sys/class/net/eth0/address");
        let network = |subnet: &str, gateway: &str| json!({ "subnet": subnet, "vni": 101, "gateway": gateway });
        cluster.give("/v1/tenants/red/remotes", &json!({
            "generation": 1,
            "remotes": [["10.1.0.11", mac.trim(), "h1"], ["fd00:1::11", mac.trim(), "h1"]],
            "networks": [network("10.1.0.0/24", "10.1.0.1"), network("fd00:1::/64", "fd00:1::1")],
            "cnci": ["h3", "h2"],
        }));
        let leaves = || (leaves_for(one, 10, OUTSIDE), leaves_for(one, 10, OUTSIDE6));
        assert!(soon(|| leaves() == (Some(3), Some(3))), "{:?}", leaves());
        let large = format!("ip netns exec box10 busybox ping -c 1 -W 1 -s 1402 {OUTSIDE6}");
        assert!(one.attempt(&large).status.success(), "full-sized packets");
        for member in &cluster.members {
            assert_eq!(member.reconcile(), json!([]), "host {}", member.n);
        }
        let problems = || one.control("GET", "/v1/status", &Value::Null).1["problems"].to_string();
        // Its cable is cut.
        run("ip link set w3 nomaster");
        (0..3).for_each(|_| one.probe());
        assert!(soon(|| leaves() == (Some(2), Some(2))), "{:?}", leaves());
        assert!(problems().contains("concentrator h3 of tenant red (0 more) does not answer"), "{}", problems());
        run("ip link set w3 master lan");
        assert!(soon(|| { one.probe(); leaves() == (Some(3), Some(3)) }), "{:?}", leaves());
        assert!(!problems().contains("concentrator"), "{}", problems());
    }
}
