// SPDX-License-Identifier: Apache-2.0
//! Networks that cannot be beside what is there already.

use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::kernel::fake::FakeLink;
use serde_json::json;

use crate::bench::Bench;
use crate::requests::{names_of, network, vnic};

#[test]
fn the_host_routes_an_ipv6_subnet_to_one_tenant_at_a_time() {
    let b = Bench::new();
    let routed = |name: &str, tenant: &str| {
        let subnets = ["10.1.0.0/24", "2001:db8:1::/64"];
        b.call("CreateNetwork", &network(name, &subnets, &[("tenant", tenant), ("egress6", "route")]))
    };
    routed("n1", "red").unwrap();
    let rows = b.rows();
    let error = routed("n2", "blue").unwrap_err();
    assert!(error.contains("the host already routes 2001:db8:1::/64 to network n10000000000"), "{error}");
    assert_eq!(b.rows(), rows);
    b.ok("DeleteNetwork", &json!({ "NetworkID": names_of("n1", "")["NetworkID"] }));
    routed("n2", "blue").unwrap();
}

#[test]
fn a_network_overlaps_no_subnet_of_its_tenant_s_vnics() {
    let b = Bench::new();
    b.vnic(&vnic("red", "web", "10.5.0.0/24", "10.5.0.2", "02:00:00:00:00:01"));
    let wide = network("n1", &["10.5.0.0/16"], &[("tenant", "red")]);
    let error = b.call("CreateNetwork", &wide).unwrap_err();
    assert!(error.contains("subnet 10.5.0.0/16 overlaps subnet 10.5.0.0/24 of VNICs of tenant red"), "{error}");
    b.ok("CreateNetwork", &network("n1", &["10.5.0.0/16"], &[("tenant", "blue")]));
}

#[test]
fn icc_is_refused_on_a_bridge_that_is_not_ours() {
    let b = Bench::new();
    let key = (Namespace::Host, "lan0".parse().unwrap());
    b.kernel.change(|state| drop(state.links.insert(key, FakeLink::Bridge([].into()))));
    let error = b
        .call("CreateNetwork", &network("n1", &["10.1.0.0/24"], &[("host_bridge", "lan0"), ("icc", "false")]))
        .unwrap_err();
    assert!(error.contains("lan0 is a bridge of the host"), "{error}");
}
