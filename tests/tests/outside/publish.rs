// SPDX-License-Identifier: Apache-2.0
//! Published ports: where, for how long, and who has one already.

use ciao_tests::world::{network, serve, soon};

use crate::scene::{ADDRESS, SUBNETS, open, page, publish_red, red_is_published, refused, sql};

#[test]
fn a_port_at_localhost_never_hangs() {
    let (host, itself, _) = open("localhost");
    publish_red(&host, "");
    assert_eq!(itself.fetch("127.0.0.1:8080"), page("red"));
    // `localhost` is ::1 first: a client tries 127.0.0.1 only when ::1 answers or refuses.
    let code = host.try_sh("timeout 1 busybox wget -qO- http://[::1]:8080").unwrap().code;
    assert_ne!(code, 124, "[::1]:8080 neither answers nor refuses");
}

#[test]
fn a_port_is_published_where_the_user_asks() {
    let (host, itself, internet) = open("where");
    network(&host, "red", "red", SUBNETS).unwrap();
    let ports = "-p 127.0.0.1:8082:80 -p 203.0.113.1:8083:80 -p [2001:db8::1]:8084:80 -p 8090-8091:80 -p 80";
    serve(&host, "red", &format!("--network red {ADDRESS} {ports}")).unwrap();
    assert_eq!(itself.fetch("127.0.0.1:8082"), page("red"));
    assert_eq!(itself.fetch("203.0.113.1:8082"), None);
    assert_eq!(internet.fetch("203.0.113.1:8082"), None);
    assert_eq!(internet.fetch("203.0.113.1:8083"), page("red"));
    assert_eq!(itself.fetch("127.0.0.1:8083"), None);
    assert!(soon(|| internet.fetch("[2001:db8::1]:8084") == page("red")));
    assert_eq!(internet.fetch("203.0.113.1:8084"), None);

    // A range gives its first free port, and no number any free one; the list shows which.
    let at = |port: &str| format!("203.0.113.1:{port}");
    assert_eq!(internet.fetch(&at("8090")), page("red"));
    assert_eq!(internet.fetch(&at("8091")), None);
    let free = sql(&host, "SELECT host_port FROM port WHERE host_port > 8091 AND host_address = '0.0.0.0'");
    assert!(free.parse::<u16>().unwrap() >= 32768, "{free}");
    assert_eq!(internet.fetch(&at(&free)), page("red"));
    network(&host, "blue", "blue", SUBNETS).unwrap();
    serve(&host, "blue", &format!("--network blue {ADDRESS} -p 8090-8091:80")).unwrap();
    assert_eq!(internet.fetch(&at("8091")), page("blue"), "the second of the range");
    refused(&host, "docker run --rm --network blue -p 8090-8091:80 busybox true", &["8090-8091", "all in use"]);
}

#[test]
fn a_port_in_use_is_refused_with_the_name_of_its_holder() {
    let (host, itself, _) = open("taken");
    publish_red(&host, "");
    network(&host, "blue", "blue", SUBNETS).unwrap();
    let endpoint = sql(&host, "SELECT DISTINCT endpoint FROM port");
    let run = "docker run --rm --network blue";
    let words = ["port 8080/tcp", "in use", &endpoint[..12], "of tenant red", "publish another one"];
    refused(&host, &format!("{run} -p 8080:80 busybox true"), &words);
    refused(&host, &format!("{run} -p 127.0.0.1:8080:80 busybox true"), &["8080/tcp", "in use", "of tenant red"]);

    let foreign = host.spawn("foreign", ["busybox", "nc", "-ll", "-p", "7777", "-e", "true"]).unwrap();
    assert!(soon(|| host.sh("busybox netstat -ltn").unwrap().contains(":7777 ")));
    refused(
        &host,
        &format!("{run} -p 7777:80 busybox true"),
        &["port 7777/tcp", "in use", "by another program", "ss -ltnp"],
    );
    foreign.kill().unwrap();
    assert_eq!(sql(&host, "SELECT count(*) FROM port"), "2", "what was refused left nothing");
    serve(&host, "blue", &format!("--network blue {ADDRESS} -p 7777:80")).unwrap();
    assert_eq!(itself.fetch("127.0.0.1:7777"), page("blue"));
    // And the other way round: who comes later gets an error.
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
fn a_network_is_shown_with_its_namespace_uplink_ports_and_rules() {
    let (host, ..) = open("shown");
    publish_red(&host, "");
    let id = host.docker(&["network", "inspect", "-f", "{{.Id}}", "red"]).unwrap();
    let show = |id: &str| host.sh(&format!("ciao-net network show {id}")).unwrap();
    let shown = show(&id);
    let uplink = sql(&host, "SELECT host_link FROM uplink_record");
    for word in [
        "ciao-red",
        &uplink,
        "169.254.64.1",
        "tcp 0.0.0.0:8080 -> 10.5.0.2:80",
        "tcp [::]:8080 -> [fd00:5::2]:80",
        "table bridge ciao",
        "table inet ciao",
    ] {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }
    assert_eq!(show(&id[..6]), shown, "the beginning of an id is enough");
    assert_eq!(show("red"), shown, "and so is Docker's name");
    refused(&host, "ciao-net network show absent", &["ID prefix absent", "docker network ls"]);
}
