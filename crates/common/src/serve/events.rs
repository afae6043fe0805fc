// SPDX-License-Identifier: Apache-2.0
//! `GET /v1/events` of both daemons: one JSON object a line.

use std::sync::Arc;

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::handler::Reply;
use super::lines::{LINES, Lines};
use super::routes::{Ask, Failure};
use crate::store::{EventLog, Store};
use crate::types::TenantId;

/// Path of the request.
pub const EVENTS: &str = "/v1/events";

/// Clients at a time: each has a connection, and reads the database after each commit.
const CLIENTS: usize = 32;

/// Which events.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Limit to this tenant.
    tenant: Option<TenantId>,
    /// From this time on; UTC, unless it names a zone. Without it all that are kept, or with `follow=1` those to come.
    #[param(
        pattern = "^(now|[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9]))?)$",
        example = "2026-11-24T08:00:00Z"
    )]
    since: Option<String>,
    /// `1`: go on with those to come, until the client is gone.
    #[serde(default)]
    follow: Follow,
}

/// Whether a reply goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub enum Follow {
    /// It ends.
    #[default]
    #[serde(rename = "0")]
    No,
    /// It goes on.
    #[serde(rename = "1")]
    Yes,
}

/// The events of a log.
///
/// # Errors
/// A parameter is not valid; too many clients; the database cannot be read.
pub fn reply(store: &Arc<Store>, log: EventLog, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let EventQuery { tenant, since, follow } = ask.query()?;
    let follow = follow == Follow::Yes;
    let since = since.map(|since| store.read(|tx| tx.time(&since))).transpose().map_err(Failure::bad_request)?;
    if store.followers() >= CLIENTS {
        return Err(Failure(503, format!("{CLIENTS} clients read events: end one of them first")));
    }
    let committed = store.committed();
    let start = match since {
        None if follow => store.read(|tx| tx.newest_event(log))?,
        _ => 0,
    };
    let store = Arc::clone(store);
    let read = move |after| {
        let page = store.read(|tx| tx.events(log, after, since.unwrap_or(i64::MIN), tenant.as_ref()))?;
        let mut text = Vec::new();
        for event in &page.events {
            serde_json::to_writer(&mut text, event)?;
            text.push(b'\n');
        }
        Ok((follow || !text.is_empty()).then_some((text, page.last)))
    };
    Ok(Reply { lines: Some(Lines { start, read: Arc::new(read), committed }), ..Reply::new(200, LINES, Vec::new()) })
}
