// SPDX-License-Identifier: Apache-2.0
//! What serves the requests of a socket, without HTTP.

use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Builder;

use super::lines::Lines;

/// The content type of replies that are not Docker's.
pub const JSON: &str = "application/json";

/// Maximum size of a request body in bytes, far above that of any call, unless a handler has another one for a path.
pub const BODY_LIMIT: usize = 1 << 20;
/// Every call of the engine gets a reply within this time, if only a timeout error.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(4500);

/// A complete request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`, `POST`, `DELETE`, …
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The query after `?`, or empty.
    pub query: &'a str,
    /// At most [`Handler::body_limit`] bytes.
    pub body: &'a [u8],
}

/// A reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status code.
    pub status: u16,
    /// Content type of the body; empty: not sent.
    pub content_type: &'static str,
    /// The body, possibly empty.
    pub body: Vec<u8>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// What the body goes on with.
    pub lines: Option<Lines>,
}

impl Reply {
    /// With a body that ends, without further headers.
    pub fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status, content_type, body, headers: Vec::new(), lines: None }
    }

    /// `value` as JSON.
    pub fn json(status: u16, content_type: &'static str, value: &impl Serialize) -> Self {
        Self::new(status, content_type, serde_json::to_vec(value).unwrap_or_default())
    }

    /// An empty 404: to the engine, the method is not implemented.
    pub fn not_found() -> Self {
        Self::new(404, "", Vec::new())
    }
}

/// A call that was begun without blocking.
pub enum Call {
    /// Complete.
    Done(Reply),
    /// Completes in the background.
    Pending(Pin<Box<dyn Future<Output = Reply>>>),
    /// To be run on a thread that may block.
    Blocking(Box<dyn FnOnce() -> Reply + Send>),
    /// Not begun: [`Handler::handle`] is to be called on a thread that may block.
    Deferred,
}

impl Call {
    /// The reply. Blocks the calling thread, which must not belong to an async runtime.
    pub fn wait(self) -> Reply {
        match self {
            Self::Done(reply) => reply,
            Self::Pending(reply) => {
                Builder::new_current_thread().build().expect("a runtime without I/O").block_on(reply)
            }
            Self::Blocking(call) => call(),
            Self::Deferred => Reply::not_found(),
        }
    }
}

/// Serves the requests of one socket.
pub trait Handler: Send + Sync + 'static {
    /// Serves a request. May block on disk and kernel.
    fn handle(&self, request: Request<'_>) -> Reply;

    /// Begins to serve a request. Must not block: one thread begins all requests.
    fn begin(&self, _request: Request<'_>) -> Call {
        Call::Deferred
    }

    /// Timeout of requests for a path.
    fn answer_within(&self, _path: &str) -> Duration {
        ANSWER_WITHIN
    }

    /// Maximum size of a request body for a path, in bytes.
    fn body_limit(&self, _path: &str) -> usize {
        BODY_LIMIT
    }

    /// Whether connections stay open between requests, as the engine's do. Otherwise a connection serves one request,
    /// whose head must arrive within 10 seconds.
    fn keeps_connections(&self) -> bool {
        true
    }

    /// Whether a body of that content type, which may be empty, is read.
    fn accepts(&self, _content_type: &str) -> bool {
        true
    }

    /// The reply for an error of the transport (body too large, timeout), in the format of this socket.
    fn refuse(&self, status: u16, sentence: &str) -> Reply;
}
