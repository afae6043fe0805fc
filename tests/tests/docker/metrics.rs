// SPDX-License-Identifier: Apache-2.0
//! What a host shows of itself: metrics of both daemons, health, and `ciao-net status`.

use ciao_tests::lab::Host;

use crate::scene::{assert_nothing_left, network, printed_json, run};

const ALERTS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus/alerts.yml"));
const DASHBOARD: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus/dashboard.json"));
const NET_ARGS: [&str; 3] = ["--metrics", "unix:/run/ciao/net-metrics.sock", "--metrics-vnics"];
const NET: &str = "curl -s --unix-socket /run/ciao/net-metrics.sock http://ciao";
const IPAM: &str = "curl -s http://127.0.0.1:9478";

fn open() -> Host {
    let builder = Host::builder().name("metrics").ciao_net_args(NET_ARGS);
    builder.ciao_ipam_args(["--metrics", "127.0.0.1:9478"]).start().unwrap()
}

/// The metrics that a text names.
fn named(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("ciao_")).collect()
}

#[test]
fn both_daemons_have_the_metrics_that_the_dashboard_and_the_alerts_name() {
    let host = open();
    network(&host, "app", &["--subnet", "10.5.0.0/24", "-o", "tenant=red"]);
    run(&host, "web", &["--network", "app", "-p", "8080:80", "--cap-add", "NET_ADMIN"]);
    host.sh("docker exec web true; curl -s -m 2 http://127.0.0.1:8080/ || true").unwrap();
    // Another's address, so that there is a drop to see.
    host.sh(
        "docker exec web sh -c 'ip address add 10.5.0.99/24 dev eth0; ping -c 1 -W 1 -I 10.5.0.99 10.5.0.1 || true'",
    )
    .unwrap();
    let net = host.sh(&format!("{NET}/metrics")).unwrap();
    let ipam = host.sh(&format!("{IPAM}/metrics")).unwrap();
    let all = format!("{net}\n{ipam}");
    let is_there =
        |name: &str| all.lines().any(|line| line.strip_prefix(name).is_some_and(|l| l.starts_with([' ', '{'])));
    for name in named(ALERTS).into_iter().chain(named(DASHBOARD)) {
        assert!(is_there(name), "{name} is in no answer: {all}");
    }
    for line in [
        "ciao_networks 1.0",
        "ciao_endpoints 1.0",
        "ciao_ports 1.0",
        "ciao_tenants 1.0",
        "ciao_calls_total{service=\"network\",method=\"CreateEndpoint\",outcome=\"ok\"} 1",
        "ciao_problems 0.0",
    ] {
        assert!(net.contains(line), "{line} is missing: {net}");
    }
    for line in ["ciao_leases{state=\"gateway\"} 1.0", "subnet=\"10.5.0.0/24\",space=\"local\"} 2.0", "ciao_pools 1.0"]
    {
        assert!(ipam.contains(line), "{line} is missing: {ipam}");
    }
    for (url, path) in [(NET, "healthz"), (NET, "readyz"), (IPAM, "healthz"), (IPAM, "readyz")] {
        assert_eq!(host.sh(&format!("{url}/{path} -o /dev/null -w '%{{http_code}}'")).unwrap(), "200", "{url}/{path}");
    }
    host.sh("docker rm -f web; docker network rm app").unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn status_has_versions_counts_and_problems_with_their_remedy() {
    let host = open();
    network(&host, "app", &["--subnet", "10.5.0.0/24", "-o", "tenant=red"]);
    let status = printed_json(&host, "ciao-net status --json");
    assert_eq!(
        (&status["tenants"], &status["networks"], &status["problems"]),
        (&1.into(), &1.into(), &serde_json::json!([]))
    );
    assert!(status["engine"].is_string() && status["version"].is_string(), "{status}");

    host.ciao_ipam().stop().unwrap();
    let output = host.try_sh("ciao-net status").unwrap();
    assert_eq!(output.code, 1, "{}", output.stdout);
    assert!(output.stderr.contains("problems found: 1"), "{}", output.stderr);
    for word in ["problem: ciao-ipam", "remedy:", "systemctl start ciao-ipam"] {
        assert!(output.stdout.contains(word), "{word}: {}", output.stdout);
    }
    host.ciao_ipam().start().unwrap();
    host.sh("docker network rm app").unwrap();
    assert_nothing_left(&host, &[]);
}
