// SPDX-License-Identifier: Apache-2.0
//! Exceptions to what is denied to tenants: each network has its own, though all of a tenant's leave by one uplink.

use std::collections::BTreeSet;

use ciao_netdriver::kernel::Uplinks;
use ciao_netdriver::reconcile::Depth;
use ciao_netdriver::{Config, EgressPolicy};
use serde_json::json;

use crate::apart::{answers_once, into_container, run, soon, tests};
use crate::driver::{Bench, id};
use crate::shares::lan;

/// Machines beyond the host: three of the operator's, and one of anybody's.
const AT: [&str; 4] = ["10.20.1.1", "10.20.2.1", "fd20::1", "198.51.100.2"];

/// Network `n` of red, 10.N.0.0/24 and fd00:N::/64, and container `boxN` on it.
fn network(bench: &Bench, n: u8, allow: &str) {
    let data = [format!("10.{n}.0.%/24"), format!("fd00:{n}::%/64")].map(|cidr| {
        let of = |host: &str| cidr.replace('%', host);
        json!([{ "AddressSpace": "l", "Pool": of(if cidr.contains(':') { "" } else { "0" }), "Gateway": of("1") }])
    });
    let mut generic = json!({ "tenant": "red", "bridge": format!("br{n}"), "egress": "nat" });
    if !allow.is_empty() {
        generic["egress_allow"] = json!(allow);
    }
    let (network, options) = (id(&format!("red{n}")), json!({ "com.docker.network.generic": generic }));
    let create = json!({ "NetworkID": network, "Options": options, "IPv4Data": data[0], "IPv6Data": data[1] });
    bench.ok("CreateNetwork", &create);
    let addresses = [format!("10.{n}.0.2/24"), format!("fd00:{n}::2/64")];
    let ids = json!({ "NetworkID": network, "EndpointID": id(&format!("e{n}")) });
    let mut endpoint = ids.clone();
    endpoint["Interface"] = json!({ "Address": addresses[0], "AddressIPv6": addresses[1] });
    bench.ok("CreateEndpoint", &endpoint);
    let link = bench.ok("Join", &ids)["InterfaceName"]["SrcName"].as_str().unwrap().parse().unwrap();
    into_container(&link, &format!("box{n}"), &addresses.each_ref().map(String::as_str));
    run(&format!("ip -n box{n} route add default via 10.{n}.0.1"));
    run(&format!("ip -n box{n} route add default via fd00:{n}::1"));
}

/// Whether the container of network `n` reaches exactly these of [`AT`].
fn reaches(n: u8, expected: [bool; 4]) -> bool {
    let from = &format!("box{n}");
    let reached = || {
        std::thread::scope(|scope| {
            AT.map(|at| scope.spawn(move || answers_once(from, at))).map(|answer| answer.join().unwrap())
        })
    };
    soon(|| reached() == expected)
}

tests! {
    fn what_is_on_another_link_leads_out_of_the_host_if_that_one_does(kernel) {
        for made in [
            "in0 type bridge", "in1 type veth peer name in2", "in3 link in0 type macvlan", "in4 link in2 type macvlan",
            "out0 type bridge", "out1 type vxlan id 5 dstport 4790", "out2 link out0 type macvlan",
            "out3 type vxlan id 6 dstport 4791", "out4 link out3 type macvlan",
        ] {
            run(&format!("ip link add {made}"));
        }
        run("ip link set in1 master in0");
        run("ip link set out1 master out0");
        let egress = || kernel.egress_links().unwrap().iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let out = ["out0", "out2", "out4"].map(str::to_owned);
        assert_eq!(egress(), out.clone().into());
        run("ip link set in0 up");
        run("ip route add default dev in0");
        let routed = ["in0", "in3"].map(str::to_owned);
        assert_eq!(egress(), out.into_iter().chain(routed).collect::<BTreeSet<_>>());
    }

    fn what_one_network_is_allowed_is_closed_to_the_others_of_its_tenant(_kernel) {
        lan();
        for address in &AT[..3] {
            run(&format!("ip -n lan addr add {address} dev lo"));
        }
        run("ip route add default via 2001:db8::2");
        let deny = ["10.20.0.0/16", "fd20::/32"].map(|subnet| subnet.parse().unwrap()).to_vec();
        let bench = Bench::with(Config { egress: EgressPolicy { deny, ..EgressPolicy::default() }, ..Config::default() });
        let (listed, none) = ([true, false, true, true], [false, false, false, true]);
        network(&bench, 1, "10.20.1.0/24,fd20::/64");
        network(&bench, 2, "");
        assert!(reaches(1, listed) && reaches(2, none));
        assert_eq!(bench.driver.reconcile(Depth::Full), []);
        // A list that overlaps comes and goes.
        network(&bench, 3, "10.0.0.0/8");
        assert!(reaches(3, [true, true, false, true]) && reaches(1, listed) && reaches(2, none));
        bench.stop("red3", 3);
        bench.ok("DeleteNetwork", &json!({ "NetworkID": id("red3") }));
        assert!(reaches(1, listed) && reaches(2, none));
        assert_eq!(bench.driver.reconcile(Depth::Full), []);
        // It is that chain, and it is restored.
        run("ip netns exec ciao-red nft flush chain inet ciao egress");
        assert!(reaches(2, listed));
        assert_ne!(bench.driver.reconcile(Depth::Full), []);
        assert!(reaches(1, listed) && reaches(2, none));
    }
}
