// SPDX-License-Identifier: Apache-2.0
//! What a broken host does wrong costs it and whom it speaks to, and the others nothing.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ciao_netdriver::exchange::Message;
use serde_json::json;

use super::claims::{endpoint, message};
use super::members::Cluster;
use super::soon;

#[test]
fn a_host_that_claims_to_have_a_later_list_makes_nobody_get_it_for_ever() {
    let cluster = Cluster::new();
    let member = cluster.member(1, &[1, 3]);
    cluster.write_files(3, &[1, 3]);
    let listener = TcpListener::bind((cluster.address(3), cluster.port)).unwrap();
    let (identity, asked) = (cluster.identity(3), Arc::new(Mutex::new(Vec::new())));
    let questions = Arc::clone(&asked);
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            drop(identity.answer(stream, "h1", |question| {
                let own = Message::parse(question).unwrap().own;
                let more = json!({ "generation": own.generation + 1, "digest": "0000000000000001" });
                questions.lock().unwrap().push((own.digest, own.generation));
                Ok(json!({ "has": more }).to_string().into_bytes())
            }));
        }
    });
    for count in 1..=4 {
        // It is heard as well, and that makes it no better.
        soon("it is heard", || cluster.say(3, 1, &message(count, &[])).is_ok());
        soon("it is asked", || asked.lock().unwrap().len() >= usize::try_from(count).unwrap());
    }
    let asked = asked.lock().unwrap();
    let of_last = asked.iter().filter(|(digest, _)| *digest == asked[3].0);
    let generations: BTreeSet<_> = of_last.map(|(_, generation)| generation).collect();
    assert!(generations.len() <= 2, "its first answer may be of a list that was lost: {generations:?}");
    assert!(member.stands(3).contains("it has generation"), "{}", member.stands(3));
}

#[test]
fn lists_of_tenants_that_are_not_here_cost_nothing_and_who_sends_many_rows_waits() {
    let cluster = Cluster::new();
    let member = cluster.member(1, &[1, 2, 3]);
    let claim = |mac: &str| endpoint("green", "10.9.0.5", mac, "10.9.0.0/24", 109);
    cluster.write_files(3, &[1, 2, 3]);
    soon("it is heard", || cluster.say(3, 1, &message(1, &[claim("02:00:00:00:03:05")])).is_ok());
    let driver = &member.bench.driver;
    let say = |generation: u64, tenant: &str, rows: u16| {
        let row = |n: u16| {
            let [high, low] = n.to_be_bytes();
            let (address, mac) = (format!("10.9.{high}.{low}"), format!("02:00:00:01:{high:02x}:{low:02x}"));
            endpoint(tenant, &address, &mac, "10.9.0.0/16", 109)
        };
        let rows: Vec<_> = (2..rows + 2).map(row).collect();
        driver.hear(&"h3".parse().unwrap(), &message(generation, &rows)).unwrap();
    };
    let since = Instant::now();
    say(2, "green", 2_500);
    say(3, "yellow", 1);
    assert!(since.elapsed() >= Duration::from_millis(500), "{:?}", since.elapsed());
    // Two hosts' claims of an address are judged where its tenant is.
    say(4, "green", 10);
    let other = endpoint("green", "10.9.0.5", "02:00:00:00:02:05", "10.9.0.0/16", 109);
    driver.hear(&"h2".parse().unwrap(), &message(u64::from(u32::MAX) << 16, &[other])).unwrap();
    assert_eq!(member.counted("superseded"), 0.0);
    member.network("green", "10.9.0.0/16", "109");
    say(5, "green", 11);
    assert_eq!(member.counted("superseded"), 1.0);
}
