// SPDX-License-Identifier: Apache-2.0
//! A route as it is looked up, what it is called with, and why it fails.

use std::time::Duration;

use anyhow::Error;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::api;
use crate::serve::handler::{Reply, Request};

/// Why a request failed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorReply {
    /// What is wrong with which value, and what to do.
    #[schema(examples("VNIC 0123456789 is unknown: see \"ciao-net vnic list\""))]
    pub error: String,
}

/// A request that failed: status and error.
#[derive(Debug)]
pub struct Failure(pub u16, pub String);

impl Failure {
    /// The request does not fit the document.
    pub fn bad_request(error: Error) -> Self {
        Self(400, format!("{error:#}"))
    }

    /// It contradicts something that exists.
    pub fn conflict(error: Error) -> Self {
        Self(409, format!("{error:#}"))
    }

    /// Its values contradict each other.
    pub fn contradiction(error: Error) -> Self {
        Self(422, format!("{error:#}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(500, format!("{error:#}"))
    }
}

/// What a route is called with.
pub struct Ask<'a> {
    pub(super) request: Request<'a>,
    pub(super) parameter: String,
}

impl Ask<'_> {
    /// The parameter of the path, decoded; empty if it has none.
    pub fn parameter(&self) -> &str {
        &self.parameter
    }

    /// The parameters after `?`, decoded.
    pub fn query<Q: DeserializeOwned>(&self) -> Result<Q, Failure> {
        serde_urlencoded::from_str(self.request.query)
            .map_err(|error| Failure(400, format!("the query {:?} is not valid: {error}", self.request.query)))
    }

    /// The body.
    pub fn body<B: DeserializeOwned>(&self) -> Result<B, Failure> {
        let read = api::parse(self.request.body);
        // JSON Schema takes 1500.0 for an integer; serde does not.
        let whole = || serde_json::from_value(with_integers(serde_json::from_slice(self.request.body).ok()?)).ok();
        read.or_else(|error| whole().ok_or(error)).map_err(Failure::bad_request)
    }

    /// The body; `None`: it is empty.
    pub fn body_if_any<B: DeserializeOwned>(&self) -> Result<Option<B>, Failure> {
        if self.request.body.is_empty() { Ok(None) } else { self.body().map(Some) }
    }
}

/// Numbers without a fraction as integers, up to 2^53.
fn with_integers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0 => {
                (float as i64).into()
            }
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(with_integers).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, field)| (key, with_integers(field))).collect(),
        other => other,
    }
}

/// A method for a path.
pub type Call<D> = fn(&D, &Ask<'_>) -> Result<Reply, Failure>;

/// A route as it is looked up.
pub(super) struct Entry<D> {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) within: Duration,
    pub(super) body_limit: usize,
    pub(super) has_query: bool,
    pub(super) call: Call<D>,
}
