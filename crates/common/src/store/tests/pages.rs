// SPDX-License-Identifier: Apache-2.0
//! Lists in pages: what they have, and what they cost.

use std::collections::BTreeSet;

use rusqlite::{StatementStatus, params_from_iter};
use serde_json::json;

use super::*;
use crate::store::view::{List, Part};

/// `?1` sets of addresses, of tenant red, of none, or of a tenant each; in each of them `?2` containers that publish a
/// port, and three VNICs of a launcher, the address of one of which is leased.
const ROWS: &str = "
CREATE TEMP TABLE one AS WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < ?1)
    SELECT i AS id, printf('n%04d', i) AS network, CASE WHEN i % 10 = 9 THEN NULL WHEN i % 4 = 0 THEN 'red' ELSE 't' || i END AS tenant,
           printf('10.%d.0.0/16', i) AS subnet FROM s;
CREATE TEMP TABLE each AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
    SELECT one.*, i AS n, printf('10.%d.%d.%d', id, i / 256, i % 256) AS address, printf('%s-%d', network, i) AS name FROM one, n;
INSERT INTO pool_set (id, scope, tenant, subnet, first, last) SELECT id, 'local', tenant, subnet, x'0a000000', x'0affffff' FROM one;
INSERT INTO pool_record (pool_id, set_id, created) SELECT 'p' || network, id, 0 FROM one;
INSERT INTO network_record (id, tenant, namespace, bridge, egress, vnics, dst_prefix, egress6, secured, icc, options, created)
    SELECT network, tenant, 'ciao', 'b', 'nat', 'auto', 'eth', 'nat', 1, 1, '{}', 0 FROM one;
INSERT INTO network_subnet (network, subnet, set_id, aux) SELECT network, subnet, id, '[\"10.9.9.9\"]' FROM one;
INSERT INTO address_record (set_id, key, address, pool, kind, held, granted)
    SELECT id, unhex(printf('0a%02x%04x', id % 256, n)), address, id, iif(n = 1, 'gateway', 'lease'), 1, 0 FROM each;
INSERT INTO vnic_record (id, owner, tenant, network, subnet, address, mac, namespace, bridge, container_link, host_link, created)
    SELECT 'v' || name, 'docker', tenant, network, subnet, address, '', 'ciao', 'b', 'c' || name, 'h' || name, 0 FROM each WHERE n > 5;
INSERT INTO endpoint_record (id, network, vnic, address, created) SELECT 'e' || name, network, 'v' || name, address, 0 FROM each WHERE n > 5;
INSERT INTO port_record (protocol, host_address, host_port, endpoint, namespace, address, container_port)
    SELECT 'tcp', '10.0.0.' || (id / 50), n + 1000 * (id % 50), 'e' || name, 'ciao', address, 80 FROM each WHERE n BETWEEN 6 AND 900;
INSERT INTO vnic_record (id, owner, tenant, instance, subnet, address, subnet6, address6, mac, bridge, container_link, host_link, created)
    SELECT 'l' || name, 'launcher', tenant, name, subnet, printf('10.%d.%d.0', id, iif(n = 4, 0, 200 + n)), 'fd00::/64',
           iif(n = 3, NULL, printf('fd00::%x:%x', id, n)), '', 'b', 'cl' || name, 'hl' || name, 0
    FROM each WHERE tenant NOT NULL AND n BETWEEN 3 AND 5;
UPDATE vnic_record SET address = printf('10.%s.0.4', substr(subnet, 4, instr(substr(subnet, 4), '.') - 1)) WHERE address LIKE '10.%.0.0';
";

fn filled(sets: usize, leases: usize) -> (TempDir, Store) {
    let (folder, store) = store();
    let conn = Connection::open(store.path()).unwrap();
    conn.execute_batch(&ROWS.replace("?1", &sets.to_string()).replace("?2", &leases.to_string())).unwrap();
    (folder, store)
}

const LISTS: [(&str, List); 5] =
    [("pool", POOLS), ("lease", LEASES), ("network", NETWORKS), ("endpoint", ENDPOINTS), ("port", PORTS)];

#[test]
fn the_pages_of_a_list_have_what_its_view_has() {
    let (_folder, store) = filled(30, 12);
    for (view, list) in LISTS {
        for tenant in [None, Some("red"), Some("t7"), Some("nobody")] {
            let filters: Vec<_> = tenant.map(|tenant| ("tenant", tenant.to_owned())).into_iter().collect();
            let whole = store.read(|tx| tx.view(view, tenant.map(|tenant| tenant.parse().unwrap()).as_ref())).unwrap();
            for limit in [1, 7, 1000] {
                let (mut rows, mut after) = (Vec::new(), None);
                loop {
                    let page = store.read(|tx| tx.page(list, &filters, after, limit)).unwrap().unwrap();
                    assert!(page.rows.len() == limit || page.next.is_none(), "{view}: {} rows", page.rows.len());
                    rows.extend(page.rows);
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                rows.iter_mut().for_each(|row| row.retain(|column, _| !["set_id", "key"].contains(&column.as_str())));
                assert_eq!(rows.len(), whole.len(), "{view} of {tenant:?} by {limit}");
                let text = |row| json!(row).to_string();
                let (rows, whole): (BTreeSet<_>, BTreeSet<_>) =
                    (rows.iter().map(text).collect(), whole.iter().map(text).collect());
                assert_eq!(rows, whole, "{view} of {tenant:?} by {limit}");
            }
        }
    }
    let foreign = store.read(|tx| tx.page(LEASES, &[], Some((0, vec![json!("n0001")])), 10)).unwrap();
    assert!(foreign.is_none(), "a cursor of the networks is none of the leases");
}

/// SQLite's steps for ten rows from the middle of this part of a list.
fn steps(store: &Store, part: &Part, filters: &[(&str, String)]) -> i32 {
    let reader = Connection::open(store.path()).unwrap();
    let run = |is_first, count, after: &[rusqlite::types::Value]| {
        let mut statement = reader.prepare(&part.sql(is_first, filters, count)).unwrap();
        let filters = filters.iter().map(|(_, value)| rusqlite::types::Value::Text(value.clone()));
        let columns: Vec<_> = part.key.iter().map(|key| statement.column_index(key).unwrap()).collect();
        let last = |row: &rusqlite::Row<'_>| columns.iter().map(|column| row.get(*column)).collect();
        let rows: Vec<Vec<_>> = statement
            .query_map(params_from_iter(after.iter().cloned().chain(filters)), last)
            .unwrap()
            .map(rusqlite::Result::unwrap)
            .collect();
        (statement.get_status(StatementStatus::VmStep), rows)
    };
    let (_, all) = run(true, 1_000_000, &[]);
    let (steps, found) = run(false, 10, &all[(all.len() - 1) / 2]);
    assert!(!found.is_empty() || all.len() == 1);
    steps
}

#[test]
fn a_page_costs_the_same_however_long_the_list_is() {
    let hosts = [(20, 60), (200, 60), (20, 600)].map(|(sets, leases)| filled(sets, leases));
    for (view, list) in LISTS {
        for part in list {
            for filters in [vec![], vec![("tenant", "t7".to_owned())]] {
                let [few, more_sets, more_leases] = [0, 1, 2].map(|nth| steps(&hosts[nth].1, part, &filters));
                println!("{view} {filters:?}: {few}, {more_sets}, {more_leases} steps");
                // A set of another tenant costs a few steps.
                assert!(more_sets < 2 * few + 2_000, "{view}: {few} steps, with ten times the networks {more_sets}");
                // Pools and networks count what is on them; of one tenant, all are looked at.
                let counts = ["pool", "network"].contains(&view) || !filters.is_empty() && view != "lease";
                assert!(
                    counts || more_leases < 2 * few,
                    "{view}: {few} steps, with ten times the leases {more_leases}"
                );
            }
        }
    }
}
