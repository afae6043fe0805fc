// SPDX-License-Identifier: Apache-2.0
//! Tenants' networks over three hosts: all reach each other, nothing is flooded, what moves is followed, what breaks is
//! repaired.

use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::apart::{run, soon, tests};
use crate::cluster::{Cluster, Member, TENANTS, address, mac};
use crate::frames::{BOX, count, counted, datagram_from, packets, red, sending};

/// To red's container on host 1: "10.1.0.12 is at `mac`", with a tag of a VLAN or none.
fn poison(mac: [u8; 6], tag: &[u8]) -> Vec<u8> {
    let reply = [8, 6, 0, 1, 8, 0, 6, 4, 0, 2];
    [&red(1)[..], &mac, tag, &reply, &mac, &[10, 1, 0, 12], &red(1), &[10, 1, 0, 11]].concat()
}

/// A datagram of UDP to port 9 of red's container on host 1.
fn datagram(mac: [u8; 6], source: u8) -> Vec<u8> {
    datagram_from(mac, [10, 1, 0, 10 + source])
}

/// The example controller, killed when the test ends, however it does.
struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Frames to all inside tunnels that the bridge between the hosts has passed on.
fn flooded() -> u64 {
    counted("broadcast")
}

tests! {
    fn with_flood_on_broadcast_and_multicast_go_to_other_hosts_up_to_the_limit(_kernel) {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::start();
        count();
        cluster.give_hosts(1, [1, 2, 3]);
        cluster.run_all_as(&[("red", "flood", "on")]);
        cluster.give_remotes(1, [1, 2, 3]);
        cluster.all_reach_each_other();
        assert_eq!((counted("arp"), flooded()), (0, 0), "at rest");
        let [one, two, three] = &cluster.members[..] else { panic!() };
        std::fs::write(folder.path().join("box.nft"), BOX).unwrap();
        let boxes = [(two, 10), (three, 10), (two, 11)];
        for (member, n) in boxes {
            member.type_in(&format!("ip netns exec box{n} nft -f {}", folder.path().join("box.nft").display()));
        }
        let received = || boxes.map(|(member, n)| packets(&member.type_in(&format!("ip netns exec box{n} nft list counter inet seen received"))));
        let datagram = |n: u8, to: [u8; 4], count: u32| {
            one.ask(&json!({ "broadcast": format!("box{n}"), "to": to, "count": count }));
        };
        datagram(10, [10, 1, 0, 255], 1);
        datagram(10, [224, 0, 0, 1], 1);
        assert!(soon(|| received() == [2, 2, 0]), "{:?}", received());
        datagram(11, [10, 1, 0, 255], 1);
        assert_eq!(flooded(), 2, "one to each host, and blue's to none");
        // ARP for what nobody has stays here.
        assert!(!one.pings("box10", "10.1.0.77"));
        assert_eq!(counted("arp"), 0);
        datagram(10, [10, 1, 0, 255], 2000);
        let (sent, dropped) = (flooded(), one.type_in("ip netns exec ciao-red nft list counter bridge ciao flood_exceeded"));
        assert!((100..1500).contains(&sent) && packets(&dropped) > 1000, "{sent} left, {dropped}");
        println!("of 2000 broadcasts to two hosts {sent} frames left, {} were dropped", packets(&dropped));
        for member in &cluster.members {
            assert_eq!(member.reconcile(), json!([]), "host {}", member.n);
        }
        // What somebody removes of it is restored.
        let shown = one.control("GET", "/v1/networks/red", &json!(null)).1;
        let link = shown["tunnel"]["link"].as_str().unwrap().to_owned();
        assert_eq!(shown["tunnel"]["flood"], json!(true));
        one.type_in(&format!("bridge -n ciao-red fdb del 00:00:00:00:00:00 dev {link} dst 192.0.2.2 self"));
        one.reconcile();
        let listed = one.type_in(&format!("bridge -n ciao-red fdb show dev {link}"));
        assert!(listed.contains("00:00:00:00:00:00 dst 192.0.2.2"), "{listed}");
        // A host without addresses of the network gets nothing.
        cluster.give_remotes(2, [1, 2, 2]);
        let listed = one.type_in(&format!("bridge -n ciao-red fdb show dev {link}"));
        assert!(!listed.contains("00:00:00:00:00:00 dst 192.0.2.3"), "{listed}");
    }

    fn forged_tunnels_of_strangers_and_containers_are_dropped_and_counted(_kernel) {
        let folder = tempfile::tempdir().unwrap();
        let send = sending(folder.path(), "poison", &poison([2, 0, 0, 0, 0, 0x99], &[]));
        let cluster = Cluster::connected();
        cluster.all_reach_each_other();
        let [one, two, three] = &cluster.members[..] else { panic!() };
        let dropped = |member: &Member, by: &str| {
            member.control("GET", "/v1/hosts", &json!(null)).1["dropped"][by].as_u64().unwrap()
        };
        // Of another host's: what is forged here takes a neighbour's address where nothing drops it.
        let is_poisoned = || one.type_in("ip -n box10 neigh show 10.1.0.12").contains("02:00:00:00:00:99");
        let ready = || {
            run("sleep 1.2");
            assert!(one.pings("box10", &address(2)) && !is_poisoned());
            run("sleep 1.2");
        };
        ready();
        // The bridge drops ARP from other hosts as well.
        let bridge = || one.type_in("ip netns exec ciao-red nft list chain bridge ciao prerouting");
        let whole = bridge();
        let unguarded = || {
            one.attempt("ip netns exec ciao-red nft flush chain bridge ciao prerouting");
            one.attempt("nft delete table inet ciao_tunnel");
            three.type_in(&format!("{send} 192.0.2.1"));
            is_poisoned()
        };
        assert!(soon(unguarded), "the datagram is right");
        one.type_in("ip -n box10 neigh flush all");
        assert!(soon(|| one.attempt("nft list table inet ciao_tunnel").status.success() && bridge() == whole));
        assert_eq!(dropped(one, "strangers"), 0);
        // A host of the list, which may not speak for another.
        ready();
        three.type_in(&format!("{send} 192.0.2.1"));
        assert!(soon(|| dropped(one, "forged") == 1));
        // A machine that is no host.
        ready();
        run(&format!("{send} 192.0.2.1"));
        assert!(soon(|| dropped(one, "strangers") == 1));
        // A container of a tenant, which would leave with its host's address.
        ready();
        two.type_in(&format!("ip netns exec box11 {send} 192.0.2.1"));
        assert!(soon(|| dropped(two, "strangers") == 1));
        // A machine beside the host, with the address of another host; and what a host is to forward.
        two.type_in("ip netns add beside");
        two.type_in("ip link add b0 type veth peer name b1 netns beside");
        two.type_in("ip addr add 198.51.100.1/24 dev b0");
        two.type_in("ip link set b0 up");
        two.type_in("ip -n beside addr add 192.0.2.3/32 dev b1");
        two.type_in("ip -n beside link set b1 up");
        two.type_in("ip -n beside route add default via 198.51.100.1 dev b1 onlink");
        ready();
        two.type_in(&format!("ip netns exec beside {send} 192.0.2.1"));
        two.type_in(&format!("ip netns exec beside {send} 192.0.2.2"));
        assert!(soon(|| dropped(two, "strangers") == 3));
        three.type_in("ip route add 192.0.2.1/32 via 192.0.2.2");
        three.type_in(&format!("{} 192.0.2.1", sending(folder.path(), "own", &datagram(red(3), 3))));
        three.type_in("ip route del 192.0.2.1/32 via 192.0.2.2");
        assert!(soon(|| dropped(two, "forwarded") == 1));
        assert!(!is_poisoned());
        cluster.all_reach_each_other();
    }

    fn a_broken_host_speaks_for_nobody_else(_kernel) {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::connected();
        cluster.all_reach_each_other();
        let [one, _, three] = &cluster.members[..] else { panic!() };
        std::fs::write(folder.path().join("box.nft"), BOX).unwrap();
        one.type_in(&format!("ip netns exec box10 nft -f {}", folder.path().join("box.nft").display()));
        let forged = || one.control("GET", "/v1/hosts", &json!(null)).1["dropped"]["forged"].as_u64().unwrap();
        let received = || packets(&one.type_in("ip netns exec box10 nft list counter inet seen received"));
        let router = [0xe, 0xc1, 0xa0, 0, 0, 0x65];
        let unknown = [2, 0, 0, 0, 0, 0x98];
        let mut so_far = (forged(), received());
        // With the MAC and IP address of red's container on host 3, or as what host 3 routes from it.
        for (name, frame, passes) in [
            ("own", datagram(red(3), 3), true),
            ("its_mac", datagram(red(2), 3), false),
            ("its_address", datagram(red(3), 2), false),
            ("our_mac", datagram(red(1), 3), false),
            ("our_address", datagram(red(3), 1), false),
            ("nobody", datagram(red(3), 77), false),
            ("routed", datagram(router, 3), true),
            ("routed_address", datagram(router, 2), false),
            ("other_mac", datagram(unknown, 3), false),
            ("short", Vec::new(), false),
            ("shorter_than_its_source", datagram(red(3), 2)[..30].to_vec(), false),
            ("again", datagram(red(3), 3), true),
        ] {
            three.type_in(&format!("{} 192.0.2.1", sending(folder.path(), name, &frame)));
            if passes { so_far.1 += 1 } else { so_far.0 += 1 }
            assert!(soon(|| (forged(), received()) == so_far), "{name}: {:?}, not {so_far:?}", (forged(), received()));
        }
        cluster.all_reach_each_other();
    }

    fn without_port_security_a_broken_host_has_any_address_and_answers_for_none(_kernel) {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::start();
        cluster.give_hosts(1, [1, 2, 3]);
        cluster.run_all_as(&[("red", "port_security", "off")]);
        cluster.give_remotes(1, [1, 2, 3]);
        cluster.all_reach_each_other();
        let [one, _, three] = &cluster.members[..] else { panic!() };
        std::fs::write(folder.path().join("box.nft"), BOX).unwrap();
        one.type_in(&format!("ip netns exec box10 nft -f {}", folder.path().join("box.nft").display()));
        let received = || packets(&one.type_in("ip netns exec box10 nft list counter inet seen received"));
        let any = sending(folder.path(), "any", &datagram(red(3), 99));
        let rules = || one.type_in("ip netns exec ciao-red nft list chain bridge ciao prerouting");
        let whole = rules();
        for (name, tag) in [("plain", &[][..]), ("tagged", &[0x81, 0, 0, 0])] {
            let send = sending(folder.path(), name, &poison(red(3), tag));
            let is_poisoned = || {
                three.type_in(&format!("{send} 192.0.2.1"));
                let before = received();
                // It comes after the other.
                assert!(soon(|| { three.type_in(&format!("{any} 192.0.2.1")); received() > before }));
                one.type_in("ip -n box10 neigh show 10.1.0.12").contains("02:00:00:00:0a:03")
            };
            // An entry that is new is locked for a second.
            let unguarded = || {
                one.attempt("ip netns exec ciao-red nft flush chain bridge ciao prerouting");
                is_poisoned()
            };
            assert!(soon(unguarded), "{name}: the frame is right");
            assert!(soon(|| rules() == whole));
            one.type_in("ip -n box10 neigh flush all");
            assert!(one.pings("box10", &address(2)));
            run("sleep 1.2");
            assert!(!is_poisoned(), "{name}");
        }
        cluster.all_reach_each_other();
    }

    fn a_host_whose_tunnels_have_a_link_uses_no_other(_kernel) {
        let cluster = Cluster::connected();
        cluster.all_reach_each_other();
        let [one, _, three] = &cluster.members[..] else { panic!() };
        let dropped = |by: &str| three.control("GET", "/v1/hosts", &json!(null)).1["dropped"][by].as_u64().unwrap();
        assert_eq!((dropped("diverted"), dropped("strangers")), (0, 0));
        // A second link, and a route by it: what is sent to host 1 would leave there.
        run("ip link add w4 type veth peer name u1");
        run("ip link set w4 master lan up");
        run(&format!("ip link set u1 netns {}", three.pid()));
        three.type_in("ip addr add 192.0.2.4/24 dev u1 noprefixroute");
        three.type_in("ip link set u1 up");
        three.type_in("ip route add 192.0.2.1/32 dev u1");
        assert!(!three.pings("box10", &address(1)) && dropped("diverted") > 0);
        assert!(!one.pings("box10", &address(3)));
        three.type_in("ip route del 192.0.2.1/32 dev u1");
        cluster.all_reach_each_other();
        // What arrives by the other link, where it would be answered to.
        three.type_in("ip route add 192.0.2.1/32 dev u1 src 192.0.2.3");
        let mac = three.type_in("cat /sys/class/net/u1/address");
        one.type_in(&format!("ip neigh replace 192.0.2.3 lladdr {} dev u0 nud permanent", mac.trim()));
        assert!(!one.pings("box10", &address(3)) && soon(|| dropped("strangers") > 0));
    }

    fn two_tenants_with_one_subnet_reach_their_own_on_three_hosts_and_nothing_is_flooded(_kernel) {
        let cluster = Cluster::start();
        count();
        cluster.connect();
        cluster.all_reach_each_other();
        assert!(counted("all") >= 24, "{} frames", counted("all"));
        // What nobody has is asked for in vain, and not on other hosts; and what all listen to stays here.
        for member in &cluster.members {
            assert!(!member.pings("box10", "10.1.0.77"));
            member.attempt("ip netns exec box10 busybox ping -c 3 -W 1 -b 10.1.0.255");
            member.attempt(&format!("ip netns exec box10 busybox arping -c 3 -I eth0 -U {}", address(member.n)));
        }
        for n in 1..=3 {
            // The same address in the other tenant is another container.
            let member = &cluster.members[usize::from(n - 1)];
            let shown = member.type_in("ip netns exec box11 cat /sys/class/net/eth0/address");
            assert_eq!(shown.trim(), mac(0xb, n));
        }
        // Under load, from containers that remember nobody.
        for member in &cluster.members {
            member.type_in("ip -n box10 neigh flush all");
            for other in (1..=3).filter(|other| *other != member.n) {
                // Its first question is to all, the others are to whoever answered.
                member.type_in(&format!("ip netns exec box10 busybox arping -c 3 -I eth0 {}", address(other)));
                member.type_in(&format!("ip netns exec box10 busybox ping -q -c 500 -i 0.001 -s 1400 {}", address(other)));
            }
        }
        assert!(counted("all") > 6000, "{} frames", counted("all"));
        assert_eq!((counted("arp"), counted("broadcast")), (0, 0));
        println!("{} frames between hosts, 0 with ARP or to all", counted("all"));
        for member in &cluster.members {
            assert_eq!(member.reconcile(), json!([]), "host {}", member.n);
        }
    }

    fn a_network_on_three_hosts_shows_its_tunnel_and_has_one_mtu(_kernel) {
        let cluster = Cluster::connected();
        let member = &cluster.members[0];
        let (status, shown) = member.control("GET", "/v1/networks/red", &json!(null));
        assert_eq!(status, 200);
        let tunnel = &shown["tunnel"];
        assert_eq!((&tunnel["vni"], &tunnel["mtu"], &tunnel["remotes"]), (&json!(101), &json!(1450), &json!(2)), "{shown}");
        assert_eq!((&tunnel["local"], &tunnel["port"]), (&json!("192.0.2.1"), &json!(14789)));
        let link = tunnel["link"].as_str().unwrap();
        let shown = member.type_in(&format!("ip -n ciao-red -d link show {link}"));
        for part in ["mtu 1450", "vxlan id 101", "local 192.0.2.1", "dstport 14789", "nolearning", "neigh_suppress on", "learning off flood off"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(member.type_in("ip -n ciao-red link show br0").contains("mtu 1450"));
        assert!(member.type_in("ip -n box10 link show eth0").contains("mtu 1450"));
        assert!(member.attempt("ip netns exec box10 busybox ping -c 1 -W 1 -s 1422 10.1.0.12").status.success());
    }

    fn a_hole_in_the_mtu_between_hosts_is_found(_kernel) {
        let cluster = Cluster::connected();
        let one = &cluster.members[0];
        let carried = || one.control("GET", "/v1/hosts/h2/mtu", &json!(null)).1["carried"].clone();
        assert_eq!(carried(), json!(1500));
        // As a router tells it that carries less: this host would fragment.
        let route = one.type_in("ip route get 192.0.2.2");
        let link = route.split_ascii_whitespace().skip_while(|word| *word != "dev").nth(1).unwrap();
        one.type_in(&format!("ip route add 192.0.2.2 dev {link} mtu 1400"));
        assert_eq!(carried(), json!(1400));
        one.type_in(&format!("ip route delete 192.0.2.2 dev {link}"));
        // A bridge drops silently what its port does not carry.
        run("ip link set w2 mtu 1400");
        assert_eq!(carried(), json!(1400));
        run("ip link set w2 down");
        assert_eq!(carried(), json!(null));
    }

    fn a_moved_address_is_reached_where_it_is_now_and_a_host_may_change_its_own(_kernel) {
        let cluster = Cluster::connected();
        let [one, two, three] = &cluster.members[..] else { panic!() };
        // Red's third container moves from host 3 to host 2, with its MAC address.
        three.stop("red", 10);
        two.run("red", 13, &format!("{}/24", address(3)), &mac(0xa, 3));
        assert!(two.pings("box10", &address(3)), "on its own host at once");
        let body = json!({ "base": 1, "generation": 2, "set": [[address(3), mac(0xa, 3), "h2"]] });
        for member in &cluster.members {
            assert_eq!(member.control("PATCH", "/v1/tenants/red/remotes", &body).0, 200);
        }
        assert!(soon(|| one.pings("box10", &address(3)) && two.pings("box13", &address(1))));
        // And back, where its host keeps its VNIC until the row says so.
        two.stop("red", 13);
        three.run("red", 10, &format!("{}/24", address(3)), &mac(0xa, 3));
        let body = json!({ "base": 2, "generation": 3, "set": [[address(3), mac(0xa, 3), "h3"]] });
        for member in &cluster.members {
            assert_eq!(member.control("PATCH", "/v1/tenants/red/remotes", &body).0, 200);
        }
        cluster.all_reach_each_other();
        // Host 2 gets another address.
        two.type_in("ip addr del 192.0.2.2/24 dev u0");
        two.type_in("ip addr add 192.0.2.22/24 dev u0");
        cluster.give_hosts(2, [1, 22, 3]);
        cluster.all_reach_each_other();
        assert!(one.type_in("ip nexthop").contains("via 192.0.2.22"), "{}", one.type_in("ip nexthop"));
    }

    fn the_example_controller_keeps_three_hosts_in_step_and_may_be_killed(_kernel) {
        let cluster = Cluster::start();
        cluster.run_all();
        let file = cluster.folder.path().join("cluster.json");
        let write = |at: [u8; 3]| {
            let host = |member: &Member| json!({ "id": format!("h{}", member.n), "address": format!("192.0.2.{}", member.n), "socket": member.socket });
            let rows = |middle: u8| -> Vec<_> {
                (1..=3).map(|n: u8| json!([address(n), mac(middle, n), format!("h{}", at[usize::from(n) - 1])])).collect()
            };
            let tenants: serde_json::Map<_, _> = TENANTS.iter().map(|(tenant, _, middle)| ((*tenant).to_owned(), json!(rows(*middle)))).collect();
            let hosts: Vec<_> = cluster.members.iter().map(host).collect();
            std::fs::write(&file, json!({ "hosts": hosts, "tenants": tenants }).to_string()).unwrap();
        };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/examples/controller.sh");
        let start = || Command::new("sh").arg(script).arg(&file).env("EVERY", "0.2").stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Controller).unwrap();
        // A step of it is some dozens of processes.
        let patiently = |what: &dyn Fn() -> bool| (0..12).any(|_| soon(what));
        write([1, 2, 3]);
        let first = start();
        assert!(patiently(&|| cluster.failing().is_empty()), "{:?}", cluster.failing());
        // Whatever it was doing.
        drop(first);
        cluster.all_reach_each_other();
        let [one, two, three] = &cluster.members[..] else { panic!() };
        three.stop("red", 10);
        two.run("red", 13, &format!("{}/24", address(3)), &mac(0xa, 3));
        write([1, 2, 2]);
        let mut second = start();
        assert!(patiently(&|| one.pings("box10", &address(3)) && two.pings("box13", &address(1))));
        // A later one takes over, and this one ends.
        let _third = start();
        write([1, 2, 3]);
        assert!(patiently(&|| one.control("GET", "/v1/hosts", &json!(null)).1["generation"].as_u64().unwrap() >> 32 == 3));
        assert_eq!(second.0.wait().unwrap().code(), Some(1));
    }

    fn whatever_breaks_a_tunnel_is_repaired_within_seconds(_kernel) {
        let cluster = Cluster::connected();
        let one = &cluster.members[0];
        let link = one.control("GET", "/v1/networks/red", &json!(null)).1["tunnel"]["link"].as_str().unwrap().to_owned();
        let other = mac(TENANTS[0].2, 2);
        for command in [
            format!("ip -n ciao-red link del {link}"),
            format!("ip -n ciao-red link set {link} down"),
            format!("ip -n ciao-red link set {link} nomaster"),
            format!("bridge -n ciao-red link set dev {link} learning on"),
            format!("bridge -n ciao-red fdb del {other} dev {link} self"),
            format!("bridge -n ciao-red fdb del {other} dev {link} master"),
            "ip -n ciao-red neigh del 10.1.0.12 dev br0".to_owned(),
            "ip -n ciao-red link del br0".to_owned(),
            "ip nexthop flush".to_owned(),
            "nft flush ruleset".to_owned(),
        ] {
            // What restored the one before is reported too, and looked at.
            std::thread::sleep(std::time::Duration::from_millis(1500));
            one.type_in(&command);
            assert!(soon(|| one.pings("box10", &address(2)) && one.pings("box10", &address(3))), "{command}");
            assert!(soon(|| one.type_in(&format!("ip -n ciao-red -d link show {link}")).contains("learning off flood off")), "{command}");
            assert!(soon(|| one.type_in("nft list ruleset").contains("192.0.2.2, 192.0.2.3")), "{command}");
        }
    }
}
