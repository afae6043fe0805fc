// SPDX-License-Identifier: Apache-2.0
//! What is promised of every call: it is answered in time; an error is a sentence in the driver's own form and changes
//! nothing; the store's invariants hold; records and kernel agree; no address is given twice.

use std::collections::BTreeSet;
use std::path::Path;

use ciao_common::api::{self, ipam};
use ciao_common::serve::server::Reply;
use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;

use crate::daemons::Socket;

/// The tables that a call may change.
const TABLES: [&str; 11] = [
    "pool_set",
    "pool_record",
    "address_record",
    "free_range",
    "network_record",
    "network_subnet",
    "network_route",
    "vnic_record",
    "endpoint_record",
    "uplink_record",
    "port_record",
];

/// The file, as somebody else sees it.
pub(crate) struct Records(Option<Connection>);

impl Records {
    pub(crate) fn open(database: &Path) -> Self {
        Self(Some(Connection::open(database).expect("open the database")))
    }

    pub(crate) fn close(&mut self) {
        self.0 = None;
    }

    fn conn(&self) -> &Connection {
        self.0.as_ref().expect("it is open")
    }

    /// Every row of every table, as text, without what is being deleted.
    pub(crate) fn all(&self) -> Vec<String> {
        let mut found = Vec::new();
        for table in TABLES {
            let going = if table == "vnic_record" { "WHERE state = 'live'" } else { "" };
            let mut statement = self.conn().prepare_cached(&format!("SELECT * FROM {table} {going}")).expect("a table");
            let columns = statement.column_count();
            let mut rows = statement.query([]).expect("rows");
            while let Some(row) = rows.next().expect("a row") {
                let cells = (0..columns).map(|column| format!("{:?}", row.get_ref(column).expect("a column")));
                found.push(format!("{table}: {}", cells.collect::<Vec<_>>().join(" ")));
            }
        }
        found
    }

    /// Whether links are being deleted in the background.
    pub(crate) fn are_deleting(&self) -> bool {
        let mut statement =
            self.conn().prepare_cached("SELECT 1 FROM vnic_record WHERE state = 'deleting'").expect("a table");
        statement.exists([]).expect("rows")
    }

    /// Endpoints are an hour older than they were.
    pub(crate) fn age_endpoints(&self) {
        self.conn().execute("UPDATE endpoint_record SET created = created - 3600000", []).expect("age endpoints");
    }

    /// All is as young as if it had been made now.
    pub(crate) fn renew(&self, now: i64) {
        for (table, column) in [
            ("address_record", "granted"),
            ("pool_record", "created"),
            ("pool_record", "requested"),
            ("network_record", "created"),
            ("vnic_record", "created"),
            ("endpoint_record", "created"),
        ] {
            self.conn().execute(&format!("UPDATE {table} SET {column} = ?1"), [now]).expect("renew");
        }
    }

    /// SQLite's own checks.
    pub(crate) fn check_file(&self) {
        let said: String = self.conn().query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
        assert_eq!(said, "ok");
        let mut broken = self.conn().prepare("PRAGMA foreign_key_check").expect("a check");
        assert!(!broken.exists([]).expect("rows"), "a foreign key leads nowhere");
    }

    /// The set of addresses that a pool is on.
    fn set_of(&self, pool: &str) -> Option<i64> {
        let mut statement =
            self.conn().prepare_cached("SELECT set_id FROM pool_record WHERE pool_id = ?1").expect("a table");
        statement.query_row([pool], |row| row.get(0)).optional().expect("a row")
    }

    /// Whether a network or VNIC is on a bridge of the host's.
    pub(crate) fn use_host_bridge(&self, bridge: &str) -> bool {
        let query = "SELECT 1 FROM network_record WHERE namespace IS NULL AND bridge = ?1
                     UNION SELECT 1 FROM vnic_record WHERE namespace IS NULL AND bridge = ?1";
        self.conn().prepare_cached(query).expect("tables").exists([bridge]).expect("rows")
    }

    fn is_global(&self, set: i64) -> bool {
        let query = "SELECT 1 FROM pool_set WHERE id = ?1 AND scope = 'global'";
        self.conn().prepare_cached(query).expect("a table").exists([set]).expect("rows")
    }

    fn is_restored(&self, set: i64) -> bool {
        let query = "SELECT 1 FROM pool_set WHERE id = ?1 AND (restoring IS NOT NULL OR confirmed = 1)";
        self.conn().prepare_cached(query).expect("a table").exists([set]).expect("rows")
    }

    fn is_held(&self, set: i64, address: &str) -> bool {
        let query = "SELECT 1 FROM address_record WHERE set_id = ?1 AND address = ?2 AND held > 0";
        self.conn().prepare_cached(query).expect("a table").exists((set, address)).expect("rows")
    }
}

/// The addresses that were answered and not released, each with the pool that it was granted through. Sets are no key:
/// one that was requested without its tenant is merged into the tenant's.
#[derive(Clone, Default)]
pub(crate) struct Ledger(BTreeSet<(String, String)>);

impl Ledger {
    /// Takes down what a call to ciao-ipam changed, and that it gave nothing that somebody holds.
    pub(crate) fn note(&mut self, records: &Records, target: &str, body: &[u8], status: u16, reply: &Value) {
        if status != 200 {
            return;
        }
        match target {
            "/IpamDriver.RequestAddress" => {
                let request: ipam::RequestAddress = api::parse(body).expect("it was answered");
                let pool = request.pool_id.to_string();
                let set = records.set_of(&pool).expect("an address is of a pool");
                let address = reply["Address"].as_str().and_then(|cidr| cidr.split('/').next()).expect("an address");
                // A gateway is shared, and the schema knows how often.
                if request.options.text(ipam::ADDRESS_TYPE).as_deref() != Some(ipam::GATEWAY) {
                    // A swarm's leader requests again what earlier ones were granted.
                    let again = request.address.is_some() && records.is_global(set);
                    let twice = |(pool, held): &(String, String)| held == address && records.set_of(pool) == Some(set);
                    assert!(again || !self.0.iter().any(twice), "address {address} of set {set} is given twice");
                    self.0.insert((pool, address.to_owned()));
                }
            }
            "/IpamDriver.ReleaseAddress" => {
                let request: ipam::ReleaseAddress = api::parse(body).expect("it was answered");
                let set = records.set_of(&request.pool_id);
                let address = request.address.to_string();
                self.0.retain(|(pool, held)| *held != address || set.is_none() || records.set_of(pool) != set);
            }
            "/IpamDriver.ReleasePool" => {
                let request: ipam::ReleasePool = api::parse(body).expect("it was answered");
                if records.set_of(&request.pool_id).is_none() {
                    self.0.retain(|(pool, _)| *pool != request.pool_id);
                }
            }
            _ => {}
        }
    }

    /// What was answered is held.
    pub(crate) fn check(&self, records: &Records) {
        for (pool, address) in &self.0 {
            // What a new leader does not request again goes in the end.
            let held =
                records.set_of(pool).is_some_and(|set| records.is_held(set, address) || records.is_restored(set));
            assert!(held, "{address} was answered for pool {pool} and is free");
        }
    }
}

/// A reply in its driver's form. Answers its value.
pub(crate) fn check_reply(socket: Socket, reply: &Reply, what: &str) -> Value {
    assert!([200, 201, 400, 404, 405, 409, 422, 500].contains(&reply.status), "{what}: status {}", reply.status);
    if reply.status == 404 && socket != Socket::Control {
        assert!(reply.body.is_empty(), "{what}: an unknown method is a bare 404");
        return Value::Null;
    }
    let value: Value = serde_json::from_slice(&reply.body).unwrap_or_else(|error| panic!("{what}: no JSON: {error}"));
    if reply.status >= 400 {
        let key = if socket == Socket::Control { "error" } else { "Err" };
        let sentence = value[key].as_str().unwrap_or_default();
        assert!(!sentence.trim().is_empty(), "{what}: an error without a sentence");
        assert!(!sentence.contains("internal error"), "{what}");
        // What SQLite says by itself tells nobody what to do.
        assert!(!sentence.contains("constraint failed"), "{what}");
    }
    value
}
