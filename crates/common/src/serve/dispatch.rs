// SPDX-License-Identifier: Apache-2.0
//! One request and its reply.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::rt::time::timeout;
use actix_web::web::{self, Bytes, BytesMut};
use actix_web::{HttpRequest, HttpResponse};
use futures_core::Stream;

use super::calls::Calls;
use super::handler::{Call, Handler, Reply, Request};
use super::progress::{BUFFER_LIMIT, Buffer, InFlight, Progress};

/// A refused body is read and discarded, so that the client sees the error, up to this size.
const DISCARD_LIMIT: usize = 64 << 20;

const PANICKED: &str = "internal error (please report): the call panicked, see the log";

/// What serves the requests of a socket, where they are counted, and what is under way.
pub(super) type State = web::Data<(Arc<dyn Handler>, Option<Arc<Calls>>, Arc<Progress>)>;

pub(super) async fn dispatch(request: HttpRequest, payload: web::Payload, state: State) -> HttpResponse {
    let (handler, calls, progress) = state.get_ref();
    // Also counted down if the client disconnects, which drops this future.
    let in_flight = Arc::new(InFlight::new(progress));
    let since = Instant::now();
    let limit = handler.answer_within(request.path());
    let reply = match timeout(limit, reply(&request, payload, handler, progress, &in_flight)).await {
        Ok(reply) => reply,
        Err(_) => handler
            .refuse(503, &format!("no reply within {limit:?}: the disk or the kernel is slow, see the log; try again")),
    };
    if let Some(calls) = calls {
        calls.add(request.method().as_str(), request.path(), reply.status, since.elapsed());
    }
    if reply.status < 400 || reply.body.is_empty() {
        log::debug!("{} {}: {}", request.method(), request.path(), reply.status);
    } else {
        progress.log_refusal(level(reply.status), request.path(), &String::from_utf8_lossy(&reply.body));
    }
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    if progress.is_draining() || !handler.keeps_connections() {
        response.force_close();
    }
    if !reply.content_type.is_empty() {
        response.content_type(reply.content_type);
    }
    for header in reply.headers {
        response.insert_header(header);
    }
    match reply.lines {
        Some(lines) => response.streaming(lines.stream()),
        None => response.body(reply.body),
    }
}

/// A path or thing that does not exist is somebody's typing error, and no warning.
fn level(status: u16) -> log::Level {
    if matches!(status, 404 | 405) { log::Level::Info } else { log::Level::Warn }
}

async fn reply(
    request: &HttpRequest,
    payload: web::Payload,
    handler: &Arc<dyn Handler>,
    progress: &Progress,
    in_flight: &Arc<InFlight>,
) -> Reply {
    let mut buffer = Buffer::new(progress);
    let body = match read(payload, &mut buffer, handler.body_limit(request.path())).await {
        Ok(Ok(body)) => body,
        Ok(Err((status, sentence))) => return handler.refuse(status, &sentence),
        Err(error) => return handler.refuse(400, &format!("the request body cannot be read: {error}")),
    };
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !body.is_empty() && !handler.accepts(content_type) {
        return handler
            .refuse(415, &format!("a body of content type {content_type:?} is not read: send application/json"));
    }
    let whole =
        Request { method: request.method().as_str(), path: request.path(), query: request.query_string(), body: &body };
    let call: Box<dyn FnOnce() -> Reply + Send> = match catch_unwind(AssertUnwindSafe(|| handler.begin(whole))) {
        Ok(Call::Done(reply)) => return reply,
        Ok(Call::Pending(reply)) => return reply.await,
        Ok(Call::Blocking(call)) => call,
        Ok(Call::Deferred) => {
            let (method, uri, handler) = (request.method().clone(), request.uri().clone(), Arc::clone(handler));
            Box::new(move || {
                let (path, query) = (uri.path(), uri.query().unwrap_or(""));
                handler.handle(Request { method: method.as_str(), path, query, body: &body })
            })
        }
        Err(_) => return handler.refuse(500, PANICKED),
    };
    // The work goes on if the client disconnects: a shutdown waits for it.
    let in_flight = Arc::clone(in_flight);
    let (since, limit, refusing) = (Instant::now(), handler.answer_within(request.path()), Arc::clone(handler));
    let handled = web::block(move || {
        let _in_flight = in_flight;
        // The caller has received the timeout and gone on: a call made now could undo what it did since.
        if since.elapsed() >= limit {
            return refusing.refuse(503, "no thread was free for the call within its timeout: nothing was done");
        }
        call()
    });
    handled.await.unwrap_or_else(|_| handler.refuse(500, PANICKED))
}

/// The body; the status and message of a refusal if it is too large.
async fn read(
    mut payload: web::Payload,
    buffer: &mut Buffer<'_>,
    limit: usize,
) -> Result<Result<Bytes, (u16, String)>, PayloadError> {
    let mut body = BytesMut::new();
    let mut refusal = None;
    let mut seen = 0;
    while let Some(chunk) = std::future::poll_fn(|context| Pin::new(&mut payload).poll_next(context)).await {
        let chunk = chunk?;
        seen += chunk.len();
        if seen > DISCARD_LIMIT {
            break;
        }
        if refusal.is_none() && seen > limit {
            refusal = Some((413, format!("the request body is larger than {limit} bytes")));
        } else if refusal.is_none() && !buffer.grow_to(seen) {
            refusal =
                Some((503, format!("more than {BUFFER_LIMIT} bytes of request bodies are being received: try again")));
        }
        if refusal.is_some() {
            body = BytesMut::new();
            buffer.clear();
        } else {
            body.extend_from_slice(&chunk);
        }
    }
    Ok(refusal.map_or_else(|| Ok(body.freeze()), Err))
}
