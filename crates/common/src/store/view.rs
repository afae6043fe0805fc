// SPDX-License-Identifier: Apache-2.0
//! The views, for lists.

use anyhow::Result;
use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde_json::{Map, Value};

use super::Tx;
use super::value::text;
use crate::types::TenantId;

impl Tx<'_> {
    /// The rows of a view of `views.sql`, of one tenant or of all, by column. NULL and empty texts are null.
    pub fn view(&self, name: &str, tenant: Option<&TenantId>) -> Result<Vec<Map<String, Value>>> {
        self.all(&format!("SELECT * FROM {name} WHERE ?1 IS NULL OR tenant = ?1"), [text(tenant)], row_of)
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
        text => text.as_str()?.into(),
    })
}
