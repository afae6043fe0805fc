// SPDX-License-Identifier: Apache-2.0
//! What a request to a table of routes gets.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::*;
use crate::types::TenantId;

#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Limit to this tenant.
    tenant: Option<TenantId>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Thing {
    name: TenantId,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u32>,
}

fn list(_: &(), ask: &Ask<'_>) -> Result<Reply, Failure> {
    let Filter { tenant } = ask.query()?;
    json(200, &tenant.into_iter().map(|name| Thing { name, size: None }).collect::<Vec<_>>())
}

fn make(_: &(), ask: &Ask<'_>) -> Result<Reply, Failure> {
    json(201, &ask.body::<Thing>()?)
}

fn show(_: &(), ask: &Ask<'_>) -> Result<Reply, Failure> {
    json(200, &ask.parameter())
}

fn table() -> Vec<Route<()>> {
    vec![
        Route::get("/v1/things", "listThings", "List things.", list).query::<Filter>().list::<Thing>("They."),
        Route::post("/v1/things", "makeThing", "Make one.", make).body::<Thing>().reply::<Thing>(201, "Made."),
        Route::get("/v1/things/{name}", "showThing", "Show one.", show)
            .parameter::<TenantId>("Its name.")
            .reply::<Thing>(200, "It.")
            .fails(&[404]),
    ]
}

fn routes() -> Routes<()> {
    Routes::new((), About { title: "things", description: "Things.", version: "1" }, table)
}

fn ask(method: &str, target: &str, body: &[u8]) -> (u16, Value, Vec<(&'static str, String)>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let reply = routes().handle(Request { method, path, query, body });
    (reply.status, serde_json::from_slice(&reply.body).unwrap(), reply.headers)
}

#[test]
fn queries_and_paths_are_decoded() {
    assert_eq!(ask("GET", "/v1/things?tenant=a%2Db", b"").1, json!([{ "name": "a-b" }]));
    assert_eq!(ask("GET", "/v1/things/a%2Db", b"").1, json!("a-b"));
    for wrong in ["tenat=x", "tenant=%20", "tenant="] {
        let (status, reply, _) = ask("GET", &format!("/v1/things?{wrong}"), b"");
        assert!(status == 400 && reply["error"].as_str().unwrap().contains(wrong), "{status} {reply}");
    }
    assert_eq!(ask("GET", "/v1/things/a?tenant=x", b"").0, 400, "it takes no parameters");
}

#[test]
fn a_wrong_method_is_405_with_the_allowed_ones_and_an_unknown_path_404() {
    for (method, path, allowed) in
        [("PUT", "/v1/things", "GET, POST"), ("HEAD", "/v1/things/a", "GET"), ("DELETE", DOCUMENT, "GET")]
    {
        let (status, reply, headers) = ask(method, path, b"");
        assert_eq!((status, headers), (405, vec![("allow", allowed.to_owned())]), "{method} {path}");
        assert!(reply["error"].as_str().unwrap().contains(allowed), "{reply}");
    }
    for path in ["/", "/v1", "/v1/thing", "/v1/things/", "/v1/things/a/b", "/v1/openapi"] {
        let (status, reply, _) = ask("GET", path, b"");
        let is_list = path == "/v1/things/";
        assert_eq!(status, if is_list { 200 } else { 404 }, "{path} {reply}");
    }
}

#[test]
fn json_is_read_under_its_own_names_and_under_curl_s() {
    let accepts = |text| routes().accepts(text);
    for good in ["", "application/json", "Application/JSON; charset=utf-8", "application/x-www-form-urlencoded"] {
        assert!(accepts(good), "{good}");
    }
    for wrong in ["text/xml", "multipart/form-data; boundary=x", "application/jsonp"] {
        assert!(!accepts(wrong), "{wrong}");
    }
    for wrong in [&b"pizza"[..], b"", b"[]", br#"{"name":"a b"}"#, br#"{"name":"a","x":1}"#] {
        let (status, reply, _) = ask("POST", "/v1/things", wrong);
        assert!(status == 400 && reply["error"].is_string(), "{reply}");
    }
}

#[test]
fn a_number_without_a_fraction_is_an_integer() {
    let (status, reply, _) = ask("POST", "/v1/things", br#"{"name":"a","size":1500.0}"#);
    assert_eq!((status, &reply["size"]), (201, &json!(1500)), "{reply}");
    for wrong in ["1500.5", "-1.0", "1e300", "\"1500\""] {
        let (status, reply, _) = ask("POST", "/v1/things", format!(r#"{{"name":"a","size":{wrong}}}"#).as_bytes());
        assert!(status == 400 && reply["error"].is_string(), "{wrong}: {reply}");
    }
}

#[test]
fn every_route_is_in_the_document_with_all_that_it_names() {
    let (status, document, _) = ask("GET", DOCUMENT, b"");
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    for (pointer, is) in [
        ("/paths/~1v1~1things/get/operationId", json!("listThings")),
        ("/paths/~1v1~1things/get/tags", json!(["things"])),
        ("/paths/~1v1~1things/get/parameters/0/name", json!("tenant")),
        ("/paths/~1v1~1things/get/parameters/0/schema", json!({ "$ref": "#/components/schemas/TenantId" })),
        ("/paths/~1v1~1things/post/requestBody/required", json!(true)),
        ("/paths/~1v1~1things~1{name}/get/parameters/0/in", json!("path")),
        ("/components/schemas/Thing/additionalProperties", json!(false)),
        ("/components/schemas/Thing/required", json!(["name"])),
        ("/components/schemas/TenantId/maxLength", json!(63)),
        ("/components/schemas/Error/required", json!(["error"])),
    ] {
        assert_eq!(document.pointer(pointer), Some(&is), "{pointer} of {document:#}");
    }
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name} is not described");
    }
}

/// How often its schema was made.
static MADE: AtomicUsize = AtomicUsize::new(0);

struct Large;

impl PartialSchema for Large {
    fn schema() -> RefOr<Schema> {
        MADE.fetch_add(1, Ordering::Relaxed);
        Thing::schema()
    }
}

impl ToSchema for Large {}

#[test]
fn schemas_are_made_for_the_document_alone() {
    let table = || vec![Route::get("/v1/large", "showLarge", "Show it.", show).reply::<Large>(200, "It.")];
    let routes = Routes::new((), About { title: "large", description: "Large.", version: "1" }, table);
    assert_eq!(MADE.load(Ordering::Relaxed), 0);
    assert!(String::from_utf8(routes.document()).unwrap().contains("showLarge"));
    assert_eq!(MADE.load(Ordering::Relaxed), 1);
}
