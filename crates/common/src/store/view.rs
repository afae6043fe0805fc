// SPDX-License-Identifier: Apache-2.0
//! The views, for lists: whole, or in pages.
//!
//! A page is read in the order of an index, from its begin on, so its cost does not grow with the list.

use anyhow::{Context, Result};
use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Row, params, params_from_iter};
use serde_json::{Map, Value};

use super::Tx;
use super::value::{Key, text};
use crate::types::TenantId;

/// A list in pages: the rows of one view, then those of the next.
pub type List = &'static [Part];

/// The part of a list that is in one view.
pub struct Part {
    view: &'static str,
    /// Columns that no two rows have in common, in the order of an index.
    pub(super) key: &'static [&'static str],
    /// Whether a row is after the key `?1`, `?2`, …, so that the index finds the first one.
    after: &'static str,
    /// The rows that are recorded leases are left out.
    unrecorded: bool,
}

const fn part(view: &'static str, key: &'static [&'static str], after: &'static str) -> Part {
    Part { view, key, after, unrecorded: false }
}

/// Pools that Docker requested.
pub const POOLS: List = &[part("pool", &["pool_id"], "pool_id > ?1")];
/// Addresses that are granted or reserved.
pub const LEASES: List = &[
    part("recorded_lease", &["set_id", "key"], "set_id >= ?1 AND key > iif(set_id = ?1, ?2, x'')"),
    Part { unrecorded: true, ..part("vnic_lease", VNIC_LEASE, "(tenant, subnet, address) > (?1, ?2, ?3)") },
    Part { unrecorded: true, ..part("vnic_lease6", VNIC_LEASE, "(tenant, subnet, address) > (?1, ?2, ?3)") },
];
const VNIC_LEASE: &[&str] = &["tenant", "subnet", "address"];
/// Docker's networks of driver ciao-net, and a tenant's on other hosts.
pub const NETWORKS: List = &[part("network", &["network"], "network > ?1")];
/// Attachments of containers to networks.
pub const ENDPOINTS: List = &[part("endpoint", &["endpoint"], "endpoint > ?1")];
/// Published ports.
pub const PORTS: List = &[part("port", PORT, "(protocol, host_address, host_port) > (?1, ?2, ?3)")];
const PORT: &[&str] = &["protocol", "host_address", "host_port"];

/// Some of the rows of a list, in its order.
pub struct Page {
    /// By column, as of [`Tx::view`].
    pub rows: Vec<Map<String, Value>>,
    /// The cursor of the last one, if others follow.
    pub next: Option<Cursor>,
}

/// Where a page ends: a part of the list by its number, and the key of a row.
pub type Cursor = (usize, Vec<Value>);

impl Part {
    /// The first `count` rows, or those after a key, with such values in these columns.
    pub(super) fn sql(&self, is_first: bool, filters: &[(&str, String)], count: usize) -> String {
        let after = if is_first { "1" } else { self.after };
        let filters: String = filters.iter().map(|(column, _)| format!(" AND {column} = ?")).collect();
        format!("SELECT * FROM {} WHERE {after}{filters} ORDER BY {} LIMIT {count}", self.view, self.key.join(", "))
    }
}

impl Tx<'_> {
    /// The rows of a view of `views.sql`, of one tenant or of all, by column. NULL and empty texts are null.
    pub fn view(&self, name: &str, tenant: Option<&TenantId>) -> Result<Vec<Map<String, Value>>> {
        match tenant {
            None => self.all(&format!("SELECT * FROM {name}"), [], row_of),
            some => self.all(&format!("SELECT * FROM {name} WHERE tenant = ?1"), [text(some)], row_of),
        }
    }

    /// The first `limit` rows of a list after a cursor that have all these values; `None`: the cursor is of another
    /// list.
    pub fn page(
        &self,
        list: List,
        filters: &[(&str, String)],
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Option<Page>> {
        let (mut nth, mut after) = after.map_or((0, None), |(nth, key)| (nth, Some(key)));
        if after.as_ref().is_some_and(|key| list.get(nth).is_none_or(|part| part.key.len() != key.len())) {
            return Ok(None);
        }
        let mut rows = Vec::new();
        while rows.len() <= limit
            && let Some(part) = list.get(nth)
        {
            let found = self.rows_after(part, after.take(), filters, limit + 1)?;
            let is_last = found.len() <= limit;
            after = found.last().map(|row| key_of(part, row));
            for row in found {
                if !part.unrecorded || !self.is_recorded_lease(&row)? {
                    rows.push(((nth, key_of(part, &row)), row));
                }
            }
            nth += usize::from(is_last);
            after = after.filter(|_| !is_last);
        }
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().map(|(cursor, _)| cursor.clone()).filter(|_| more);
        Ok(Some(Page { rows: rows.into_iter().map(|(_, row)| row).collect(), next }))
    }

    fn rows_after(
        &self,
        part: &Part,
        after: Option<Vec<Value>>,
        filters: &[(&str, String)],
        count: usize,
    ) -> Result<Vec<Map<String, Value>>> {
        let sql = part.sql(after.is_none(), filters, count);
        let after = after.into_iter().flatten().map(sql_of);
        let values = after.chain(filters.iter().map(|(_, value)| Sql::Text(value.clone())));
        self.all(&sql, params_from_iter(values), row_of)
    }

    /// Whether ciao-ipam has recorded a launcher's address: it is listed as that.
    fn is_recorded_lease(&self, row: &Map<String, Value>) -> Result<bool> {
        let of = |column: &str| row.get(column).and_then(Value::as_str).context("a VNIC has no address");
        self.exists(
            "SELECT 1 FROM pool_set s JOIN address_record a ON a.set_id = s.id
             WHERE s.scope = 'local' AND s.tenant = ?1 AND s.subnet = ?2 AND a.key = ?3",
            params![of("tenant")?, of("subnet")?, Key::of(of("address")?.parse()?)],
        )
    }
}

/// A row by column.
pub(super) fn row_of(row: &Row<'_>) -> rusqlite::Result<Map<String, Value>> {
    row.as_ref().column_names().map(|name| Ok((name.to_owned(), json(row.get_ref(name)?)?))).collect()
}

fn json(value: ValueRef<'_>) -> rusqlite::Result<Value> {
    Ok(match value {
        ValueRef::Integer(number) => number.into(),
        ValueRef::Null | ValueRef::Text(b"") => Value::Null,
        ValueRef::Blob(bytes) => bytes.into(),
        text => text.as_str()?.into(),
    })
}

fn key_of(part: &Part, row: &Map<String, Value>) -> Vec<Value> {
    part.key.iter().filter_map(|column| row.get(*column).cloned()).collect()
}

/// As [`json`] made it.
fn sql_of(value: Value) -> Sql {
    match value {
        Value::Number(number) => number.as_i64().map_or(Sql::Null, Sql::Integer),
        Value::String(text) => Sql::Text(text),
        Value::Array(bytes) => {
            let byte = |value: &Value| value.as_u64().and_then(|value| u8::try_from(value).ok());
            Sql::Blob(bytes.iter().filter_map(byte).collect())
        }
        _ => Sql::Null,
    }
}
