// SPDX-License-Identifier: Apache-2.0
//! Networks whose containers do not reach each other (`icc=off`): neither on other hosts nor by another network.

use ciao_netdriver::reconcile::Depth;
use serde_json::json;

use crate::apart::{answers, answers_once, run, soon, tests};
use crate::cluster::{self, Cluster, address, mac};
use crate::driver::{Bench, id};

/// Network 10.N.0.0/24 of a tenant on its bridge br0.
fn network(bench: &Bench, tenant: &str, n: u8, icc: &str) {
    let data = json!([{ "AddressSpace": "l", "Pool": format!("10.{n}.0.0/24"), "Gateway": format!("10.{n}.0.1/24") }]);
    let options = json!({ "com.docker.network.generic": { "tenant": tenant, "bridge": "br0", "icc": icc } });
    let id = id(&format!("{tenant}{n}"));
    bench.ok("CreateNetwork", &json!({ "NetworkID": id, "Options": options, "IPv4Data": data }));
}

/// Container 10.N.0.`last` on it, `box{last}`.
fn container(bench: &Bench, tenant: &str, n: u8, last: u8) {
    let address = format!("10.{n}.0.{last}/24");
    bench.attach_only(&format!("{tenant}{n}"), last, &json!({ "Address": address }), &[&address]);
    run(&format!("ip -n box{last} route add default via 10.{n}.0.1"));
}

tests! {
    fn without_icc_containers_on_other_hosts_are_not_reached_either(_kernel) {
        let cluster = Cluster::start();
        cluster.give_hosts(1, [1, 2, 3]);
        let mut red = cluster::network("red", 101);
        red["Options"]["com.docker.network.generic"]["icc"] = json!("off");
        let networks = [("red", red, 10, 0xa), ("blue", cluster::network("blue", 102), 11, 0xb)];
        for member in &cluster.members {
            for (tenant, network, n, middle) in &networks {
                member.docker("CreateNetwork", network);
                member.run(tenant, *n, &format!("{}/24", address(member.n)), &mac(*middle, member.n));
            }
        }
        cluster.give_remotes(1, [1, 2, 3]);
        let [one, two, _] = &cluster.members[..] else { panic!() };
        assert!(soon(|| one.pings("box11", &address(2)) && two.pings("box11", &address(1))), "blue's, with icc");
        assert!(!one.pings("box10", &address(2)) && !two.pings("box10", &address(1)));
        assert!(one.pings("box10", "10.1.0.1"), "its gateway");
    }

    fn a_network_without_icc_is_closed_whatever_else_is_on_its_bridge(_kernel) {
        let bench = Bench::new();
        // The closed network comes first, and last.
        for (tenant, [five, six], first) in [("red", ["off", "on"], 10), ("blue", ["on", "off"], 20)] {
            network(&bench, tenant, 5, five);
            network(&bench, tenant, 6, six);
            container(&bench, tenant, 5, first);
            container(&bench, tenant, 6, first + 1);
            let [one, other] = [first, first + 1].map(|n| format!("box{n}"));
            assert!(answers(&one, "10.5.0.1") && answers(&other, "10.6.0.1"), "{tenant}: their gateways");
            assert!(!answers_once(&one, &format!("10.6.0.{}", first + 1)), "{tenant}");
            assert!(!answers_once(&other, &format!("10.5.0.{first}")), "{tenant}");
            assert_eq!(bench.driver.reconcile(Depth::Full), []);
        }
        // What is left has icc.
        bench.stop("red5", 10);
        bench.ok("DeleteNetwork", &json!({ "NetworkID": id("red5") }));
        container(&bench, "red", 6, 12);
        network(&bench, "red", 7, "on");
        container(&bench, "red", 7, 13);
        assert!(answers("box11", "10.6.0.12") && answers("box11", "10.7.0.13"));
        assert_eq!(bench.driver.reconcile(Depth::Full), []);
    }
}
