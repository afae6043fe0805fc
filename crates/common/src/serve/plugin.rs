// SPDX-License-Identifier: Apache-2.0
//! A Docker plugin as a table of methods.
//!
//! Each parses the request, calls the driver's method, and serializes the reply or the error. An error reply has
//! status 400 (the request cannot be parsed) or 500 (the driver refuses or fails) and key `Err`, which the engine reads
//! for both kinds of driver; it does not retry.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::handler::{Call, Handler, Reply, Request};
use crate::api::{self, ErrorReply, Manifest};

type Method<D> = Box<dyn Fn(&Arc<D>, &[u8]) -> Call + Send + Sync>;

/// The methods of a driver `D`.
pub struct Plugin<D> {
    driver: Arc<D>,
    methods: BTreeMap<&'static str, Method<D>>,
}

impl<D: Send + Sync + 'static> Plugin<D> {
    /// A plugin that implements `interface`, without methods so far.
    pub fn new(interface: &'static str, driver: D) -> Self {
        Self { driver: Arc::new(driver), methods: BTreeMap::new() }
            .constant("/Plugin.Activate", move |_| Manifest { implements: vec![interface.to_owned()] })
    }

    fn add(mut self, path: &'static str, method: impl Fn(&Arc<D>, &[u8]) -> Call + Send + Sync + 'static) -> Self {
        self.methods.insert(path, Box::new(method));
        self
    }

    /// Adds a method that may block on disk and kernel.
    #[must_use]
    pub fn call<Q, R>(self, path: &'static str, method: fn(&D, Q) -> Result<R>) -> Self
    where
        Q: DeserializeOwned + Send + 'static,
        R: Serialize + 'static,
    {
        self.call_unless_ready(path, |_, _: &Q| None, method)
    }

    /// Adds a method that may block on disk and kernel, unless `ready` returns the reply without blocking.
    #[must_use]
    pub fn call_unless_ready<Q, R>(
        self,
        path: &'static str,
        ready: fn(&D, &Q) -> Option<R>,
        method: fn(&D, Q) -> Result<R>,
    ) -> Self
    where
        Q: DeserializeOwned + Send + 'static,
        R: Serialize + 'static,
    {
        self.add(path, move |driver, body| match parse(body) {
            Err(refusal) => Call::Done(refusal),
            Ok(request) => match ready(driver, &request) {
                Some(reply) => Call::Done(json(200, &reply)),
                None => {
                    let driver = Arc::clone(driver);
                    Call::Blocking(Box::new(move || render(method(&driver, request))))
                }
            },
        })
    }

    /// Adds a method that is one change of the store, whose commit is awaited without blocking a thread.
    #[must_use]
    pub fn change<Q, R, F>(self, path: &'static str, method: fn(&D, Q) -> F) -> Self
    where
        Q: DeserializeOwned + 'static,
        R: Serialize + Send + 'static,
        F: Future<Output = Result<R>> + Send + 'static,
    {
        self.add(path, move |driver, body| {
            parse(body).map_or_else(Call::Done, |request| pending(method(driver, request)))
        })
    }

    /// As [`Self::change`], for a method that ignores its argument.
    #[must_use]
    pub fn change_without_argument<R, F>(self, path: &'static str, method: fn(&D) -> F) -> Self
    where
        R: Serialize + Send + 'static,
        F: Future<Output = Result<R>> + Send + 'static,
    {
        self.add(path, move |driver, _| pending(method(driver)))
    }

    /// Adds a method that ignores its argument and needs neither disk nor kernel.
    #[must_use]
    pub fn constant<R: Serialize>(self, path: &'static str, method: impl Fn(&D) -> R + Send + Sync + 'static) -> Self {
        self.add(path, move |driver, _| Call::Done(json(200, &method(driver))))
    }

    /// The paths of the methods, sorted. Others get an empty 404.
    pub fn paths(&self) -> Vec<&'static str> {
        self.methods.keys().copied().collect()
    }

    /// The driver.
    pub fn driver(&self) -> &D {
        &self.driver
    }
}

impl<D: Send + Sync + 'static> Handler for Plugin<D> {
    fn handle(&self, request: Request<'_>) -> Reply {
        self.begin(request).wait()
    }

    fn begin(&self, request: Request<'_>) -> Call {
        match self.methods.get(request.path) {
            Some(method) => method(&self.driver, request.body),
            None => Call::Done(Reply::not_found()),
        }
    }

    fn refuse(&self, status: u16, sentence: &str) -> Reply {
        refuse(status, sentence)
    }
}

/// The argument of a method, or the error reply.
fn parse<Q: DeserializeOwned>(body: &[u8]) -> Result<Q, Reply> {
    if body.is_empty() {
        return Err(refuse(
            400,
            "the request body is empty: the engine sends this when it retries a call whose reply was lost (moby#35459); nothing was done",
        ));
    }
    api::parse(body).map_err(|error| refuse(400, &format!("{error:#}")))
}

fn pending(result: impl Future<Output = Result<impl Serialize>> + Send + 'static) -> Call {
    Call::Pending(Box::pin(async { render(result.await) }))
}

fn render(result: Result<impl Serialize>) -> Reply {
    match result {
        Ok(reply) => json(200, &reply),
        Err(error) => refuse(500, &format!("{error:#}")),
    }
}

fn json(status: u16, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => Reply::new(status, api::CONTENT_TYPE, body),
        Err(error) => refuse(500, &format!("internal error (please report): the reply cannot be serialized: {error}")),
    }
}

fn refuse(status: u16, sentence: &str) -> Reply {
    Reply::json(status, api::CONTENT_TYPE, &ErrorReply { err: sentence.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Empty;
    use crate::api::ipam::ReleaseAddress;

    fn plugin() -> Plugin<()> {
        Plugin::new("IpamDriver", ()).call("/IpamDriver.ReleaseAddress", |(), request: ReleaseAddress| {
            anyhow::ensure!(request.address.is_ipv4(), "no {}", request.address);
            Ok(Empty {})
        })
    }

    fn ask(path: &str, body: &str) -> (u16, String) {
        let reply = plugin().handle(Request { method: "POST", path, query: "", body: body.as_bytes() });
        (reply.status, String::from_utf8(reply.body).unwrap())
    }

    #[test]
    fn a_method_returns_a_reply_or_an_error() {
        let release = |body| ask("/IpamDriver.ReleaseAddress", body);
        assert_eq!(ask("/Plugin.Activate", ""), (200, r#"{"Implements":["IpamDriver"]}"#.into()));
        assert_eq!(release(r#"{"PoolID":"p","Address":"10.0.0.1"}"#), (200, "{}".into()));
        assert_eq!(release(r#"{"PoolID":"p","Address":"::1"}"#), (500, r#"{"Err":"no ::1"}"#.into()));
        let (status, text) = release(r#"{"PoolID":"p","Address":"not-an-ip"}"#);
        assert_eq!((status, text.contains("not-an-ip"), text.contains("line")), (400, true, false), "{text}");
        assert_eq!(release("").0, 400);
        for wrong in ["pizza", "[]", r#"["p","10.0.0.1"]"#, " [1]", "null", "7"] {
            assert_eq!(release(wrong).0, 400, "{wrong}");
        }
        assert_eq!(ask("/IpamDriver.Unknown", "{}"), (404, String::new()));
    }
}
