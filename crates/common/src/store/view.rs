// SPDX-License-Identifier: Apache-2.0
//! The views, for lists.

use anyhow::Result;
use rusqlite::types::ValueRef;
use rusqlite::{Row, params_from_iter};
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

/// Some of the rows of a view, in the order of its key.
pub struct Page {
    /// By column, as of [`Tx::view`].
    pub rows: Vec<Map<String, Value>>,
    /// The key of the last one, if others follow.
    pub next: Option<String>,
}

impl Tx<'_> {
    /// The first `limit` rows of a view after the key `after` that have all these values. `key` are columns that no two
    /// rows have in common.
    pub fn page(
        &self,
        view: &str,
        key: &[&str],
        filters: &[(&str, String)],
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page> {
        let key =
            key.iter().map(|column| format!("coalesce({column}, '')")).collect::<Vec<_>>().join(" || char(31) || ");
        let mut sql = format!("SELECT *, {key} AS page_key FROM {view} WHERE page_key > ?");
        filters.iter().for_each(|(column, _)| sql.push_str(&format!(" AND {column} = ?")));
        sql.push_str(&format!(" ORDER BY page_key LIMIT {}", limit + 1));
        let values = [after.unwrap_or_default()].into_iter().chain(filters.iter().map(|(_, value)| value.as_str()));
        let mut rows = self.all(&sql, params_from_iter(values), row_of)?;
        let keys = rows.iter_mut().map(|row| row.remove("page_key")).collect::<Vec<_>>();
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = keys.into_iter().nth(limit.saturating_sub(1)).flatten();
        let next = last.filter(|_| more).and_then(|key| key.as_str().map(str::to_owned));
        Ok(Page { rows, next })
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
