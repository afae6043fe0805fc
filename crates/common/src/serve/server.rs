// SPDX-License-Identifier: Apache-2.0
//! HTTP over Unix sockets: reads a request, passes it to a [`Handler`], sends the reply.
//!
//! The engine sends no Content-Type, reuses idle connections after a long time, and waits for a reply without a timeout;
//! so no content type is required, no idle connection is closed, and every call gets a reply within [`ANSWER_WITHIN`].
//! Handlers do not depend on HTTP, and tests call them without a socket.

use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::http::{KeepAlive, StatusCode};
use actix_web::rt::System;
use actix_web::rt::signal::unix::{SignalKind, signal};
use actix_web::rt::time::{sleep, timeout};
use actix_web::web::{self, Bytes, BytesMut};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use anyhow::{Context, Result};
use futures_core::Stream;

/// Maximum size of a request body in bytes, far above that of any call.
pub const BODY_LIMIT: usize = 1 << 20;
/// A larger body is read and discarded, so that the client sees the error, up to this size.
const DISCARD_LIMIT: usize = 64 << 20;
/// Every call of the engine gets a reply within this time, if only a timeout error.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(4500);
/// How long the shutdown waits for requests in flight.
const DRAIN: Duration = Duration::from_secs(10);
/// Without a request in flight for this time, no accepted connection has an unread request, even on a busy machine.
const QUIET: Duration = Duration::from_millis(250);
const TICK: Duration = Duration::from_millis(20);
/// Concurrent blocking calls. They wait for the disk and the kernel's RTNL lock, so more threads would not help.
const BLOCKING_THREADS: usize = 8;

const PANICKED: &str = "internal error (please report): the call panicked, see the log";

/// A complete request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`, `POST`, `DELETE`, …
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The query after `?`, or empty.
    pub query: &'a str,
    /// At most [`BODY_LIMIT`] bytes.
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
}

impl Reply {
    /// An empty 404: to the engine, the method is not implemented.
    #[must_use]
    pub fn not_found() -> Self {
        Self { status: 404, content_type: "", body: Vec::new() }
    }
}

/// State of a call that was begun without blocking.
pub enum Begun {
    /// Complete.
    Done(Reply),
    /// Completes in the background.
    Waiting(Pin<Box<dyn Future<Output = Reply>>>),
    /// Not begun: [`Handler::handle`] is to be called on a thread that may block.
    MayBlock,
}

/// Serves the requests of one socket.
pub trait Handler: Send + Sync + 'static {
    /// Serves a request. May block on disk and kernel.
    fn handle(&self, request: Request<'_>) -> Reply;

    /// Begins to serve a request. Must not block: one thread begins all requests.
    fn begin(&self, _request: Request<'_>) -> Begun {
        Begun::MayBlock
    }

    /// Timeout of requests for a path.
    fn answer_within(&self, _path: &str) -> Duration {
        ANSWER_WITHIN
    }

    /// The reply for an error of the transport (body too large, timeout), in the format of this socket.
    fn refuse(&self, status: u16, sentence: &str) -> Reply;
}

/// Requests in flight, and whether the process is shutting down.
#[derive(Default)]
struct Progress {
    calls: AtomicUsize,
    /// Requests since the start.
    begun: AtomicUsize,
    draining: AtomicBool,
}

/// Serves each socket with its handler until SIGTERM or SIGINT, then completes the requests in flight. `ready` is called
/// when all sockets are being served, `stopping` when the shutdown begins.
///
/// # Errors
/// The runtime or a socket fails.
pub fn serve(
    services: Vec<(UnixListener, Arc<dyn Handler>)>,
    ready: impl FnOnce(),
    stopping: impl FnOnce(),
) -> Result<()> {
    System::new().block_on(async move {
        let progress = Arc::new(Progress::default());
        let mut handles = Vec::new();
        let mut servers = Vec::new();
        for (listener, handler) in services {
            let server = start(listener, handler, &progress)?;
            handles.push(server.handle());
            servers.push(actix_web::rt::spawn(server));
        }
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        ready();
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        stopping();
        log::info!("{name} received, draining {} requests", progress.calls.load(Ordering::Relaxed));
        for handle in &handles {
            handle.pause().await;
        }
        drain(&progress).await;
        for handle in &handles {
            handle.stop(false).await;
        }
        for server in servers {
            server.await.context("join a server")?.context("serve a socket")?;
        }
        Ok(())
    })
}

fn start(
    listener: UnixListener,
    handler: Arc<dyn Handler>,
    progress: &Arc<Progress>,
) -> Result<actix_web::dev::Server> {
    let progress = Arc::clone(progress);
    let server = HttpServer::new(move || {
        let state = web::Data::new((Arc::clone(&handler), Arc::clone(&progress)));
        App::new().app_data(state).default_service(web::to(answer))
    })
    .workers(1)
    .worker_max_blocking_threads(BLOCKING_THREADS)
    .keep_alive(KeepAlive::Os)
    .client_request_timeout(Duration::ZERO)
    .disable_signals()
    .listen_uds(listener)
    .context("serve a socket")?;
    Ok(server.run())
}

async fn drain(progress: &Progress) {
    progress.draining.store(true, Ordering::Relaxed);
    let idle = async {
        let mut seen = progress.begun.load(Ordering::Acquire);
        let mut since = Instant::now();
        while since.elapsed() < QUIET {
            sleep(TICK).await;
            let begun = progress.begun.load(Ordering::Acquire);
            if begun != seen || progress.calls.load(Ordering::Acquire) > 0 {
                (seen, since) = (begun, Instant::now());
            }
        }
    };
    if timeout(DRAIN, idle).await.is_err() {
        log::warn!("requests in flight did not complete within {DRAIN:?}: stopping without them");
    }
}

type State = web::Data<(Arc<dyn Handler>, Arc<Progress>)>;

async fn answer(request: HttpRequest, payload: web::Payload, state: State) -> HttpResponse {
    let (handler, progress) = state.get_ref();
    progress.begun.fetch_add(1, Ordering::AcqRel);
    progress.calls.fetch_add(1, Ordering::AcqRel);
    let limit = handler.answer_within(request.path());
    let reply = match timeout(limit, reply(&request, payload, handler)).await {
        Ok(reply) => reply,
        Err(_) => handler
            .refuse(503, &format!("no reply within {limit:?}: the disk or the kernel is slow, see the log; try again")),
    };
    progress.calls.fetch_sub(1, Ordering::AcqRel);
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    if progress.draining.load(Ordering::Relaxed) {
        response.force_close();
    }
    if !reply.content_type.is_empty() {
        response.content_type(reply.content_type);
    }
    response.body(reply.body)
}

async fn reply(request: &HttpRequest, payload: web::Payload, handler: &Arc<dyn Handler>) -> Reply {
    let body = match read(payload).await {
        Ok(Some(body)) => body,
        Ok(None) => return handler.refuse(413, &format!("the request body is larger than {BODY_LIMIT} bytes")),
        Err(error) => return handler.refuse(400, &format!("the request body cannot be read: {error}")),
    };
    let whole =
        Request { method: request.method().as_str(), path: request.path(), query: request.query_string(), body: &body };
    match catch_unwind(AssertUnwindSafe(|| handler.begin(whole))) {
        Ok(Begun::Done(reply)) => return reply,
        Ok(Begun::Waiting(reply)) => return reply.await,
        Ok(Begun::MayBlock) => {}
        Err(_) => return handler.refuse(500, PANICKED),
    }
    let (method, uri, handling) = (request.method().clone(), request.uri().clone(), Arc::clone(handler));
    let since = Instant::now();
    let handled = web::block(move || {
        // The caller has received the timeout and gone on: a call made now could undo what it did since.
        if since.elapsed() >= handling.answer_within(uri.path()) {
            return handling.refuse(503, "no thread was free for the call within its timeout: nothing was done");
        }
        handling.handle(Request {
            method: method.as_str(),
            path: uri.path(),
            query: uri.query().unwrap_or(""),
            body: &body,
        })
    });
    match handled.await {
        Ok(reply) => reply,
        Err(_) => handler.refuse(500, PANICKED),
    }
}

/// The body; `None` if it is larger than [`BODY_LIMIT`].
async fn read(mut payload: web::Payload) -> Result<Option<Bytes>, actix_web::error::PayloadError> {
    let mut body = BytesMut::new();
    let mut seen = 0;
    while let Some(chunk) = next(&mut payload).await {
        let chunk = chunk?;
        seen += chunk.len();
        if seen > DISCARD_LIMIT {
            break;
        }
        if seen <= BODY_LIMIT {
            body.extend_from_slice(&chunk);
        }
    }
    Ok((seen <= BODY_LIMIT).then(|| body.freeze()))
}

async fn next(payload: &mut web::Payload) -> Option<Result<Bytes, actix_web::error::PayloadError>> {
    std::future::poll_fn(|context| Pin::new(&mut *payload).poll_next(context)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::Client;

    /// Slow, with a longer timeout for one path.
    struct Slow;

    impl Handler for Slow {
        fn handle(&self, _request: Request<'_>) -> Reply {
            std::thread::sleep(Duration::from_millis(300));
            Reply { status: 200, content_type: "", body: Vec::new() }
        }

        fn answer_within(&self, path: &str) -> Duration {
            Duration::from_millis(if path == "/long" { 60_000 } else { 50 })
        }

        fn refuse(&self, status: u16, sentence: &str) -> Reply {
            Reply { status, content_type: "", body: format!("{{\"error\":\"{sentence}\"}}").into() }
        }
    }

    #[test]
    fn a_slow_call_times_out_unless_its_path_has_a_longer_timeout() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("slow.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (short, long) = System::new().block_on(async {
            let server = start(listener, Arc::new(Slow), &Arc::default()).unwrap();
            let handle = server.handle();
            actix_web::rt::spawn(server);
            let ask = move || {
                let server = Client::new("slow", socket).unwrap();
                (server.get("/short").unwrap(), server.get("/long").unwrap())
            };
            let answers = web::block(ask).await.unwrap();
            handle.stop(false).await;
            answers
        });
        assert_eq!((short.status, long.status), (503, 200));
        assert!(short.success().unwrap_err().to_string().contains("no reply within 50ms"));
    }
}
