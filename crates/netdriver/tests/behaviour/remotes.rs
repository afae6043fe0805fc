// SPDX-License-Identifier: Apache-2.0
//! Lists that a controller gives: hosts, and which of them has which address of a tenant.

use std::sync::Arc;

use ciao_common::serve::metrics::Metrics;
use ciao_common::serve::server::{Handler, Request};
use ciao_common::types::LinkName;
use ciao_netdriver::control::Report;
use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::kernel::fake::{FakeLink, consistency};
use ciao_netdriver::kernel::tunnel::{Underlay, VxlanLink};
use ciao_netdriver::reconcile::Depth;
use ciao_netdriver::{Config, TunnelConfig};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::network;

const REMOTES: &str = "/v1/tenants/red/remotes";

fn ask(b: &Bench, method: &str, path: &str, body: &Value) -> (u16, Value) {
    b.launcher(method, path, body.to_string().as_bytes())
}

fn refusal(b: &Bench, method: &str, path: &str, body: &Value) -> String {
    let (status, reply) = ask(b, method, path, body);
    assert!([400, 409, 422].contains(&status), "{status} {reply}");
    reply["error"].as_str().unwrap().to_owned()
}

/// A host at 192.0.2.1, which its controller calls h1, with others at .2 and .3, and a network of tenant red.
fn bench() -> Bench {
    let b = Bench::new();
    b.kernel.change(|state| state.addresses.push(("192.0.2.0/24".parse().unwrap(), [192, 0, 2, 1].into())));
    let hosts = json!([host(1), host(2), host(3)]);
    assert_eq!(ask(&b, "PUT", "/v1/hosts", &json!({ "generation": 1, "hosts": hosts })).0, 200);
    b.ok("CreateNetwork", &network("red", &["10.1.0.0/24"], &[("tenant", "red"), ("bridge", "br1"), ("vni", "101")]));
    b
}

fn host(n: u8) -> Value {
    json!({ "id": format!("h{n}"), "address": format!("192.0.2.{n}"), "mtu": 9000 })
}

fn remote(n: u8, host: &str) -> Value {
    json!([format!("10.1.0.{n}"), format!("02:00:00:00:00:{n:02x}"), host])
}

fn tunnel(b: &Bench) -> VxlanLink {
    let state = b.kernel.state();
    let mut links = state.links.into_values();
    *links.find_map(|link| if let FakeLink::Vxlan(link) = link { Some(link) } else { None }).unwrap()
}

#[test]
fn a_tunnel_leads_to_what_is_on_other_hosts_and_follows_the_lists() {
    let b = bench();
    let remotes = json!([
        remote(2, "h1"),
        remote(3, "h2"),
        remote(4, "h3"),
        remote(5, "h9"),
        ["10.9.0.2", "02:00:00:00:00:99", "h2"]
    ]);
    assert_eq!(ask(&b, "PUT", REMOTES, &json!({ "generation": 1, "remotes": remotes })).0, 200);
    let made = tunnel(&b);
    assert_eq!((made.vni, made.local.to_string().as_str(), made.port), (101, "192.0.2.1", 14789));
    assert_eq!(made.mtu.unwrap().bytes(), 8950, "decided by the list of hosts");
    let reached = |b: &Bench| tunnel(b).neighbours.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(reached(&b), ["10.1.0.3", "10.1.0.4"], "neither its own, nor of a host or subnet that is not there");
    let change = json!({ "base": 1, "generation": 2, "set": [remote(6, "h2")], "delete": ["10.1.0.3"] });
    assert_eq!(ask(&b, "PATCH", REMOTES, &change).0, 200);
    assert_eq!(reached(&b), ["10.1.0.4", "10.1.0.6"]);
    // A VNIC of this host is here, whatever a list says, and elsewhere when it has gone.
    b.run("red1", "red", "10.1.0.4/24", "");
    assert_eq!(b.driver.reconcile(Depth::Full), []);
    assert!(
        b.kernel.state().neighbours.iter().any(|((.., address), mac)| {
            address.to_string() == "10.1.0.4" && mac.to_string() != "02:00:00:00:00:04"
        })
    );
    b.stop("red", "red1");
    b.settle();
    assert_eq!(reached(&b), ["10.1.0.4", "10.1.0.6"]);
    assert!(b.kernel.state().neighbours.iter().any(|(_, mac)| mac.to_string() == "02:00:00:00:00:04"));
    // A host that leaves the list takes its rows with it, and gives them back.
    ask(&b, "PUT", "/v1/hosts", &json!({ "generation": 2, "hosts": [host(1), host(3)] }));
    assert_eq!(reached(&b), ["10.1.0.4"]);
    ask(&b, "PUT", "/v1/hosts", &json!({ "generation": 3, "hosts": [host(1), host(3), host(2)] }));
    assert_eq!(reached(&b), ["10.1.0.4", "10.1.0.6"]);
    ask(&b, "DELETE", REMOTES, &json!({ "generation": 3 }));
    assert_eq!(reached(&b), [""; 0]);
    let differences = consistency::differences(&b.store, &b.kernel.state()).unwrap();
    assert_eq!(differences, [""; 0]);
    // In no list, this host listens to nobody as long as the link stands.
    ask(&b, "PUT", "/v1/hosts", &json!({ "generation": 4, "hosts": [] }));
    let rules = b.kernel.state().tunnel_rules.into_iter().collect::<String>();
    assert!(rules.contains("strangers drop") && !rules.contains("192.0.2"), "{rules}");
    b.ok("DeleteNetwork", &json!({ "NetworkID": crate::requests::id("red") }));
    assert!(!b.kernel.state().links.values().any(|link| matches!(link, FakeLink::Vxlan(_))));
    b.driver.reconcile(Depth::Changed);
    assert!(b.kernel.state().tunnel_rules.is_empty(), "with the last network");
}

/// What the rules allow other hosts, as `SET HOST VNI ADDRESS` and the like.
fn allowed(b: &Bench) -> Vec<String> {
    let lines = b.kernel.state().tunnel_rules.into_iter();
    let lines = lines.filter_map(|line| Some(line.strip_prefix("add element inet ciao_tunnel ")?.to_owned()));
    let words = lines.map(|line| line.replace(['{', '}', '.'], " ").split_whitespace().collect::<Vec<_>>().join(" "));
    words.filter(|line| !line.starts_with("hosts")).collect()
}

#[test]
fn a_host_sends_with_the_addresses_that_are_on_it() {
    let b = bench();
    b.ok("CreateNetwork", &network("app", &["10.2.0.0/24"], &[("tenant", "red"), ("bridge", "br2"), ("vni", "102")]));
    b.ok(
        "CreateNetwork",
        &network("any", &["10.3.0.0/24"], &[("tenant", "blue"), ("vni", "103"), ("port_security", "off")]),
    );
    let routers =
        ["routers 0x000065 0x0ec1a0000065", "routers 0x000066 0x0ec1a0000066", "routers 0x000067 0x0ec1a0000067"];
    assert_eq!(allowed(&b), [&routers[..], &["unfiltered 14789 0x000067"]].concat());
    let before = b.kernel.state();
    let remotes = json!([remote(2, "h1"), remote(3, "h2"), ["fd00::3", "02:00:00:00:00:03", "h2"], remote(5, "h9")]);
    assert_eq!(ask(&b, "PUT", REMOTES, &json!({ "generation": 1, "remotes": remotes })).0, 200);
    let in_vni = |vni: &str| {
        allowed(&b)
            .into_iter()
            .filter_map(|line| line.contains(vni).then(|| line.replace(vni, "V").replace(&vni[2..], "V")))
            .collect::<Vec<_>>()
    };
    let expected = [
        "ips4 192 0 2 2 V 0x0a010003",
        "ips6 192 0 2 2 V 0xfd000000000000000000000000000003",
        "macs 192 0 2 2 V 0x020000000003",
        "routers V 0x0ec1a0V",
    ];
    assert_eq!(in_vni("0x000065"), expected);
    assert_eq!(in_vni("0x000066"), expected, "hosts route between subnets of a tenant");
    assert_eq!(in_vni("0x000067").len(), 2);
    // It moves, and another address of its MAC stays.
    let change = json!({ "base": 1, "generation": 2, "set": [remote(3, "h3")] });
    assert_eq!(ask(&b, "PATCH", REMOTES, &change).0, 200);
    assert_eq!(in_vni("0x000065")[..2], ["ips4 192 0 2 3 V 0x0a010003", expected[1]]);
    assert_eq!(in_vni("0x000065")[2..4], [expected[2], "macs 192 0 2 3 V 0x020000000003"]);
    // What somebody else deletes of them is put back with the next change, or by a reconcile.
    b.kernel.change(|state| state.tunnel_rules.retain(|line| !line.contains("ips4")));
    assert_eq!(ask(&b, "PATCH", REMOTES, &json!({ "base": 2, "generation": 3, "set": [remote(3, "h2")] })).0, 200);
    assert_eq!(in_vni("0x000066"), expected);
    b.kernel.change(|state| state.tunnel_rules.retain(|line| !line.contains("ips4")));
    let repaired: Vec<_> = b.driver.reconcile(Depth::Full).into_iter().map(|row| row.what).collect();
    assert!(repaired.len() == 1 && repaired[0].starts_with("rules of tunnels"), "{repaired:?}");
    assert_eq!(in_vni("0x000066"), expected);
    b.ok("DeleteNetwork", &json!({ "NetworkID": crate::requests::id("app") }));
    assert_eq!((in_vni("0x000066").len(), in_vni("0x000065").len()), (0, expected.len()));
    ask(&b, "DELETE", REMOTES, &json!({ "generation": 4 }));
    let after = b.kernel.state().tunnel_rules;
    let mut expected = before.tunnel_rules;
    expected.retain(|line| !line.contains("0x000066"));
    assert_eq!(after, expected);
    assert_eq!(b.driver.reconcile(Depth::Full), []);
}

/// What `ciao-net status` prints of tunnels.
fn problems(b: &Bench) -> Vec<String> {
    let (_, status) = ask(b, "GET", "/v1/status", &json!(null));
    let problems = status["problems"].as_array().unwrap().iter().filter(|problem| problem["check"] == "tunnels");
    problems.map(|problem| problem["problem"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_encrypted_network_leads_to_no_other_host_over_a_link_that_does_not_encrypt() {
    let encrypted = |name: &str, subnet: &str, vni: &str| {
        network(name, &[subnet], &[("tenant", "blue"), ("vni", vni), ("encrypted", "required")])
    };
    let b = bench();
    let refused = |b: &Bench, name: &str| b.call("CreateNetwork", &encrypted(name, "10.4.0.0/24", "104")).unwrap_err();
    assert!(refused(&b, "one").contains("serve --tunnel"), "{}", refused(&b, "one"));
    let wg0: LinkName = "wg0".parse().unwrap();
    let tunnel_config = TunnelConfig { link: Some(wg0.clone()), ..Config::default().tunnel };
    let b = b.restarted_as(Config { tunnel: tunnel_config, ..Config::default() });
    let own = |b: &Bench| ask(b, "GET", "/v1/hosts", &json!(null)).1["own"].clone();
    let underlay = |b: &Bench, is_encrypted: bool| {
        let addresses = [[192, 0, 2, 1].into()].into();
        b.kernel.change(|state| drop(state.underlays.insert(wg0.clone(), Underlay { addresses, is_encrypted })));
    };
    assert_eq!(own(&b), json!(null), "the address is not that link's");
    assert!(problems(&b)[0].contains("this host is in no list"), "{:?}", problems(&b));
    underlay(&b, false);
    assert_eq!(own(&b), json!("h1"));
    assert!(refused(&b, "two").contains("wg0, which does not encrypt"), "{}", refused(&b, "two"));
    underlay(&b, true);
    b.ok("CreateNetwork", &encrypted("three", "10.4.0.0/24", "104"));
    let remotes = json!({ "generation": 1, "remotes": [["10.4.0.3", "02:00:00:00:00:03", "h2"]] });
    assert_eq!(ask(&b, "PUT", "/v1/tenants/blue/remotes", &remotes).0, 200);
    let shown = |b: &Bench| {
        let id = crate::requests::id("three");
        ask(b, "GET", &format!("/v1/networks/{id}"), &json!(null)).1["tunnel"].clone()
    };
    assert_eq!((&shown(&b)["encrypted"], &shown(&b)["hosts"]), (&json!(true), &json!({ "h2": 1, "h3": 0 })));
    let is_led = |b: &Bench| b.kernel.state().neighbours.keys().any(|(.., address)| address.to_string() == "10.4.0.3");
    assert!(is_led(&b));
    // A remote network that was there before the tenant's first encrypted one is encrypted from then on.
    b.ok("CreateNetwork", &network("plain", &["10.5.0.0/24"], &[("tenant", "green"), ("vni", "105")]));
    let far = json!({ "subnet": "10.6.0.0/24", "vni": 106, "gateway": "10.6.0.1" });
    let far = json!({ "generation": 1, "remotes": [], "networks": [far] });
    assert_eq!(ask(&b, "PUT", "/v1/tenants/green/remotes", &far).0, 200);
    let is_encrypted = |b: &Bench| ask(b, "GET", "/v1/networks/vni106", &json!(null)).1["tunnel"]["encrypted"].clone();
    assert_eq!(is_encrypted(&b), json!(false));
    let create = [("tenant", "green"), ("vni", "107"), ("encrypted", "required")];
    b.ok("CreateNetwork", &network("safe", &["10.7.0.0/24"], &create));
    assert_eq!(is_encrypted(&b), json!(true));
    b.ok("DeleteNetwork", &json!({ "NetworkID": crate::requests::id("safe") }));
    assert_eq!((is_encrypted(&b), b.driver.reconcile(Depth::Full)), (json!(false), vec![]));
    // The link is replaced by another of its name.
    underlay(&b, false);
    b.driver.reconcile(Depth::Full);
    assert!(!is_led(&b) && shown(&b)["remotes"] == 0);
    assert!(problems(&b).iter().any(|problem| problem.contains("reaches no other host")), "{:?}", problems(&b));
    // What dockerd repeats is no new network.
    b.ok("CreateNetwork", &encrypted("three", "10.4.0.0/24", "104"));
    underlay(&b, true);
    b.driver.reconcile(Depth::Full);
    assert!(is_led(&b));
    let rules = b.kernel.state().tunnel_rules.into_iter().collect::<String>();
    for rule in [
        "iifname != \"wg0\" counter name strangers drop",
        "udp dport 14789 oifname != \"wg0\" counter name diverted drop",
    ] {
        assert!(rules.contains(rule), "{rules}");
    }
}

#[test]
fn tunnels_that_cannot_be_checked_are_a_problem() {
    let b = bench();
    let conn = rusqlite::Connection::open(b.store.path()).unwrap();
    conn.execute_batch("PRAGMA foreign_keys = off; UPDATE tunnel_record SET network = 'not an id'").unwrap();
    assert!(problems(&b)[0].contains("not an id"), "{:?}", problems(&b));
}

#[test]
fn status_and_metrics_show_lists_that_were_not_given() {
    let b = bench();
    let missing = "tenant red has networks over several hosts, but no list of its addresses was given";
    assert_eq!(problems(&b), [missing]);
    ask(&b, "PUT", REMOTES, &json!({ "generation": 7, "remotes": [remote(3, "h2"), remote(4, "h1")] }));
    assert_eq!(problems(&b), [""; 0]);
    let metrics = Metrics::new("ciao-net", "1", Vec::new(), Arc::new(Report(Arc::clone(&b.driver))));
    let page = metrics.handle(Request { method: "GET", path: "/metrics", query: "", body: b"" });
    let page = String::from_utf8(page.body).unwrap();
    for line in [
        "ciao_tunnel_hosts 2",
        "ciao_tunnel_remotes{tenant=\"red\"} 2",
        "ciao_tunnel_generation{tenant=\"red\"} 7",
        "ciao_tunnel_list_timestamp_seconds{list=\"(hosts)\"} ",
        "ciao_tunnel_drops_total{reason=\"forged\"} 0",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
}

#[test]
fn a_generation_is_a_fencing_token() {
    let b = bench();
    let give = |generation: u64, remotes: Value| {
        ask(&b, "PUT", REMOTES, &json!({ "generation": generation, "remotes": remotes }))
    };
    let (status, first) = give(5, json!([remote(3, "h2"), remote(4, "h3")]));
    assert_eq!((status, &first["generation"]), (200, &json!(5)));
    let again = give(5, json!([remote(4, "h3"), remote(3, "h2")]));
    assert_eq!(again, (200, first.clone()), "the same list in another order");
    let (status, other) = give(5, json!([remote(3, "h3")]));
    assert!(status == 409 && other["error"].as_str().unwrap().contains("two controllers"), "{other}");
    let (status, older) = give(4, json!([]));
    assert_eq!((status, &older["generation"], &older["digest"]), (409, &json!(5), &first["digest"]));
    let change = |base: u64, generation: u64| {
        ask(&b, "PATCH", REMOTES, &json!({ "base": base, "generation": generation, "delete": ["10.1.0.3"] }))
    };
    assert_eq!(change(4, 6).0, 409, "based on what is not here");
    let (status, changed) = change(5, 6);
    assert_eq!(status, 200);
    assert_eq!(change(5, 6), (200, changed.clone()), "an answer that was lost");
    assert_eq!(give(7, json!([remote(4, "h3")])).1["digest"], changed["digest"], "of the rows alone");
    let (_, states) = ask(&b, "GET", "/v1/remotes", &json!(null));
    assert_eq!(states, json!([{ "tenant": "red", "generation": 7, "digest": changed["digest"], "remotes": 1 }]));
    let (_, shown) = ask(&b, "GET", REMOTES, &json!(null));
    assert_eq!(shown["remotes"], json!([remote(4, "h3")]));
    // The documented digest, as a controller computes it.
    let fnv = |text: &str| {
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    };
    assert_eq!(changed["digest"], json!(format!("{:016x}", fnv("10.1.0.4 02:00:00:00:00:04 h3"))));
}

#[test]
fn a_list_that_is_given_again_is_in_the_kernel_too() {
    let b = bench();
    let list = json!({ "generation": 1, "remotes": [remote(3, "h2")] });
    let change = json!({ "base": 1, "generation": 2, "set": [remote(4, "h3")] });
    let hosts = json!({ "generation": 2, "hosts": [host(1), host(2), host(3), host(4)] });
    for (method, path, body) in [("PUT", REMOTES, &list), ("PATCH", REMOTES, &change), ("PUT", "/v1/hosts", &hosts)] {
        let before = b.kernel.state();
        b.kernel.fail_after(Some(0));
        for attempt in 1..=2 {
            let (status, reply) = ask(&b, method, path, body);
            assert_eq!(status, 500, "{path}, attempt {attempt}: {reply}");
        }
        assert_eq!(b.kernel.state(), before);
        b.kernel.fail_after(None);
        assert_eq!(ask(&b, method, path, body).0, 200);
        assert_ne!(b.kernel.state(), before);
        assert_eq!(consistency::differences(&b.store, &b.kernel.state()).unwrap(), [""; 0]);
        let after = b.kernel.state();
        assert_eq!(ask(&b, method, path, body).0, 200, "an answer that was lost");
        assert_eq!(b.kernel.state(), after);
    }
}

#[test]
fn what_leads_to_other_hosts_stays_while_this_host_s_address_is_away() {
    let b = bench();
    assert_eq!(ask(&b, "PUT", REMOTES, &json!({ "generation": 1, "remotes": [remote(3, "h2")] })).0, 200);
    let before = b.kernel.state();
    b.kernel.change(|state| state.addresses.clear());
    b.driver.reconcile(Depth::Full);
    let (made, kept) = (tunnel(&b), b.kernel.state());
    assert_eq!((&kept.tunnel_hosts, made.macs.len(), made.neighbours.len()), (&before.tunnel_hosts, 1, 1));
    // What is given meanwhile is written as soon as it is back.
    assert_eq!(ask(&b, "PATCH", REMOTES, &json!({ "base": 1, "generation": 2, "set": [remote(4, "h3")] })).0, 200);
    b.kernel.change(|state| state.addresses.clone_from(&before.addresses));
    let done: Vec<_> = b.driver.reconcile(Depth::Changed).into_iter().map(|row| row.what).collect();
    assert!(done.contains(&"nexthops of other hosts".to_owned()), "{done:?}");
    assert_eq!(tunnel(&b).neighbours.len(), 2);
    assert_eq!(b.driver.reconcile(Depth::Full), []);
    assert_eq!(consistency::differences(&b.store, &b.kernel.state()).unwrap(), [""; 0]);
}

#[test]
fn invalid_requests_are_refused_and_change_nothing() {
    let b = bench();
    let before = (b.kernel.state(), ask(&b, "GET", "/v1/hosts", &json!(null)));
    let hosts = |hosts: Value| refusal(&b, "PUT", "/v1/hosts", &json!({ "generation": 9, "hosts": hosts }));
    assert!(hosts(json!([host(1), host(1)])).contains("h1 is given twice"));
    assert!(
        hosts(json!([host(1), { "id": "h2", "address": "192.0.2.1" }]))
            .contains("two hosts have the address 192.0.2.1")
    );
    assert!(hosts(json!([host(1), { "id": "h2", "address": "2001:db8::2" }])).contains("two families"));
    assert!(hosts(json!([{ "id": "h2", "address": "127.0.0.1" }])).contains("host h2 has the address 127.0.0.1"));
    assert!(hosts(json!([{ "id": "h2", "adress": "192.0.2.1" }])).contains("adress"));
    let remotes = |remotes: Value| refusal(&b, "PUT", REMOTES, &json!({ "generation": 9, "remotes": remotes }));
    assert!(remotes(json!([remote(3, "h2"), remote(3, "h3")])).contains("10.1.0.3 is given twice"));
    assert!(!remotes(json!([["10.1.0.3", "01:00:5e:00:00:01", "h2"]])).is_empty(), "a group's MAC address");
    let clone = ["10.1.0.4", "02:00:00:00:00:03", "h3"];
    let error = remotes(json!([remote(3, "h2"), clone]));
    assert!(error.contains("10.1.0.4 on host h3 has the MAC address 02:00:00:00:00:03 of address 10.1.0.3 on host h2"));
    let gateway = ["10.1.0.4", "0e:c1:a0:00:00:65", "h3"];
    assert!(
        remotes(json!([gateway])).contains("10.1.0.4 on host h3 has the MAC address 0e:c1:a0:00:00:65, which is a")
    );
    let body = json!({ "generation": 9, "remotes": [remote(1, "h3")],
        "networks": [{ "subnet": "10.1.0.0/24", "vni": 101, "gateway": "10.1.0.1" }] });
    let error = refusal(&b, "PUT", REMOTES, &body);
    assert!(error.contains("10.1.0.1 on host h3 is the gateway of subnet 10.1.0.0/24"), "{error}");
    assert!(refusal(&b, "PATCH", REMOTES, &json!({ "base": 3, "generation": 3 })).contains("higher"));
    assert!(refusal(&b, "PUT", REMOTES, &json!({ "generation": u64::MAX, "remotes": [] })).contains("2^63"));
    assert_eq!((b.kernel.state(), ask(&b, "GET", "/v1/hosts", &json!(null))), before);
    assert_eq!(ask(&b, "GET", REMOTES, &json!(null)).0, 404);
}

#[test]
fn a_tenant_s_list_may_have_tens_of_thousands_of_addresses() {
    let b = bench();
    let row = |n: u16| {
        let [high, low] = n.to_be_bytes();
        json!([format!("10.200.{high}.{low}"), format!("02:00:00:00:{high:02x}:{low:02x}"), "a-host-s-name"])
    };
    let body = json!({ "generation": 1, "remotes": (0..20_000).map(row).collect::<Vec<_>>() }).to_string();
    let control = ciao_netdriver::control::routes(Arc::clone(&b.driver));
    assert!((1 << 20..control.body_limit(REMOTES)).contains(&body.len()), "{}", body.len());
    assert_eq!(b.launcher("PUT", REMOTES, body.as_bytes()).0, 200);
    assert_eq!(control.body_limit("/v1/vnics"), 1 << 20);
}

#[test]
fn a_vni_is_one_network_s_and_fits_the_links_between_hosts() {
    let b = bench();
    let create = |name: &str, options: &[(&str, &str)]| {
        b.call("CreateNetwork", &network(name, &["10.2.0.0/24"], options)).unwrap_err()
    };
    assert!(create("blue", &[("tenant", "blue"), ("vni", "101")]).contains("VNI 101 is that of network red"));
    assert!(create("blue", &[("vni", "102")]).contains("-o tenant=T"));
    assert!(
        create("red2", &[("tenant", "red"), ("bridge", "br1"), ("vni", "102")]).contains("bridge br1 has the VNI 101")
    );
    let mtu = "com.docker.network.driver.mtu";
    let error = create("blue", &[("tenant", "blue"), ("vni", "102"), (mtu, "9000")]);
    assert!(
        error.contains("carries 9000 bytes, of which the tunnel takes 50") && error.contains("mtu=8950"),
        "{error}"
    );
    // Links that leave too little for IPv6.
    let small = |n: u8| json!({ "id": format!("h{n}"), "address": format!("192.0.2.{n}"), "mtu": 1300 });
    let hosts = json!({ "generation": 2, "hosts": [small(1), small(2)] });
    assert_eq!(ask(&b, "PUT", "/v1/hosts", &hosts).0, 200);
    let of_blue = [("tenant", "blue"), ("vni", "102")];
    let both = b.call("CreateNetwork", &network("blue", &["10.2.0.0/24", "fd00:2::/64"], &of_blue)).unwrap_err();
    assert!(both.contains("MTU 1250") && both.contains("is too small for IPv6"), "{both}");
    b.ok("CreateNetwork", &network("blue", &["10.2.0.0/24"], &of_blue));
    let far = json!({ "subnet": "fd00:3::/64", "vni": 103, "gateway": "fd00:3::1" });
    let list = json!({ "generation": 1, "remotes": [], "networks": [far] });
    assert_eq!(ask(&b, "PUT", "/v1/tenants/blue/remotes", &list).0, 200);
    let omitted =
        "subnet fd00:3::/64 of tenant blue, which a controller gives, is not routed to: its MTU 1250 is too small";
    assert!(problems(&b).iter().any(|problem| problem.contains(omitted)), "{:?}", problems(&b));
}

#[test]
fn the_largest_packet_between_hosts_is_found() {
    let b = bench();
    let measured = |b: &Bench| ask(b, "GET", "/v1/hosts/h2/mtu", &json!(null));
    for carried in [None, Some(9000), Some(8999), Some(1500), Some(576)] {
        b.kernel.change(|state| state.carried = carried);
        let expected = json!({ "host": "h2", "mtu": 9000, "carried": carried.unwrap_or(9000) });
        assert_eq!(measured(&b), (200, expected));
    }
    b.kernel.change(|state| state.carried = Some(500));
    assert_eq!(measured(&b).1["carried"], json!(null));
    for other in ["h1", "h9"] {
        assert_eq!(ask(&b, "GET", &format!("/v1/hosts/{other}/mtu"), &json!(null)).0, 404);
    }
}

#[test]
fn a_changed_tunnel_is_listed_and_restored() {
    let b = bench();
    ask(&b, "PUT", REMOTES, &json!({ "generation": 1, "remotes": [remote(3, "h2")] }));
    let wanted = b.kernel.state();
    let link: LinkName = tunnel(&b).link;
    let place = (Namespace::Named("ciao-red".to_owned()), link);
    for host in [2, 3] {
        let line = format!("add element inet ciao_tunnel hosts {{ 192.0.2.{host} }}\n");
        assert!(wanted.tunnel_rules.contains(&line), "only hosts send there");
    }
    for change in 0..5 {
        b.kernel.change(|state| match (change, state.links.get_mut(&place)) {
            (0, _) => drop(state.links.remove(&place)),
            (1, Some(FakeLink::Vxlan(link))) => link.macs.clear(),
            (2, _) => drop(state.down.insert(place.clone())),
            (3, _) => state.tunnel_hosts.clear(),
            _ => state.tunnel_rules.clear(),
        });
        let dry: Vec<_> = b.driver.reconcile(Depth::DryRun).into_iter().map(|row| row.what).collect();
        let expected = match change {
            3 => "nexthops of other hosts",
            4 => "rules of tunnels",
            _ => "tunnel of network red",
        };
        assert!(dry.len() == 1 && dry[0].starts_with(expected), "{change}: {dry:?}");
        b.driver.reconcile(Depth::Changed);
        assert_eq!(b.kernel.state(), wanted, "{change}");
    }
}
