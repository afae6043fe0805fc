// SPDX-License-Identifier: Apache-2.0
//! Docker's list: what is not on it is forgotten, unless a container is on it or the list may be another engine's.

use ciao_netdriver::kernel::fake::FakeLink;
use ciao_netdriver::kernel::{Links, Namespace};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{endpoint, id, network, vnic};

const SUBNET: &str = "192.168.111.0/24";

/// A network with a running container, one with an endpoint whose container is gone, and a launcher's VNIC in a
/// container, all of them old.
fn old() -> Bench {
    let b = Bench::new();
    let made = b.vnic(&vnic("red", "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02"));
    let bridge = made["bridge"].as_str().unwrap();
    b.ok("CreateNetwork", &network("live", &[SUBNET], &[("tenant", "red"), ("bridge", bridge)]));
    b.ok("CreateNetwork", &network("dead", &["10.0.0.0/24"], &[]));
    b.run("one", "live", "192.168.111.2/24", "");
    b.run("two", "live", "192.168.111.3/24", "");
    b.run("three", "dead", "10.0.0.2/24", "");
    b.release_link("three");
    b.age_endpoints();
    b.age_networks();
    b
}

/// What was done, as `action what: why`, and what of it failed; or the refusal's sentence.
fn reconcile(b: &Bench, query: &str, known: &Value) -> Result<(Vec<String>, usize), String> {
    let (status, reply) = b.launcher("POST", &format!("/v1/reconcile?{query}"), known.to_string().as_bytes());
    b.settle();
    if status == 409 {
        return Err(reply["error"].as_str().unwrap().to_owned());
    }
    assert_eq!(status, 200, "{reply}");
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = reply.as_array().unwrap();
    let failed = rows.iter().filter(|row| row["error"].is_string()).count();
    Ok((rows.iter().map(|row| ["action", "what", "why"].map(|key| text(row, key)).join(" ")).collect(), failed))
}

fn list(engine: Option<&str>, networks: &[&str], endpoints: &[&str]) -> Value {
    let ids = |names: &[&str]| names.iter().map(|name| id(name)).collect::<Vec<_>>();
    json!({ "engine": engine, "networks": ids(networks), "endpoints": ids(endpoints) })
}

#[test]
fn an_empty_list_and_another_engine_s_are_refused_and_change_nothing() {
    let b = old();
    let all = list(Some("E"), &["live", "dead"], &["one", "two", "three"]);
    assert_eq!(reconcile(&b, "", &all).unwrap().1, 0);
    let (rows, state) = (b.rows(), b.kernel.state());
    let strange = [
        (json!({ "networks": [] }), "names no engine"),
        (list(None, &["live", "dead"], &[]), "names no engine"),
        (list(Some("E"), &[], &[]), "none of the 2 recorded networks"),
        (list(Some("E"), &["other"], &[]), "none of the 2 recorded networks"),
        (list(Some("F"), &["live", "dead"], &["one", "two"]), "is engine F's, but the records are of engine E's"),
    ];
    for (known, why) in strange {
        for query in ["", "dry_run=true"] {
            let refused = reconcile(&b, query, &known).unwrap_err();
            assert!(refused.contains(why) && refused.contains("--force"), "{known}: {refused}");
        }
        assert_eq!((b.rows(), b.kernel.state()), (rows.clone(), state.clone()), "{known}");
    }
}

#[test]
fn what_a_container_is_on_stays_whatever_the_list() {
    let b = old();
    let before = b.kernel.state();
    let inside = |b: &Bench| -> Vec<_> {
        let state = b.kernel.state();
        state.links.into_keys().filter(|(ns, _)| ns.name().is_some_and(|name| name.starts_with("sandbox"))).collect()
    };
    let running = inside(&b);
    for known in [json!({ "networks": [] }), list(Some("F"), &[], &[])] {
        let said = reconcile(&b, "force=true&dry_run=true", &known).unwrap();
        let done = reconcile(&b, "force=true", &known).unwrap();
        assert_eq!(said, done, "{known}");
        assert_eq!(done.1, 1, "that it is in use is said, and is not done: {done:?}");
        assert_eq!(inside(&b), running);
    }
    let after = b.kernel.state();
    let of_red = Namespace::Named("ciao-red".to_owned());
    assert_eq!(after.rules[&of_red], before.rules[&of_red]);
    assert_eq!(after.uplinks["ciao-red"], before.uplinks["ciao-red"]);
    b.assert_consistent();
    // The engine whose list was forced is the one from then on.
    assert!(
        reconcile(&b, "", &list(Some("E"), &["live"], &["one", "two"]))
            .unwrap_err()
            .contains("records are of engine F")
    );
    assert_eq!(reconcile(&b, "", &list(Some("F"), &["live"], &["one", "two"])).unwrap(), (vec![], 0));
}

/// A network and an endpoint are 80 seconds old.
fn age(b: &Bench, name: &str, endpoint: &str) {
    let conn = rusqlite::Connection::open(b.store.path()).unwrap();
    for (table, name) in [("network_record", name), ("endpoint_record", endpoint)] {
        let sql = format!("UPDATE {table} SET created = created - 80000 WHERE id = ?1");
        assert_eq!(conn.execute(&sql, [id(name)]).unwrap(), 1);
    }
}

/// A list is made network by network: what came meanwhile is not on it.
#[test]
fn what_is_younger_than_the_list_stays() {
    let b = old();
    b.ok("CreateNetwork", &network("new", &["10.1.0.0/24"], &[]));
    b.run("four", "live", "192.168.111.4/24", "");
    age(&b, "new", "four");
    let mut known = list(Some("E"), &["live", "dead"], &["one", "two"]);
    known["age"] = json!(90_000);
    let dead = format!("remove endpoint {} no container uses its link", &id("three")[..12]);
    assert_eq!(reconcile(&b, "dry_run=true", &known).unwrap(), (vec![dead.clone()], 0));
    assert_eq!(reconcile(&b, "", &known).unwrap(), (vec![dead], 0));
    assert_eq!(b.store.read(|tx| Ok((tx.networks()?.len(), tx.endpoints()?.len()))).unwrap(), (3, 3));
    b.assert_consistent();
    known["age"] = json!(0);
    let both = [format!("endpoint {}", &id("four")[..12]), format!("network {}", &id("new")[..12])];
    assert_eq!(reconcile(&b, "", &known).unwrap().0, both.map(|what| format!("remove {what} unknown to Docker")));
    b.assert_consistent();
}

#[test]
fn a_list_without_a_network_that_is_younger_is_not_strange() {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("new", &["10.1.0.0/24"], &[]));
    b.run("one", "new", "10.1.0.2/24", "");
    age(&b, "new", "one");
    let mut known = list(Some("E"), &[], &[]);
    assert!(reconcile(&b, "", &known).unwrap_err().contains("none of the 1 recorded networks"));
    known["age"] = json!(90_000);
    assert_eq!(reconcile(&b, "", &known).unwrap(), (vec![], 0));
}

#[test]
fn a_dry_run_lists_exactly_what_the_run_does() {
    let nothing: fn(&Bench) = |_| {};
    let unplugged: fn(&Bench) = |b| {
        let ends: Vec<_> =
            b.kernel.state().links.into_iter().filter(|(_, link)| matches!(link, FakeLink::HostEnd(..))).collect();
        ends.iter().for_each(|((namespace, link), _)| b.kernel.delete_link(namespace, link).unwrap());
    };
    let rebooted: fn(&Bench) = |b| b.reboot();
    for (number, happened) in [nothing, unplugged, rebooted].into_iter().enumerate() {
        for (networks, endpoints) in [
            (&["live", "dead"][..], &["one", "two", "three"][..]),
            (&["live"], &["one", "two"]),
            (&["live"], &["two"]),
            (&["dead"], &[]),
        ] {
            let b = old();
            happened(&b);
            let known = list(Some("E"), networks, endpoints);
            let (rows, state) = (b.rows(), b.kernel.state());
            let said = reconcile(&b, "dry_run=true", &known);
            assert_eq!((b.rows(), b.kernel.state()), (rows, state));
            let rows = |done: Result<(Vec<String>, usize), String>| done.map(|(rows, _)| rows);
            assert_eq!(rows(said), rows(reconcile(&b, "", &known)), "{number} {networks:?} {endpoints:?}");
        }
    }
    let b = old();
    b.ok("CreateEndpoint", &endpoint("four", "live", "192.168.111.4/24", ""));
    assert_eq!(reconcile(&b, "", &list(Some("E"), &["live", "dead"], &["one", "two", "three"])).unwrap().0.len(), 0);
    assert_eq!(reconcile(&b, "", &list(Some("E"), &["live", "dead"], &["one", "two"])).unwrap().0.len(), 1);
}
