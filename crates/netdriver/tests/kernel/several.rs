// SPDX-License-Identifier: Apache-2.0
//! A container with several VNICs of one tenant.

use ciao_netdriver::reconcile::Depth;
use serde_json::json;

use crate::apart::{answers, answers_once, run, soon, tests};
use crate::driver::{Bench, id};

/// Networks `one` and `two` of a tenant, 10.1.0.0/24 and 10.2.0.0/24, on bridges of their own.
fn two_networks(bench: &Bench, tenant: &str) {
    for (network, subnet) in [("one", 1), ("two", 2)] {
        let data = [
            json!([{ "AddressSpace": "l", "Pool": format!("10.{subnet}.0.0/24"), "Gateway": format!("10.{subnet}.0.1/24") }]),
            json!([{ "AddressSpace": "l", "Pool": format!("fd00:{subnet}::/64"), "Gateway": format!("fd00:{subnet}::1/64") }]),
        ];
        let options = json!({ "com.docker.network.generic": { "tenant": tenant, "bridge": network } });
        let id = id(&format!("{tenant}{network}"));
        bench.ok(
            "CreateNetwork",
            &json!({ "NetworkID": id, "Options": options, "IPv4Data": data[0], "IPv6Data": data[1] }),
        );
    }
}

/// Gives a container, which exists, a VNIC on a network of a tenant: host number `n` of it. Returns its ids.
fn attach(bench: &Bench, (tenant, network, subnet): (&str, &str, u8), container: &str, n: u8) -> serde_json::Value {
    let endpoint = id(&format!("{tenant}{network}{n}"));
    let ids = json!({ "NetworkID": id(&format!("{tenant}{network}")), "EndpointID": endpoint });
    let addresses = [format!("10.{subnet}.0.{n}/24"), format!("fd00:{subnet}::{n}/64")];
    let mut body = ids.clone();
    body["Interface"] = json!({ "Address": addresses[0], "AddressIPv6": addresses[1] });
    bench.ok("CreateEndpoint", &body);
    let reply = bench.ok("Join", &ids);
    let link = reply["InterfaceName"]["SrcName"].as_str().unwrap();
    run(&format!("ip link set {link} netns {container} name {network}"));
    for address in addresses {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        run(&format!("ip -n {container} addr add {address} dev {network}{nodad}"));
    }
    run(&format!("ip -n {container} link set {network} up"));
    ids
}

/// Container `both` on both networks of red, and `client` on the first, whose way to the second is the gateway.
fn scene(bench: &Bench) -> serde_json::Value {
    two_networks(bench, "red");
    for container in ["both", "client"] {
        run(&format!("ip netns add {container}"));
    }
    attach(bench, ("red", "one", 1), "client", 9);
    run("ip -n client route add default via 10.1.0.1");
    run("ip -n client route add default via fd00:1::1");
    attach(bench, ("red", "one", 1), "both", 2);
    attach(bench, ("red", "two", 2), "both", 2)
}

/// How many addresses VNICs of red may send with.
fn sources() -> usize {
    let listed = |set| run(&format!("ip netns exec ciao-red nft list set bridge ciao {set}"));
    [listed("ips4"), listed("ips6")].iter().map(|text| text.matches("\"hv").count()).sum()
}

/// Each has its own, of both families, and its link-local one.
const OWN: usize = 3;
/// Both VNICs of the container: the other's.
const SHARED: usize = 2 * 2;

tests! {
    fn a_container_on_two_networks_of_its_tenant_answers_at_both_addresses(_kernel) {
        let bench = Bench::new();
        bench.watch();
        scene(&bench);
        // Asked by way of network two, it answers on network one, where it reaches the client without a router.
        for address in ["10.1.0.2", "10.2.0.2", "fd00:1::2", "fd00:2::2"] {
            assert!(answers("client", address), "{address}");
        }
        assert!(soon(|| sources() == 3 * OWN + SHARED));
        run("ip netns exec ciao-red nft flush table bridge ciao");
        assert!(soon(|| sources() == 3 * OWN + SHARED), "rules that are written again have them");
    }

    fn shared_addresses_stand_over_a_restart_and_go_with_a_vnic(_kernel) {
        let bench = Bench::new();
        let second = scene(&bench);
        assert!(!answers_once("client", "10.2.0.2"), "nobody looked yet");
        let found = bench.driver.reconcile(Depth::DryRun);
        assert!(found.len() == 1 && found[0].what == "addresses shared by VNICs of one container in ciao-red", "{found:?}");
        assert_eq!((bench.driver.reconcile(Depth::Changed), sources()), (found, 3 * OWN + SHARED));
        assert!(answers("client", "10.2.0.2"));
        let bench = bench.restarted();
        assert_eq!((bench.driver.reconcile(Depth::Full), sources()), (vec![], 3 * OWN + SHARED));
        run("ip -n both link set two down");
        run(&format!("ip -n both link set two netns {}", std::process::id()));
        bench.ok("Leave", &second);
        bench.ok("DeleteEndpoint", &second);
        assert!(soon(|| sources() == 2 * OWN), "nobody else keeps its addresses: {}", sources());
        assert_eq!(bench.driver.reconcile(Depth::Full), []);
    }

    fn links_of_two_tenants_in_one_container_share_nothing(_kernel) {
        let bench = Bench::new();
        two_networks(&bench, "red");
        two_networks(&bench, "blue");
        for container in ["both", "other"] {
            run(&format!("ip netns add {container}"));
        }
        attach(&bench, ("red", "one", 1), "both", 2);
        attach(&bench, ("blue", "two", 2), "both", 2);
        attach(&bench, ("red", "two", 2), "other", 3);
        // One that no container has yet is in the host's namespace, as are all of those.
        let ids = json!({ "NetworkID": id("redtwo"), "EndpointID": id("idle") });
        let mut body = ids;
        body["Interface"] = json!({ "Address": "10.2.0.4/24" });
        bench.ok("CreateEndpoint", &body);
        assert_eq!((bench.driver.reconcile(Depth::Changed), sources()), (vec![], 2 * OWN + 2));
    }
}
