// SPDX-License-Identifier: Apache-2.0
//! The operations on the running kernel, one sentence a test.
//!
//! Each test is a process in network and mount namespaces of its own, so nothing of this machine's is touched: what the
//! code calls the host is that empty namespace, and `/run/netns` a folder in memory. Tests need root, nft and busybox.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod apart;
mod cluster;
mod cnci;
mod driver;
mod drops;
mod egress;
mod exchange;
mod frames;
mod host;
mod host_access;
mod hostile;
mod icc;
mod learning;
mod leaving;
mod moves;
mod portless;
mod published;
mod restoring;
mod routed;
mod rules;
mod scale;
mod several;
mod shares;
mod tunnels;
mod upgrade;

use std::time::{Duration, Instant};

use ciao_common::types::LinkName;
use ciao_netdriver::kernel::{HostLink, LinkLocation, Links, Namespace, Namespaces, Rules, UplinkPair, Uplinks, Veth};

use apart::{RED, answers, answers_once, gateway, inside, into_container, name, run, soon, tests, veth, with_bridge};

tests! {
    fn a_namespace_is_made_once_routes_and_is_deleted_as_often_as_you_like(kernel) {
        assert_eq!(kernel.namespaces().unwrap(), [""; 0]);
        assert!(kernel.ensure_namespace(RED).unwrap());
        assert!(!kernel.ensure_namespace(RED).unwrap());
        run("ip netns add other");
        assert_eq!(kernel.namespaces().unwrap(), [RED]);
        assert_eq!(run(&format!("ip netns exec {RED} cat /proc/sys/net/ipv4/ip_forward")).trim(), "1");
        assert!(run(&format!("ip -n {RED} link show lo")).contains("UP"));
        kernel.delete_namespace(RED).unwrap();
        kernel.delete_namespace(RED).unwrap();
        assert_eq!(kernel.namespaces().unwrap(), [""; 0]);
        assert_eq!(run("ip netns list").trim(), "other");
        assert!(kernel.ensure_namespace(RED).unwrap());
    }

    fn the_empty_file_that_a_crash_left_is_no_namespace_and_no_hindrance(kernel) {
        std::fs::write("/run/netns/ciao-red", "").unwrap();
        assert!(kernel.links(&inside(RED)).unwrap().is_empty());
        assert!(kernel.ensure_namespace(RED).unwrap());
        assert_eq!(kernel.links(&inside(RED)).unwrap(), [name("lo")]);
    }

    fn the_calling_thread_stays_in_the_host_s_namespace(kernel) {
        let here = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let before = here();
        with_bridge(kernel, RED);
        kernel.create_veth(&veth(RED, 1)).unwrap();
        kernel.has_rules(&inside(RED)).unwrap();
        assert!(kernel.run_nft(&inside(RED), "pizza").is_err());
        assert_eq!(here(), before);
        assert!(!kernel.links(&Namespace::Host).unwrap().contains(&name("br0")));
    }

    fn a_bridge_is_up_with_its_mtu_and_made_once(kernel) {
        kernel.ensure_namespace(RED).unwrap();
        let longest = name("br-45678901234b");
        assert!(kernel.ensure_bridge(RED, &longest, "1400".parse().ok()).unwrap());
        assert!(!kernel.ensure_bridge(RED, &longest, "1400".parse().ok()).unwrap());
        let shown = run(&format!("ip -n {RED} -d link show {longest}"));
        assert!(shown.contains("mtu 1400") && shown.contains(",UP") && shown.contains("bridge"), "{shown}");
        assert!(kernel.ensure_bridge("ciao-none", &longest, None).is_err());
        let error = kernel.ensure_bridge(RED, &name("lo"), None).unwrap_err().to_string();
        assert!(error.contains("lo in network namespace ciao-red is not a bridge"), "{error}");
        assert!(kernel.is_own_bridge(RED, &longest).unwrap() && !kernel.is_own_bridge(RED, &name("lo")).unwrap());
        run(&format!("ip -n {RED} link add theirs type bridge"));
        assert!(!kernel.is_own_bridge(RED, &name("theirs")).unwrap());
        run(&format!("ip -n {RED} link delete theirs"));
        kernel.delete_link(&inside(RED), &longest).unwrap();
        kernel.delete_link(&inside(RED), &longest).unwrap();
        kernel.delete_link(&inside("ciao-none"), &longest).unwrap();
        assert_eq!(kernel.links(&inside(RED)).unwrap(), [name("lo")]);
    }

    fn a_bridge_s_mac_address_does_not_change_with_its_ports(kernel) {
        with_bridge(kernel, RED);
        let mac = || run(&format!("ip netns exec {RED} cat /sys/class/net/br0/address"));
        let before = mac();
        let low = Veth { mac: "02:00:00:00:00:00".parse().unwrap(), ..veth(RED, 1) };
        kernel.create_veth(&low).unwrap();
        assert_eq!(mac(), before);
        kernel.delete_veths(&[low]).unwrap();
        assert_eq!(mac(), before);
    }

    fn gateways_of_both_families_come_and_go(kernel) {
        with_bridge(kernel, RED);
        let shown = || run(&format!("ip -n {RED} addr show br0"));
        for _ in 0..2 {
            gateway(kernel, RED, "10.1.0.1/24");
            gateway(kernel, RED, "fd00:1::1/64");
        }
        let text = shown();
        assert!(text.contains("inet 10.1.0.1/24") && text.contains("inet6 fd00:1::1/64"), "{text}");
        assert!(!text.contains("tentative"), "a gateway answers at once: {text}");
        for (subnet, address) in [("10.1.0.0/24", "10.1.0.1"), ("fd00:1::/64", "fd00:1::1")] {
            let remove = || {
                kernel.remove_address(RED, &name("br0"), subnet.parse().unwrap(), address.parse().unwrap()).unwrap();
            };
            remove();
            remove();
        }
        assert!(!shown().contains("10.1.0.1") && !shown().contains("fd00:1::1"));
        assert!(kernel.add_address(RED, &name("br9"), "10.1.0.0/24".parse().unwrap(), "10.1.0.1".parse().unwrap()).is_err());
        kernel.remove_address(RED, &name("br9"), "10.1.0.0/24".parse().unwrap(), "10.1.0.1".parse().unwrap()).unwrap();
    }

    fn a_link_is_known_by_its_index_until_it_leaves_the_host_s_namespace(kernel) {
        with_bridge(kernel, RED);
        let veth = veth(RED, 1);
        assert_eq!(kernel.peek(&veth.container_link), None);
        kernel.create_veth(&veth).unwrap();
        let (index, mac) = kernel.peek(&veth.container_link).unwrap();
        assert_eq!(mac, veth.mac);
        assert!(kernel.is_same_link(index, &veth.container_link));
        assert!(!kernel.is_same_link(index, &name("other")) && !kernel.is_same_link(index + 100, &veth.container_link));
        kernel.delete_veths(std::slice::from_ref(&veth)).unwrap();
        assert!(!kernel.is_same_link(index, &veth.container_link));
        kernel.create_veth(&veth).unwrap();
        assert!(!kernel.is_same_link(index, &veth.container_link), "made again, it is another link");
    }

    fn a_veth_pair_has_mac_mtu_and_names_of_up_to_fifteen_bytes(kernel) {
        with_bridge(kernel, RED);
        let veth = Veth { host_link: name("hv3456789abcdef"), container_link: name("cv3456789abcdef"), mtu: "1400".parse().ok(), alias: "x".repeat(254), ..veth(RED, 1) };
        kernel.create_veth(&veth).unwrap();
        let ours = run("ip link show cv3456789abcdef");
        assert!(ours.contains("mtu 1400") && ours.contains("02:00:00:00:00:01") && ours.contains("state DOWN"), "{ours}");
        let theirs = run(&format!("ip -n {RED} link show hv3456789abcdef"));
        assert!(theirs.contains("mtu 1400") && theirs.contains("master br0") && theirs.contains(",UP"), "{theirs}");
        assert!(theirs.contains(&veth.alias), "the longest alias: {theirs}");
        assert!("cv3456789abcdef0".parse::<LinkName>().is_err(), "sixteen");
    }

    fn a_veth_pair_that_cannot_be_made_leaves_nothing(kernel) {
        with_bridge(kernel, RED);
        run("ip link add cv0000000001 type bridge");
        let links = || (kernel.links(&Namespace::Host).unwrap(), kernel.links(&inside(RED)).unwrap());
        let before = links();
        assert!(kernel.create_veth(&veth(RED, 1)).is_err(), "the name is taken");
        assert!(kernel.create_veth(&Veth { bridge: name("br9"), ..veth(RED, 2) }).is_err(), "no such bridge");
        assert!(kernel.create_veth(&veth("ciao-none", 3)).is_err(), "no such namespace");
        assert_eq!(links(), before);
        kernel.create_veth(&veth(RED, 4)).unwrap();
        let before = links();
        assert!(kernel.create_veth(&veth(RED, 4)).is_err(), "twice");
        assert_eq!(links(), before);
    }

    fn a_limited_vnic_is_limited_and_made_whole_or_not_at_all(kernel) {
        with_bridge(kernel, RED);
        let limited = Veth { rate: Some("10mbit".parse().unwrap()), ..veth(RED, 1) };
        kernel.create_veth(&limited).unwrap();
        let shown = run(&format!("tc -n {RED} qdisc show dev {}", limited.host_link));
        assert!(shown.contains("tbf") && shown.contains("10Mbit"), "{shown}");
    }

    fn a_container_end_is_on_the_host_in_a_container_or_absent(kernel) {
        with_bridge(kernel, RED);
        let veth = veth(RED, 1);
        assert_eq!(kernel.locate(&veth).unwrap(), LinkLocation::Absent);
        assert_eq!(kernel.locate(&Veth { namespace: inside("ciao-none"), ..veth.clone() }).unwrap(), LinkLocation::Absent);
        kernel.create_veth(&veth).unwrap();
        assert_eq!(kernel.locate(&veth).unwrap(), LinkLocation::Host(Some(veth.mac)));
        into_container(&veth.container_link, "sandbox", &[]);
        assert_eq!(kernel.locate(&veth).unwrap(), LinkLocation::Container);
        let back = format!("netns {} name {}", std::process::id(), veth.container_link);
        run(&format!("ip -n sandbox link set eth0 {back}"));
        assert_eq!(kernel.locate(&veth).unwrap(), LinkLocation::Host(Some(veth.mac)));
        run(&format!("ip link set {} netns sandbox", veth.container_link));
        run("ip netns del sandbox");
        assert!(soon(|| kernel.locate(&veth).unwrap() == LinkLocation::Absent), "the pair dies with the sandbox");
    }

    fn twenty_pairs_go_at_once_wherever_they_are(kernel) {
        with_bridge(kernel, RED);
        let veths: Vec<_> = (1..=20).map(|n| veth(RED, n)).collect();
        veths.iter().for_each(|veth| kernel.create_veth(veth).unwrap());
        into_container(&veths[3].container_link, "sandbox", &[]);
        kernel.delete_link(&Namespace::Host, &veths[5].container_link).unwrap();
        run("ip link add other type bridge");
        let start = Instant::now();
        kernel.delete_veths(&veths).unwrap();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert!(veths.iter().all(|veth| kernel.locate(veth).unwrap() == LinkLocation::Absent));
        assert_eq!(kernel.links(&inside(RED)).unwrap(), [name("lo"), name("br0")]);
        assert!(kernel.links(&Namespace::Host).unwrap().contains(&name("other")));
        kernel.delete_veths(&veths).unwrap();
        kernel.delete_veths(&[]).unwrap();
    }

    fn batches_at_the_same_time_delete_their_own_pairs_only(kernel) {
        with_bridge(kernel, RED);
        let veths: Vec<_> = (1..=30).map(|n| veth(RED, n)).collect();
        veths.iter().for_each(|veth| kernel.create_veth(veth).unwrap());
        std::thread::scope(|scope| {
            for batch in veths[..24].chunks(6) {
                scope.spawn(move || kernel.delete_veths(batch).unwrap());
            }
        });
        let gone = veths.iter().filter(|veth| kernel.locate(veth).unwrap() == LinkLocation::Absent).count();
        assert_eq!(gone, 24);
    }

    fn two_vnics_on_a_bridge_reach_each_other_and_their_gateway(kernel) {
        with_bridge(kernel, RED);
        gateway(kernel, RED, "10.1.0.1/24");
        gateway(kernel, RED, "fd00:1::1/64");
        for n in [2, 3] {
            kernel.create_veth(&veth(RED, n)).unwrap();
            let addresses = [format!("10.1.0.{n}/24"), format!("fd00:1::{n}/64")];
            into_container(&veth(RED, n).container_link, &format!("box{n}"), &[&addresses[0], &addresses[1]]);
        }
        for address in ["10.1.0.3", "10.1.0.1", "fd00:1::3", "fd00:1::1"] {
            assert!(answers("box2", address), "{address}");
        }
        assert!(!answers_once("box2", "10.1.0.4"));
    }

    fn the_same_addresses_in_two_tenants_are_apart(kernel) {
        for (tenant, n) in [("ciao-red", 2), ("ciao-blue", 4)] {
            with_bridge(kernel, tenant);
            gateway(kernel, tenant, "10.1.0.1/24");
            for (n, address) in [(n, "10.1.0.2/24"), (n + 1, "10.1.0.3/24")] {
                kernel.create_veth(&veth(tenant, n)).unwrap();
                into_container(&veth(tenant, n).container_link, &format!("box{n}"), &[address]);
            }
        }
        assert!(answers("box2", "10.1.0.3") && answers("box4", "10.1.0.3"));
        assert!(answers("box2", "10.1.0.1") && answers("box4", "10.1.0.1"));
        run("ip -n box5 link set eth0 down");
        assert!(answers("box2", "10.1.0.3") && !answers_once("box4", "10.1.0.3"), "red's has not moved to blue");
    }

    fn a_bridge_of_the_host_is_seen_used_and_left_alone(kernel) {
        run("ip link add lan0 type bridge");
        run("ip link set lan0 up");
        run("ip addr add 10.1.0.1/24 dev lan0");
        run("ip link add veth0 type veth peer name veth1");
        let kind = |link: &str| kernel.host_link(&name(link)).unwrap();
        assert_eq!((kind("lan0"), kind("veth0"), kind("none")), (HostLink::Bridge, HostLink::Other, HostLink::Absent));
        let veth = Veth { namespace: Namespace::Host, bridge: name("lan0"), ..veth(RED, 2) };
        let before = run("ip addr show lan0").lines().skip(1).collect::<String>();
        kernel.create_veth(&veth).unwrap();
        assert_eq!(kernel.locate(&veth).unwrap(), LinkLocation::Host(Some(veth.mac)));
        into_container(&veth.container_link, "box2", &["10.1.0.2/24"]);
        assert_eq!(kernel.locate(&veth).unwrap(), LinkLocation::Container);
        assert!(answers("box2", "10.1.0.1"));
        kernel.delete_veths(&[veth]).unwrap();
        let after = run("ip addr show lan0").lines().skip(1).collect::<String>();
        assert_eq!(kind("lan0"), HostLink::Bridge);
        assert!(after.contains("10.1.0.1/24") && before.contains("10.1.0.1/24"));
    }

    fn an_uplink_leads_to_the_host_and_is_made_once(kernel) {
        kernel.ensure_namespace(RED).unwrap();
        let uplink = UplinkPair {
            namespace: RED.to_owned(),
            host_link: name("cu0123456789"),
            inner_link: name("up0"),
            pairs: vec!["169.254.64.0/31".parse().unwrap(), "fd00:9::/127".parse().unwrap()],
        };
        assert!(kernel.ensure_uplink(&uplink).unwrap());
        assert!(!kernel.ensure_uplink(&uplink).unwrap());
        assert!(answers(RED, "169.254.64.0") && answers(RED, "fd00:9::"));
        let addresses: Vec<_> = kernel.host_addresses().unwrap().into_iter().map(|(_, address)| address).collect();
        assert!(addresses.contains(&"169.254.64.0".parse().unwrap()), "{addresses:?}");
        run("ip link set cu0123456789 mtu 1380");
        assert_eq!(kernel.link_of("169.254.64.0".parse().unwrap()).unwrap(), Some((name("cu0123456789"), 1380)));
        assert_eq!(kernel.link_of("192.0.2.99".parse().unwrap()).unwrap(), None);
        assert!(run(&format!("ip -n {RED} route")).contains("default via 169.254.64.0 dev up0"));
        assert!(run(&format!("ip -n {RED} -6 route")).contains("default via fd00:9::"));
        let neighbours = [run(&format!("ip -n {RED} neigh")), run("ip neigh")].concat();
        for address in ["169.254.64.0 dev up0", "fd00:9:: dev up0", "169.254.64.1 dev cu0123456789", "fd00:9::1 dev cu0123456789"] {
            let known = neighbours.lines().any(|line| line.starts_with(address) && line.contains("PERMANENT"));
            assert!(known, "{address}: {neighbours}");
        }
        // NET_ADDR_SET: given, and not the kernel's to choose or udev's to change.
        assert_eq!(run("cat /sys/class/net/cu0123456789/addr_assign_type").trim(), "3");
        let before = run("cat /sys/class/net/cu0123456789/address");
        run(&format!("ip -n {RED} link del up0"));
        assert!(kernel.ensure_uplink(&uplink).unwrap());
        assert_eq!(run("cat /sys/class/net/cu0123456789/address"), before);
        run(&format!("ip -n {RED} route del default"));
        kernel.ensure_uplink(&uplink).unwrap();
        assert!(answers(RED, "169.254.64.0"));
        kernel.delete_link(&Namespace::Host, &uplink.host_link).unwrap();
        assert!(!kernel.links(&inside(RED)).unwrap().contains(&name("up0")));
        assert!(kernel.ensure_uplink(&UplinkPair { namespace: "ciao-none".to_owned(), ..uplink }).is_err());
        assert!(!kernel.links(&Namespace::Host).unwrap().contains(&name("cu0123456789")));
    }
}
