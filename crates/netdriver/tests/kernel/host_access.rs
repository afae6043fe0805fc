// SPDX-License-Identifier: Apache-2.0
//! Services of the host itself: closed to tenants, but for the ports that a network's `host_access` opens.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use ciao_netdriver::reconcile::Depth;
use serde_json::{Value, json};

use crate::apart::{run, soon, tests};
use crate::driver::{Bench, id};
use crate::shares::{Place, lan};

/// docker0's addresses, which `host.docker.internal:host-gateway` is, and others of the host's.
const AT: [&str; 4] = ["172.17.0.1", "fd00:17::1", "198.51.100.1", "2001:db8::1"];

fn creation(tenant: &str, options: &[(&str, &str)]) -> Value {
    let data = ["10.1.0.0/16 10.1.0.1/16", "fd00:1::/64 fd00:1::1/64"].map(|of| {
        let (pool, gateway) = of.split_once(' ').unwrap();
        json!([{ "AddressSpace": "LocalDefault", "Pool": pool, "Gateway": gateway }])
    });
    let mut generic = json!({ "tenant": tenant, "bridge": "br0" });
    options.iter().for_each(|(name, value)| generic[*name] = json!(value));
    let options = json!({ "com.docker.network.generic": generic });
    json!({ "NetworkID": id(tenant), "Options": options, "IPv4Data": data[0], "IPv6Data": data[1] })
}

/// A tenant's network with such a `host_access`, and container `box{n}` on it.
fn tenant(bench: &Bench, tenant: &str, n: u8, ports: &[(&str, &str)]) {
    bench.ok("CreateNetwork", &creation(tenant, ports));
    bench.run_dual(tenant, n, "10.1.0.2/16", "fd00:1::2/64");
    run(&format!("ip -n box{n} route add default via fd00:1::1"));
}

/// At which of [`AT`] a TCP port of the host answers a container.
fn reached(from: &Place, port: u16) -> [bool; 4] {
    let connects = |at: &str| {
        let to = SocketAddr::new(at.parse().unwrap(), port);
        from.within(|| TcpStream::connect_timeout(&to, Duration::from_millis(400)).is_ok())
    };
    std::thread::scope(|scope| AT.map(|at| scope.spawn(move || connects(at))).map(|thread| thread.join().unwrap()))
}

/// Whether a datagram to docker0's address arrives.
fn sends(from: &Place, port: u16) -> bool {
    let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    from.within(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", (AT[0], port)).unwrap());
    socket.recv_from(&mut [0; 8]).is_ok()
}

tests! {
    fn a_tenant_reaches_the_ports_of_the_host_that_its_network_opens_and_no_others(_kernel) {
        lan();
        run("ip link add docker0 type bridge");
        run("ip addr add 172.17.0.1/16 dev docker0");
        run("ip addr add fd00:17::1/64 dev docker0 nodad");
        run("ip link set docker0 up");
        let _services = [5432, 6000, 5353].map(|port| TcpListener::bind(("::", port)).unwrap());
        let _local = TcpListener::bind("127.0.0.1:7000").unwrap();
        let bench = Bench::new();
        tenant(&bench, "red", 2, &[("host_access", "5432,7000,5353/udp")]);
        tenant(&bench, "blue", 4, &[]);
        let (red, blue) = (Place("box2"), Place("box4"));
        let (open, closed) = ([true; 4], [false; 4]);
        let is = |expected: [bool; 4]| {
            assert!(soon(|| reached(&red, 5432) == expected), "{:?}", reached(&red, 5432));
            assert_eq!(reached(&red, 6000), closed, "of another number");
            assert_eq!(reached(&red, 5353), closed, "of another protocol");
            assert_eq!(reached(&red, 7000), closed, "what listens at 127.0.0.1 alone is of the host alone");
            assert_eq!(reached(&blue, 5432), closed, "another tenant");
            assert!(!sends(&blue, 5353) && !sends(&red, 5432));
        };
        is(open);
        assert!(sends(&red, 5353));
        // It is in the guard, and is restored.
        assert_eq!(bench.driver.reconcile(Depth::DryRun), []);
        assert!(run("nft list set inet ciao_guard host_access").contains("5432"));
        run("nft flush set inet ciao host_access");
        assert_eq!(reached(&red, 5432), closed);
        assert_ne!(bench.driver.reconcile(Depth::Full), []);
        is(open);
        let bench = bench.restarted();
        bench.driver.reconcile(Depth::Full);
        bench.driver.resume().unwrap();
        is(open);
        bench.stop("red", 2);
        bench.ok("DeleteNetwork", &json!({ "NetworkID": id("red") }));
        assert!(!run("nft list table inet ciao").contains("5432"));
    }
}
