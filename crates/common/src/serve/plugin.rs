// SPDX-License-Identifier: Apache-2.0
//! A Docker plugin as a table of methods.
//!
//! Each parses the request, calls the driver's method, and serializes the reply or the error. An error reply has
//! status 400 (the request cannot be parsed) or 500 (the driver refuses or fails) and key `Err`, which the engine reads
//! for both kinds of driver; it does not retry.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::server::{Begun, Handler, Reply, Request};
use crate::api::{self, ErrorReply, Manifest};

type Call<D> = Box<dyn Fn(&D, &[u8]) -> Reply + Send + Sync>;
type Begin<D> = Box<dyn Fn(&D, &[u8]) -> Begun + Send + Sync>;

/// A method, in the two ways in which it is called: by a thread that may wait, and by one that may not.
struct Method<D> {
    call: Call<D>,
    begin: Begin<D>,
}

/// The methods of a driver `D`.
pub struct Plugin<D> {
    driver: D,
    methods: BTreeMap<&'static str, Method<D>>,
}

impl<D: Send + Sync + 'static> Plugin<D> {
    /// A plugin that implements `interface`, without methods so far.
    pub fn new(interface: &'static str, driver: D) -> Self {
        Self { driver, methods: BTreeMap::new() }
            .constant("/Plugin.Activate", move |_| Manifest { implements: vec![interface.to_owned()] })
    }

    /// Adds a method that may block on disk and kernel.
    #[must_use]
    pub fn call<Q, R>(self, path: &'static str, method: fn(&D, Q) -> Result<R>) -> Self
    where
        Q: DeserializeOwned + 'static,
        R: Serialize + 'static,
    {
        self.call_unless_ready(path, |_, _: &Q| None, method)
    }

    /// Adds a method that may block on disk and kernel, unless `ready` returns the reply without blocking.
    #[must_use]
    pub fn call_unless_ready<Q, R>(
        mut self,
        path: &'static str,
        ready: fn(&D, &Q) -> Option<R>,
        method: fn(&D, Q) -> Result<R>,
    ) -> Self
    where
        Q: DeserializeOwned + 'static,
        R: Serialize + 'static,
    {
        let call: Call<D> =
            Box::new(move |driver, body| read(body).map_or_else(|refusal| refusal, |q| render(method(driver, q))));
        let begin: Begin<D> = Box::new(move |driver, body| match read(body) {
            Ok(request) => ready(driver, &request).map_or(Begun::MayBlock, |reply| Begun::Done(json(200, &reply))),
            Err(refusal) => Begun::Done(refusal),
        });
        self.methods.insert(path, Method { call, begin });
        self
    }

    /// Adds a method that is one change of the store, whose commit is awaited without blocking a thread.
    #[must_use]
    pub fn change<Q, R, F>(mut self, path: &'static str, method: fn(&D, Q) -> F) -> Self
    where
        Q: DeserializeOwned + 'static,
        R: Serialize + Send + 'static,
        F: Future<Output = Result<R>> + Send + 'static,
    {
        let call: Call<D> =
            Box::new(move |driver, body| read(body).map_or_else(|refusal| refusal, |q| wait(method(driver, q))));
        let begin: Begin<D> = Box::new(move |driver, body| match read(body) {
            Ok(request) => {
                let answer = method(driver, request);
                Begun::Waiting(Box::pin(async { render(answer.await) }))
            }
            Err(refusal) => Begun::Done(refusal),
        });
        self.methods.insert(path, Method { call, begin });
        self
    }

    /// As [`Self::change`], for a method that ignores its argument.
    #[must_use]
    pub fn change_without_argument<R, F>(mut self, path: &'static str, method: fn(&D) -> F) -> Self
    where
        R: Serialize + Send + 'static,
        F: Future<Output = Result<R>> + Send + 'static,
    {
        let call: Call<D> = Box::new(move |driver, _| wait(method(driver)));
        let begin: Begin<D> = Box::new(move |driver, _| {
            let answer = method(driver);
            Begun::Waiting(Box::pin(async { render(answer.await) }))
        });
        self.methods.insert(path, Method { call, begin });
        self
    }

    /// Adds a method that ignores its argument and needs neither disk nor kernel.
    #[must_use]
    pub fn constant<R: Serialize>(
        mut self,
        path: &'static str,
        method: impl Fn(&D) -> R + Clone + Send + Sync + 'static,
    ) -> Self {
        let again = method.clone();
        let call: Call<D> = Box::new(move |driver, _| json(200, &method(driver)));
        let begin: Begin<D> = Box::new(move |driver, _| Begun::Done(json(200, &again(driver))));
        self.methods.insert(path, Method { call, begin });
        self
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
        match self.methods.get(request.path) {
            Some(method) => logged(request.path, (method.call)(&self.driver, request.body)),
            None => unknown(request),
        }
    }

    fn begin(&self, request: Request<'_>) -> Begun {
        let Some((path, method)) = self.methods.get_key_value(request.path) else {
            return Begun::Done(unknown(request));
        };
        match (method.begin)(&self.driver, request.body) {
            Begun::Done(reply) => Begun::Done(logged(path, reply)),
            Begun::Waiting(reply) => Begun::Waiting(Box::pin(async { logged(path, reply.await) })),
            Begun::MayBlock => Begun::MayBlock,
        }
    }

    fn refuse(&self, status: u16, sentence: &str) -> Reply {
        refuse(status, sentence)
    }
}

fn unknown(request: Request<'_>) -> Reply {
    log::debug!("{} {}: no such method", request.method, request.path);
    Reply::not_found()
}

fn logged(path: &str, reply: Reply) -> Reply {
    if reply.status == 200 {
        log::debug!("{path}");
    } else {
        log::warn!("{path} refused: {}", String::from_utf8_lossy(&reply.body));
    }
    reply
}

/// The argument of a method, or the error reply.
fn read<Q: DeserializeOwned>(body: &[u8]) -> Result<Q, Reply> {
    if body.is_empty() {
        return Err(refuse(
            400,
            "the request body is empty: the engine sends this when it retries a call whose reply was lost (moby#35459); nothing was done",
        ));
    }
    api::parse(body).map_err(|error| refuse(400, &format!("{error:#}")))
}

/// Blocks the calling thread, which must not belong to an async runtime.
fn wait(answer: impl Future<Output = Result<impl Serialize>>) -> Reply {
    match tokio::runtime::Builder::new_current_thread().build().context("start a runtime") {
        Ok(runtime) => render(runtime.block_on(answer)),
        Err(error) => refuse(500, &format!("{error:#}")),
    }
}

fn render(answer: Result<impl Serialize>) -> Reply {
    match answer {
        Ok(reply) => json(200, &reply),
        Err(error) => refuse(500, &format!("{error:#}")),
    }
}

fn json(status: u16, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => Reply { status, content_type: api::CONTENT_TYPE, body },
        Err(error) => refuse(500, &format!("internal error (please report): the reply cannot be serialized: {error}")),
    }
}

fn refuse(status: u16, sentence: &str) -> Reply {
    let body = serde_json::to_vec(&ErrorReply { err: sentence.to_owned() }).unwrap_or_default();
    Reply { status, content_type: api::CONTENT_TYPE, body }
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
        assert_eq!(release("pizza").0, 400);
        assert_eq!(ask("/IpamDriver.Unknown", "{}"), (404, String::new()));
    }
}
