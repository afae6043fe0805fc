// SPDX-License-Identifier: Apache-2.0
//! Published ports: their flows, their clients, and what holds them.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use ciao_common::store::Protocol;
use ciao_netdriver::kernel::Ports;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use serde_json::json;

use super::{BOX2, BOX4, LAN, Place, lan, two_tenants};
use crate::apart::{run, soon, tests};
use crate::driver::{Bench, id};

/// A connection to the published port 8080 from an address.
fn socket_from(source: IpAddr) -> TcpStream {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0))).unwrap();
    let to = SocketAddr::from(([198, 51, 100, 1], 8080));
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
    socket.into()
}

tests! {
    fn a_datagram_follows_its_published_port_however_long_the_flow_lasts(_kernel) {
        lan();
        let bench = Bench::new();
        two_tenants(&bench);
        let (red, blue) = (BOX2.udp("0.0.0.0:80"), BOX4.udp("0.0.0.0:80"));
        let client = LAN.udp("198.51.100.2:4000");
        // Sent again and again, so that a flow that is tracked stays.
        let arrives = |receiver: &UdpSocket| {
            (0..10).any(|_| {
                drop(client.send_to(b"x", "198.51.100.1:5555"));
                receiver.recv_from(&mut [0; 8]).is_ok()
            })
        };
        assert!(!arrives(&red), "before it is published");
        bench.publish_as(17, "red", 2, 5555);
        assert!(arrives(&red), "a sender that is older than the port");
        bench.ok("RevokeExternalConnectivity", &json!({ "NetworkID": id("red"), "EndpointID": id("e2") }));
        assert!(!arrives(&red), "after it is withdrawn");
        bench.publish_as(17, "blue", 4, 5555);
        assert!(arrives(&blue) && !arrives(&red), "another tenant has it");
    }

    fn a_client_with_an_address_of_the_tenant_s_own_subnet_is_answered(_kernel) {
        lan();
        for address in ["10.1.0.7/24", "10.1.0.2/24"] {
            run(&format!("ip -n lan addr add {address} dev eth0"));
            run(&format!("ip route add {} dev lan0", address.replace("/24", "/32")));
        }
        run("ip -n lan route add 198.51.100.1/32 dev eth0");
        let bench = Bench::new();
        two_tenants(&bench);
        bench.publish("red", 2, 8080);
        let listener = BOX2.within(|| TcpListener::bind("0.0.0.0:80").unwrap());
        let server = std::thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                drop(std::io::Write::write_all(&mut stream.unwrap(), b"red"));
            }
        });
        for source in ["10.1.0.7", "10.1.0.2"] {
            let source: IpAddr = source.parse().unwrap();
            let answer = LAN.within(|| {
                let mut socket = socket_from(source);
                let mut text = String::new();
                socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
                socket.read_to_string(&mut text).map(|_| text)
            });
            assert_eq!(answer.unwrap(), "red", "{source}");
        }
        server.join().unwrap();
    }

    fn a_gateway_s_own_address_leads_to_published_ports_from_the_same_network_too(_kernel) {
        let bench = Bench::new();
        two_tenants(&bench);
        bench.run_dual("red", 3, "10.1.0.3/16", "fd00:1::3/64");
        let client = Place("box3");
        let asked = |gateway: &str| {
            let gateway: SocketAddr = gateway.parse().unwrap();
            client.within(|| {
                let mut text = String::new();
                let mut stream = TcpStream::connect_timeout(&gateway, Duration::from_secs(3)).ok()?;
                stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
                stream.read_to_string(&mut text).map(|_| text).ok()
            })
        };
        assert_eq!(asked("10.1.0.1:8080"), None, "before it is published");
        bench.publish("red", 2, 8080);
        let listener = BOX2.within(|| TcpListener::bind("[::]:80").unwrap());
        let server = std::thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                drop(std::io::Write::write_all(&mut stream.unwrap(), b"red"));
            }
        });
        for gateway in ["10.1.0.1:8080", "[fd00:1::1]:8080"] {
            assert_eq!(asked(gateway).as_deref(), Some("red"), "{gateway}");
        }
        server.join().unwrap();
        assert_eq!(asked("10.1.0.1:8081"), None, "the gateway itself serves nothing");
    }

    fn a_port_with_connections_in_time_wait_is_held_exclusively(kernel) {
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let mut client = TcpStream::connect("127.0.0.1:8080").unwrap();
        let (server, _) = listener.accept().unwrap();
        // Who closes first waits.
        drop(server);
        client.read_to_end(&mut Vec::new()).unwrap();
        drop((client, listener));
        assert!(soon(|| run("cat /proc/net/tcp").lines().any(|line| line.contains(":1F90") && line.contains(" 06 "))));
        let at = IpAddr::from(Ipv4Addr::LOCALHOST);
        let held = kernel.hold_port(Protocol::Tcp, at, 8080).unwrap().expect("it is free");
        assert_eq!(held.number, 8080);
        assert!(TcpListener::bind("127.0.0.1:8080").is_err(), "with SO_REUSEADDR, which Rust sets");
        assert!(kernel.hold_port(Protocol::Tcp, at, 8080).unwrap().is_none());
        let udp = kernel.hold_port(Protocol::Udp, at, 8080).unwrap().unwrap();
        assert!(kernel.hold_port(Protocol::Udp, at, 8080).unwrap().is_none() && UdpSocket::bind("127.0.0.1:8080").is_err());
        drop((held, udp));
        TcpListener::bind("127.0.0.1:8080").unwrap();
    }

    #[ignore = "a minute, by hand: 60,000 ports where the limit of open files allows it"]
    fn sixty_thousand_ports_are_published_and_all_else_goes_on(_kernel) {
        let files = ciao_common::serve::daemon::raise_file_limit().unwrap();
        let containers = u8::try_from((files / 1000 - 1).min(60)).unwrap();
        let bench = Bench::new();
        bench.network("red", "nat");
        let mut slowest = Duration::ZERO;
        for n in 2..containers + 2 {
            let (network, endpoint) = (id("red"), id(&format!("e{n}")));
            let interface = json!({ "Address": format!("10.1.0.{n}/24") });
            bench.ok("CreateEndpoint", &json!({ "NetworkID": network, "EndpointID": endpoint, "Interface": interface }));
            let binding = |port: u16| json!({ "Proto": 6, "Port": 80, "HostIP": "", "HostPort": port });
            let bindings: Vec<_> = (0..1000).map(|port| binding(u16::from(n) * 1000 + port)).collect();
            let options = json!({ "com.docker.network.portmap": bindings });
            let since = std::time::Instant::now();
            let ids = json!({ "NetworkID": network, "EndpointID": endpoint, "Options": options });
            bench.ok("ProgramExternalConnectivity", &ids);
            slowest = slowest.max(since.elapsed());
        }
        let count = bench.store.read(|tx| tx.ports()).unwrap().len();
        println!("{count} ports, the slowest call of 1,000 {slowest:?}");
        assert_eq!(count, usize::from(containers) * 1000);
        bench.network("blue", "nat");
        bench.run("blue", 254, "10.1.0.2/24");
        bench.publish("blue", 254, 80);
    }
}
