// SPDX-License-Identifier: Apache-2.0
//! Lists of the store, in pages.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json as value;
use utoipa::ToSchema;

use super::{Failure, json};
use crate::serve::handler::Reply;
use crate::store::{self, List, Store};

/// The most items of a page that a request may ask for.
const MOST: usize = 10_000;

/// How many items a page has at most.
#[derive(Deserialize, ToSchema)]
#[schema(minimum = 1, maximum = 10_000, default = 1000)]
pub struct Limit(usize);

impl Default for Limit {
    fn default() -> Self {
        Self(1000)
    }
}

/// Where a page begins: the field `next` of the page before.
#[derive(Deserialize, ToSchema)]
#[schema(pattern = "^(?:[0-9a-f]{2})+$")]
pub struct Cursor(String);

/// A page of a list.
#[derive(Serialize)]
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

/// The reply with the rows of a list, as `T`, that have the values of `filters`: at most `limit` after the cursor
/// `after`.
pub fn page<T: Serialize + DeserializeOwned>(
    store: &Store,
    list: List,
    filters: impl IntoIterator<Item = (&'static str, Option<String>)>,
    (limit, after): (Option<Limit>, Option<Cursor>),
) -> Result<Reply, Failure> {
    let Limit(limit) = limit.unwrap_or_default();
    if !(1..=MOST).contains(&limit) {
        return Err(Failure(400, format!("limit={limit}: give 1 to {MOST}")));
    }
    let after = after.map(|Cursor(after)| decoded(&after)).transpose()?;
    let filters: Vec<_> = filters.into_iter().filter_map(|(column, value)| Some((column, value?))).collect();
    let found = store.read(|tx| tx.page(list, &filters, after, limit))?.ok_or_else(foreign)?;
    let items = found.rows.into_iter().map(|row| serde_json::from_value(row.into()));
    let items: Vec<T> = items.collect::<Result<_, _>>().map_err(|error| Failure::from(anyhow::Error::from(error)))?;
    let next = found.next.map(|cursor| value!(cursor).to_string().bytes().map(|byte| format!("{byte:02x}")).collect());
    json(200, &Page { items, next })
}

fn foreign() -> Failure {
    Failure(422, "after is not a cursor of this list: give the field \"next\" of the page before".to_owned())
}

/// What a cursor stands for: JSON in hexadecimal digits.
fn decoded(cursor: &str) -> Result<store::Cursor, Failure> {
    let byte = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes = cursor.as_bytes().chunks(2).map(byte).collect::<Option<Vec<_>>>();
    let is_hex = !cursor.is_empty() && cursor.len().is_multiple_of(2) && cursor.bytes().all(|b| b.is_ascii_hexdigit());
    let bytes = bytes.filter(|_| is_hex).ok_or_else(|| {
        Failure(400, format!("after={cursor:?} is not a cursor: give the field \"next\" of the page before"))
    })?;
    serde_json::from_slice(&bytes).map_err(|_| foreign())
}

/// A text of words with blanks between them, or null, as a list.
pub fn words<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    text.split_whitespace().map(|word| word.parse().map_err(D::Error::custom)).collect()
}
