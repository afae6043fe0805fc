// SPDX-License-Identifier: Apache-2.0
//! JSON as encoded by Go: an absent value may be `""`, `null` or missing; a map may be `null`.
//!
//! For `#[serde(deserialize_with = …)]` and `#[serde(serialize_with = …)]`, always with `default`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::types::{parse_address, parse_cidr};

/// The key under which a network's own options (`-o key=value`) arrive.
pub const GENERIC: &str = "com.docker.network.generic";

/// An optional value. Fails if its parser refuses it.
pub fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = anyhow::Error>,
{
    optional_by(deserializer, str::parse)
}

/// An optional address with prefix; a bare address is refused.
pub fn optional_cidr<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpNetwork>, D::Error> {
    optional_by(deserializer, parse_cidr)
}

/// An optional bare address; a CIDR is refused.
pub fn optional_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    optional_by(deserializer, parse_address)
}

fn optional_by<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl FnOnce(&str) -> anyhow::Result<T>,
) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    text.map(|text| parse(&text)).transpose().map_err(|error| D::Error::custom(format!("{error:#}")))
}

/// A required bare address.
pub fn required_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
    parse_address(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// An optional list of bare addresses.
pub fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let texts = Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default();
    texts.iter().map(|text| parse_address(text).map_err(D::Error::custom)).collect()
}

/// A value whose default replaces `null`.
pub fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// An object whose default replaces `null`. An array is refused, which serde would read as the fields in their order.
pub fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let fields = Option::<Map<String, Value>>::deserialize(deserializer)?;
    fields.map_or_else(|| Ok(T::default()), |fields| serde_json::from_value(fields.into()).map_err(D::Error::custom))
}

/// A list of objects; `null` is an empty one. Arrays are refused as by [`object`].
pub fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let list = Option::<Vec<Map<String, Value>>>::deserialize(deserializer)?.unwrap_or_default();
    list.into_iter().map(|fields| serde_json::from_value(fields.into()).map_err(D::Error::custom)).collect()
}

/// Serializes an absent value as `""`.
pub fn or_empty<S: Serializer, T: Display>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_str(""),
    }
}

/// Options of a request: the engine's (`com.docker.network.…`) and the user's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Options(Map<String, Value>);

impl Options {
    /// The text of an option; `None` if it is missing or `""`. Numbers and booleans are converted.
    pub fn text(&self, key: &str) -> Option<String> {
        self.0.get(key).and_then(scalar)
    }

    /// Whether an option is `true` or `1`.
    pub fn flag(&self, key: &str) -> bool {
        self.text(key).is_some_and(|text| text == "true" || text == "1")
    }

    /// The JSON value of an option.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// The user's options of a network (`docker network create -o`).
    pub fn generic(&self) -> BTreeMap<String, String> {
        self.0.get(GENERIC).and_then(Value::as_object).map(texts).unwrap_or_default()
    }

    /// The user's options of a network without a value.
    pub fn empty_generic(&self) -> Vec<&str> {
        self.0.get(GENERIC).and_then(Value::as_object).map(empty).unwrap_or_default()
    }

    /// The options without a value.
    #[must_use]
    pub fn empty(&self) -> Vec<&str> {
        empty(&self.0)
    }

    /// All options that have a text.
    pub fn texts(&self) -> BTreeMap<String, String> {
        texts(&self.0)
    }
}

impl From<&[(&str, &str)]> for Options {
    fn from(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Options {
    fn from(pairs: [(&str, &str); N]) -> Self {
        pairs.as_slice().into()
    }
}

fn empty(map: &Map<String, Value>) -> Vec<&str> {
    map.iter().filter(|(_, value)| **value == "").map(|(key, _)| key.as_str()).collect()
}

fn texts(map: &Map<String, Value>) -> BTreeMap<String, String> {
    map.iter().filter_map(|(key, value)| Some((key.clone(), scalar(value)?))).collect()
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Probe {
        #[serde(default, deserialize_with = "optional_address")]
        a: Option<IpAddr>,
        #[serde(default, deserialize_with = "nullable")]
        o: Options,
    }

    fn probe(json: &str) -> Result<Probe, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn absent_is_empty_null_or_missing() {
        for json in ["{}", r#"{"a":"","o":null}"#, r#"{"a":null,"o":{}}"#] {
            let probe = probe(json).unwrap();
            assert_eq!(probe.a, None);
            assert_eq!(probe.o, Options::default());
        }
        assert!(probe(r#"{"a":"not-an-ip"}"#).is_err());
        assert!(probe(r#"{"a":"10.0.0.1/24"}"#).is_err());
    }

    #[test]
    fn options_are_read_as_text_whatever_their_json_type() {
        let probe =
            probe(r#"{"o":{"a":"x","b":true,"c":7,"d":"","e":[1],"com.docker.network.generic":{"bridge":"br1"}}}"#)
                .unwrap();
        assert_eq!(probe.o.text("a").as_deref(), Some("x"));
        assert!(probe.o.flag("b"));
        assert_eq!(probe.o.text("c").as_deref(), Some("7"));
        assert_eq!(probe.o.text("d"), None);
        assert_eq!(probe.o.text("e"), None);
        assert_eq!(probe.o.generic()["bridge"], "br1");
    }
}
