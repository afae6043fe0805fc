// SPDX-License-Identifier: Apache-2.0
//! What a bridge knows of its ports, and that it learns nothing where everything is known.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd;

use ciao_netdriver::kernel::linux::Linux;
use ciao_netdriver::kernel::{Links, Veth};
use ciao_netdriver::reconcile::Depth;

use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};

use crate::apart::{RED, answers, gateway, into_container, name, run, soon, tests, veth, with_bridge};
use crate::driver::Bench;

/// Two VNICs on a bridge with the gateway 10.1.0.1, in containers c1 (10.1.0.101) and c2 (10.1.0.102).
fn two_containers(kernel: &Linux) -> [Veth; 2] {
    with_bridge(kernel, RED);
    gateway(kernel, RED, "10.1.0.1/24");
    let both = [veth(RED, 1), veth(RED, 2)];
    for (n, veth) in both.iter().enumerate() {
        kernel.create_veth(veth).unwrap();
        into_container(&veth.container_link, &format!("c{}", n + 1), &[&format!("10.1.0.{}/24", 101 + n)]);
    }
    both
}

/// Where the bridge sends frames for a MAC address.
fn port_of(mac: &str) -> String {
    let table = run(&format!("bridge -n {RED} fdb show br br0"));
    table.lines().find(|line| line.starts_with(mac) && line.contains("master br0")).unwrap_or_default().to_owned()
}

/// Sends frames from a container: source and destination, in any number.
pub(crate) fn send(container: &str, frames: impl IntoIterator<Item = ([u8; 6], [u8; 6])> + Send) {
    let work = || {
        setns(File::open(format!("/run/netns/{container}")).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        let wire = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).unwrap();
        let mut links = getifaddrs().unwrap().filter(|entry| entry.interface_name == "eth0");
        let link = links.find_map(|entry| entry.address?.as_link_addr().copied()).unwrap();
        for (source, destination) in frames {
            // Of an EtherType for experiments (IEEE 802, 9.2.3).
            let frame = [&destination[..], &source, &[0x88, 0xb5], &[0; 46]].concat();
            sendto(wire.as_raw_fd(), &frame, &link, MsgFlags::empty()).unwrap();
        }
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap());
}

pub(crate) fn mac(text: &str) -> [u8; 6] {
    let bytes: Vec<_> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

tests! {
    fn a_neighbour_s_mac_address_cannot_be_taken_by_any_frame(kernel) {
        let [_, victim] = two_containers(kernel);
        let before = port_of("02:00:00:00:00:02");
        assert!(before.contains(victim.host_link.as_str()) && before.contains("static") && before.contains("sticky"), "{before}");
        let groups = (0..16).map(|n| format!("01:80:c2:00:00:{n:02x}"));
        for destination in groups.chain(["ff:ff:ff:ff:ff:ff".to_owned(), "02:00:00:00:00:fe".to_owned()]) {
            send("c1", [(mac("02:00:00:00:00:02"), mac(&destination))]);
            assert_eq!(port_of("02:00:00:00:00:02"), before, "after a frame to {destination}");
            send("c1", [(mac("02:00:00:00:00:77"), mac(&destination))]);
            assert_eq!(port_of("02:00:00:00:00:77"), "", "after a frame to {destination}");
        }
    }

    fn a_port_that_learns_takes_no_known_mac_address_either(kernel) {
        with_bridge(kernel, RED);
        gateway(kernel, RED, "10.1.0.1/24");
        let (open, victim) = (Veth { learns: true, ..veth(RED, 1) }, veth(RED, 2));
        for (container, veth) in [("c1", &open), ("c2", &victim)] {
            kernel.create_veth(veth).unwrap();
            into_container(&veth.container_link, container, &["10.1.0.9/24"]);
        }
        let before = port_of("02:00:00:00:00:02");
        send("c1", [(mac("02:00:00:00:00:77"), mac("01:80:c2:00:00:0e"))]);
        assert!(port_of("02:00:00:00:00:77").contains(open.host_link.as_str()), "it learns");
        send("c1", [(mac("02:00:00:00:00:02"), mac("01:80:c2:00:00:0e"))]);
        assert_eq!(port_of("02:00:00:00:00:02"), before);
        let shown = run(&format!("ip -n {RED} -d link show br0"));
        assert!(shown.contains("mcast_snooping 0"), "{shown}");
        // What is learned has a bound where the kernel knows one (Linux 6.7); the tool may be older than the kernel.
        let bound = run("uname -r");
        let version: Vec<u32> = bound.split(['.', '-']).map_while(|part| part.trim().parse().ok()).take(2).collect();
        if version >= vec![6, 7] {
            let sources = (0..6000_u16).map(|n| [0xaa, 0, 0, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
            send("c1", sources.map(|source| (source, mac("01:80:c2:00:00:0e"))));
            let learned = run(&format!("bridge -n {RED} fdb show br br0")).lines().filter(|line| line.starts_with("aa:00:")).count();
            assert!((1000..=4096).contains(&learned), "{learned} entries learned");
        }
    }

    fn vnics_are_permanent_neighbours_of_their_bridge_as_long_as_they_are_there(kernel) {
        let both = two_containers(kernel);
        let neighbours = || run(&format!("ip -n {RED} neigh show dev br0 nud permanent"));
        let lines: BTreeSet<_> = neighbours().lines().map(|line| line.trim().to_owned()).collect();
        let wanted = ["10.1.0.101 lladdr 02:00:00:00:00:01 PERMANENT", "10.1.0.102 lladdr 02:00:00:00:00:02 PERMANENT"];
        assert_eq!(lines, wanted.map(str::to_owned).into());
        kernel.delete_veths(&both[..1]).unwrap();
        kernel.forget_neighbours(RED, &name("br0"), &both[0].addresses).unwrap();
        kernel.forget_neighbours(RED, &name("br0"), &both[0].addresses).unwrap();
        assert!(!neighbours().contains("10.1.0.101"), "{}", neighbours());
        // The address is another VNIC's, with another MAC address.
        kernel.create_veth(&Veth { addresses: both[0].addresses.clone(), ..veth(RED, 3) }).unwrap();
        assert!(neighbours().contains("10.1.0.101 lladdr 02:00:00:00:00:03"), "{}", neighbours());
        kernel.forget_neighbours(RED, &name("br9"), &both[0].addresses).unwrap();
    }

    fn a_neighbour_takes_another_mac_address_when_it_is_announced(kernel) {
        two_containers(kernel);
        run("ip -n c2 addr add fd00:1::102/64 dev eth0 nodad");
        for (address, old) in [("10.1.0.9", "02:00:00:00:00:09"), ("fd00:1::9", "02:00:00:00:00:09")] {
            run(&format!("ip -n c2 neigh replace {address} lladdr {old} dev eth0 nud stale"));
        }
        let new = "02:00:00:00:00:77".parse().unwrap();
        let entries = ["10.1.0.9", "fd00:1::9"].map(|address| (address.parse().unwrap(), new));
        kernel.announce(RED, &name("br0"), &entries).unwrap();
        for address in ["10.1.0.9", "fd00:1::9"] {
            let known = || run(&format!("ip -n c2 neigh show {address}"));
            assert!(soon(|| known().contains("02:00:00:00:00:77")), "{}", known());
        }
        kernel.announce(RED, &name("br9"), &entries).unwrap();
    }

    fn an_address_that_another_mac_address_has_now_is_reached_at_once(_kernel) {
        let bench = Bench::new();
        bench.network("red", "none");
        bench.run("red", 2, "10.1.0.2/24");
        for mac in [Some("02:00:00:00:00:31"), Some("02:00:00:00:00:32"), None] {
            bench.run_as("red", 3, "10.1.0.3/24", mac);
            // Without the announcement it is silent for 25 s.
            assert!(answers("box2", "10.1.0.3"), "with MAC address {mac:?}");
            bench.stop("red", 3);
            assert!(soon(|| !run("ip -n ciao-red neigh show nud permanent").contains("10.1.0.3 ")));
        }
    }

    fn a_link_that_is_attached_again_is_known_again(kernel) {
        let [one, _] = two_containers(kernel);
        run(&format!("ip -n {RED} link set {} nomaster down", one.host_link));
        run(&format!("ip -n {RED} neigh flush dev br0 nud permanent"));
        assert_eq!(port_of("02:00:00:00:00:01"), "");
        kernel.attach(&one).unwrap();
        assert!(port_of("02:00:00:00:00:01").contains("sticky"));
        let shown = run(&format!("bridge -n {RED} -d link show dev {}", one.host_link));
        assert!(shown.contains("learning off flood off"), "{shown}");
        assert!(run(&format!("ip -n {RED} neigh show 10.1.0.101 dev br0")).contains("PERMANENT"));
        assert!(answers("c1", "10.1.0.1"));
        kernel.attach(&veth(RED, 9)).unwrap();
    }

    fn broadcast_and_multicast_go_to_every_port_and_unknown_unicast_to_none(kernel) {
        two_containers(kernel);
        let received = |link: &str| -> u64 {
            run(&format!("ip netns exec {link} cat /sys/class/net/eth0/statistics/rx_packets")).trim().parse().unwrap()
        };
        for (destination, arrives) in
            [("ff:ff:ff:ff:ff:ff", true), ("01:00:5e:00:00:fb", true), ("33:33:00:00:00:12", true), ("02:00:00:00:00:fe", false)]
        {
            // The containers' kernels send some of their own.
            let before = received("c2");
            send("c1", std::iter::repeat_n((mac("02:00:00:00:00:01"), mac(destination)), 100));
            assert_eq!(received("c2") - before >= 100, arrives, "frames to {destination}");
        }
    }

    fn ports_of_others_on_a_tenant_s_bridge_keep_the_kernel_s_defaults(_kernel) {
        let bench = Bench::new();
        bench.network("red", "nat");
        bench.run("red", 2, "10.1.0.2/24");
        run("ip -n ciao-red link add router0 type veth peer name router1");
        run("ip -n ciao-red link set router0 master br0 up");
        let shown = || run("bridge -d -n ciao-red link show dev router0");
        let before = shown();
        assert!(before.contains("learning on flood on"), "{before}");
        assert_eq!(bench.driver.reconcile(Depth::Full), []);
        bench.run("red", 3, "10.1.0.3/24");
        assert_eq!(shown(), before);
    }
}
