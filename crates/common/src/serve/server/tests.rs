// SPDX-License-Identifier: Apache-2.0
//! The server on a real socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use super::*;
use crate::serve::lines::Lines;
use crate::store::Store;

/// Slow, with a longer timeout for one path.
struct Slow;

impl Handler for Slow {
    fn handle(&self, _request: Request<'_>) -> Reply {
        std::thread::sleep(Duration::from_millis(300));
        Reply::new(200, "", Vec::new())
    }

    fn answer_within(&self, path: &str) -> Duration {
        Duration::from_millis(if path == "/long" { 60_000 } else { 50 })
    }

    fn refuse(&self, status: u16, sentence: &str) -> Reply {
        Reply::new(status, "", format!("{{\"error\":\"{sentence}\"}}").into())
    }
}

/// Serves one request per connection at once: its body's length.
struct Length;

impl Handler for Length {
    fn handle(&self, request: Request<'_>) -> Reply {
        Reply::new(200, "", request.body.len().to_string().into())
    }

    fn body_limit(&self, path: &str) -> usize {
        if path == "/large" { 2 * BODY_LIMIT } else { BODY_LIMIT }
    }

    fn keeps_connections(&self) -> bool {
        false
    }

    fn refuse(&self, status: u16, sentence: &str) -> Reply {
        Reply::new(status, "", sentence.into())
    }
}

/// Leaves the event loop stuck for a while after a request.
struct Stuck;

impl Handler for Stuck {
    fn handle(&self, _request: Request<'_>) -> Reply {
        Reply::new(200, "", Vec::new())
    }

    fn begin(&self, request: Request<'_>) -> Call {
        if request.path == "/stuck" {
            actix_web::rt::spawn(async { std::thread::sleep(Duration::from_secs(1)) });
        }
        Call::Deferred
    }

    fn refuse(&self, status: u16, sentence: &str) -> Reply {
        Reply::new(status, "", sentence.into())
    }
}

/// Runs `clients` on a thread beside a server.
fn with_server<T: Send + 'static>(
    handler: Arc<dyn Handler>,
    clients: impl FnOnce(PathBuf, &Progress) -> T + Send + 'static,
) -> T {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("test.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    System::new().block_on(async {
        let progress = Arc::<Progress>::default();
        let server = start((listener.into(), handler, None), &progress).unwrap();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let result = web::block(move || clients(socket, &progress)).await.unwrap();
        handle.stop(false).await;
        result
    })
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}

fn post(socket: &PathBuf, length: usize) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").unwrap();
    stream
}

fn response(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn unfinished_bodies_are_bounded_together_and_small_requests_are_served_meanwhile() {
    with_server(Arc::new(Length), |socket, progress| {
        let nearly = vec![b' '; BODY_LIMIT - 1];
        let mut unfinished = Vec::new();
        for _ in 0..8 {
            let mut stream = post(&socket, BODY_LIMIT);
            stream.write_all(&nearly).unwrap();
            unfinished.push(stream);
        }
        wait_until("the bodies are buffered", || progress.buffered() > 7 * BODY_LIMIT);
        let mut one_more = post(&socket, BODY_LIMIT);
        // It may be refused, and closed, before all of it is sent.
        drop(one_more.write_all(&nearly).and_then(|()| one_more.write_all(b" ")));
        let refused = response(one_more);
        assert!(refused.contains("503") && refused.contains("bytes of request bodies are being received"), "{refused}");
        let mut small = post(&socket, 2);
        small.write_all(b"{}").unwrap();
        assert!(response(small).ends_with("\r\n\r\n2"));
        drop(unfinished);
        wait_until("the buffers are released", || progress.buffered() == 0 && progress.in_flight() == 0);
    });
}

#[test]
fn a_path_may_have_larger_bodies() {
    with_server(Arc::new(Length), |socket, _| {
        let body = vec![b' '; BODY_LIMIT + 1];
        for (path, expected) in [("/large", "1048577"), ("/x", "the request body is larger than 1048576 bytes")] {
            let mut stream = UnixStream::connect(&socket).unwrap();
            write!(stream, "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
            stream.write_all(&body).unwrap();
            let reply = response(stream);
            assert!(reply.ends_with(expected), "{path}: {reply}");
        }
    });
}

#[test]
fn a_request_whose_client_is_gone_is_no_longer_in_flight() {
    with_server(Arc::new(Slow), |socket, progress| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        for _ in 0..5 {
            stream.write_all(b"POST /long HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        }
        wait_until("a request is in flight", || progress.in_flight() > 0);
        drop(stream);
        wait_until("no request is in flight", || progress.in_flight() == 0);
    });
}

#[test]
fn a_head_that_is_never_complete_is_closed() {
    with_server(Arc::new(Length), |socket, _| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(b"POST /x HTTP/1.1\r\nHost:").unwrap();
        assert!(response(stream).starts_with("HTTP/1.1 408"));
    });
}

#[test]
fn a_slow_call_times_out_unless_its_path_has_a_longer_timeout() {
    let ask = |path: &'static str| {
        with_server(Arc::new(Slow), move |socket, _| {
            let mut stream = UnixStream::connect(&socket).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            response(stream)
        })
    };
    let short = ask("/short");
    assert!(short.starts_with("HTTP/1.1 503") && short.contains("no reply within 50ms"), "{short}");
    assert!(ask("/long").starts_with("HTTP/1.1 200"));
}

/// Counts up with each commit of a store.
struct Counting(Arc<Store>);

impl Handler for Counting {
    fn handle(&self, _request: Request<'_>) -> Reply {
        let store = Arc::clone(&self.0);
        let read = move |position: i64| {
            let commits = i64::try_from(store.commits().commits)?;
            let text = if commits > position { format!("{commits}\n") } else { String::new() };
            Ok((commits < 3).then(|| (text.into_bytes(), commits)))
        };
        let lines = Lines { start: 0, read: Arc::new(read), committed: self.0.committed() };
        Reply { lines: Some(lines), ..Reply::new(200, "text/plain", Vec::new()) }
    }

    fn keeps_connections(&self) -> bool {
        false
    }

    fn refuse(&self, status: u16, sentence: &str) -> Reply {
        Reply::new(status, "", sentence.into())
    }
}

#[test]
fn lines_come_with_each_commit_until_they_end_or_the_client_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&folder.path().join("ciao.db")).unwrap());
    let committing = Arc::clone(&store);
    with_server(Arc::new(Counting(Arc::clone(&store))), move |socket, _| {
        let commit = |name: &'static str| committing.write(move |tx| tx.set_setting(name, "1")).unwrap();
        let follow = || {
            let mut stream = UnixStream::connect(&socket).unwrap();
            write!(stream, "GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            stream
        };
        commit("a");
        // The server's, the test's, and one for each client.
        let held = Arc::strong_count(&committing);
        let first = |stream: &mut UnixStream| {
            let mut seen = String::new();
            while !seen.contains("1\n") {
                let mut some = [0; 4096];
                let length = stream.read(&mut some).unwrap();
                seen += std::str::from_utf8(&some[..length]).unwrap();
            }
            seen
        };
        let mut gone = follow();
        first(&mut gone);
        assert!(Arc::strong_count(&committing) > held);
        drop(gone);
        wait_until("the client is no longer served", || Arc::strong_count(&committing) == held);
        let mut stream = follow();
        let mut seen = first(&mut stream);
        commit("b");
        std::thread::sleep(Duration::from_millis(300));
        commit("c");
        seen += &response(stream);
        assert!(seen.starts_with("HTTP/1.1 200") && seen.contains("2\n") && seen.ends_with("0\r\n\r\n"), "{seen}");
    });
}

#[test]
fn requests_that_a_stuck_event_loop_has_not_read_are_drained() {
    with_server(Arc::new(Stuck), |socket, progress| {
        let mut streams: Vec<_> = (0..4).map(|_| UnixStream::connect(&socket).unwrap()).collect();
        for (stream, path) in streams.iter_mut().zip(["/stuck", "/x", "/x", "/x"]) {
            write!(stream, "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
            wait_until("the first one is read", || progress.begun() > 0);
        }
        actix_web::rt::Runtime::new().unwrap().block_on(drain(progress));
        assert_eq!((progress.begun(), progress.in_flight()), (4, 0));
    });
}
