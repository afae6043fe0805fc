// SPDX-License-Identifier: Apache-2.0
//! Who had which address and host port when.

use serde_json::{Value, json};

use super::*;
use crate::types::{EndpointId, VnicId};

fn endpoint_id(number: usize) -> EndpointId {
    format!("{number:064x}").parse().unwrap()
}

/// An endpoint of that network with a VNIC of Docker's.
fn attach(tx: &Tx<'_>, network: &Network, number: usize) -> Result<()> {
    let vnic = VnicId::random();
    let at = address("10.0.0.7");
    tx.insert_vnic(&Vnic {
        id: vnic.clone(),
        owner: Owner::Docker,
        tenant: network.tenant.clone(),
        network: Some(network.id.clone()),
        instance: Some("web".parse()?),
        v4: Some((subnet("10.0.0.0/24"), at)),
        v6: None,
        mac: "02:00:00:00:00:07".parse()?,
        gateway: None,
        mtu: None,
        namespace: network.namespace.clone(),
        bridge: network.bridge.clone(),
        allowed: Vec::new(),
        rate: None,
        network_name: None,
        container_link: format!("cv{vnic}").parse()?,
        host_link: format!("hv{vnic}").parse()?,
    })?;
    tx.insert_endpoint(&Endpoint {
        id: endpoint_id(number),
        network: network.id.clone(),
        vnic,
        address: Some(at),
        address6: None,
        interface: None,
        created: tx.now(),
        attached: None,
    })
}

fn port(network: &Network, number: usize, host_port: u16) -> Port {
    Port {
        protocol: Protocol::Tcp,
        host_address: address("0.0.0.0"),
        host_port,
        endpoint: endpoint_id(number),
        namespace: network.namespace.clone().unwrap(),
        address: address("10.0.0.7"),
        container_port: 80,
        inner_port: host_port,
    }
}

fn all(store: &Store, log: EventLog) -> Vec<Value> {
    let events = store.read(|tx| tx.events(log, 0, 0, None)).unwrap().events;
    events.into_iter().map(Value::Object).collect()
}

fn kinds(store: &Store, log: EventLog) -> Vec<String> {
    all(store, log).iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_an_endpoint_had_is_recorded_with_its_change_and_undone_with_it() {
    let (_folder, store) = store();
    let (_, network) = network(&store);
    let of = network.clone();
    store.write(move |tx| attach(tx, &of, 1)).unwrap();
    let of = network.clone();
    store.write(move |tx| tx.insert_port(&port(&of, 1, 8080))).unwrap();
    let of = network.clone();
    let failed: Result<()> = store.write(move |tx| {
        tx.insert_port(&port(&of, 1, 8081))?;
        bail!("no")
    });
    assert!(failed.is_err());
    // The ports of an endpoint end with it.
    store.write(|tx| tx.delete_endpoint(&endpoint_id(1))).unwrap();
    let events = all(&store, EventLog::Endpoints);
    assert_eq!(kinds(&store, EventLog::Endpoints), ["attach", "publish", "revoke", "detach"]);
    let time = events[1]["time"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.len() == "2026-11-24T08:00:00.123Z".len(), "{time}");
    let expected = json!({
        "id": 2, "time": time, "kind": "publish", "tenant": "red", "instance": "web", "network": network.id,
        "endpoint": endpoint_id(1), "vnic": events[0]["vnic"], "address": "10.0.0.7", "address6": null,
        "mac": "02:00:00:00:00:07", "protocol": "tcp", "host_address": "0.0.0.0", "host_port": 8080, "container_port": 80,
    });
    assert_eq!(events[1], expected);
    assert_eq!((&events[3]["address"], &events[3]["host_port"]), (&json!("10.0.0.7"), &Value::Null));
}

#[test]
fn a_lease_is_recorded_where_no_network_of_ciao_net_has_it() {
    let (_folder, store) = store();
    let (known, _) = network(&store);
    let other = store
        .write(|tx| {
            let set = tx.insert_pool_set(Scope::Local, Some(&"blue".parse()?), subnet("10.0.0.0/24"))?;
            tx.insert_pool(&set, &AddressSpace::of(Scope::Local), None, None, false)
        })
        .unwrap();
    for pool in [&known, &other] {
        let pool = pool.clone();
        store
            .write(move |tx| {
                for (text, kind) in [("10.0.0.1", AddressKind::Gateway), ("10.0.0.7", AddressKind::Lease)] {
                    tx.take(&pool.set, address(text))?;
                    tx.grant(&pool, address(text), kind)?;
                }
                tx.regrant(&pool, address("10.0.0.7"), AddressKind::Lease)?;
                for text in ["10.0.0.1", "10.0.0.7"] {
                    tx.delete_address(&pool.set, address(text))?;
                    tx.give(&pool.set, address(text))?;
                }
                // The last lease goes with its pool.
                tx.take(&pool.set, address("10.0.0.9"))?;
                tx.grant(&pool, address("10.0.0.9"), AddressKind::Lease)?;
                tx.delete_pool(&pool).map(drop)
            })
            .unwrap();
    }
    let events = all(&store, EventLog::Leases);
    let kinds = kinds(&store, EventLog::Leases);
    assert_eq!(kinds, ["lease", "release", "lease", "release", "lease", "release"]);
    let first = json!({
        "id": 1, "time": events[0]["time"], "kind": "lease", "tenant": "blue", "space": "local",
        "subnet": "10.0.0.0/24", "address": "10.0.0.7",
    });
    assert_eq!(events[0], first);
    assert_eq!(all(&store, EventLog::Endpoints), [] as [Value; 0]);
}

#[test]
fn the_newest_events_stay_and_an_event_writes_one_page_of_its_own() {
    let (folder, store) = store();
    let (_, network) = network(&store);
    store.write(move |tx| attach(tx, &network, 1)).unwrap();
    let publish = |store: &Store| store.write(|tx| tx.record_attachment("attach", &endpoint_id(1))).unwrap();
    let (mut pages, mut written) = (pages_of(&folder), Vec::new());
    for _ in 0..2 * EVENTS_KEPT {
        publish(&store);
        let now = pages_of(&folder);
        written.push(now.saturating_sub(pages));
        pages = now;
    }
    let kept = all(&store, EventLog::Endpoints);
    let ids: Vec<_> = kept.iter().map(|event| event["id"].as_i64().unwrap()).collect();
    assert_eq!(*ids.last().unwrap(), 2 * EVENTS_KEPT + 1);
    assert!((EVENTS_KEPT..EVENTS_KEPT + 100).contains(&i64::try_from(ids.len()).unwrap()), "{ids:?}");
    // A full page begins another one, and old rows are deleted a hundred at a time.
    let (most, usual) = (*written.iter().max().unwrap(), written.iter().filter(|pages| **pages == 1).count());
    assert!(most <= 20 && usual * 10 > written.len() * 8, "at most {most}; one page: {usual} of {}", written.len());
}

#[test]
fn events_are_read_in_pages_from_a_time_on_and_by_tenant() {
    let (_folder, store) = store();
    let (_, network) = network(&store);
    store.write(move |tx| attach(tx, &network, 1)).unwrap();
    let read = |after, since, tenant: &str| {
        let tenant = tenant.parse().ok();
        let page = store.read(|tx| tx.events(EventLog::Endpoints, after, since, tenant.as_ref())).unwrap();
        (page.events.len(), page.last)
    };
    assert_eq!(
        (read(0, 0, ""), read(0, 0, "red"), read(0, 0, "blue"), read(1, 0, "")),
        ((1, 1), (1, 1), (0, 1), (0, 1))
    );
    let time = |text: &str| store.read(|tx| tx.time(text));
    assert_eq!(time("2026-11-24T08:00:00.5+01:00").unwrap(), 1_795_503_600_500);
    assert_eq!(time("2026-11-24").unwrap(), 1_795_478_400_000);
    assert_eq!((read(0, time("now").unwrap() - 60_000, "").0, read(0, time("now").unwrap() + 60_000, "").0), (1, 0));
    for wrong in ["", "5", "yesterday", "2026-13-01", "24.11.2026"] {
        let error = time(wrong).unwrap_err().to_string();
        assert!(error.contains(&format!("{wrong:?} is not a valid time")), "{error}");
    }
}
