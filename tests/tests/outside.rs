//! The way out and the way in: containers reach the internet, the internet reaches published ports, and two tenants
//! with the same addresses do both at once. What nobody asked for stays closed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::thread::sleep;
use std::time::{Duration, Instant};

use ciao_tests::lab::Host;
use ciao_tests::world::{Place, network, serve, soon};

/// Both tenants' subnets, and both containers' address.
const SUBNETS: &str = "--ipv6 --subnet 10.5.0.0/24 --subnet fd00:5::/64";
const ADDRESS: &str = "--ip 10.5.0.2 --ip6 fd00:5::2";

fn open(name: &str) -> (Host, Place, Place) {
    let host = Host::builder().name(name).start().unwrap();
    let internet = Place::internet(&host).unwrap();
    let itself = Place::host(&host).unwrap();
    (host, itself, internet)
}

fn said(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn sql(host: &Host, statement: &str) -> String {
    host.sh(&format!("sqlite3 -readonly /var/lib/ciao/ciao.db \"{statement}\"")).unwrap()
}

/// The command fails, and says all of `words`.
fn refused(host: &Host, script: &str, words: &[&str]) {
    let output = host.try_sh(script).unwrap();
    assert_ne!(output.code, 0, "`{script}` should be refused");
    for word in words {
        assert!(output.stderr.contains(word), "`{script}` should say {word:?}, it says: {}", output.stderr);
    }
}

/// Whether `red` answers at port 8080, on the host and outside.
fn red_is_published(itself: &Place, internet: &Place) -> bool {
    itself.fetch("127.0.0.1:8080") == said("red")
        && internet.fetch_each(["203.0.113.1:8080", "[2001:db8::1]:8080"]) == [said("red"), said("red")]
}

/// A tenant's network and its container, which serves port 80 at 8080 of the host.
fn publish_red(host: &Host, more: &str) -> Place {
    network(host, "red", "red", SUBNETS).unwrap();
    serve(host, "red", &format!("--network red {ADDRESS} -p 8080:80 {more}")).unwrap()
}

#[test]
fn two_tenants_with_the_same_addresses_reach_the_internet() {
    let (host, _, internet) = open("out");
    internet.answer("[::]:53", "pong").unwrap();
    for tenant in ["red", "blue"] {
        network(&host, tenant, tenant, SUBNETS).unwrap();
        let container = serve(&host, tenant, &format!("--network {tenant} {ADDRESS}")).unwrap();
        for target in ["203.0.113.2", "2001:db8::2"] {
            assert!(soon(|| container.pings(target)), "{tenant} pings {target}");
        }
        for (web, datagrams) in [("203.0.113.2:80", "203.0.113.2:53"), ("[2001:db8::2]:80", "[2001:db8::2]:53")] {
            assert_eq!(container.fetch(web), said("internet"), "{tenant}");
            assert_eq!(container.ask(datagrams, "ping"), said("pong"), "{tenant}");
        }
    }
    // Nobody outside can begin.
    host.sh("ip -n inet route add 10.5.0.0/24 via 203.0.113.1; ip -n inet -6 route add fd00:5::/64 via 2001:db8::1")
        .unwrap();
    assert_eq!(internet.fetch_each(["10.5.0.2:80", "[fd00:5::2]:80"]), [None, None]);
}

#[test]
fn two_tenants_with_the_same_addresses_publish_the_same_port_of_theirs() {
    let (host, itself, internet) = open("in");
    let mut containers = Vec::new();
    for (tenant, web, datagrams) in [("red", 8080, 5300), ("blue", 8081, 5301)] {
        network(&host, tenant, tenant, SUBNETS).unwrap();
        let ports = format!("-p {web}:80 -p {datagrams}:53/udp");
        let container = serve(&host, tenant, &format!("--network {tenant} {ADDRESS} {ports}")).unwrap();
        container.answer("[::]:53", tenant).unwrap();
        containers.push(container);
        let from_outside = [(&internet, "203.0.113.1"), (&internet, "[2001:db8::1]")];
        let from_the_host = [(&itself, "127.0.0.1"), (&itself, "203.0.113.1"), (&itself, "[2001:db8::1]")];
        for (place, address) in from_outside.into_iter().chain(from_the_host) {
            assert!(soon(|| place.fetch(&format!("{address}:{web}")) == said(tenant)), "{address}:{web}");
            assert_eq!(place.ask(&format!("{address}:{datagrams}"), "who"), said(tenant), "{address}:{datagrams}");
        }
    }
    // The neighbour gets in as everybody does, through the host's address, and by no shorter way.
    let [red, blue] = &containers[..] else { panic!("two containers") };
    for at in ["203.0.113.1:8080", "[2001:db8::1]:8080"] {
        assert_eq!(blue.fetch(at), said("red"));
        assert_eq!(red.fetch(at), said("red"), "its own published port");
    }
    assert_eq!(blue.fetch("10.5.0.2:80"), said("blue"), "the same address is its own");
    for address in uplinks(&host).lines() {
        let [at_own, at_published] = [80, 8080].map(|port| format!("{address}:{port}"));
        assert_eq!(blue.fetch_each([&at_own, &at_published]), [None, None], "an uplink's address is no way in");
    }
}

/// The tenants' own addresses between them and the host.
fn uplinks(host: &Host) -> String {
    let list = "for name in ciao-red ciao-blue; do ip -n $name -4 -o address show up0; done";
    host.sh(&format!("{list} | sed 's/.*inet //; s,/.*,,'")).unwrap()
}

#[test]
fn a_port_at_localhost_never_hangs() {
    let (host, itself, _) = open("localhost");
    publish_red(&host, "");
    assert_eq!(itself.fetch("127.0.0.1:8080"), said("red"));
    // `localhost` is ::1 first: a client tries 127.0.0.1 only when ::1 answers or refuses.
    let code = host.try_sh("timeout 1 busybox wget -qO- http://[::1]:8080").unwrap().code;
    assert_ne!(code, 124, "[::1]:8080 neither answers nor refuses");
}

#[test]
fn a_port_is_published_where_the_user_says() {
    let (host, itself, internet) = open("where");
    network(&host, "red", "red", SUBNETS).unwrap();
    let ports = "-p 127.0.0.1:8082:80 -p 203.0.113.1:8083:80 -p 8090-8091:80 -p 80";
    serve(&host, "red", &format!("--network red {ADDRESS} {ports}")).unwrap();
    assert_eq!(itself.fetch("127.0.0.1:8082"), said("red"));
    assert_eq!(itself.fetch("203.0.113.1:8082"), None);
    assert_eq!(internet.fetch("203.0.113.1:8082"), None);
    assert_eq!(internet.fetch("203.0.113.1:8083"), said("red"));
    assert_eq!(itself.fetch("127.0.0.1:8083"), None);

    // A range gives its first free port, and no number any free one; the list says which.
    let at = |port: &str| format!("203.0.113.1:{port}");
    assert_eq!(internet.fetch(&at("8090")), said("red"));
    assert_eq!(internet.fetch(&at("8091")), None);
    let free = sql(&host, "SELECT host_port FROM port WHERE host_port > 8091 AND host_address = '0.0.0.0'");
    assert!(free.parse::<u16>().unwrap() >= 32768, "{free}");
    assert_eq!(internet.fetch(&at(&free)), said("red"));
    network(&host, "blue", "blue", SUBNETS).unwrap();
    serve(&host, "blue", &format!("--network blue {ADDRESS} -p 8090-8091:80")).unwrap();
    assert_eq!(internet.fetch(&at("8091")), said("blue"), "the second of the range");
    refused(&host, "docker run --rm --network blue -p 8090-8091:80 busybox true", &["8090-8091", "all taken"]);
}

#[test]
fn a_taken_port_is_refused_with_the_name_of_who_has_it() {
    let (host, itself, _) = open("taken");
    publish_red(&host, "");
    network(&host, "blue", "blue", SUBNETS).unwrap();
    let endpoint = sql(&host, "SELECT DISTINCT endpoint FROM port");
    let run = "docker run --rm --network blue";
    let words = ["port 8080/tcp", "taken", &endpoint, "of tenant red", "publish another one"];
    refused(&host, &format!("{run} -p 8080:80 busybox true"), &words);
    refused(&host, &format!("{run} -p 127.0.0.1:8080:80 busybox true"), &["8080/tcp", "taken", "of tenant red"]);

    let foreign = host.spawn("foreign", ["busybox", "nc", "-ll", "-p", "7777", "-e", "true"]).unwrap();
    assert!(soon(|| host.sh("busybox netstat -ltn").unwrap().contains(":7777 ")));
    refused(&host, &format!("{run} -p 7777:80 busybox true"), &["port 7777/tcp", "taken", "process", "busybox"]);
    foreign.kill().unwrap();
    assert_eq!(sql(&host, "SELECT count(*) FROM port"), "2", "what was refused left nothing");
    serve(&host, "blue", &format!("--network blue {ADDRESS} -p 7777:80")).unwrap();
    assert_eq!(itself.fetch("127.0.0.1:7777"), said("blue"));
    // And the other way round: who comes later is told.
    let late = host.try_sh("timeout 1 busybox nc -l -p 8080").unwrap();
    assert!(late.code == 1 && late.stderr.contains("in use"), "{late:?}");
}

#[test]
fn a_port_is_published_as_long_as_its_container_runs() {
    let (host, itself, internet) = open("while");
    publish_red(&host, "--restart always");
    assert!(soon(|| red_is_published(&itself, &internet)));
    host.docker(&["stop", "red"]).unwrap();
    for (place, at) in [(&itself, "127.0.0.1:8080"), (&internet, "203.0.113.1:8080"), (&internet, "[2001:db8::1]:8080")]
    {
        assert_eq!(place.fetch(at), None, "unpublished at {at}");
    }
    assert_eq!(sql(&host, "SELECT count(*) FROM port"), "0");
    let free = host.try_sh("timeout 1 busybox nc -l -p 8080").unwrap();
    assert_eq!((free.code, free.stderr.as_str()), (124, ""), "the port is free for others");
    host.docker(&["start", "red"]).unwrap();
    assert!(soon(|| red_is_published(&itself, &internet)), "after a start");

    host.ciao_net().kill().unwrap();
    assert!(red_is_published(&itself, &internet), "while ciao-net is dead");
    host.ciao_net().start().unwrap();
    assert!(red_is_published(&itself, &internet), "after SIGKILL of ciao-net");
    host.sh("ciao-net reconcile --dry-run").unwrap(); // it answers when it has found everything again
    let late = host.try_sh("timeout 1 busybox nc -l -p 8080").unwrap();
    assert!(late.stderr.contains("in use"), "held again after SIGKILL of ciao-net: {late:?}");

    for (how, end) in [("SIGTERM", true), ("SIGKILL", false)] {
        if end { host.dockerd().stop().map(drop) } else { host.dockerd().kill() }.unwrap();
        host.dockerd().start().unwrap();
        assert!(soon(|| red_is_published(&itself, &internet)), "after {how} of dockerd");
    }
}

#[test]
fn a_flushed_firewall_is_put_right_within_six_seconds() {
    let (host, itself, internet) = open("flush");
    let red = publish_red(&host, "");
    assert!(soon(|| red_is_published(&itself, &internet)));
    for flush in ["iptables -F; ip6tables -F", "nft delete table inet ciao", "nft flush ruleset"] {
        host.sh(flush).unwrap();
        let since = Instant::now();
        assert!(!red_is_published(&itself, &internet), "`{flush}` is seen to do harm");
        while !(red_is_published(&itself, &internet) && red.fetch("203.0.113.2:80") == said("internet")) {
            assert!(since.elapsed() < Duration::from_secs(6), "after `{flush}`");
        }
    }
}

#[test]
fn a_port_on_a_network_that_does_not_lead_out_is_refused_or_said_to_stay_closed() {
    let (host, itself, _) = open("closed");
    network(&host, "gateway", "red", "--subnet 10.5.0.0/24 -o egress=gateway").unwrap();
    let words = ["port 80 cannot be published", "egress=gateway", "only egress=nat leads from the host"];
    refused(&host, "docker run --network gateway -p 8080:80 busybox true", &words);
    // Docker does not ask there, as for its own internal bridges; the log tells.
    for (name, options) in
        [("nowhere", "--subnet 10.6.0.0/24 -o egress=none"), ("in", "--subnet 10.7.0.0/24 --internal")]
    {
        network(&host, name, "red", options).unwrap();
        serve(&host, name, &format!("--network {name} -p 8080:80")).unwrap();
        assert_eq!(itself.fetch("127.0.0.1:8080"), None);
        let log = host.ciao_net().log().unwrap();
        let told = |line: &str| line.contains("port 80") && line.contains("egress=none");
        assert!(log.lines().any(told), "the log does not tell of the port on {name}: {log}");
        host.docker(&["rm", "-f", name]).unwrap();
    }
    assert_eq!(sql(&host, "SELECT count(*) FROM port"), "0");
}

#[test]
fn an_internal_container_cannot_get_out_even_with_routes_of_its_own() {
    let (host, _, internet) = open("internal");
    network(&host, "out", "red", SUBNETS).unwrap();
    network(&host, "in", "red", "--subnet 10.6.0.0/24 --ipv6 --subnet fd00:6::/64 --internal").unwrap();
    let web = serve(&host, "web", "--network out --ip 10.5.0.2").unwrap();
    web.answer("[::]:9", "yes").unwrap();
    let db = serve(&host, "db", "--network in --cap-add NET_ADMIN").unwrap();
    assert!(!host.docker(&["exec", "db", "ip", "route"]).unwrap().contains("default"));
    // Nobody answers ARP for a gateway, but the bridge itself is in a namespace that routes.
    let bridge = sql(&host, "SELECT bridge FROM network WHERE egress = 'none'");
    let mac = host.sh(&format!("ip netns exec ciao-red cat /sys/class/net/{bridge}/address")).unwrap();
    let local = format!("ip -n ciao-red -6 -o address show {bridge} scope link | sed 's/.*inet6 //; s,/.*,,'");
    let local = host.sh(&local).unwrap();
    let route = format!(
        "ip route add default via 10.6.0.1; arp -s 10.6.0.1 {mac}; ip -6 route add default via {local} dev eth0"
    );
    host.docker(&["exec", "db", "sh", "-euc", &route]).unwrap();
    assert!(soon(|| db.pings(&format!("{local}%eth0"))), "the way to the bridge is open");
    // One way is enough for a leak: what is heard counts, not what is answered.
    let heard = || {
        let ears = [internet.wire("eth0").unwrap(), web.wire("eth0").unwrap()];
        for at in ["203.0.113.2:9", "[2001:db8::2]:9", "10.5.0.2:9"] {
            db.tell(at, at).unwrap();
        }
        sleep(Duration::from_millis(300)); // for the discovery of neighbours
        web.tell("203.0.113.2:9", "end").unwrap();
        ears.map(|ear| ear.hear("end").unwrap().into_iter().collect::<Vec<_>>())
    };
    assert_eq!(heard(), [["end"], ["end"]]);
    // They lead out, if only the rules let them.
    host.sh(&format!("ip netns exec ciao-red nft 'add element inet ciao nat {{ \"{bridge}\" }}'")).unwrap();
    assert_eq!(heard(), [vec!["203.0.113.2:9", "[2001:db8::2]:9", "end"], vec!["10.5.0.2:9", "end"]]);
}

#[test]
fn egress_docker_is_a_second_interface_on_docker_gwbridge() {
    let (host, itself, _) = open("gwbridge");
    // Docker chooses docker_gwbridge's subnet after the network's, and looks at the host's routes alone.
    let (name, options) = ("given", "--subnet 10.5.0.0/24 -o egress=docker");
    network(&host, name, name, options).unwrap();
    let web = serve(&host, name, &format!("--network {name} -p 8080:80")).unwrap();
    assert_eq!(host.docker(&["exec", name, "ls", "/sys/class/net"]).unwrap(), "eth0\neth1\nlo");
    assert_eq!(web.fetch("203.0.113.2:80"), said("internet"));
    assert!(soon(|| itself.fetch("127.0.0.1:8080") == said(name)), "Docker publishes the port itself");
    host.docker(&["rm", "-f", name]).unwrap();
    assert_eq!(sql(&host, "SELECT count(*) FROM port"), "0");
}

#[test]
fn egress_gateway_leaves_by_a_router_of_ones_own() {
    let (host, itself, _) = open("router");
    // A router on a bridge of the host's, with a world of its own behind it.
    host.sh("ip link add lan type bridge; ip link set lan up; ip netns add router
        ip link add port type veth peer name lan0 netns router; ip link set port master lan up
        ip -n router address add 10.7.0.1/24 dev lan0; ip -n router link set lan0 up
        ip -n router link set lo up; ip -n router address add 198.51.100.1/32 dev lo
        echo router >/run/index.html; ip netns exec router busybox httpd -p 80 -h /run")
        .unwrap();
    network(&host, "app", "red", "--subnet 10.7.0.0/24 --gateway 10.7.0.1 -o bridge=lan").unwrap();
    let web = serve(&host, "web", "--network app").unwrap();
    assert_eq!(sql(&host, "SELECT egress, namespace FROM network"), "gateway|(host)");
    assert!(soon(|| web.fetch("198.51.100.1:80") == said("router")));
    assert_eq!(web.fetch("203.0.113.2:80"), None, "the router's world ends there");
    assert_eq!(Place::named(&host, "router").unwrap().fetch("10.7.0.2:80"), said("web"));
    assert_eq!(itself.fetch("10.7.0.2:80"), None, "the host itself is not on that bridge");
}

#[test]
fn subnets_of_one_tenant_are_routed_and_those_of_another_are_not() {
    let (host, ..) = open("routed");
    let mut places = Vec::new();
    for (name, tenant, number) in [("one", "red", 5), ("two", "red", 6), ("other", "blue", 7)] {
        let subnets = format!("--subnet 10.{number}.0.0/24 --ipv6 --subnet fd00:{number}::/64");
        network(&host, name, tenant, &subnets).unwrap();
        let addresses = format!("--ip 10.{number}.0.2 --ip6 fd00:{number}::2");
        places.push(serve(&host, name, &format!("--network {name} {addresses}")).unwrap());
    }
    let [one, two, other] = &places[..] else { panic!("three containers") };
    assert!(soon(|| one.fetch_each(["10.6.0.2:80", "[fd00:6::2]:80"]) == [said("two"), said("two")]));
    assert!(soon(|| two.fetch_each(["10.5.0.2:80", "[fd00:5::2]:80"]) == [said("one"), said("one")]));
    assert_eq!(one.fetch_each(["10.7.0.2:80", "[fd00:7::2]:80"]), [None, None]);
    assert_eq!(other.fetch_each(["10.5.0.2:80", "[fd00:6::2]:80"]), [None, None]);
}

#[test]
fn networks_that_come_and_go_leave_nothing_on_the_host() {
    const STATE: &str =
        "nft list ruleset; iptables-save | sed 's/\\[.*//; /^#/d'; ip6tables-save | sed 's/\\[.*//; /^#/d'
        ls /sys/class/net; ip netns list | sed 's/ .*//'; ip route; ip -6 route; ip rule";
    let (host, ..) = open("traces");
    let round = |numbers: std::ops::Range<u8>| {
        for number in numbers.clone() {
            let (name, tenant) = (format!("n{number}"), format!("t{}", number % 7));
            let subnets = format!("--subnet 10.{number}.0.0/24 --ipv6 --subnet fd00:{number}::/64");
            network(&host, &name, &tenant, &subnets).unwrap();
            if number % 5 == 0 {
                serve(&host, &name, &format!("--network {name} -p {}:80", 8000 + u16::from(number))).unwrap();
            }
        }
        let busy = host.sh(STATE).unwrap();
        for number in numbers {
            host.sh(&format!("docker rm -f n{number} 2>/dev/null || true; docker network rm n{number}")).unwrap();
        }
        busy
    };
    let without_counters = |state: String| {
        let words = state.split_whitespace().filter(|word| word.parse::<u64>().is_err());
        words.collect::<Vec<_>>().join(" ")
    };
    round(100..101); // the engine and iptables make tables of their own when they are first needed
    let before = without_counters(host.sh(STATE).unwrap());
    let busy = round(0..20);
    for trace in ["table inet ciao", "ciao-t1", "\ncu", "-A DOCKER-USER -i cu+ -j ACCEPT"] {
        assert!(busy.contains(trace), "{trace:?} would be seen: {busy}");
    }
    // Links are deleted in the background.
    assert!(soon(|| without_counters(host.sh(STATE).unwrap()) == before), "{}", host.sh(STATE).unwrap());
    let rows = "SELECT (SELECT count(*) FROM uplink_record) + (SELECT count(*) FROM port_record)
        + (SELECT count(*) FROM vnic_record) + (SELECT count(*) FROM network_record)";
    assert_eq!(sql(&host, rows), "0");
}
