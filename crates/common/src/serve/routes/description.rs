// SPDX-License-Identifier: Apache-2.0
//! What the OpenAPI document has of one route.

use std::collections::BTreeSet;

use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, ResponseBuilder, Schema};
use utoipa::{IntoParams, ToSchema};

use crate::serve::handler::JSON;

/// What the document has of a route.
pub(super) struct Description {
    path: &'static str,
    pub(super) tag: &'static str,
    pub(super) operation: OperationBuilder,
    pub(super) schemas: Vec<(String, RefOr<Schema>)>,
    pub(super) errors: BTreeSet<u16>,
    pub(super) replies: BTreeSet<u16>,
}

impl Description {
    /// With the errors of every request.
    pub(super) fn new(path: &'static str, id: &str, summary: &str) -> Self {
        let tag = path.split('/').nth(2).unwrap_or_default();
        let operation = OperationBuilder::new().operation_id(Some(id)).summary(Some(summary)).tag(tag);
        let errors = BTreeSet::from([400, 500, 503]);
        Self { path, tag, operation, schemas: Vec::new(), errors, replies: BTreeSet::new() }
    }

    pub(super) fn parameter<T: ToSchema>(mut self, text: &str) -> Self {
        let name = self.path.split(['{', '}']).nth(1).unwrap_or_default();
        let schema = self.component::<T>();
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(text))
            .schema(Some(schema));
        self.operation = self.operation.parameter(Parameter::from(parameter));
        self
    }

    pub(super) fn query<Q: IntoParams + ToSchema>(mut self) -> Self {
        Q::schemas(&mut self.schemas);
        for mut parameter in Q::into_params(|| Some(ParameterIn::Query)) {
            // What is not required may be missing; null it cannot be.
            parameter.schema = parameter.schema.map(without_null);
            self.operation = self.operation.parameter(parameter);
        }
        self
    }

    pub(super) fn takes<B: ToSchema>(mut self, required: Required, text: Option<&str>) -> Self {
        let content = ContentBuilder::new().schema(Some(self.component::<B>()));
        let body = RequestBodyBuilder::new().content(JSON, content.build()).required(Some(required));
        self.operation = self.operation.request_body(Some(body.description(text).build()));
        self.errors.extend([413, 415]);
        self
    }

    pub(super) fn page<R: ToSchema>(mut self) -> Self {
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
        self.answers(200, "Items after the cursor.", JSON, page.into())
    }

    pub(super) fn answers(mut self, status: u16, text: &str, content_type: &str, schema: RefOr<Schema>) -> Self {
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new().description(text).content(content_type, content);
        self.operation = self.operation.response(status.to_string(), response);
        self.replies.insert(status);
        self
    }

    /// A reference to a schema, which is described too.
    pub(super) fn component<T: ToSchema>(&mut self) -> RefOr<Schema> {
        self.schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.schemas);
        Ref::from_schema_name(T::name()).into()
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
