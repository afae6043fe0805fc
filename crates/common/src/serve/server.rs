// SPDX-License-Identifier: Apache-2.0
//! HTTP over Unix sockets: reads a request, passes it to a [`Handler`], sends the reply.
//!
//! The engine sends no Content-Type, reuses idle connections after a long time, and waits for a reply without a
//! timeout; so no content type is required, no idle connection is closed, and every call gets a reply within
//! [`ANSWER_WITHIN`]. Handlers do not depend on HTTP, and tests call them without a socket.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::KeepAlive;
use actix_web::rt::System;
use actix_web::rt::signal::unix::{SignalKind, signal};
use actix_web::rt::time::timeout;
use actix_web::{App, HttpServer, web};
use anyhow::{Context, Result};

use super::calls::Calls;
use super::dispatch::dispatch;
pub use super::handler::{ANSWER_WITHIN, BODY_LIMIT, Call, Handler, JSON, Reply, Request};
use super::progress::Progress;

/// Time for the head of a request on a connection that serves only one.
const HEAD_WITHIN: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 10_000 });
/// How long the shutdown waits for requests in flight.
const DRAIN: Duration = Duration::from_secs(10);
/// Without a request in flight for so many turns of the event loops, no accepted connection has an unread request. Not
/// a time: on a busy machine a loop may not run for a while.
const QUIET: usize = 12;
/// Concurrent blocking calls. They wait for the disk and the kernel's RTNL lock, so more threads would not help.
const BLOCKING_THREADS: usize = 8;

/// Connections of a TCP port at a time: anybody may reach it, and each needs an open file.
const TCP_CLIENTS: usize = 64;

/// What a service listens on.
pub enum Listener {
    /// A Unix socket.
    Unix(UnixListener),
    /// A TCP port.
    Tcp(TcpListener),
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

/// A socket, what serves it, and where its calls are counted.
pub type Service = (Listener, Arc<dyn Handler>, Option<Arc<Calls>>);

/// Serves each socket with its handler until SIGTERM or SIGINT, then completes the requests in flight. `ready` is
/// called when all sockets are being served, `stopping` when the shutdown begins.
///
/// # Errors
/// The runtime or a socket fails.
pub fn serve(services: Vec<Service>, ready: impl FnOnce(), stopping: impl FnOnce()) -> Result<()> {
    System::new().block_on(async move {
        let progress = Arc::new(Progress::default());
        let mut handles = Vec::new();
        let mut servers = Vec::new();
        for service in services {
            let server = start(service, &progress)?;
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
        log::info!("{name} received, draining {} requests", progress.in_flight());
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

fn start((listener, handler, calls): Service, progress: &Arc<Progress>) -> Result<actix_web::dev::Server> {
    let progress = Arc::clone(progress);
    let keeps = handler.keeps_connections();
    let head_within = if keeps { Duration::ZERO } else { HEAD_WITHIN };
    let server = HttpServer::new(move || {
        actix_web::rt::spawn(Arc::clone(&progress).count_turns());
        let state = web::Data::new((Arc::clone(&handler), calls.clone(), Arc::clone(&progress)));
        App::new().app_data(state).default_service(web::to(dispatch))
    })
    .workers(1)
    .worker_max_blocking_threads(BLOCKING_THREADS)
    .keep_alive(KeepAlive::Os)
    .client_request_timeout(head_within)
    // A client that is gone while a reply goes on is noticed when nothing is to be sent, too.
    .h1_allow_half_closed(keeps)
    .disable_signals();
    let server = match listener {
        Listener::Unix(listener) => server.listen_uds(listener),
        Listener::Tcp(listener) => server.max_connections(TCP_CLIENTS).listen(listener),
    };
    Ok(server.context("serve a socket")?.run())
}

async fn drain(progress: &Progress) {
    progress.drain();
    if timeout(DRAIN, progress.quiet(QUIET)).await.is_err() {
        log::warn!("requests in flight did not complete within {DRAIN:?}: stopping without them");
    }
}

#[cfg(test)]
mod tests;
