// SPDX-License-Identifier: Apache-2.0
//! What the log says at its usual level.

use std::sync::{Mutex, Once};

use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::kernel::fake::FakeLink;
use ciao_netdriver::reconcile::Depth;
use log::{LevelFilter, Log, Metadata, Record};

use crate::bench::Bench;
use crate::requests::{id, network, vnic};

const SUBNET: &str = "192.168.111.0/24";

/// The log of all tests of this program.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap().push(format!("{}: {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

/// From now on lines are kept.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&LINES).unwrap();
        log::set_max_level(LevelFilter::Info);
    });
}

/// The lines with a text that only one test has.
fn lines(with: &str) -> Vec<String> {
    LINES.0.lock().unwrap().iter().filter(|line| line.contains(with)).cloned().collect()
}

#[test]
fn a_container_has_a_line_when_it_is_attached_and_one_when_it_is_detached() {
    listen();
    let b = Bench::new();
    b.ok("CreateNetwork", &network("logged", &[SUBNET], &[("tenant", "logged")]));
    let made = b.vnic(&vnic("logged", "web", SUBNET, "192.168.111.2", "02:00:00:00:00:02"));
    b.run("1099ed1", "logged", "192.168.111.2/24", "");
    b.stop("logged", "1099ed1");
    let of = format!(
        "endpoint {}: tenant logged, instance web, VNIC {}, 192.168.111.2",
        &id("1099ed1")[..12],
        made["id"].as_str().unwrap()
    );
    assert_eq!(lines("tenant logged"), [format!("INFO: attached {of}"), format!("INFO: detached {of}")]);
}

#[test]
fn a_network_on_a_bridge_of_the_host_is_warned_of_once() {
    listen();
    let b = Bench::new();
    let lan = "1099ed-lan".parse().unwrap();
    b.kernel.change(|state| drop(state.links.insert((Namespace::Host, lan), FakeLink::Bridge([].into()))));
    for _ in 0..2 {
        b.ok("CreateNetwork", &network("1099ed2", &[SUBNET], &[("host_bridge", "1099ed-lan")]));
    }
    let expected = format!(
        "WARN: network {} is on bridge 1099ed-lan of the host: no isolation and no anti-spoofing for its containers",
        &id("1099ed2")[..12]
    );
    assert_eq!(lines("1099ed-lan"), [expected]);
}

#[test]
fn each_repair_is_a_line() {
    listen();
    let b = Bench::new();
    b.ok("CreateNetwork", &network("1099ed3", &[SUBNET], &[("tenant", "1099ed"), ("bridge", "br-1099ed")]));
    let bridge = || (Namespace::Named("ciao-1099ed".to_owned()), "br-1099ed".parse().unwrap());
    b.kernel.change(|state| drop(state.links.remove(&bridge())));
    let repairs = b.driver.reconcile(Depth::Full);
    let repair = repairs.iter().find(|repair| repair.what.contains("br-1099ed")).unwrap();
    let expected = format!("INFO: reconcile: {} {}: {}", repair.action, repair.what, repair.why);
    assert_eq!(lines(&repair.what), [expected]);
    assert_eq!(b.driver.reconcile(Depth::Full), []);
    assert_eq!(lines(&repair.what).len(), 1);
}
