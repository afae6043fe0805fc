// SPDX-License-Identifier: Apache-2.0
//! What links' aliases say follows the records.

use ciao_netdriver::kernel::Namespace;
use serde_json::json;

use crate::bench::Bench;
use crate::requests::{id, names_of, network_in, vnic};

const SUBNET: &str = "192.168.111.0/24";

/// The alias of a link of tenant red.
fn alias(b: &Bench, link: &str) -> String {
    let place = (Namespace::Named("ciao-red".to_owned()), link.parse().unwrap());
    b.kernel.state().aliases[&place].clone()
}

#[test]
fn a_bridge_s_alias_has_gateway_and_pool_id_of_each_network_on_it() {
    let b = Bench::new();
    let mut words = Vec::new();
    for name in ["a", "b"] {
        let pool = b.pool(SUBNET, "red");
        b.ok("CreateNetwork", &network_in("local", name, &[SUBNET], &[("tenant", "red"), ("bridge", "br0")]));
        words.push(format!("{}@192.168.111.1@{pool}", &id(name)[..12]));
        assert_eq!(alias(&b, "br0"), format!("ciao1 {}", words.join(" ")));
    }
    b.ok("DeleteNetwork", &names_of("a", ""));
    assert_eq!(alias(&b, "br0"), format!("ciao1 {}", words[1]));
    assert_eq!(b.reconcile(), [""; 0]);
}

#[test]
fn a_vnic_s_alias_changes_with_the_vnic() {
    let b = Bench::new();
    let made = b.vnic(&vnic("red", "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02"));
    let vnic = b.store.read(|tx| tx.vnics(None)).unwrap().remove(0);
    let found = || alias(&b, vnic.host_link.as_str());
    assert!(found().starts_with("ciao1 o=launcher m=02:00:00:00:00:02 a=192.168.111.2/24 "), "{}", found());
    assert!(found().contains(" i=i1 ") && found().ends_with(" ."), "{}", found());
    let change = json!({ "rate": "10mbit", "allowed_addresses": ["192.168.111.9"] }).to_string();
    let (status, reply) =
        b.launcher("PATCH", &format!("/v1/vnics/{}", made["id"].as_str().unwrap()), change.as_bytes());
    assert_eq!(status, 200, "{reply}");
    assert!(found().contains(" r=10mbit ") && found().ends_with(" x=192.168.111.9 ."), "{}", found());
    // As a kernel upgrade, or a version of ciao-net without aliases, leaves it.
    b.kernel.change(|state| state.aliases.clear());
    assert_eq!(b.reconcile(), [format!("restore link {} of VNIC {}: its alias was changed", vnic.host_link, vnic.id)]);
    assert!(found().contains(" r=10mbit "), "{}", found());
}
