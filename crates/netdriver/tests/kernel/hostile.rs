// SPDX-License-Identifier: Apache-2.0
//! What a tenant's traffic meets while another tenant uses up what the kernel has once for all, at full speed.
//!
//! `cargo test -p ciao-netdriver --test kernel hostile:: -- --ignored --nocapture` prints the table of
//! docs/security.md. It fills the machine's neighbour table and takes ten seconds a line, so it is no part of the other
//! tests.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::apart::{attempt, run, tests};
use crate::driver::{Bench, id};
use crate::learning::{mac, send};
use crate::shares::{BOX2, BOX4, LAN, Place, lan, own, tracked, two_tenants};

/// Requests of each kind a line.
const REQUESTS: usize = 1500;
/// What is not answered in this time is lost.
const PATIENCE: Duration = Duration::from_millis(200);
/// Of the machine beyond the host, which answers on some ports: a tenant has 1,984 source ports for each.
const MACHINE: [&str; 2] = ["198.51.100.2", "2001:db8::2"];
const ECHOES: Range<u16> = 7000..7016;

/// The machine by a family, at a port.
fn machine(v6: bool, port: u16) -> SocketAddr {
    SocketAddr::new(MACHINE[usize::from(v6)].parse().unwrap(), port)
}

/// How long requests took to be answered.
#[derive(Default)]
struct Measured {
    took: Vec<Duration>,
    lost: usize,
}

impl Measured {
    fn percentile(&self, percent: usize) -> Duration {
        let mut took = self.took.clone();
        took.sort();
        took.get((took.len() * percent / 100).min(took.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// The median, the 99th percentile, and how many were lost.
    fn cells(&self) -> String {
        let [p50, p99] = [50, 99].map(|percent| self.percentile(percent).as_micros());
        format!("{p50} µs | {p99} µs | {} of {} |", self.lost, self.took.len() + self.lost)
    }
}

fn ask(socket: &UdpSocket, to: SocketAddr, measured: &mut Measured) {
    let since = Instant::now();
    let asked = since.elapsed().as_nanos().to_ne_bytes();
    let answered = socket.send_to(&asked, to).is_ok() && socket.recv_from(&mut [0; 32]).is_ok();
    if answered {
        measured.took.push(since.elapsed());
    } else {
        measured.lost += 1;
    }
    sleep(Duration::from_millis(1));
}

/// Requests of a container over one flow, and each over a new one.
fn measure(from: &Place, to: SocketAddr) -> [Measured; 2] {
    let [mut kept, mut new] = [Measured::default(), Measured::default()];
    from.within(|| {
        let socket = || {
            let socket = UdpSocket::bind(own(to, 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let one = socket();
        for _ in 0..REQUESTS {
            ask(&one, to, &mut kept);
            ask(&socket(), to, &mut new);
        }
    });
    [kept, new]
}

fn echo() {
    for at in ECHOES.flat_map(|port| [machine(false, port), machine(true, port)]) {
        let socket = LAN.within(|| UdpSocket::bind(at).unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            loop {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    drop(socket.send_to(&buffer[..length], from));
                }
            }
        });
    }
}

/// Prints a line of blue's requests to one of the ports while `attack`, which gets the number of its round, runs again
/// and again.
fn line(name: &str, to: SocketAddr, attack: impl Fn(usize) + Sync) -> [Measured; 2] {
    let (ends, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                attack(rounds.fetch_add(1, Ordering::Relaxed));
            }
        });
        sleep(Duration::from_secs(1));
        let measured = measure(&BOX4, to);
        ends.store(true, Ordering::Relaxed);
        println!("| {name} | {} {}", measured[0].cells(), measured[1].cells());
        measured
    })
}

/// Datagrams from red's container, each to another destination of a round.
fn flood(round: usize, ports: Range<u16>, to: impl Fn(usize) -> SocketAddr + Sync) {
    BOX2.within(|| {
        for (n, port) in ports.clone().enumerate() {
            let to = to(round * ports.len() + n);
            if let Ok(socket) = UdpSocket::bind(own(to, port)) {
                // What is refused is dropped in silence, or an error: both are what it is about.
                drop(socket.set_nonblocking(true));
                drop(socket.send_to(b"x", to));
            }
        }
    });
}

/// An address of red's own subnet that nobody has.
fn absent(n: usize) -> SocketAddr {
    let address = Ipv6Addr::from((0xfd00_0001_u128 << 96) + 0x1_0000_0000 + n as u128);
    SocketAddr::new(IpAddr::from(address), 9)
}

/// How long a container of blue's takes that starts now, until it is answered from beyond the host.
fn start(bench: &Bench, n: u8) -> Option<Duration> {
    bench.run_dual("blue", n, &format!("10.1.0.{n}/16"), &format!("fd00:1::{n}/64"));
    let since = Instant::now();
    let ping = format!("ip netns exec box{n} busybox ping -c 1 -W 1 198.51.100.2");
    let started = (0..15).find(|_| attempt(&ping).status.success()).map(|_| since.elapsed());
    bench.stop("blue", n);
    started
}

tests! {
    #[ignore = "a measurement"]
    fn another_tenant_s_traffic_during_an_attack(_kernel) {
        lan();
        let bench = Bench::new();
        bench.watch();
        two_tenants(&bench);
        echo();
        let port = AtomicU16::new(ECHOES.start);
        let v4 = || machine(false, port.fetch_add(1, Ordering::Relaxed));
        let v6 = || machine(true, port.fetch_add(1, Ordering::Relaxed));
        println!("| red, at full speed | blue, one flow: p50 | p99 | lost | blue, a new flow each: p50 | p99 | lost |");
        println!("| --- | --- | --- | --- | --- | --- | --- |");
        line("nothing", v4(), |_| sleep(Duration::from_millis(10)));
        line("nothing (IPv6)", v6(), |_| sleep(Duration::from_millis(10)));
        line("datagrams on one flow", v4(), |_| flood(0, 5000..5200, |_| machine(false, 9)));
        line("forwarding database: frames with random MAC addresses", v4(), |round| {
            let [.., a, b] = round.to_be_bytes();
            send("box2", (0..=255).map(|n| ([2, 9, a, b, 0, n], mac("01:80:c2:00:00:0e"))));
        });
        line("neighbours: datagrams to absent ones (IPv6)", v6(), |round| flood(round, 5000..5060, absent));
        line("tracked connections: a new flow with each datagram", v4(), |round| {
            flood(round, 2000..4000, |n| machine(false, 1000 + (n % 60_000) as u16));
        });
        println!("tracked by the host: {}", tracked());
        let same = v4();
        line("source ports: all to the same destination", same, |_| flood(0, 1024..65_000, |_| same));
        line("published ports: a hundred, again and again", v4(), |_| {
            let ids = json!({ "NetworkID": id("red"), "EndpointID": id("e2") });
            let binding = |port: u16| json!({ "Proto": 6, "Port": 80, "HostIP": "", "HostPort": port, "HostPortEnd": port });
            let mut body = ids.clone();
            body["Options"] = json!({ "com.docker.network.portmap": (20_000..20_100).map(binding).collect::<Vec<_>>() });
            drop(bench.ask("ProgramExternalConnectivity", &body));
            drop(bench.ask("RevokeExternalConnectivity", &ids));
        });
        line("log: its link down and up", v4(), |_| {
            for state in ["down", "up"] {
                run(&format!("ip -n box2 link set eth0 {state}"));
            }
        });
        line("nothing, again", v4(), |_| sleep(Duration::from_millis(10)));
    }

    #[ignore = "a measurement"]
    fn a_new_flow_of_a_tenant_near_its_limit(_kernel) {
        lan();
        let bench = Bench::new();
        two_tenants(&bench);
        echo();
        println!("| red's flows | one flow: p50 | p99 | lost | a new flow each: p50 | p99 | lost |");
        println!("| --- | --- | --- | --- | --- | --- | --- |");
        for (port, flows) in ECHOES.zip([0_u16, 4000, 8000, 12_000]) {
            if flows > 0 {
                flood(0, 2000 + flows - 4000..2000 + flows, |n| machine(false, flows + (n / 1000) as u16));
            }
            let before = tracked();
            let [kept, new] = measure(&BOX2, machine(false, port));
            println!("| {before} | {} {}", kept.cells(), new.cells());
        }
    }

    #[ignore = "a measurement"]
    fn a_container_that_starts_during_a_neighbour_flood(_kernel) {
        lan();
        let bench = Bench::new();
        two_tenants(&bench);
        let ends = AtomicBool::new(false);
        let show = |when: &str, n: u8| match start(&bench, n) {
            Some(took) => println!("{when}: answered after {took:?}"),
            None => println!("{when}: not answered in 15 tries"),
        };
        show("idle", 10);
        for speed in [Some(100), Some(1000), None] {
            ends.store(false, Ordering::Relaxed);
            scope(|scope| {
                scope.spawn(|| {
                    for round in 0.. {
                        if ends.load(Ordering::Relaxed) {
                            break;
                        }
                        // IPv4's table is another one: both are filled.
                        flood(round, 5000..5010, absent);
                        flood(round, 5000..5010, |n| SocketAddr::from(([10, 1, 4 + (n / 256 % 240) as u8, (n % 256) as u8], 9)));
                        if let Some(speed) = speed {
                            sleep(Duration::from_secs(10) / speed);
                        }
                    }
                });
                sleep(Duration::from_secs(3));
                let rate = speed.map_or("full speed".to_owned(), |speed| format!("{speed} absent neighbours a second"));
                show(&rate, 11);
                ends.store(true, Ordering::Relaxed);
            });
            sleep(Duration::from_secs(6));
        }
    }
}
