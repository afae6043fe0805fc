// SPDX-License-Identifier: Apache-2.0
//! What JSON schemas say of values that are text: patterns that fit exactly what is parsed.

use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// A name: letters, digits, `_`, `.` and `-`, the first one a letter or digit.
pub(super) const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]*$";

const V4: &str = r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
const V4_PREFIX: &str = "/(?:3[0-2]|[12]?[0-9])";
const V6_PREFIX: &str = "/(?:12[0-8]|1[01][0-9]|[1-9]?[0-9])";

/// IPv6 without a dotted end.
fn v6() -> String {
    let group = "[0-9A-Fa-f]{1,4}";
    let mut forms = vec![format!("(?:{group}:){{7}}{group}"), format!("(?:{group}:){{1,7}}:")];
    forms.extend((1..=6).map(|after| format!("(?:{group}:){{1,{}}}(?::{group}){{1,{after}}}", 7 - after)));
    forms.push(format!(":(?:(?::{group}){{1,7}}|:)"));
    format!("(?:{})", forms.join("|"))
}

pub(super) fn cidr() -> String {
    format!("^(?:{V4}{V4_PREFIX}|{}{V6_PREFIX})$", v6())
}

/// The schema of a text.
pub(super) fn text(pattern: impl Into<String>, max: usize, description: &str, example: &str) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .pattern(Some(pattern))
        .min_length(Some(1))
        .max_length(Some(max))
        .examples([example])
        .into()
}

/// Describes a type that is text in JSON: pattern, longest text, description, example.
macro_rules! described {
    ($name:ident, $pattern:expr, $max:expr, $description:literal, $example:literal) => {
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                crate::types::schema::text($pattern, $max, $description, $example)
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}
pub(crate) use described;

/// The schema of an [`std::net::IpAddr`].
pub struct Address;

impl PartialSchema for Address {
    fn schema() -> RefOr<Schema> {
        text(format!("^(?:{V4}|{})$", v6()), 39, "An IPv4 or IPv6 address, without a prefix.", "192.168.111.2")
    }
}

impl ToSchema for Address {}

/// The schema of an optional CIDR in Docker's lists, which may be empty.
pub struct DockerCidr;

impl PartialSchema for DockerCidr {
    fn schema() -> RefOr<Schema> {
        let pattern = format!("^(?:{V4}{V4_PREFIX}|{}{V6_PREFIX})?$", v6());
        ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).into()
    }
}

impl ToSchema for DockerCidr {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_a_pattern_from_end_to_end() {
        for schema in [Address::schema(), crate::types::MacAddr::schema(), crate::types::Rate::schema()] {
            let schema = serde_json::to_value(schema).unwrap();
            let pattern = schema["pattern"].as_str().unwrap();
            assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{pattern}");
        }
    }
}
