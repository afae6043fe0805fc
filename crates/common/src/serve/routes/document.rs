// SPDX-License-Identifier: Apache-2.0
//! Routes with their documentation, and the OpenAPI document of a table of them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ComponentsBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, OpenApiBuilder, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
};
use utoipa::{IntoParams, PartialSchema, ToSchema};

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
    operation: OperationBuilder,
    schemas: Vec<(String, RefOr<Schema>)>,
    errors: BTreeSet<u16>,
    replies: BTreeSet<u16>,
}

impl<D> Route<D> {
    fn new(
        (method, name): (HttpMethod, &'static str),
        path: &'static str,
        id: &str,
        summary: &str,
        call: Call<D>,
    ) -> Self {
        let tag = path.split('/').nth(2).unwrap_or_default();
        let operation = OperationBuilder::new().operation_id(Some(id)).summary(Some(summary)).tag(tag);
        let entry = Entry { method: name, path, within: ANSWER_WITHIN, has_query: false, call };
        let errors = BTreeSet::from([400, 500, 503]);
        Self { method, entry, operation, schemas: Vec::new(), errors, replies: BTreeSet::new() }
    }

    /// A `GET`; `id` is the document's `operationId`.
    pub fn get(path: &'static str, id: &str, summary: &str, call: Call<D>) -> Self {
        Self::new((HttpMethod::Get, "GET"), path, id, summary, call)
    }

    /// A `POST`.
    pub fn post(path: &'static str, id: &str, summary: &str, call: Call<D>) -> Self {
        Self::new((HttpMethod::Post, "POST"), path, id, summary, call)
    }

    /// A `PUT`.
    pub fn put(path: &'static str, id: &str, summary: &str, call: Call<D>) -> Self {
        Self::new((HttpMethod::Put, "PUT"), path, id, summary, call)
    }

    /// A `PATCH`.
    pub fn patch(path: &'static str, id: &str, summary: &str, call: Call<D>) -> Self {
        Self::new((HttpMethod::Patch, "PATCH"), path, id, summary, call)
    }

    /// A `DELETE`.
    pub fn delete(path: &'static str, id: &str, summary: &str, call: Call<D>) -> Self {
        Self::new((HttpMethod::Delete, "DELETE"), path, id, summary, call)
    }

    /// The parameter of its path.
    #[must_use]
    pub fn parameter<T: ToSchema>(mut self, description: &str) -> Self {
        let name = self.entry.path.split(['{', '}']).nth(1).unwrap_or_default();
        let schema = self.component::<T>();
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(description))
            .schema(Some(schema));
        self.operation = self.operation.parameter(Parameter::from(parameter));
        self
    }

    /// The parameters of its query.
    #[must_use]
    pub fn query<Q: IntoParams + ToSchema>(mut self) -> Self {
        Q::schemas(&mut self.schemas);
        for mut parameter in Q::into_params(|| Some(ParameterIn::Query)) {
            // What is not required may be missing; null it cannot be.
            parameter.schema = parameter.schema.map(without_null);
            self.operation = self.operation.parameter(parameter);
        }
        self.entry.has_query = true;
        self
    }

    /// Its body.
    #[must_use]
    pub fn body<B: ToSchema>(self) -> Self {
        self.takes::<B>(Required::True, None)
    }

    /// Its body, which may be missing.
    #[must_use]
    pub fn optional_body<B: ToSchema>(self, description: &str) -> Self {
        self.takes::<B>(Required::False, Some(description))
    }

    fn takes<B: ToSchema>(mut self, required: Required, description: Option<&str>) -> Self {
        let content = ContentBuilder::new().schema(Some(self.component::<B>()));
        let body = RequestBodyBuilder::new().content(JSON, content.build()).required(Some(required));
        self.operation = self.operation.request_body(Some(body.description(description).build()));
        self.errors.extend([413, 415]);
        self
    }

    /// A reply.
    #[must_use]
    pub fn reply<R: ToSchema>(mut self, status: u16, description: &str) -> Self {
        let schema = self.component::<R>();
        self.answers(status, description, JSON, schema)
    }

    /// A reply that is a list.
    #[must_use]
    pub fn list<R: ToSchema>(mut self, description: &str) -> Self {
        let item = self.component::<R>();
        self.answers(200, description, JSON, ArrayBuilder::new().items(item).into())
    }

    /// A reply of one value a line.
    #[must_use]
    pub fn lines<R: ToSchema>(mut self, description: &str) -> Self {
        let line = self.component::<R>();
        self.answers(200, description, LINES, line)
    }

    /// A reply that is a page of a list.
    #[must_use]
    pub fn page<R: ToSchema>(mut self) -> Self {
        let item = self.component::<R>();
        let next = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .description(Some("The cursor of the next page, for \"after\"; null: this is the last one."));
        let page = ObjectBuilder::new()
            .schema_type(Type::Object)
            .property("items", ArrayBuilder::new().items(item))
            .property("next", next)
            .required("items")
            .required("next");
        self.answers(200, "Items after the cursor.", JSON, page.into()).fails(&[422])
    }

    fn answers(mut self, status: u16, description: &str, content_type: &str, schema: RefOr<Schema>) -> Self {
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new().description(description).content(content_type, content);
        self.operation = self.operation.response(status.to_string(), response);
        self.replies.insert(status);
        self
    }

    /// Statuses of its errors, beside those of every request.
    #[must_use]
    pub fn fails(mut self, statuses: &[u16]) -> Self {
        self.errors.extend(statuses);
        self
    }

    /// The time within which it is answered.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.entry.within = limit;
        self
    }

    /// A reference to a schema, which is described too.
    fn component<T: ToSchema>(&mut self) -> RefOr<Schema> {
        self.schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.schemas);
        Ref::from_schema_name(T::name()).into()
    }

    pub(super) fn into_entry(self) -> Entry<D> {
        self.entry
    }
}

fn without_null(schema: RefOr<Schema>) -> RefOr<Schema> {
    let null = SchemaType::from(Type::Null);
    match schema {
        RefOr::T(Schema::OneOf(either)) => {
            let is_null =
                |item: &RefOr<Schema>| matches!(item, RefOr::T(Schema::Object(one)) if one.schema_type == null);
            let rest: Vec<_> = either.items.iter().filter(|item| !is_null(item)).cloned().collect();
            <[_; 1]>::try_from(rest).map_or(RefOr::T(Schema::OneOf(either)), |[one]| one)
        }
        RefOr::T(Schema::Object(mut object)) => {
            if let SchemaType::Array(types) = &object.schema_type
                && let [one, Type::Null] = types.as_slice()
            {
                object.schema_type = one.clone().into();
            }
            object.into()
        }
        other => other,
    }
}

/// What an error's status means.
fn meaning(status: u16) -> Cow<'static, str> {
    match status {
        400 => "The request does not fit this document.".into(),
        404 => "Not found.".into(),
        409 => "It contradicts something that exists.".into(),
        413 => format!("The body is larger than {BODY_LIMIT} bytes.").into(),
        415 => "The body's content type is not JSON.".into(),
        422 => "The request fits this document, but its values contradict each other or are reserved.".into(),
        503 => "No answer in time: the disk or the kernel is slow. Try again.".into(),
        _ => "The disk or the kernel failed.".into(),
    }
}

fn error(status: u16) -> Response {
    let schema = RefOr::<Schema>::from(Ref::from_schema_name(ErrorReply::name()));
    ResponseBuilder::new()
        .description(meaning(status))
        .content(JSON, ContentBuilder::new().schema(Some(schema)).build())
        .build()
}

/// The OpenAPI document of these routes, as JSON.
pub(super) fn document<D>(about: &About, routes: Vec<Route<D>>) -> Vec<u8> {
    let (mut paths, mut tags) = (PathsBuilder::new(), BTreeSet::new());
    let mut components = ComponentsBuilder::new().schema(ErrorReply::name(), ErrorReply::schema());
    for route in routes {
        let Route { method, entry, mut operation, schemas, errors, replies } = route;
        for status in errors.difference(&replies) {
            operation = operation.response(status.to_string(), error(*status));
        }
        tags.insert(entry.path.split('/').nth(2).unwrap_or_default());
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
