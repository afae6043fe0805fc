// SPDX-License-Identifier: Apache-2.0
//! Routing between a tenant's subnets, each on another host, where a packet starts.

use serde_json::{Value, json};

use crate::apart::{soon, tests};
use crate::cluster::{Cluster, Member};
use crate::driver::id;
use crate::frames::{count, counted, datagram_from, packets, sending};

/// The tenants, with the first of their VNIs, the middle of MAC addresses, and the number of their containers.
pub(crate) const TENANTS: [(&str, u32, u8, u8); 2] = [("red", 101, 0xa, 10), ("blue", 201, 0xb, 11)];

/// A tenant's subnet n, 10.n.0.0/24, and its VNI.
pub(crate) fn subnet(n: u8, first: u32) -> Value {
    json!({ "subnet": format!("10.{n}.0.0/24"), "vni": first + u32::from(n) - 1, "gateway": format!("10.{n}.0.1") })
}

pub(crate) fn create(member: &Member, tenant: &str, n: u8, first: u32) {
    let (pool, gateway) = (format!("10.{n}.0.0/24"), format!("10.{n}.0.1/24"));
    let data = json!([{ "AddressSpace": "LocalDefault", "Pool": pool, "Gateway": gateway }]);
    let generic = json!({ "tenant": tenant, "vni": (first + u32::from(n) - 1).to_string() });
    let options = json!({ "com.docker.network.generic": generic });
    let name = format!("{tenant}{n}");
    member.docker("CreateNetwork", &json!({ "NetworkID": id(&name), "Options": options, "IPv4Data": data }));
}

/// Each tenant's subnet n on host n alone, with a container at 10.n.0.(10+n).
pub(crate) fn start() -> Cluster {
    let cluster = Cluster::start();
    cluster.give_hosts(1, [1, 2, 3]);
    cluster.members.iter().for_each(inhabit);
    cluster
}

/// Makes each tenant's subnet of a host there, with its container.
pub(crate) fn inhabit(member: &Member) {
    for (tenant, first, middle, container) in TENANTS {
        create(member, tenant, member.n, first);
        let (network, address) = (format!("{tenant}{}", member.n), format!("{}/24", at(member.n)));
        member.run(&network, container, &address, &mac(middle, member.n));
    }
}

pub(crate) fn at(n: u8) -> String {
    format!("10.{n}.0.{}", 10 + n)
}

pub(crate) fn mac(middle: u8, n: u8) -> String {
    crate::cluster::mac(middle, n)
}

fn give(cluster: &Cluster, generation: u64) {
    for (tenant, first, middle, _) in TENANTS {
        let remotes: Vec<_> = (1..=3).map(|n| json!([at(n), mac(middle, n), format!("h{n}")])).collect();
        let networks: Vec<_> = (1..=3).map(|n| subnet(n, first)).collect();
        let body = json!({ "generation": generation, "remotes": remotes, "networks": networks });
        cluster.give(&format!("/v1/tenants/{tenant}/remotes"), &body);
    }
}

/// The remaining hops of an answer; `None`: there is none.
pub(crate) fn ttl(member: &Member, from: u8, to: &str) -> Option<u8> {
    let said = member.attempt(&format!("ip netns exec box{from} busybox ping -c 1 -W 1 {to}"));
    let said = String::from_utf8(said.stdout).unwrap();
    said.split("ttl=").nth(1)?.split_whitespace().next()?.parse().ok()
}

/// What does not come back after one routed hop.
fn failing(cluster: &Cluster) -> Vec<String> {
    let mut failing = Vec::new();
    for member in &cluster.members {
        for (tenant, _, _, container) in TENANTS {
            for other in (1..=3).filter(|other| *other != member.n) {
                let hops = ttl(member, container, &at(other));
                if hops != Some(63) {
                    failing.push(format!("{tenant}: {} to {other}: {hops:?}", member.n));
                }
            }
        }
    }
    failing
}

tests! {
    fn subnets_of_a_tenant_on_three_hosts_are_one_hop_apart_and_two_tenants_apart(_kernel) {
        let folder = tempfile::tempdir().unwrap();
        let cluster = start();
        count();
        let [one, two, three] = &cluster.members[..] else { panic!() };
        assert_eq!(ttl(one, 10, &at(2)), None, "nobody knows of it");
        give(&cluster, 1);
        assert!(soon(|| failing(&cluster).is_empty()), "{:?}", failing(&cluster));
        for (tenant, .., container) in TENANTS {
            // The same address is another container, and only the tenant's own answers.
            two.type_in(&format!("ip -n box{container} link set eth0 down"));
            assert_eq!(ttl(one, container, &at(2)), None, "{tenant}");
            let other = 21 - container;
            assert_eq!(ttl(one, other, &at(2)), Some(63));
            two.type_in(&format!("ip -n box{container} link set eth0 up"));
            two.type_in(&format!("ip -n box{container} route add default via 10.2.0.1"));
        }
        // The gateway is the same on each host.
        for member in &cluster.members {
            for n in 1..=3 {
                let bridge = if n == member.n { id(&format!("red{n}"))[..12].to_owned() } else { format!("vni10{n}") };
                let shown = member.type_in(&format!("ip -n ciao-red addr show br-{bridge}"));
                let mac = format!("link/ether 0e:c1:a0:00:00:6{}", 4 + n);
                assert!(shown.contains(&mac) && shown.contains(&format!("10.{n}.0.1/24")) && shown.contains("mtu 1450"), "{shown}");
            }
            assert_eq!(member.reconcile(), json!([]), "host {}", member.n);
        }
        // Full-sized packets.
        assert!(one.attempt("ip netns exec box10 busybox ping -c 1 -W 1 -s 1422 10.3.0.13").status.success());
        assert_eq!((counted("arp"), counted("broadcast")), (0, 0));
        // What host 3 routes into subnet 1: with addresses of its containers alone, and the gateway's MAC address.
        std::fs::write(folder.path().join("box.nft"), crate::frames::BOX).unwrap();
        one.type_in(&format!("ip netns exec box10 nft -f {}", folder.path().join("box.nft").display()));
        let forged = || one.control("GET", "/v1/hosts", &json!(null)).1["dropped"]["forged"].as_u64().unwrap();
        let received = || packets(&one.type_in("ip netns exec box10 nft list counter inet seen received"));
        let gateway = [0xe, 0xc1, 0xa0, 0, 0, 0x65];
        let mut so_far = (forged(), received());
        for (name, mac, source, passes) in [
            ("own", gateway, [10, 3, 0, 13], true),
            ("another_host_s", gateway, [10, 2, 0, 12], false),
            ("nobody_s", gateway, [10, 3, 0, 99], false),
            ("outside", gateway, [198, 51, 100, 1], false),
            ("other_gateway", [0xe, 0xc1, 0xa0, 0, 0, 0x66], [10, 3, 0, 13], false),
            ("unknown_mac", [2, 0, 0, 0, 0, 0x98], [10, 3, 0, 13], false),
        ] {
            let frame = datagram_from(mac, source);
            three.type_in(&format!("{} 192.0.2.1", sending(folder.path(), name, &frame)));
            if passes { so_far.1 += 1 } else { so_far.0 += 1 }
            assert!(soon(|| (forged(), received()) == so_far), "{name}: {:?}, not {so_far:?}", (forged(), received()));
        }
    }

    fn a_remote_network_is_repaired_and_goes_with_the_tenant_s_last_network(_kernel) {
        let cluster = start();
        give(&cluster, 1);
        assert!(soon(|| failing(&cluster).is_empty()), "{:?}", failing(&cluster));
        let one = &cluster.members[0];
        for broken in [
            "ip -n ciao-red link del br-vni102",
            "ip -n ciao-red addr del 10.2.0.1/24 dev br-vni102",
            "ip -n ciao-red link set br-vni102 down",
            "ip -n ciao-red link set br-vni102 address 0e:c1:a0:00:00:99",
        ] {
            one.type_in(broken);
            assert!(soon(|| ttl(one, 10, &at(2)) == Some(63)), "{broken}");
        }
        // Docker makes the network here too: an address of it beside the other.
        create(one, "red", 2, 101);
        one.run("red2", 20, "10.2.0.20/24", &mac(0xc, 1));
        assert!(soon(|| ttl(one, 10, "10.2.0.20") == Some(63) && ttl(one, 10, &at(2)) == Some(63)));
        one.stop("red2", 20);
        one.docker("DeleteNetwork", &json!({ "NetworkID": id("red2") }));
        assert!(soon(|| ttl(one, 10, &at(2)) == Some(63)), "remote again");
        one.stop("red1", 10);
        one.docker("DeleteNetwork", &json!({ "NetworkID": id("red1") }));
        assert!(soon(|| !one.attempt("ip netns exec ciao-red true").status.success()));
        assert_eq!(one.control("GET", "/v1/networks", &json!(null)).1["items"].as_array().unwrap().len(), 3, "blue's");
        assert_eq!(one.reconcile(), json!([]));
    }
}
