// SPDX-License-Identifier: Apache-2.0
//! HTTP client with JSON for Unix sockets: the control sockets and Docker's API. Has no timeout of its own, as the
//! servers have.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Method;
use hyper_util::client::legacy;
use hyperlocal::{UnixClientExt, UnixConnector, Uri};
use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Runtime;

/// Client of a server on a Unix socket.
pub struct Client {
    name: &'static str,
    socket: PathBuf,
    http: legacy::Client<UnixConnector, Full<Bytes>>,
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
        Ok(Self { name, socket, http: legacy::Client::unix(), runtime })
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

    /// `DELETE path`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn delete(&self, path: &str) -> Result<Response> {
        self.ask(Method::DELETE, path, Bytes::new())
    }

    fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Response> {
        let uri: hyper::Uri = Uri::new(&self.socket, path).into();
        let request = hyper::Request::builder()
            .method(&method)
            .uri(uri)
            .header("Content-Type", "application/json")
            .header("Host", "localhost")
            .body(Full::new(body))
            .context("write a request")?;
        let conversation = async {
            let response = self.http.request(request).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, anyhow::Error>((status, body))
        };
        let (status, body) = match self.runtime.block_on(conversation) {
            Ok(answer) => answer,
            Err(error) => {
                bail!("ask {} at {} ({error:#}): is it running, and are you root?", self.name, self.socket.display())
            }
        };
        // Docker answers a pull with one JSON value per line: the last one is the result.
        let last = body.split(|byte| *byte == b'\n').rev().find(|line| !line.is_empty()).unwrap_or_default();
        let body = serde_json::from_slice(&body).or_else(|_| serde_json::from_slice(last)).unwrap_or(Value::Null);
        Ok(Response { status, body })
    }
}
