// SPDX-License-Identifier: Apache-2.0
//! What a network that is deleted leaves in the host's table of connections, which all tenants share.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

use serde_json::json;

use crate::apart::{run, soon, tests};
use crate::driver::{Bench, id};
use crate::shares::{BOX2, lan, tracked};

const FLOWS: u16 = 200;

tests! {
    fn the_flows_of_a_network_go_with_it_also_those_that_are_not_translated(_kernel) {
        lan();
        run("ip -n lan route add fd00::/8 via 2001:db8::1");
        let bench = Bench::new();
        for (subnet, egress6) in [("fd00:1", "nat"), ("fd00:2", "route")] {
            let data = json!([{ "AddressSpace": "LocalDefault", "Pool": format!("{subnet}::/64"), "Gateway": format!("{subnet}::1/64") }]);
            let options = json!({ "com.docker.network.generic": { "tenant": "red", "bridge": "br0", "egress6": egress6 } });
            bench.ok("CreateNetwork", &json!({ "NetworkID": id("red"), "Options": options, "IPv6Data": data }));
            bench.run_v6("red", 2, &format!("{subnet}::2/64"));
            run(&format!("ip -n box2 route add default via {subnet}::1"));
            let before = tracked();
            assert!(soon(|| {
                BOX2.within(|| {
                    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
                    let to = |port| SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2), port));
                    (0..FLOWS).for_each(|port| drop(socket.send_to(b"x", to(1000 + port))));
                });
                tracked() - before >= usize::from(FLOWS)
            }), "{egress6}: {} of {before}", tracked());
            bench.stop("red", 2);
            bench.ok("DeleteNetwork", &json!({ "NetworkID": id("red") }));
            let left = tracked().saturating_sub(before);
            println!("{egress6}: {left} flows left");
            assert!(left < 20, "{egress6}: {left} flows are left");
        }
    }
}
