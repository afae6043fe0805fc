//! Attacks of a container on its neighbours, on other tenants, and on the host; each counted where it would hurt. Every
//! attack is also seen to arrive where nothing stops it, or a wall of air would pass for one of stone.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::thread::sleep;
use std::time::Duration;

use ciao_tests::frames::{
    Frame, Station, arp, behind_options, first_fragment6, fragments, icmp6, of_type, tagged, udp, udp6,
};
use ciao_tests::lab::Host;
use ciao_tests::world::{Place, mark, network, serve, soon};
use etherparse::ArpOperation;

const SUBNETS: &str = "--ipv6 --subnet 10.5.0.0/24 --subnet fd00:5::/64";
/// The frame that the attacker may send, after all others.
const END: &str = "the end";
const NOBODY: [u8; 6] = [0; 6];

/// A container of the attacker and one of its victim, on one network.
struct Scene {
    host: Host,
    mallory: Place,
    victim: Place,
    from: Station,
    to: Station,
    gateway: Station,
    neighbour: Station,
}

impl Scene {
    fn open(name: &str, options: &str) -> Self {
        let host = Host::builder().name(name).start().unwrap();
        network(&host, "app", "red", &format!("{SUBNETS} {options}")).unwrap();
        let victim = serve(&host, "victim", "--network app --ip 10.5.0.2 --ip6 fd00:5::2").unwrap();
        let mallory = serve(&host, "mallory", "--network app --ip 10.5.0.66 --ip6 fd00:5::66").unwrap();
        let bridge = host.sh("sqlite3 /var/lib/ciao/ciao.db 'SELECT bridge FROM network'").unwrap();
        let bridge = host.sh(&format!("ip netns exec ciao-red cat /sys/class/net/{bridge}/address")).unwrap();
        let (from, to) = (station(mac_of(&host, "mallory"), 66), station(mac_of(&host, "victim"), 2));
        let (gateway, neighbour) = (station(octets(&bridge), 1), station([2, 0, 10, 5, 0, 3], 3));
        Self { host, mallory, victim, from, to, gateway, neighbour }
    }

    /// Sends the frames from the attacker's container, then one that it may send; returns which of them the victim hears.
    fn attack(&self, frames: Vec<(&'static str, Frame)>) -> BTreeSet<String> {
        let (wire, ear) = (self.mallory.wire("eth0").unwrap(), self.victim.wire("eth0").unwrap());
        wire.send_named(frames).unwrap();
        wire.send_named([(END, udp(self.from, everybody(), (7, 7), b""))]).unwrap();
        ear.hear(END).unwrap()
    }
}

fn station(mac: [u8; 6], last: u8) -> Station {
    let v6 = format!("fd00:5::{last}").parse().unwrap();
    Station { mac, v4: [10, 5, 0, last].into(), v6 }
}

fn everybody() -> Station {
    Station { mac: [0xff; 6], v4: [255; 4].into(), v6: "ff02::1".parse().unwrap() }
}

fn octets(mac: &str) -> [u8; 6] {
    let octets: Vec<u8> = mac.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    octets.try_into().unwrap()
}

fn mac_of(host: &Host, container: &str) -> [u8; 6] {
    octets(&host.docker(&["exec", container, "cat", "/sys/class/net/eth0/address"]).unwrap())
}

/// The address that a station has without being given one (RFC 4291, appendix A).
fn link_local(station: Station) -> Station {
    let [a, b, c, d, e, f] = station.mac;
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Station { v6: Ipv6Addr::from((0xfe80_u128 << 112) | u128::from(id)), ..station }
}

/// A router that offers itself for half an hour (RFC 4861, 4.2).
fn router_advertisement(from: Station) -> Frame {
    let all = Station { mac: [0x33, 0x33, 0, 0, 0, 1], ..everybody() };
    icmp6(from, all, 134, [64, 0, 7, 8], &[0; 8])
}

/// "I am the solicited one, forget the other" (RFC 4861, 4.4).
fn neighbour_advertisement(from: Station, to: Station, target: Ipv6Addr) -> Frame {
    icmp6(from, to, 136, [0x60, 0, 0, 0], &[&target.octets()[..], &[2, 1], &from.mac].concat())
}

/// What the attacker sends with its own MAC address on the frame, but for the last ones, and says of itself.
fn lies(scene: &Scene) -> Vec<(&'static str, Frame)> {
    let (me, victim, everybody) = (scene.from, scene.to, everybody());
    let my_own = link_local(me);
    // Others' addresses with the attacker's MAC address, and the other way round.
    let as_gateway = Station { mac: me.mac, ..scene.gateway };
    let as_neighbour = Station { mac: me.mac, ..scene.neighbour };
    let with_neighbours_mac = Station { mac: scene.neighbour.mac, ..me };
    let solicit = [&victim.v6.octets()[..], &[1, 1], &me.mac].concat();
    let redirect = [scene.neighbour.v6.octets(), scene.gateway.v6.octets()].concat();
    let stolen = udp(as_neighbour, victim, (7, 7), &[0; 24]);
    let [first, later] = fragments(&stolen);
    let claim = neighbour_advertisement(my_own, victim, scene.gateway.v6);
    vec![
        ("ARP: I have the gateway's address", arp(me.mac, ArpOperation::REPLY, as_gateway, everybody)),
        ("ARP: I have the neighbour's address", arp(me.mac, ArpOperation::REPLY, as_neighbour, victim)),
        ("ARP: the gateway asks", arp(me.mac, ArpOperation::REQUEST, as_gateway, Station { mac: NOBODY, ..victim })),
        ("ARP: somebody else has my address", arp(me.mac, ArpOperation::REPLY, with_neighbours_mac, everybody)),
        ("ND: I have the gateway's address", claim.clone()),
        ("ND: I have the neighbour's address", neighbour_advertisement(me, victim, scene.neighbour.v6)),
        ("ND: the gateway asks", icmp6(as_gateway, victim, 135, [0; 4], &solicit)),
        ("ND: behind options", behind_options(&claim)),
        ("ND: use that router", icmp6(link_local(as_gateway), victim, 137, [0; 4], &redirect)),
        ("ND: use me", icmp6(my_own, victim, 137, [0; 4], &redirect)),
        ("RA: I am a router", router_advertisement(my_own)),
        ("RA: with the router's address", router_advertisement(link_local(scene.gateway))),
        ("RA: behind options", behind_options(&router_advertisement(my_own))),
        ("RA: in fragments", first_fragment6(&router_advertisement(my_own))),
        ("DHCP: here is your address", udp(me, everybody, (67, 68), &[0; 240])),
        ("DHCPv6: here is your address", udp6(my_own, victim, (547, 546), &[0; 8])),
        ("IPv4: the neighbour's address", stolen),
        ("IPv4: the victim's own address", udp(Station { mac: me.mac, ..victim }, victim, (7, 7), b"")),
        ("IPv4: the neighbour's, the first fragment", first),
        ("IPv4: the neighbour's, the second fragment", later),
        ("IPv6: the neighbour's address", udp6(as_neighbour, victim, (7, 7), b"")),
        ("IPv6: the neighbour's link-local address", udp6(link_local(scene.neighbour), victim, (7, 7), b"")),
        ("VLAN: the neighbour's address", tagged(udp(as_neighbour, victim, (7, 7), b""), 0x8100)),
        ("VLAN: of a provider", tagged(udp(as_neighbour, victim, (7, 7), b""), 0x88a8)),
        ("VLAN: two tags", tagged(tagged(udp(as_neighbour, victim, (7, 7), b""), 0x8100), 0x88a8)),
        ("VLAN: my own address", tagged(udp(me, victim, (7, 7), b""), 0x8100)),
        ("VLAN: router", tagged(router_advertisement(my_own), 0x8100)),
        ("another protocol", of_type(udp(me, victim, (7, 7), b""), 0x88b5)),
        ("MAC: the neighbour's", udp(with_neighbours_mac, victim, (7, 7), b"")),
        ("MAC: the gateway's", udp(Station { mac: scene.gateway.mac, ..me }, victim, (7, 7), b"")),
        // Last: a bridge that believes it sends nothing to the victim any more, but what is for everybody.
        ("MAC: the victim's", udp(Station { mac: victim.mac, ..me }, everybody, (7, 7), b"")),
    ]
}

fn names(frames: &[(&'static str, Frame)]) -> BTreeSet<String> {
    frames.iter().map(|(name, _)| (*name).to_owned()).chain([END.to_owned()]).collect()
}

fn only_the_end() -> BTreeSet<String> {
    BTreeSet::from([END.to_owned()])
}

#[test]
fn no_container_lies_about_who_it_is() {
    let scene = Scene::open("secured", "");
    assert_eq!(scene.attack(lies(&scene)), only_the_end());
}

#[test]
fn without_port_security_every_lie_arrives() {
    let scene = Scene::open("open", "-o port_security=off");
    let lies = lies(&scene);
    let expected = names(&lies);
    assert_eq!(scene.attack(lies), expected);
}

#[test]
fn no_container_lies_to_the_internet() {
    let heard = |name: &str, options: &str| {
        let scene = Scene::open(name, options);
        let internet = Place::internet(&scene.host).unwrap();
        let ear = internet.wire("eth0").unwrap();
        let wire = scene.mallory.wire("eth0").unwrap();
        let target = Station { v4: [203, 0, 113, 2].into(), v6: "2001:db8::2".parse().unwrap(), ..scene.gateway };
        let as_neighbour = Station { mac: scene.from.mac, ..scene.neighbour };
        let foreign = Station { v4: [198, 51, 100, 9].into(), ..as_neighbour };
        // What is routed keeps its payload and nothing behind it.
        for (name, from) in [("neighbour", as_neighbour), ("foreign", foreign), (END, scene.from)] {
            let name6 = format!("{name} IPv6");
            wire.send(&udp6(from, target, (7, 9), &mark(&name6))).unwrap();
            sleep(Duration::from_millis(20)); // the first one waits for neighbour discovery
            wire.send(&udp(from, target, (7, 9), &mark(name))).unwrap();
        }
        ear.hear(END).unwrap()
    };
    let end = [END.to_owned(), format!("{END} IPv6")];
    assert_eq!(heard("honest", ""), BTreeSet::from(end.clone()));
    let lies = ["neighbour", "neighbour IPv6", "foreign", "foreign IPv6"].map(str::to_owned);
    assert_eq!(heard("lying", "-o port_security=off"), BTreeSet::from_iter(end.into_iter().chain(lies)));
}

#[test]
fn an_allowed_address_goes_through_and_no_other() {
    let host = Host::builder().name("allowed").start().unwrap();
    let scene = {
        let vnic = "--tenant red --instance vip --subnet 10.5.0.0/24 --ip 10.5.0.66 --mac 02:00:0a:05:00:42";
        let vnic = format!("ciao-net vnic create {vnic} --allow 10.5.0.100 --allow fd00:5::100 --bridge br-app");
        host.sh(&vnic).unwrap();
        network(&host, "app", "red", &format!("{SUBNETS} -o bridge=br-app")).unwrap();
        let victim = serve(&host, "victim", "--network app --ip 10.5.0.2 --ip6 fd00:5::2").unwrap();
        let mallory = serve(&host, "mallory", "--network app --ip 10.5.0.66 --cap-add NET_ADMIN").unwrap();
        let with_option = "name=app,driver-opt=allowed_addresses=10.5.0.101";
        serve(&host, "docker", &format!("--network {with_option} --cap-add NET_ADMIN")).unwrap();
        let (from, to) = (station(mac_of(&host, "mallory"), 66), station(mac_of(&host, "victim"), 2));
        Scene { host, mallory, victim, from, to, gateway: station(NOBODY, 1), neighbour: station(NOBODY, 3) }
    };
    let (me, to) = (scene.from, scene.to);
    let at = |last: u8| Station { v4: [10, 5, 0, last].into(), v6: format!("fd00:5::{last}").parse().unwrap(), ..me };
    let heard = scene.attack(vec![
        ("100", udp(at(100), to, (7, 7), b"")),
        ("100 IPv6", udp6(at(100), to, (7, 7), b"")),
        ("100 ARP", arp(me.mac, ArpOperation::REPLY, at(100), everybody())),
        ("100 ND", neighbour_advertisement(at(100), to, at(100).v6)),
        ("101", udp(at(101), to, (7, 7), b"")),
        ("102", udp(at(102), to, (7, 7), b"")),
        ("102 ARP", arp(me.mac, ArpOperation::REPLY, at(102), everybody())),
        ("102 ND", neighbour_advertisement(at(100), to, at(102).v6)),
    ]);
    assert_eq!(heard, BTreeSet::from(["100", "100 IPv6", "100 ARP", "100 ND", END].map(str::to_owned)));
    // And as it is used: the address moves from one container to the other.
    for (container, address) in [("mallory", "10.5.0.100"), ("docker", "10.5.0.101")] {
        scene
            .host
            .docker(&["exec", container, "ip", "address", "add", &format!("{address}/24"), "dev", "eth0"])
            .unwrap();
        assert!(soon(|| scene.victim.fetch(&format!("{address}:80")).as_deref() == Some(container)), "{address}");
    }
}

#[test]
fn rules_that_somebody_deleted_in_a_tenants_namespace_come_back() {
    let scene = Scene::open("deleted", "");
    for table in ["bridge ciao", "inet ciao"] {
        scene.host.sh(&format!("ip netns exec ciao-red nft delete table {table}")).unwrap();
        if table == "bridge ciao" {
            let lies = lies(&scene);
            let expected = names(&lies);
            assert_eq!(scene.attack(lies), expected, "without the table nothing stops them");
        }
        scene.host.sh("ciao-net reconcile").unwrap();
        assert_eq!(scene.attack(lies(&scene)), only_the_end(), "after table {table} was deleted");
    }
}

/// A host with an internet, and one tenant's container on it.
fn host_with_container(name: &str) -> (Host, Place, Place) {
    let host = Host::builder().name(name).start().unwrap();
    let internet = Place::internet(&host).unwrap();
    network(&host, "app", "red", SUBNETS).unwrap();
    let mallory = serve(&host, "mallory", "--network app --ip 10.5.0.66 --ip6 fd00:5::66").unwrap();
    assert!(soon(|| mallory.fetch("[2001:db8::2]:80").is_some() && mallory.fetch("203.0.113.2:80").is_some()));
    (host, internet, mallory)
}

/// What a tenant's uplink is called on the host.
fn uplink(host: &Host, tenant: &str) -> String {
    let of = format!("SELECT host_link FROM uplink_record WHERE namespace = 'ciao-{tenant}'");
    host.sh(&format!("sqlite3 /var/lib/ciao/ciao.db \"{of}\"")).unwrap()
}

#[test]
fn no_container_reaches_the_hosts_own_services() {
    let (host, _, mallory) = host_with_container("services");
    host.sh("echo host >/run/index.html; busybox httpd -p 8888 -h /run").unwrap();
    Place::host(&host).unwrap().answer("203.0.113.1:8889", "host").unwrap();
    let link = uplink(&host, "red");
    let of_link = |family: &str| {
        host.sh(&format!("ip -{family} -o address show {link} scope global | sed 's/.*inet6* //; s,/.*,,'")).unwrap()
    };
    let link4 = host.sh(&format!("ip -4 -o address show {link} | sed 's/.*inet //; s,/.*,,'")).unwrap();
    let link6 = format!("[{}]", of_link("6"));
    let addresses = ["203.0.113.1", "172.17.0.1", &link4, "[2001:db8::1]", &link6];
    let reached = || {
        let web = addresses.map(|address| format!("{address}:8888"));
        let answers = mallory.fetch_each([&web[0], &web[1], &web[2], &web[3], &web[4]]);
        let bare = |address: &str| address.trim_matches(['[', ']']).to_owned();
        let pings: Vec<bool> = std::thread::scope(|scope| {
            let pings = addresses.map(|address| scope.spawn(|| mallory.pings(&bare(address))));
            pings.into_iter().map(|ping| ping.join().unwrap()).collect()
        });
        let datagram = mallory.ask("203.0.113.1:8889", "who").is_some();
        (answers.iter().flatten().count(), pings.into_iter().filter(|answered| *answered).count(), datagram)
    };
    assert_eq!(reached(), (0, 0, false));
    host.sh("nft flush chain inet ciao input").unwrap();
    assert_eq!(reached(), (5, 5, true), "without the rules everything answers");
}

#[test]
fn no_container_reaches_link_local_addresses_of_the_host() {
    let (host, _, mallory) = host_with_container("metadata");
    // The metadata service of a cloud, which only its machines are to ask.
    host.sh("ip -n inet address add 169.254.169.254/32 dev lo; ip route add 169.254.169.254 via 203.0.113.2").unwrap();
    assert!(Place::host(&host).unwrap().fetch("169.254.169.254:80").is_some());
    assert_eq!(mallory.fetch("169.254.169.254:80"), None);
    assert!(!mallory.pings("169.254.169.254"));

    // The host's end of the uplink has a link-local address too; its link is two hops away from the container's.
    let link = uplink(&host, "red");
    let local = host.sh(&format!("ip -6 -o address show {link} scope link | sed 's/.*inet6 //; s,/.*,,'")).unwrap();
    let global = host.sh(&format!("ip -6 -o address show {link} scope global | sed 's/.*inet6 //; s,/.*,,'")).unwrap();
    let me = station(mac_of(&host, "mallory"), 66);
    let bridge = host.sh("ip netns exec ciao-red sh -c 'cat /sys/class/net/br-*/address'").unwrap();
    let (ear, wire) = (Place::host(&host).unwrap().wire(&link).unwrap(), mallory.wire("eth0").unwrap());
    for (name, from, target) in [("own", me, &local), ("local", link_local(me), &local), (END, me, &global)] {
        let to = Station { mac: octets(&bridge), v6: target.parse().unwrap(), ..me };
        wire.send(&udp6(from, to, (7, 9), &mark(name))).unwrap();
    }
    assert_eq!(ear.hear(END).unwrap(), only_the_end());
    // And who has taken over the tenant's namespace itself asks in vain.
    let tenant = Place::named(&host, "ciao-red").unwrap();
    let ping = format!("{local}%up0");
    assert!(!tenant.pings(&ping));
    host.sh("nft flush chain inet ciao input; nft flush chain inet ciao forward").unwrap();
    assert!(tenant.pings(&ping), "without the rules it answers");
    assert!(mallory.fetch("169.254.169.254:80").is_some(), "without the rules it answers");
}

#[test]
fn no_tenant_reaches_another_ones_addresses_even_if_the_host_routes_them() {
    let (host, internet, mallory) = host_with_container("tenants");
    network(&host, "other", "blue", "--subnet 10.9.0.0/24").unwrap();
    let victim = serve(&host, "victim", "--network other --ip 10.9.0.2").unwrap();
    let link = uplink(&host, "blue");
    let inner = host.sh("ip -n ciao-blue -4 -o address show up0 | sed 's/.*inet //; s,/.*,,'").unwrap();
    host.sh(&format!(
        "ip route add 10.9.0.0/24 via {inner} dev {link}; ip -n inet route add 10.9.0.0/24 via 203.0.113.1"
    ))
    .unwrap();
    let counted = || {
        let (ear, itself) = (victim.wire("eth0").unwrap(), Place::host(&host).unwrap());
        for (place, name) in [(&mallory, "tenant"), (&internet, "internet"), (&itself, "host")] {
            place.tell("10.9.0.2:9", name).unwrap();
        }
        sleep(Duration::from_millis(100));
        Place::named(&host, "ciao-blue").unwrap().tell("10.9.0.2:9", END).unwrap();
        ear.hear(END).unwrap()
    };
    assert_eq!(counted(), only_the_end());
    host.sh("nft flush chain inet ciao forward").unwrap();
    assert_eq!(counted(), only_the_end(), "the tenant's own namespace does not let them in either");
    host.sh("ip netns exec ciao-blue nft 'add rule inet ciao forward iifname \"up0\" accept'").unwrap();
    assert_eq!(counted(), BTreeSet::from(["tenant", "internet", "host", END].map(str::to_owned)));
}

#[test]
fn no_tenant_reaches_containers_on_dockers_own_bridges() {
    let (host, _, mallory) = host_with_container("docker0");
    host.docker(&["network", "create", "--subnet", "10.8.0.0/24", "private"]).unwrap();
    serve(&host, "plain", "-p 8080:80").unwrap();
    serve(&host, "user", "--network private --ip 10.8.0.2").unwrap();
    assert_eq!(Place::host(&host).unwrap().fetch("10.8.0.2:80").as_deref(), Some("user"));
    assert_eq!(mallory.fetch("203.0.113.1:8080").as_deref(), Some("plain"), "what is published is for everybody");
    assert_eq!(mallory.fetch_each(["172.17.0.2:80", "10.8.0.2:80"]), [None, None]);
}

#[test]
fn nobody_outside_reaches_a_port_that_is_published_at_localhost() {
    let host = Host::builder().name("loopback").start().unwrap();
    let internet = Place::internet(&host).unwrap();
    network(&host, "app", "red", SUBNETS).unwrap();
    let victim = serve(&host, "victim", "--network app -p 127.0.0.1:5300:53/udp -p 5301:53/udp").unwrap();
    let ear = victim.wire("eth0").unwrap();
    // A machine on the host's own wire writes 127.0.0.1 onto a packet.
    let mac = octets(&host.sh("cat /sys/class/net/ext0/address").unwrap());
    let from = Station { mac: [2, 0, 0, 0, 0, 9], v4: [203, 0, 113, 2].into(), v6: Ipv6Addr::UNSPECIFIED };
    let wire = internet.wire("eth0").unwrap();
    for (name, address, port) in [("localhost", [127, 0, 0, 1], 5300), (END, [203, 0, 113, 1], 5301)] {
        let to = Station { mac, v4: address.into(), ..from };
        wire.send(&udp(from, to, (7, port), &mark(name))).unwrap();
    }
    assert_eq!(ear.hear(END).unwrap(), only_the_end());
    let asked = Place::host(&host).unwrap();
    victim.answer("[::]:53", "pong").unwrap();
    assert_eq!(asked.ask("127.0.0.1:5300", "ping").as_deref(), Some("pong"), "the host itself does");
}
