// SPDX-License-Identifier: Apache-2.0
//! Who is told, when, and by whom: hosts that come, go, are cut off, and prove who they are.

use std::time::{Duration, Instant};

use serde_json::json;

use super::members::{Authority, Cluster, write_roots};
use super::soon;

#[test]
fn what_is_on_a_host_is_on_the_others_within_a_second() {
    let cluster = Cluster::new();
    let members = cluster.members(&[1, 2, 3]);
    for member in &members {
        member.run(10 + member.n);
    }
    members[0].soon_reaches(&["10.1.0.12 h2", "10.1.0.13 h3"]);
    members[1].soon_reaches(&["10.1.0.11 h1", "10.1.0.13 h3"]);
    members[2].soon_reaches(&["10.1.0.11 h1", "10.1.0.12 h2"]);
    let since = Instant::now();
    members[0].run(20);
    members[1].soon_reaches(&["10.1.0.11 h1", "10.1.0.13 h3", "10.1.0.20 h1"]);
    members[2].soon_reaches(&["10.1.0.11 h1", "10.1.0.12 h2", "10.1.0.20 h1"]);
    let took = since.elapsed();
    println!("reached on two hosts after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}, on a busy machine");
    members[0].end(20);
    members[1].soon_reaches(&["10.1.0.11 h1", "10.1.0.13 h3"]);
    members[0].soon_stands(2, "in step");
    assert_eq!(members[1].refused(), [""; 0]);
    // It is in the list, and where it is from.
    let rows = members[1].bench.store.read(|tx| tx.view("remote", None)).unwrap();
    let shown: Vec<_> = rows.iter().map(|row| json!([row["address"], row["host"], row["source"]])).collect();
    assert_eq!(shown, [json!(["10.1.0.11", "h1", "host"]), json!(["10.1.0.13", "h3", "host"])]);
}

#[test]
fn an_address_moves_and_the_later_claim_holds() {
    let cluster = Cluster::new();
    let members = cluster.members(&[1, 2, 3]);
    members[0].run(20);
    members[2].soon_reaches(&["10.1.0.20 h1"]);
    members[1].run(20);
    members[2].soon_reaches(&["10.1.0.20 h2"]);
    assert_eq!(members[2].refused(), ["10.1.0.20 h1 superseded"]);
    soon("each of the two has it itself", || members[0].refused().len() == 1 && members[1].refused().len() == 1);
    assert!(members[0].reached().is_empty() && members[1].reached().is_empty());
    // The withdrawal of the earlier claim changes nothing.
    members[0].end(20);
    members[0].soon_reaches(&["10.1.0.20 h2"]);
    soon("the claim is withdrawn", || members[2].refused().is_empty());
    members[2].soon_reaches(&["10.1.0.20 h2"]);
    members[1].end(20);
    members[2].soon_reaches(&[]);
}

#[test]
fn nothing_expires_while_a_host_is_away_and_it_catches_up() {
    let cluster = Cluster::new();
    let mut members = cluster.members(&[1, 2]);
    members[1].run(12);
    members[0].soon_reaches(&["10.1.0.12 h2"]);
    members[1].stop();
    members[0].run(11);
    members[0].soon_stands(2, "Connection refused");
    members[1].run(13);
    members[1].end(12);
    assert_eq!(members[0].reached(), ["10.1.0.12 h2"], "as it was");
    let second = members.pop().unwrap();
    // Its records are kept by a restart.
    let first = members.pop().unwrap().restarted(true);
    first.soon_reaches(&["10.1.0.12 h2"]);
    let second = second.restarted(true);
    second.soon_reaches(&["10.1.0.11 h1"]);
    first.soon_reaches(&["10.1.0.13 h2"]);
    second.soon_stands(1, "in step");
    first.soon_stands(2, "in step");
}

#[test]
fn a_host_that_lost_the_records_of_running_containers_withdraws_nothing() {
    let cluster = Cluster::new();
    let mut members = cluster.members(&[1, 2]);
    members[0].run(11);
    members[1].run(12);
    members[0].soon_reaches(&["10.1.0.12 h2"]);
    let second = members.pop().unwrap().without_records();
    let problem = "records of running containers were lost";
    soon("it says so", || second.ask("GET", "/v1/status")["problems"].to_string().contains(problem));
    members[0].run(13);
    soon("it hears the others", || second.ask("GET", "/v1/hosts")["exchange"]["h1"] != json!(null));
    members[0].soon_reaches(&["10.1.0.12 h2"]);
}

#[test]
fn a_host_without_its_database_is_heard_and_hears_at_once() {
    let cluster = Cluster::new();
    let mut members = cluster.members(&[1, 2]);
    members[0].run(11);
    members[1].run(12);
    members[0].soon_reaches(&["10.1.0.12 h2"]);
    members[1].soon_reaches(&["10.1.0.11 h1"]);
    let second = members.pop().unwrap().restarted(false);
    soon("the list of hosts is read", || second.ask("GET", "/v1/hosts")["own"] == json!("h2"));
    second.network("red", "10.1.0.0/24", "101");
    second.soon_reaches(&["10.1.0.11 h1"]);
    members[0].soon_reaches(&[]);
    second.run(22);
    members[0].soon_reaches(&["10.1.0.22 h2"]);
}

#[test]
fn a_host_that_leaves_the_list_takes_its_addresses_with_it() {
    let cluster = Cluster::new();
    let members = cluster.members(&[1, 2, 3]);
    members[1].run(12);
    members[2].run(13);
    members[0].soon_reaches(&["10.1.0.12 h2", "10.1.0.13 h3"]);
    cluster.list(1, &[1, 3]);
    members[0].soon_reaches(&["10.1.0.13 h3"]);
    // Its certificate is as good as before.
    members[1].run(14);
    soon("it is refused", || members[0].counted("unlisted") > 0.0);
    members[1].soon_stands(1, "in its list of hosts");
    assert_eq!(members[0].reached(), ["10.1.0.13 h3"]);
    cluster.list(1, &[1, 2, 3]);
    members[0].soon_reaches(&["10.1.0.12 h2", "10.1.0.13 h3", "10.1.0.14 h2"]);
}

#[test]
fn a_wrong_list_of_hosts_changes_nothing_and_is_named() {
    let cluster = Cluster::new();
    let members = cluster.members(&[1, 2]);
    members[1].run(12);
    members[0].soon_reaches(&["10.1.0.12 h2"]);
    let file = cluster.config(1).hosts;
    let problems = || members[0].ask("GET", "/v1/status")["problems"].to_string();
    for (h2, expected) in [
        ("nowhere", "line 2: \\\"nowhere\\\" is not an address"),
        ("127.0.0.1", "host h2 has the address 127.0.0.1: give that of its link to the other hosts"),
    ] {
        std::fs::write(&file, format!("h1 127.7.0.1\nh2 {h2}\n")).unwrap();
        soon("it is a problem", || problems().contains(expected));
        assert_eq!(members[0].reached(), ["10.1.0.12 h2"]);
    }
    std::fs::remove_file(&file).unwrap();
    soon("it is a problem", || problems().contains("No such file"));
    cluster.list(1, &[1, 2]);
    soon("it is none", || !problems().contains("exchange"));
    members[0].soon_stands(2, "in step");
}

#[test]
fn a_certificate_of_another_authority_or_name_or_time_is_refused() {
    let cluster = Cluster::new();
    let first = cluster.member(1, &[1, 2]);
    cluster.write_files(2, &[1, 2]);
    let question = br#"{"own":{"generation":1,"digest":"0000000000000000"},"endpoints":[]}"#;
    assert!(cluster.say(2, 1, question).unwrap()["has"]["generation"] == 1, "a good one");
    let refused = |how: &str, expected: &str| {
        let error = cluster.say(2, 1, question).unwrap_err();
        assert!(error.contains(expected), "{how}: {error}");
    };
    let identity = cluster.identity(2);
    cluster.authority.certify(&identity, "h2", 2020);
    refused("expired", "CertificateExpired");
    Authority::new().certify(&identity, "h2", 2100);
    refused("of another authority", "UnknownCA");
    cluster.authority.certify(&identity, "h3", 2100);
    refused("of another host", "closed the connection");
    cluster.authority.certify(&identity, "h2", 2100);
    cluster.say(2, 1, question).unwrap();
    cluster.list(1, &[1]);
    soon("the host is refused, whose certificate is good", || {
        cluster.say(2, 1, question).is_err() && first.counted("unlisted") >= 1.0
    });
    assert!(first.counted("connection") >= 3.0);
    assert_eq!(first.reached(), [""; 0]);
}

#[test]
fn certificates_and_authorities_are_replaced_without_a_restart() {
    let cluster = Cluster::new();
    let members = cluster.members(&[1, 2]);
    members[0].run(11);
    members[1].soon_reaches(&["10.1.0.11 h1"]);
    let next = Authority::new();
    for n in [1, 2] {
        write_roots(&cluster.identity(n).ca, &[&cluster.authority, &next]);
    }
    next.certify(&cluster.identity(1), "h1", 2100);
    members[0].run(12);
    members[1].soon_reaches(&["10.1.0.11 h1", "10.1.0.12 h1"]);
    members[1].run(13);
    members[0].soon_reaches(&["10.1.0.13 h2"]);
    next.certify(&cluster.identity(2), "h2", 2100);
    for n in [1, 2] {
        write_roots(&cluster.identity(n).ca, &[&next]);
    }
    members[0].end(12);
    members[1].soon_reaches(&["10.1.0.11 h1"]);
    members[1].end(13);
    members[0].soon_reaches(&[]);
}

#[test]
fn a_key_may_have_headers_as_a_swarm_node_s_has() {
    let cluster = Cluster::new();
    let members = cluster.members(&[1, 2]);
    let path = cluster.identity(1).key;
    let key = std::fs::read_to_string(&path).unwrap();
    let (begin, rest) = key.split_once('\n').unwrap();
    std::fs::write(&path, format!("{begin}\nkek-version: 0\nraft-dek: EiBKPjxOSziBs8X7\n\n{rest}")).unwrap();
    members[0].run(11);
    members[1].soon_reaches(&["10.1.0.11 h1"]);
}
