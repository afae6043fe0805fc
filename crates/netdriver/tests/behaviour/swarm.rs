// SPDX-License-Identifier: Apache-2.0
//! A swarm's leader decides VNI and MTU of networks, and a new one is given them.

use ciao_common::store::ClusterHost;
use ciao_netdriver::Config;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{id, network};

const MTU: &str = "com.docker.network.driver.mtu";

/// A node whose hosts announce their addresses.
fn node() -> Bench {
    let config = Config { hosts_file: Some("/nonexistent".into()), ..Config::default() };
    let b = Bench::new().restarted_as(config);
    let host = |n: u8| ClusterHost {
        id: format!("h{n}").parse().unwrap(),
        address: [192, 0, 2, n].into(),
        mtu: 1400.try_into().unwrap(),
        number: 0,
    };
    b.kernel.change(|state| state.addresses.push(("192.0.2.0/24".parse().unwrap(), [192, 0, 2, 1].into())));
    b.store.write(move |tx| tx.give_hosts(1, &[host(1), host(2)])).unwrap();
    b
}

fn allocated(b: &Bench, name: &str, options: &Value) -> Result<Value, String> {
    let data = json!([{ "AddressSpace": "", "Gateway": "10.77.0.1/24", "Pool": "10.77.0.0/24" }]);
    let body = json!({ "NetworkID": id(name), "Options": options, "IPv4Data": data, "IPv6Data": null });
    Ok(b.call("AllocateNetwork", &body)?["Options"].clone())
}

fn vni(options: &Value) -> u32 {
    options["vni"].as_str().unwrap().parse().unwrap()
}

/// What was allocated before is of an earlier leadership.
fn leads_again(b: &Bench) {
    let conn = rusqlite::Connection::open(b.store.path()).unwrap();
    conn.execute("UPDATE vni_record SET requested = requested - 60000", []).unwrap();
    b.engine_starts();
}

#[test]
fn a_tenant_s_network_gets_a_vni_and_an_mtu_that_every_leader_keeps() {
    let first = node();
    let given = allocated(&first, "n1", &json!({ "tenant": "red", "flood": "on" })).unwrap();
    assert!((65536..1 << 24).contains(&vni(&given)), "{given}");
    assert_eq!(given, json!({ "tenant": "red", "flood": "on", "vni": given["vni"], MTU: "1350" }));
    assert_eq!(allocated(&first, "n1", &json!({ "tenant": "red", "flood": "on" })).unwrap(), given, "once more");
    let options: Vec<_> =
        given.as_object().unwrap().iter().map(|(key, value)| (&**key, value.as_str().unwrap())).collect();
    first.ok("CreateNetwork", &network("n1", &["10.77.0.0/24"], &options));
    let made = first.store.read(|tx| Ok((tx.tunnel(&id("n1").parse()?)?, tx.network(&id("n1").parse()?)?))).unwrap();
    assert_eq!((made.0.unwrap().vni, made.1.unwrap().mtu.unwrap().bytes()), (vni(&given), 1350));
    let other = allocated(&first, "n2", &json!({ "tenant": "red" })).unwrap();
    assert_ne!(other["vni"], given["vni"]);

    // Another node leads, and then the first one again.
    let second = node();
    for (leader, new) in [(&second, "n3"), (&first, "n4")] {
        leads_again(leader);
        assert_eq!(allocated(leader, "n1", &given).unwrap(), given);
        assert_eq!(allocated(leader, "n2", &other).unwrap(), other);
        let error = allocated(leader, new, &json!({ "tenant": "blue", "vni": given["vni"] })).unwrap_err();
        let expected = format!("VNI {} is that of network n10000000000: give another --opt vni, or none", vni(&given));
        assert!(error.contains(&expected), "{error}");
        let own = allocated(leader, new, &json!({ "tenant": "blue", "vni": "101", MTU: "1300" })).unwrap();
        assert_eq!(own, json!({ "tenant": "blue", "vni": "101", MTU: "1300" }));
        leader.ok("FreeNetwork", &json!({ "NetworkID": id(new) }));
    }
}

/// Under another leader its network may have been deleted, and its VNI be another one's.
#[test]
fn a_vni_of_an_earlier_leadership_is_allocated_to_nobody_and_goes_to_who_names_it() {
    let b = node();
    let red = json!({ "tenant": "red" });
    let first = vni(&allocated(&b, "n2", &red).unwrap());
    b.ok("FreeNetwork", &json!({ "NetworkID": id("n2") }));
    b.store.write(move |tx| tx.record_vni(&id("n1").parse()?, first)).unwrap();
    leads_again(&b);
    assert_eq!(vni(&allocated(&b, "n2", &red).unwrap()), first + 1);
    let named = json!({ "tenant": "red", "vni": first.to_string(), MTU: "1350" });
    assert_eq!(allocated(&b, "n3", &named).unwrap(), named);
    assert!(![first, first + 1].contains(&vni(&allocated(&b, "n1", &red).unwrap())));
}

#[test]
fn a_vni_of_a_network_that_is_on_this_host_is_not_allocated() {
    let b = node();
    let given = allocated(&b, "n1", &json!({ "tenant": "red" })).unwrap()["vni"].as_str().unwrap().to_owned();
    b.ok("FreeNetwork", &json!({ "NetworkID": id("n1") }));
    b.ok("CreateNetwork", &network("n9", &["10.9.0.0/24"], &[("tenant", "blue"), ("vni", &given)]));
    assert_ne!(allocated(&b, "n1", &json!({ "tenant": "red" })).unwrap()["vni"], given);
}

#[test]
fn networks_of_no_tenant_and_those_that_want_none_get_no_vni() {
    let (node, alone) = (node(), Bench::new());
    for (b, options) in [
        (&node, json!({})),
        (&node, json!({ "tenant": "red", "vni": "none" })),
        (&node, json!({ "tenant": "red", "host_bridge": "br0" })),
        (&alone, json!({ "tenant": "red" })),
        (&alone, json!({ "tenant": "red", "vni": "101" })),
    ] {
        assert_eq!(allocated(b, "n1", &options).unwrap(), options);
    }
    node.ok("CreateNetwork", &network("n1", &["10.1.0.0/24"], &[("tenant", "red"), ("vni", "none")]));
    assert_eq!(node.store.read(|tx| tx.tunnels()).unwrap(), []);
    assert!(
        allocated(&alone, "n1", &json!({ "tenant": "red", "flood": "on" })).unwrap_err().contains("give --opt vni")
    );
}

#[test]
fn a_node_whose_link_carries_less_than_the_network_needs_refuses_it() {
    let b = node();
    let u0 = ("u0".parse().unwrap(), 1380);
    b.kernel.change(|state| state.links_of.extend([([192, 0, 2, 1].into(), u0)]));
    let create = |mtu| {
        b.call("CreateNetwork", &network("n1", &["10.1.0.0/24"], &[("tenant", "red"), ("vni", "101"), (MTU, mtu)]))
    };
    let error = create("1350").unwrap_err();
    let expected = "MTU 1350 does not fit: u0 carries 1380 bytes, of which the tunnel takes 50: give \
                    com.docker.network.driver.mtu=1330 or less, or 1380 as this host's MTU in the list of hosts";
    assert!(error.contains(expected), "{error}");
    assert_eq!(b.store.read(|tx| tx.tunnels()).unwrap(), []);
    create("1330").unwrap();
    create("1330").unwrap();
}

#[test]
fn an_engine_reports_its_swarm_s_nodes_where_there_is_a_list_of_hosts() {
    let expected = json!({ "Scope": "local", "ConnectivityScope": "global", "GwAllocChecker": true });
    assert_eq!(node().ok("GetCapabilities", &json!({})), expected);
}
