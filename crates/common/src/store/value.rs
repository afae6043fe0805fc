// SPDX-License-Identifier: Apache-2.0
//! Representation of values in columns, and three ways to run a statement.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::Result;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Params, Row, RowIndex};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::file::explain;
use super::tx::Tx;
use crate::types::{AddressRange, Family, Mtu, Subnet, from_octets, number, octets};

/// A value stored as text.
pub(super) struct Text<T>(pub(super) T);

impl<T: Display> ToSql for Text<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.to_string().into())
    }
}

impl<T: FromStr> FromSql for Text<T>
where
    T::Err: Display,
{
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        text.parse().map(Text).map_err(|e| FromSqlError::Other(format!("column text {text:?}: {e}").into()))
    }
}

/// A value stored as JSON.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> ToSql for Json<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = serde_json::to_string(&self.0).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
        Ok(text.into())
    }
}

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        serde_json::from_str(text)
            .map(Json)
            .map_err(|e| FromSqlError::Other(format!("column text {text:?}: {e}").into()))
    }
}

/// An optional value, stored as text or NULL.
pub(super) fn text<T: Display>(value: Option<T>) -> Option<Text<T>> {
    value.map(Text)
}

/// The range between the addresses in the first two columns.
pub(super) fn range(row: &Row<'_>) -> rusqlite::Result<AddressRange> {
    Ok(AddressRange { first: row.get::<_, Key>(0)?.number, last: row.get::<_, Key>(1)?.number })
}

/// The value of a text column.
pub(super) fn get<T>(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    Ok(row.get::<_, Text<T>>(column)?.0)
}

/// The value of a text column that may be NULL.
pub(super) fn get_optional<T>(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<Option<T>>
where
    T: FromStr,
    T::Err: Display,
{
    Ok(row.get::<_, Option<Text<T>>>(column)?.map(|text| text.0))
}

/// An address stored as 4 or 16 bytes in network order, so that SQLite's order of blobs (`memcmp`) is that of
/// addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    family: Family,
    number: u128,
}

impl Key {
    pub(super) fn new(family: Family, number: u128) -> Self {
        Self { family, number }
    }

    pub(super) fn of(address: IpAddr) -> Self {
        Self { family: Family::of(address), number: number(address) }
    }

    pub(super) fn number(self) -> u128 {
        self.number
    }

    /// The first and the last address of a subnet.
    pub(super) fn ends(subnet: Subnet) -> [Self; 2] {
        let (family, range) = (subnet.family(), subnet.range());
        [range.first, range.last].map(|number| Self::new(family, number))
    }
}

impl ToSql for Key {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(octets(self.family.address(self.number)).into())
    }
}

impl FromSql for Key {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        let wrong = FromSqlError::InvalidBlobSize { expected_size: 16, blob_size: bytes.len() };
        from_octets(bytes).map(Self::of).ok_or(wrong)
    }
}

impl ToSql for Mtu {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.bytes().into())
    }
}

impl FromSql for Mtu {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        u32::column_result(value)?.try_into().map_err(|e| FromSqlError::Other(format!("{e}").into()))
    }
}

impl Tx<'_> {
    /// The first row, if any.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let mut statement = self.conn.prepare_cached(sql).map_err(explain)?;
        statement.query_row(params, map).optional().map_err(explain)
    }

    /// Whether there is a row.
    pub(super) fn exists(&self, sql: &str, params: impl Params) -> Result<bool> {
        Ok(self.first(sql, params, |_| Ok(()))?.is_some())
    }

    /// All rows.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.conn.prepare_cached(sql).map_err(explain)?;
        let rows = statement.query_map(params, map).map_err(explain)?;
        rows.collect::<rusqlite::Result<_>>().map_err(explain)
    }

    /// Changes rows.
    pub(super) fn change(&self, sql: &str, params: impl Params) -> Result<()> {
        self.changed(sql, params).map(drop)
    }

    /// Changes rows, and returns how many.
    pub(super) fn changed(&self, sql: &str, params: impl Params) -> Result<usize> {
        self.memory.forget_before(sql);
        let mut statement = self.conn.prepare_cached(sql).map_err(explain)?;
        statement.execute(params).map_err(explain)
    }
}
