// SPDX-License-Identifier: Apache-2.0
//! What people and programs read of a running host: the lists, their JSON, and the views in the database.

use crate::hosts::{own, shared};
use crate::scene::{LIVE, assert_nothing_left, network, printed_json, run, sql};

const LISTS: [&str; 5] = [
    "ciao-ipam pool list",
    "ciao-ipam lease list",
    "ciao-net network list",
    "ciao-net endpoint list",
    "ciao-net vnic list",
];

#[test]
fn everything_can_be_listed_while_it_runs() {
    let host = shared();
    for list in LISTS {
        assert_eq!(host.sh(list).unwrap(), "none");
        assert_eq!(host.sh(&format!("{list} --json")).unwrap(), "[]");
    }
    let vnic = "--tenant red --instance web --subnet 10.5.0.0/24 --ip 10.5.0.7 --mac 02:00:0a:05:00:07";
    host.sh(&format!("ciao-net launch {vnic} {} sh -c '{}'", LIVE[0], LIVE[3])).unwrap();
    network(&host, "own", &["--subnet", "10.5.0.0/24"]);
    run(&host, "other", &["--network", "own"]);

    for (list, rows) in LISTS.into_iter().zip([2, 4, 2, 2, 2]) {
        let table = host.sh(list).unwrap();
        assert_eq!(table.lines().count(), rows + 1, "{table}");
        let view = list.split(' ').nth(1).unwrap();
        let columns = printed_json(&host, &format!("{list} --json"));
        assert_eq!(columns.as_array().unwrap().len(), rows);
        assert_eq!(sql(&host, &format!("SELECT count(*) FROM {view}")), rows.to_string());
        for column in columns[0].as_object().unwrap().keys() {
            assert!(table.contains(&column.to_uppercase().replace('_', " ")), "{column} is missing in: {table}");
        }
        let of_red = printed_json(&host, &format!("{list} --tenant red --json"));
        let tenants: Vec<_> = of_red.as_array().unwrap().iter().map(|row| row["tenant"].as_str()).collect();
        assert!(!tenants.is_empty() && tenants.iter().all(|tenant| *tenant == Some("red")), "{list}: {tenants:?}");
    }
    let bound = "SELECT tenant, instance, state FROM lease WHERE address = '10.5.0.7'";
    assert_eq!(sql(&host, bound), "red|web|bound");
    let endpoint = sql(&host, "SELECT tenant, instance, address, mac FROM endpoint WHERE tenant IS NOT NULL");
    assert_eq!(endpoint, "red|web|10.5.0.7|02:00:0a:05:00:07");
    assert_eq!(sql(&host, "SELECT refs, leases FROM pool WHERE tenant = 'red'"), "1|2");
    assert_eq!(
        sql(&host, "SELECT subnets, gateways, endpoints FROM network WHERE tenant = 'red'"),
        "10.5.0.0/24|10.5.0.1|1"
    );
    assert_eq!(host.sh("ciao-net reconcile --dry-run").unwrap(), "nothing to do", "records and kernel agree");
    assert_eq!(host.sh("ciao-net reconcile --json").unwrap(), "[]");

    let tree = host.sh("ciao-net topology").unwrap();
    for part in [
        "no tenant, namespace ciao.",
        "network own, 10.5.0.0/24",
        "container other",
        "container red.web",
        "instance web",
    ] {
        assert!(tree.contains(part), "{part} is missing in: {tree}");
    }
    assert!(!host.sh("ciao-net topology --tenant red --dot").unwrap().contains("other"));
    let capture = host.try_sh("env PATH=/none $(command -v ciao-net) capture web").unwrap();
    assert!(capture.code == 1 && capture.stderr.contains("run tcpdump: install it first"), "{capture:?}");
    assert!(host.sh("ciao-net doctor").unwrap().lines().any(|line| line.contains("kernel")));

    let id = sql(&host, "SELECT id FROM vnic WHERE instance = 'web'");
    let shown = printed_json(&host, &format!("ciao-net vnic show {id} --json"));
    assert_eq!(shown["address"], "10.5.0.7");
    assert!(shown["endpoint"].is_string(), "{shown}");
    host.sh("ciao-net terminate web; docker rm -f other; docker network rm own").unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn a_command_without_its_daemon_reports_what_is_wrong() {
    let host = own("alone");
    host.ciao_net().stop().unwrap();
    let output = host.try_sh("ciao-net vnic show 0123456789").unwrap();
    assert_eq!(output.code, 1);
    assert!(output.stderr.starts_with("ciao-net: ask ciao-net at /run/ciao/control.sock"), "{}", output.stderr);
    assert_eq!(host.sh("ciao-net vnic list").unwrap(), "none", "lists need the database alone");
    let output = host.try_sh("ciao-net vnic list --db /nowhere/ciao.db").unwrap();
    assert!(output.stderr.contains("/nowhere/ciao.db"), "{}", output.stderr);
    let output = host.try_sh("ciao-ipam serve").unwrap();
    assert!(output.stderr.contains("another ciao-ipam uses database"), "{}", output.stderr);
}
