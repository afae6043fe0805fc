// SPDX-License-Identifier: Apache-2.0
//! Routes with their documentation, and the OpenAPI document of a table of them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use utoipa::openapi::path::{HttpMethod, OperationBuilder, PathItem, PathsBuilder};
use utoipa::openapi::schema::{ArrayBuilder, ComponentsBuilder, ObjectBuilder, Type};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, OpenApiBuilder, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::description::Description;
use super::entry::{Call, Entry, ErrorReply};
use crate::serve::handler::{ANSWER_WITHIN, BODY_LIMIT, JSON};
use crate::serve::lines::LINES;

/// Where the document is.
pub const DOCUMENT: &str = "/v1/openapi.json";

/// What a document says of the whole.
#[derive(Clone, Copy)]
pub struct About {
    /// Its title.
    pub title: &'static str,
    /// Its subject.
    pub description: &'static str,
    /// The daemon's version.
    pub version: &'static str,
}

/// A route: method, path, what it calls, and what is to be known to call it.
pub struct Route<D> {
    method: HttpMethod,
    entry: Entry<D>,
    id: &'static str,
    summary: &'static str,
    /// Run for the document alone: a daemon that is not asked for it has no schemas in memory.
    steps: Vec<Step>,
}

type Step = Box<dyn FnOnce(Description) -> Description>;

impl<D> Route<D> {
    fn new(
        (method, name): (HttpMethod, &'static str),
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        call: Call<D>,
    ) -> Self {
        let entry = Entry { method: name, path, within: ANSWER_WITHIN, body_limit: BODY_LIMIT, has_query: false, call };
        Self { method, entry, id, summary, steps: Vec::new() }
    }

    /// A `GET`; `id` is the document's `operationId`.
    pub fn get(path: &'static str, id: &'static str, summary: &'static str, call: Call<D>) -> Self {
        Self::new((HttpMethod::Get, "GET"), path, id, summary, call)
    }

    /// A `POST`.
    pub fn post(path: &'static str, id: &'static str, summary: &'static str, call: Call<D>) -> Self {
        Self::new((HttpMethod::Post, "POST"), path, id, summary, call)
    }

    /// A `PUT`.
    pub fn put(path: &'static str, id: &'static str, summary: &'static str, call: Call<D>) -> Self {
        Self::new((HttpMethod::Put, "PUT"), path, id, summary, call)
    }

    /// A `PATCH`.
    pub fn patch(path: &'static str, id: &'static str, summary: &'static str, call: Call<D>) -> Self {
        Self::new((HttpMethod::Patch, "PATCH"), path, id, summary, call)
    }

    /// A `DELETE`.
    pub fn delete(path: &'static str, id: &'static str, summary: &'static str, call: Call<D>) -> Self {
        Self::new((HttpMethod::Delete, "DELETE"), path, id, summary, call)
    }

    fn described(mut self, step: impl FnOnce(Description) -> Description + 'static) -> Self {
        self.steps.push(Box::new(step));
        self
    }

    /// The parameter of its path.
    #[must_use]
    pub fn parameter<T: ToSchema + 'static>(self, text: &'static str) -> Self {
        self.described(|route| route.parameter::<T>(text))
    }

    /// The parameters of its query.
    #[must_use]
    pub fn query<Q: IntoParams + ToSchema + 'static>(mut self) -> Self {
        self.entry.has_query = true;
        self.described(Description::query::<Q>)
    }

    /// Its body.
    #[must_use]
    pub fn body<B: ToSchema + 'static>(self) -> Self {
        self.described(|route| route.takes::<B>(Required::True, None))
    }

    /// Its body, which may be missing.
    #[must_use]
    pub fn optional_body<B: ToSchema + 'static>(self, text: &'static str) -> Self {
        self.described(|route| route.takes::<B>(Required::False, Some(text)))
    }

    /// A reply.
    #[must_use]
    pub fn reply<R: ToSchema + 'static>(self, status: u16, text: &'static str) -> Self {
        self.described(move |mut route| {
            let schema = route.component::<R>();
            route.answers(status, text, JSON, schema)
        })
    }

    /// A reply that is a list.
    #[must_use]
    pub fn list<R: ToSchema + 'static>(self, text: &'static str) -> Self {
        self.described(|mut route| {
            let item = route.component::<R>();
            route.answers(200, text, JSON, ArrayBuilder::new().items(item).into())
        })
    }

    /// A reply of one value a line.
    #[must_use]
    pub fn lines<R: ToSchema + 'static>(self, text: &'static str) -> Self {
        self.described(|mut route| {
            let line = route.component::<R>();
            route.answers(200, text, LINES, line)
        })
    }

    /// A reply that is a page of a list.
    #[must_use]
    pub fn page<R: ToSchema + 'static>(self) -> Self {
        self.described(Description::page::<R>).fails(&[422])
    }

    /// Statuses of its errors, beside those of every request.
    #[must_use]
    pub fn fails(self, statuses: &'static [u16]) -> Self {
        self.described(move |mut route| {
            route.errors.extend(statuses);
            route
        })
    }

    /// The time within which it is answered.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.entry.within = limit;
        self
    }

    /// The maximum size of its body in bytes; the largest one of a path's methods counts.
    #[must_use]
    pub fn up_to(mut self, limit: usize) -> Self {
        self.entry.body_limit = limit;
        self
    }

    pub(super) fn into_entry(self) -> Entry<D> {
        self.entry
    }
}

/// What an error's status means.
fn meaning(status: u16, body_limit: usize) -> Cow<'static, str> {
    match status {
        400 => "The request does not fit this document.".into(),
        404 => "Not found.".into(),
        409 => "It contradicts something that exists.".into(),
        413 => format!("The body is larger than {body_limit} bytes.").into(),
        415 => "The body's content type is not JSON.".into(),
        422 => "The request fits this document, but its values contradict each other or are reserved.".into(),
        503 => "No answer in time: the disk or the kernel is slow. Try again.".into(),
        _ => "The disk or the kernel failed.".into(),
    }
}

fn error(status: u16, body_limit: usize) -> Response {
    let schema = RefOr::<Schema>::from(Ref::from_schema_name(ErrorReply::name()));
    ResponseBuilder::new()
        .description(meaning(status, body_limit))
        .content(JSON, ContentBuilder::new().schema(Some(schema)).build())
        .build()
}

/// The OpenAPI document of these routes, as JSON.
pub(super) fn document<D>(about: &About, routes: Vec<Route<D>>) -> Vec<u8> {
    let (mut paths, mut tags) = (PathsBuilder::new(), BTreeSet::new());
    let mut components = ComponentsBuilder::new().schema(ErrorReply::name(), ErrorReply::schema());
    for route in routes {
        let Route { method, entry, id, summary, steps } = route;
        let begun = Description::new(entry.path, id, summary);
        let done = steps.into_iter().fold(begun, |route, step| step(route));
        let Description { tag, mut operation, schemas, errors, replies, .. } = done;
        for status in errors.difference(&replies) {
            operation = operation.response(status.to_string(), error(*status, entry.body_limit));
        }
        tags.insert(tag);
        components = components.schemas_from_iter(schemas);
        paths = paths.path(entry.path, PathItem::new(method, operation));
    }
    let own = OperationBuilder::new().operation_id(Some("getOpenApi")).summary(Some("This document.")).tag("document");
    let any = ObjectBuilder::new().schema_type(Type::Object);
    let content = ContentBuilder::new().schema(Some(RefOr::<Schema>::from(any))).build();
    let own = own.response("200", ResponseBuilder::new().description("OpenAPI 3.1.").content(JSON, content));
    let document = OpenApiBuilder::new()
        .info(InfoBuilder::new().title(about.title).description(Some(about.description)).version(about.version).build())
        .tags(Some(tags.into_iter().chain(["document"]).map(|tag| TagBuilder::new().name(tag).build())))
        .paths(paths.path(DOCUMENT, PathItem::new(HttpMethod::Get, own)))
        .components(Some(components.build()))
        .build();
    serde_json::to_vec(&document).unwrap_or_default()
}
