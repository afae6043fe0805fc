// SPDX-License-Identifier: Apache-2.0
//! What rules dropped and what links carried, as the metrics count it.

use std::sync::Arc;

use ciao_common::serve::metrics::Metrics;
use ciao_common::serve::server::{Handler, Request};
use ciao_netdriver::Config;
use ciao_netdriver::control::Report;

use crate::apart::{run, soon, tests};
use crate::driver::Bench;
use crate::shares::{BOX2, lan, two_tenants};

tests! {
    fn what_a_container_forges_is_counted_for_its_tenant(_kernel) {
        lan();
        let bench = Bench::with(Config { metrics_vnics: true, ..Config::default() });
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
        // What reaches the host is dropped there, by its rules or by their guard.
        let count = |series: &str| {
            let line = page().lines().find_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok());
            line.unwrap_or_else(|| panic!("{series}: {}", page()))
        };
        let host = |reason: &str| count(&format!(r#"ciao_host_drops_total{{reason="{reason}"}}"#));
        for (to, reason) in [("198.51.100.1:9", "host_services"), ("169.254.169.254:80", "link_local")] {
            let (before, others) = (host(reason), host("egress_denied") + host("other_containers"));
            BOX2.within(|| std::net::UdpSocket::bind("10.1.0.2:0").unwrap().send_to(b"x", to).unwrap());
            assert!(soon(|| host(reason) > before), "{reason}: {}", page());
            assert!((host("egress_denied") + host("other_containers") - others).abs() < 0.1);
        }
        assert!(host("no_connection") < 0.1, "{}", page());
        // Each VNIC, as its container sees it.
        let (vnic, other) = ["red", "blue"].map(|tenant| {
            let vnics = bench.store.read(|tx| tx.vnics(Some(&tenant.parse()?))).unwrap();
            move |what: &str, direction: &str| {
                format!(r#"ciao_vnic_{what}_total{{tenant="{tenant}",vnic_instance="",vnic="{}",direction="{direction}"}}"#, vnics[0].id)
            }
        }).into();
        let before = [count(&vnic("packets", "sent")), count(&vnic("bytes", "sent")), count(&other("packets", "sent"))];
        BOX2.within(|| {
            let socket = std::net::UdpSocket::bind("10.1.0.2:0").unwrap();
            assert!((0..10).all(|_| socket.send_to(&[0; 1000], "198.51.100.2:9").is_ok()));
        });
        assert!(soon(|| count(&vnic("packets", "sent")) >= before[0] + 10.0), "{}", page());
        assert!(count(&vnic("bytes", "sent")) >= before[1] + 10_000.0, "{}", page());
        assert!(count(&other("packets", "sent")) < before[2] + 10.0, "the other tenant's: {}", page());
    }
}
