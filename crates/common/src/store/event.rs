// SPDX-License-Identifier: Apache-2.0
//! Tables `endpoint_event` and `lease_event`: who had which address and host port when.
//!
//! An event is written in the transaction of the change that it describes. It is copied from the records there, so no
//! caller can forget it. Each daemon writes its own table: ciao-net what its endpoints have, ciao-ipam the leases that
//! are on no network of ciao-net. A lease of one that is would only repeat its endpoint's event without who has the
//! address, and write a third page.
//!
//! Times are the host's clock of that moment, to be compared with other logs; the order is that of the ids.

use std::net::IpAddr;

use anyhow::{Context, Result};
use rusqlite::{Params, params};
use serde_json::{Map, Value};

use super::clock::wall;
use super::file::explain;
use super::value::{Key, Text, text};
use super::view::row_of;
use super::{PoolSet, Port, Tx};
use crate::types::{EndpointId, TenantId};

/// Events that are kept of each table, the newest ones.
pub const EVENTS_KEPT: i64 = if cfg!(test) { 300 } else { 100_000 };
/// Older ones are deleted so many at a time: one at a time would write a second page with each event.
const DELETED_AT_ONCE: i64 = 100;
/// Rows of one read.
const PAGE: usize = 1000;

/// One of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventLog {
    /// ciao-net's: attached and detached endpoints, published and revoked ports.
    Endpoints,
    /// ciao-ipam's: granted and released leases.
    Leases,
}

/// Events read, and where the next read goes on.
#[derive(Debug)]
pub struct EventPage {
    /// By column; `time` is RFC 3339, UTC.
    pub events: Vec<Map<String, Value>>,
    /// Id of the last event that was looked at.
    pub last: i64,
}

impl EventLog {
    fn table(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoint_event",
            Self::Leases => "lease_event",
        }
    }

    fn columns(self) -> &'static str {
        match self {
            Self::Endpoints => {
                "tenant, instance, network, endpoint, vnic, address, address6, mac, protocol, host_address, host_port, container_port"
            }
            Self::Leases => "tenant, space, subnet, address",
        }
    }
}

impl Tx<'_> {
    /// Records that an endpoint is attached or detached; it is recorded.
    pub(super) fn record_attachment(&self, kind: &str, endpoint: &EndpointId) -> Result<()> {
        self.record(
            EventLog::Endpoints,
            "INSERT INTO endpoint_event (time, kind, tenant, instance, network, endpoint, vnic, address, address6, mac)
             SELECT ?1, ?2, v.tenant, v.instance, e.network, e.id, e.vnic, coalesce(e.address, v.address),
                    coalesce(e.address6, v.address6), v.mac
             FROM endpoint_record e LEFT JOIN vnic_record v ON v.id = e.vnic WHERE e.id = ?3",
            params![wall(), kind, Text(endpoint)],
        )
    }

    /// Records that a port was published; it is recorded.
    pub(super) fn record_published(&self, port: &Port) -> Result<()> {
        let one = "p.protocol = ?3 AND p.host_address = ?4 AND p.host_port = ?5";
        let params = params![wall(), "publish", Text(port.protocol), Text(port.host_address), port.host_port];
        self.record(EventLog::Endpoints, &of_ports(one), params)
    }

    /// Records that the ports of an endpoint are revoked; they are recorded.
    pub(super) fn record_revoked(&self, endpoint: &EndpointId) -> Result<()> {
        self.record(EventLog::Endpoints, &of_ports("p.endpoint = ?3"), params![wall(), "revoke", Text(endpoint)])
    }

    /// Records that an address is granted or released, if it is recorded as a lease and no network of ciao-net has it.
    pub(super) fn record_lease(&self, kind: &str, set: &PoolSet, address: IpAddr) -> Result<()> {
        // Asked first: a statement that inserts nothing costs as much as one that does.
        if self.use_of(set)?.network {
            return Ok(());
        }
        self.record(
            EventLog::Leases,
            "INSERT INTO lease_event (time, kind, tenant, space, subnet, address)
             SELECT ?1, ?2, s.tenant, s.scope, s.subnet, a.address
             FROM address_record a JOIN pool_set s ON s.id = a.set_id WHERE a.set_id = ?3 AND a.key = ?4 AND a.kind = 'lease'",
            params![wall(), kind, set.id, Key::of(address)],
        )
    }

    fn record(&self, log: EventLog, insert: &str, params: impl Params) -> Result<()> {
        let mut statement = self.conn.prepare_cached(insert).map_err(explain)?;
        let added = i64::try_from(statement.execute(params).map_err(explain)?)?;
        let last = self.conn.last_insert_rowid();
        if added > 0 && last / DELETED_AT_ONCE != (last - added) / DELETED_AT_ONCE {
            self.change(&format!("DELETE FROM {} WHERE id <= ?1", log.table()), [last - EVENTS_KEPT])?;
        }
        Ok(())
    }

    /// Id of the newest event; 0: there was none.
    pub fn newest_event(&self, log: EventLog) -> Result<i64> {
        let newest = format!("SELECT max(id) FROM {}", log.table());
        Ok(self.first(&newest, [], |row| row.get::<_, Option<i64>>(0))?.flatten().unwrap_or_default())
    }

    /// The next events after the one with id `after`, from a time on, of one tenant or of all.
    pub fn events(&self, log: EventLog, after: i64, since: i64, tenant: Option<&TenantId>) -> Result<EventPage> {
        let (table, columns) = (log.table(), log.columns());
        let newest = self.newest_event(log)?;
        let events = self.all(
            &format!(
                "SELECT id, strftime('%Y-%m-%dT%H:%M:%fZ', t.time / 1000.0, 'unixepoch') AS time, kind, {columns} FROM {table} t
                 WHERE id > ?1 AND t.time >= ?2 AND (?3 IS NULL OR tenant = ?3) ORDER BY id LIMIT {PAGE}"
            ),
            params![after, since, text(tenant)],
            |row| Ok((row.get::<_, i64>(0)?, row_of(row)?)),
        )?;
        // The end was reached: what is not of the tenant is not looked at again.
        let last = events.get(PAGE - 1).map_or(newest, |(id, _)| *id);
        Ok(EventPage { events: events.into_iter().map(|(_, event)| event).collect(), last })
    }

    /// A time given by a person, such as `2026-11-24` or `2026-11-24T08:00:00+01:00`, or `now`, in milliseconds since
    /// 1970; UTC, unless it names a zone.
    ///
    /// # Errors
    /// It is none.
    pub fn time(&self, text: &str) -> Result<i64> {
        // SQLite takes plain numbers for days.
        let is_time = text == "now" || text.contains('-');
        let time = "SELECT CAST(unixepoch(?1, 'subsec') * 1000 AS INTEGER)";
        let found =
            if is_time { self.first(time, [text], |row| row.get::<_, Option<i64>>(0))?.flatten() } else { None };
        found.with_context(|| {
            format!("{text:?} is not a valid time: give one such as 2026-11-24, 2026-11-24T08:00:00Z, or now")
        })
    }
}

/// Inserts an event for each of some ports.
fn of_ports(which: &str) -> String {
    format!(
        "INSERT INTO endpoint_event (time, kind, tenant, instance, network, endpoint, vnic, address, address6, mac, protocol,
                                     host_address, host_port, container_port)
         SELECT ?1, ?2, v.tenant, v.instance, e.network, e.id, e.vnic, iif(instr(p.address, ':'), NULL, p.address),
                iif(instr(p.address, ':'), p.address, NULL), v.mac, p.protocol, p.host_address, p.host_port, p.container_port
         FROM port_record p JOIN endpoint_record e ON e.id = p.endpoint LEFT JOIN vnic_record v ON v.id = e.vnic WHERE {which}"
    )
}
