// SPDX-License-Identifier: Apache-2.0
//! What a tenant's rules dropped, as the metrics count it.

use std::sync::Arc;

use ciao_common::serve::metrics::Metrics;
use ciao_common::serve::server::{Handler, Request};
use ciao_netdriver::control::Report;

use crate::apart::{run, soon, tests};
use crate::driver::Bench;
use crate::shares::{BOX2, lan, two_tenants};

tests! {
    fn what_a_container_forges_is_counted_for_its_tenant(_kernel) {
        lan();
        let bench = Bench::new();
        two_tenants(&bench);
        let metrics = Metrics::new("ciao-net", "1", Vec::new(), Arc::new(Report(Arc::clone(&bench.driver))));
        let page = || {
            let reply = metrics.handle(Request { method: "GET", path: "/metrics", query: "", body: b"" });
            String::from_utf8(reply.body).unwrap()
        };
        let forged = r#"ciao_tenant_drops_total{tenant="red",reason="spoofed"}"#;
        // An address that it was not given; what is its own passes.
        run("ip -n box2 addr add 10.1.0.99/16 dev eth0");
        let send = |from: &str| BOX2.within(|| drop(std::net::UdpSocket::bind(from).unwrap().send_to(b"x", "10.1.0.1:9")));
        send("10.1.0.2:0");
        assert!(!page().contains(forged), "{}", page());
        assert!(soon(|| {
            send("10.1.0.99:0");
            page().contains(forged)
        }), "{}", page());
        assert!(!page().contains(r#"tenant="blue",reason="spoofed""#), "{}", page());
    }
}
