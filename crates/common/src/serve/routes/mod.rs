// SPDX-License-Identifier: Apache-2.0
//! A control socket as a table of routes: HTTP with JSON. Its OpenAPI document is made from the same table, so a route
//! without documentation cannot exist, nor the opposite.
//!
//! Statuses: 400 the request does not fit the document, 404 no such path or thing, 405 the path has other methods,
//! 409 a conflict with something that exists, 415 not JSON, 422 values that fit the document contradict each other,
//! 500 disk or kernel. An error is `{"error": sentence}`.

mod description;
mod document;
mod entry;
mod page;

use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::calls;
use super::handler::{ANSWER_WITHIN, BODY_LIMIT, Handler, JSON, Reply, Request};
use document::document;
pub use document::{About, DOCUMENT, Route};
use entry::Entry;
pub use entry::{Ask, Call, ErrorReply, Failure};
pub use page::{Cursor, Limit, page, words};

/// Routes with what they are called on.
pub struct Routes<D> {
    driver: D,
    about: About,
    table: fn() -> Vec<Route<D>>,
    entries: Vec<Entry<D>>,
}

impl<D: Send + Sync + 'static> Routes<D> {
    /// The routes of `table`, and that of the document.
    pub fn new(driver: D, about: About, table: fn() -> Vec<Route<D>>) -> Self {
        let entries = table().into_iter().map(Route::into_entry).collect();
        Self { driver, about, table, entries }
    }

    /// The OpenAPI document.
    pub fn document(&self) -> Vec<u8> {
        document(&self.about, (self.table)())
    }

    /// The requests, as calls are counted.
    pub fn methods(&self) -> impl Iterator<Item = String> {
        let document = ("GET", DOCUMENT);
        let requests = self.entries.iter().map(|entry| (entry.method, entry.path)).chain([document]);
        requests.map(|(method, path)| calls::name(method, path))
    }

    /// The entries for a path, with its parameter.
    fn entries<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a Entry<D>, String)> {
        self.entries.iter().filter_map(move |entry| Some((entry, parameter(entry.path, path)?)))
    }

    fn answer(&self, request: Request<'_>) -> Result<Reply, Failure> {
        if request.path == DOCUMENT && request.method == "GET" {
            return Ok(Reply::new(200, JSON, self.document()));
        }
        let found = self.entries(request.path).find(|(entry, _)| entry.method == request.method);
        let Some((entry, parameter)) = found else { return self.refuse_path(request) };
        if !entry.has_query && !request.query.is_empty() {
            return Err(Failure(400, format!("{} {} takes no parameters after \"?\"", entry.method, entry.path)));
        }
        (entry.call)(&self.driver, &Ask { request, parameter })
    }

    fn refuse_path(&self, request: Request<'_>) -> Result<Reply, Failure> {
        let (method, path) = (request.method, request.path);
        let mut allowed: Vec<_> = self.entries(path).map(|(entry, _)| entry.method).collect();
        if path == DOCUMENT {
            allowed.push("GET");
        }
        if allowed.is_empty() {
            return Err(Failure(404, format!("{method} {path} is unknown: see {DOCUMENT}")));
        }
        let allowed = allowed.join(", ");
        let mut reply = self.refuse(405, &format!("{path} does not support {method}: use {allowed}"));
        reply.headers.push(("allow", allowed));
        Ok(reply)
    }
}

/// The parameter of a path that a template fits; empty if that has none.
fn parameter(template: &str, path: &str) -> Option<String> {
    let mut found = String::new();
    let mut parts = path.trim_matches('/').split('/');
    for wanted in template.trim_matches('/').split('/') {
        let part = parts.next()?;
        if wanted.starts_with('{') && !part.is_empty() {
            found = percent_decode_str(part).decode_utf8_lossy().into_owned();
        } else if wanted != part {
            return None;
        }
    }
    parts.next().is_none().then_some(found)
}

impl<D: Send + Sync + 'static> Handler for Routes<D> {
    fn handle(&self, request: Request<'_>) -> Reply {
        self.answer(request).unwrap_or_else(|Failure(status, text)| self.refuse(status, &text))
    }

    fn keeps_connections(&self) -> bool {
        false
    }

    fn answer_within(&self, path: &str) -> Duration {
        self.entries(path).map(|(entry, _)| entry.within).max().unwrap_or(ANSWER_WITHIN)
    }

    fn body_limit(&self, path: &str) -> usize {
        self.entries(path).map(|(entry, _)| entry.body_limit).max().unwrap_or(BODY_LIMIT)
    }

    /// JSON, none, or the one that curl sends unless another is given.
    fn accepts(&self, content_type: &str) -> bool {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        ["", JSON, "application/x-www-form-urlencoded"].contains(&essence.as_str()) || essence.ends_with("+json")
    }

    fn refuse(&self, status: u16, text: &str) -> Reply {
        Reply::json(status, JSON, &ErrorReply { error: text.to_owned() })
    }
}

/// A reply.
pub fn json(status: u16, value: &impl Serialize) -> Result<Reply, Failure> {
    let body = serde_json::to_vec(value).map_err(|error| {
        Failure(500, format!("internal error (please report): the reply cannot be written: {error}"))
    })?;
    Ok(Reply::new(status, JSON, body))
}

#[cfg(test)]
mod tests;
