// SPDX-License-Identifier: Apache-2.0
//! [`Connection`], one HTTP connection over a Unix socket as the engine uses it, at the cost of two system calls a
//! call. A client library would take more processor time than the daemon that is measured, on the same two cores.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Larger than any reply of a plugin.
const REPLY: usize = 64 << 10;
const HEADERS: usize = 16;
/// A daemon that does not answer ends the measurement.
const PATIENCE: Duration = Duration::from_secs(120);

/// A call of Docker's plugin protocol.
#[derive(Clone, Debug)]
pub struct Call {
    /// Such as `/IpamDriver.RequestAddress`.
    pub path: &'static str,
    /// JSON, or nothing.
    pub body: String,
}

impl Call {
    /// A call without a body.
    #[must_use]
    pub fn bare(path: &'static str) -> Self {
        Self { path, body: String::new() }
    }

    /// A call with a body.
    #[must_use]
    pub fn new(path: &'static str, body: &serde_json::Value) -> Self {
        Self { path, body: body.to_string() }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    bytes: Vec<u8>,
    request: Vec<u8>,
    close: bool,
}

impl Connection {
    /// Connects. With `close`, the connection is for one call.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn open(socket: &Path, close: bool) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, bytes: Vec::new(), request: Vec::new(), close })
    }

    /// Sends a call, with the headers that Go's client sends.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, call: &Call) -> Result<()> {
        let connection = if self.close { "Connection: close\r\n" } else { "" };
        self.request.clear();
        write!(
            self.request,
            "POST {} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\n\
             Accept: application/vnd.docker.plugins.v1.2+json\r\nAccept-Encoding: gzip\r\n{connection}\r\n{}",
            call.path,
            call.body.len(),
            call.body
        )?;
        self.stream.write_all(&self.request).context("send a call")
    }

    /// Reads what has arrived, at least something, and gives the body to `use_body` once it is whole. `None`: it is
    /// not yet.
    ///
    /// # Errors
    /// The connection ends; the reply is no success, or none of HTTP.
    pub fn receive<T>(&mut self, use_body: impl FnOnce(&[u8]) -> Result<T>) -> Result<Option<T>> {
        let start = self.bytes.len();
        self.bytes.resize(start + REPLY, 0);
        let read = self.stream.read(&mut self.bytes[start..]).context("receive a reply")?;
        self.bytes.truncate(start + read);
        ensure!(read > 0, "the daemon closed the connection in a reply");
        let Some((status, body)) = whole(&self.bytes)? else { return Ok(None) };
        let body = &self.bytes[body..];
        if status / 100 != 2 {
            bail!("a call was refused with {status}: {}", String::from_utf8_lossy(body));
        }
        let value = use_body(body)?;
        self.bytes.clear();
        Ok(Some(value))
    }

    /// Sends a call and waits for its reply.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn ask<T: serde::de::DeserializeOwned>(&mut self, call: &Call) -> Result<T> {
        self.send(call)?;
        loop {
            let read = |body: &[u8]| serde_json::from_slice(body).context("read a reply");
            if let Some(reply) = self.receive(read).with_context(|| format!("ask {}", call.path))? {
                return Ok(reply);
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Status and start of the body, once all of it is there.
fn whole(bytes: &[u8]) -> Result<Option<(u16, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = response.parse(bytes).context("read a reply")? else { return Ok(None) };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    let length = length.context("a reply without Content-Length")?;
    Ok((bytes.len() >= start + length).then_some((response.code.unwrap_or(0), start)))
}
