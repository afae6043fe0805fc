// SPDX-License-Identifier: Apache-2.0
//! What a network or a VNIC may not do by its options: `icc=false` and `rate`.

use std::net::UdpSocket;
use std::thread::scope;
use std::time::{Duration, Instant};

use ciao_tests::frames::{Station, udp, udp6};
use ciao_tests::lab::Host;
use ciao_tests::world::{Place, network, serve, soon};

use crate::scene::{SUBNETS, everybody, mac_of, station};

#[test]
fn containers_of_a_network_without_icc_reach_the_internet_and_not_each_other() {
    let host = Host::builder().name("icc").start().unwrap();
    let internet = Place::internet(&host).unwrap();
    let all6 = Station { mac: [0x33, 0x33, 0, 0, 0, 1], ..everybody() };
    for (name, option) in [("alone", "-o icc=false"), ("together", "")] {
        network(&host, name, name, &format!("{SUBNETS} {option}")).unwrap();
        let ports = if option.is_empty() { "" } else { "-p 8080:80" };
        let place = |last: u8, more: &str| {
            let addresses = format!("--ip 10.5.0.{last} --ip6 fd00:5::{last}");
            serve(&host, &format!("{name}{last}"), &format!("--network {name} {addresses} {more}")).unwrap()
        };
        let (one, two) = (place(2, ports), place(3, ""));
        assert!(soon(|| two.fetch("[2001:db8::2]:80").is_some()) && two.fetch("203.0.113.2:80").is_some(), "{name}");
        assert!(two.pings("10.5.0.1"), "its gateway");
        let neighbours = two.fetch_each(["10.5.0.2:80", "[fd00:5::2]:80"]).map(|answer| answer.is_some());
        let received = {
            let capture = one.wire("eth0").unwrap();
            for at in ["10.5.0.2:9", "[fd00:5::2]:9"] {
                two.send_datagram(at, "from two").unwrap();
            }
            let me = station(mac_of(&host, &format!("{name}3")), 3);
            let wire = two.wire("eth0").unwrap();
            wire.send_named([
                ("from two", udp(me, everybody(), (7, 7), b"")),
                ("from two", udp6(me, all6, (7, 7), b"")),
            ])
            .unwrap();
            capture.count("nothing").unwrap().get("from two").copied().unwrap_or_default()
        };
        if option.is_empty() {
            assert_eq!(neighbours, [true, true]);
            assert!(received >= 4, "two packets and two for everybody: {received}");
        } else {
            assert_eq!((neighbours, received), ([false, false], 0), "{name}");
            assert_eq!(internet.fetch("203.0.113.1:8080").as_deref(), Some("alone2"));
            assert_eq!(two.fetch("203.0.113.1:8080").as_deref(), Some("alone2"), "what is published is for everybody");
        }
    }
}

/// In megabits a second: faster than the rate of the limited ones.
const UNLIMITED: f64 = 60.0;

/// How fast datagrams of so many bytes come from one place to another, in megabits a second, when as many are sent as
/// go.
fn speed(from: &Place, to: &Place, at: &str, size: usize) -> f64 {
    const TIME: Duration = Duration::from_secs(2);
    /// Until the tokens that a second of rest brought are used up.
    const BEFORE: Duration = Duration::from_millis(1500);
    let receiver = to.within(|| UdpSocket::bind("0.0.0.0:9")).unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let sender = from.within(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    let since = Instant::now();
    scope(|scope| {
        scope.spawn(|| {
            while since.elapsed() < BEFORE + TIME {
                // A full queue is what it is about.
                let _full = sender.send_to(&vec![7; size], at);
            }
        });
        let (mut bytes, mut buffer) = (0, vec![0; 65_536]);
        while since.elapsed() < BEFORE + TIME {
            let length = receiver.recv(&mut buffer).unwrap_or_default();
            bytes += if since.elapsed() > BEFORE { u32::try_from(length).unwrap() } else { 0 };
        }
        f64::from(bytes) * 8e-6 / TIME.as_secs_f64()
    })
}

/// The first speed that no limited container has, or the highest of so many.
fn fastest(tries: usize, measure: impl FnMut() -> f64) -> f64 {
    let mut highest = 0.0;
    for speed in std::iter::repeat_with(measure).take(tries) {
        highest = speed.max(highest);
        if highest > UNLIMITED {
            break;
        }
    }
    highest
}

#[test]
fn a_container_is_as_fast_as_its_rate_and_no_faster() {
    let host = Host::builder().name("rate").start().unwrap();
    let internet = Place::internet(&host).unwrap();
    let vnic = "--tenant red --instance launched --subnet 10.5.0.0/24 --ip 10.5.0.7 --mac 02:00:0a:05:00:07";
    let id = host.sh(&format!("ciao-net vnic create {vnic} --rate 40mbit --bridge br-app --json | sed -n 's/.*\"id\": \"\\(.*\\)\".*/\\1/p' | head -1")).unwrap();
    assert!(host.sh(&format!("ciao-net vnic show {id}")).unwrap().contains("40mbit"));
    network(&host, "app", "red", "--subnet 10.5.0.0/24 -o bridge=br-app").unwrap();
    host.sh("ip -n inet route add 10.5.0.0/24 via 203.0.113.1").unwrap();
    println!("container   rate     out, Mbit/s   in, Mbit/s");
    for (name, options, address, rate) in [
        ("launched", "--network app --ip 10.5.0.7", "10.5.0.7", Some("40mbit")),
        ("by-docker", "--network name=app,driver-opt=rate=40mbit", "10.5.0.2", Some("40mbit")),
        ("unlimited", "--network app", "10.5.0.3", None),
    ] {
        let port = 9000 + u16::from(name.as_bytes()[0]);
        let container = serve(&host, name, &format!("{options} -p {port}:9/udp")).unwrap();
        assert!(container.fetch(&format!("{address}:80")).is_some());
        let size = if rate.is_some() { 1200 } else { 8000 };
        // Without a rate a busy machine is the limit.
        let tries = if rate.is_some() { 1 } else { 5 };
        let out = fastest(tries, || speed(&container, &internet, "203.0.113.2:9", size));
        let inward = fastest(tries, || speed(&internet, &container, &format!("203.0.113.1:{port}"), size));
        println!("{name:<11} {:<8} {out:>11.1} {inward:>12.1}", rate.unwrap_or("-"));
        for speed in [out, inward] {
            if rate.is_some() {
                assert!((10.0..55.0).contains(&speed), "{name}: {speed} Mbit/s");
            } else {
                assert!(speed > UNLIMITED, "{name}: {speed} Mbit/s");
            }
        }
    }
    let shown = host.sh("ciao-net vnic list").unwrap();
    assert_eq!(shown.matches("40mbit").count(), 2, "{shown}");
}
