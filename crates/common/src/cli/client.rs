// SPDX-License-Identifier: Apache-2.0
//! HTTP client with JSON for Unix sockets: the control sockets and Docker's API. Has no timeout of its own, as the
//! servers have.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
pub use hyper::Method;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

/// Client of a server on a Unix socket.
pub struct Client {
    name: &'static str,
    socket: PathBuf,
    runtime: Runtime,
}

/// A response.
#[derive(Debug)]
pub struct Response {
    /// HTTP status code.
    pub status: u16,
    /// JSON; null for an empty body.
    pub body: Value,
}

impl Response {
    /// The body, or the server's error message.
    pub fn success(self) -> Result<Value> {
        if self.status < 400 {
            return Ok(self.body);
        }
        // ciao sends "error", Docker "message".
        let sentence = self.body.get("error").or_else(|| self.body.get("message")).and_then(Value::as_str);
        Err(anyhow!("{}", sentence.unwrap_or("the server gave no reason")))
    }
}

impl Client {
    /// A client of the server `name` that listens on `socket`.
    pub fn new(name: &'static str, socket: PathBuf) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        Ok(Self { name, socket, runtime })
    }

    /// `GET path`.
    ///
    /// # Errors
    /// The connection fails or the response is not HTTP.
    pub fn get(&self, path: &str) -> Result<Response> {
        self.ask(Method::GET, path, Bytes::new())
    }

    /// `POST path` with a JSON body; none if it is null.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn post(&self, path: &str, body: &impl Serialize) -> Result<Response> {
        let body = serde_json::to_value(body)?;
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body)? };
        self.ask(Method::POST, path, bytes.into())
    }

    /// `PATCH path` with a JSON body.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn patch(&self, path: &str, body: &impl Serialize) -> Result<Response> {
        self.ask(Method::PATCH, path, serde_json::to_vec(body)?.into())
    }

    /// `DELETE path`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn delete(&self, path: &str) -> Result<Response> {
        self.ask(Method::DELETE, path, Bytes::new())
    }

    /// A request without a body whose answer is one JSON value a line: `each` has them as they come. The response's
    /// body is an error's, or null.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn follow(&self, method: Method, path: &str, mut each: impl FnMut(Value)) -> Result<Response> {
        let conversation = async {
            let mut response = self.send(&method, path, Bytes::new()).await?;
            let status = response.status().as_u16();
            let mut rest = Vec::new();
            while let Some(frame) = response.frame().await {
                rest.extend_from_slice(&frame?.into_data().unwrap_or_default());
                while status < 400
                    && let Some(end) = rest.iter().position(|byte| *byte == b'\n')
                {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    // Docker ends a line with CR LF, and sends empty ones.
                    serde_json::from_slice(&line).into_iter().for_each(&mut each);
                }
            }
            let last = serde_json::from_slice(&rest).ok();
            match last {
                Some(last) if status < 400 => each(last),
                last => return Ok(Response { status, body: last.unwrap_or(Value::Null) }),
            }
            Ok::<_, anyhow::Error>(Response { status, body: Value::Null })
        };
        self.runtime.block_on(conversation)
    }

    async fn send(&self, method: &Method, path: &str, body: Bytes) -> Result<hyper::Response<Incoming>> {
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("Content-Type", "application/json")
            .header("Host", "localhost")
            .body(Full::new(body))
            .context("write a request")?;
        let asked = || format!("ask {} at {}", self.name, self.socket.display());
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|error| anyhow!("{} ({error}): is it running, and are you root?", asked()))?;
        let (mut http, connection) = http1::handshake(TokioIo::new(stream)).await.with_context(asked)?;
        tokio::spawn(connection);
        http.send_request(request).await.with_context(asked)
    }

    fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Response> {
        let conversation = async {
            let response = self.send(&method, path, body).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.with_context(|| format!("read {}'s reply", self.name))?;
            Ok::<_, anyhow::Error>((status, body.to_bytes()))
        };
        let (status, body) = self.runtime.block_on(conversation)?;
        let body = match serde_json::from_slice(&body) {
            Ok(body) => body,
            // An error's may be anything's, such as a proxy's.
            Err(_) if body.is_empty() || status >= 400 => Value::Null,
            Err(error) => return Err(error).with_context(|| format!("read {}'s reply", self.name)),
        };
        Ok(Response { status, body })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn an_answer_of_several_lines_is_handed_on_as_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (seen, first_seen) = channel();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            write!(stream, "{head}{}", chunk("{\"n\":1}\r\n{\"n\":")).unwrap();
            // The rest comes when the first value was seen: a client that waited for all would never see it.
            first_seen.recv().unwrap();
            write!(stream, "{}{}", chunk("2}\r\n{\"n\":3}"), chunk("")).unwrap();
        });
        let mut values = Vec::new();
        let client = Client::new("dockerd", socket).unwrap();
        let response = client.follow(Method::POST, "/images/create", |value| {
            seen.send(()).ok();
            values.push(value["n"].clone());
        });
        assert_eq!(response.unwrap().status, 200);
        assert_eq!(values, [1, 2, 3]);
        server.join().unwrap();
    }

    #[test]
    fn a_reply_that_is_cut_off_is_an_error_and_a_missing_socket_another() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let ask = || Client::new("ciao-net", socket.clone()).unwrap().get("/v1/status").unwrap_err();
        let error = format!("{:#}", ask());
        assert!(error.contains("No such file") && error.ends_with("is it running, and are you root?"), "{error}");
        let listener = UnixListener::bind(&socket).unwrap();
        for reply in
            ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1,", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1,"]
        {
            let server = listener.try_clone().unwrap();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = server.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(reply.as_bytes()).unwrap();
            });
            let error = format!("{:#}", ask());
            assert!(error.contains("ciao-net") && !error.contains("is it running"), "{error}");
            server.join().unwrap();
        }
    }
}
