// SPDX-License-Identifier: Apache-2.0
//! The kernel failing in the middle of every call: what is left is nothing, or what a reconcile puts right.

use ciao_netdriver::reconcile::Depth;
use serde_json::{Value, json};

use crate::bench::{Bench, endpoint, id, names_of, network, vnic};

const SUBNET: &str = "192.168.111.0/24";
const MAC: &str = "02:00:00:00:00:02";
/// More changes than any call makes.
const MANY: usize = 40;

/// What a call answers: an error's sentence, or nothing.
type Outcome = Result<(), String>;

/// Makes the kernel fail before the first, second, … change of `call`. A call that failed and is said to undo itself
/// has changed no record once a reconcile has run; the call again then succeeds; and records and kernel agree.
fn at_every_change(undoes: bool, prepare: fn(&Bench), call: fn(&Bench) -> Outcome) {
    for restarts in [false, true] {
        for passes in 0..=MANY {
            let mut b = Bench::new();
            prepare(&b);
            b.settle();
            b.assert_consistent();
            let (rows, state) = (b.rows(), b.kernel.state());
            b.kernel.fail_after(Some(passes));
            let outcome = call(&b);
            // Background work fails too, before the kernel is well again.
            std::thread::sleep(std::time::Duration::from_millis(3));
            b.kernel.fail_after(None);
            let what = format!("{outcome:?} after {passes} changes, restarts: {restarts}");
            if restarts {
                b = b.restarted();
            }
            let untouched = outcome.is_err() && b.rows() == rows && b.kernel.state() == state;
            if !untouched {
                // The reconcile of a start, or of the timer.
                b.reconcile_to(if restarts { Depth::Whole } else { Depth::Glance });
                assert_eq!(b.differences(), [""; 0], "{what}");
            }
            if undoes && outcome.is_err() {
                assert_eq!(b.rows(), rows, "{what}");
            }
            assert_eq!(call(&b), Ok(()), "{what}, then again");
            b.assert_consistent();
            assert_eq!(b.kernel.unguarded(), [""; 0], "{what}");
            assert!(passes < MANY || outcome.is_ok(), "{what}");
        }
    }
    at_every_call(undoes, prepare, call);
}

/// The same with one failure only, of the first, second, … call of the kernel, whether it changes something or reads it;
/// until there is none left to fail.
fn at_every_call(undoes: bool, prepare: fn(&Bench), call: fn(&Bench) -> Outcome) {
    for passes in 0.. {
        let b = Bench::new();
        prepare(&b);
        b.settle();
        let rows = b.rows();
        b.kernel.fail_once_after(passes);
        let outcome = call(&b);
        b.settle_or_fail();
        let was_last = b.kernel.is_failure_pending();
        b.kernel.fail_after(None);
        let what = format!("{outcome:?} when call {passes} failed once");
        if undoes && outcome.is_err() {
            assert_eq!(b.rows(), rows, "{what}");
        }
        b.reconcile_to(Depth::Glance);
        assert_eq!(b.differences(), [""; 0], "{what}");
        assert_eq!(call(&b), Ok(()), "{what}, then again");
        b.assert_consistent();
        assert_eq!(b.kernel.unguarded(), [""; 0], "{what}");
        if was_last {
            assert_eq!(outcome, Ok(()), "{what}");
            return;
        }
    }
}

fn said(result: Result<Value, String>) -> Outcome {
    result.map(drop)
}

fn answered((status, reply): (u16, Value)) -> Outcome {
    if status < 300 { Ok(()) } else { Err(reply["error"].as_str().unwrap().to_owned()) }
}

fn acme() -> Value {
    network("n1", &[SUBNET, "fd00:1::/64"], &[("tenant", "acme"), ("bridge", "br1")])
}

fn with_network(b: &Bench) {
    b.ok("CreateNetwork", &acme());
}

fn on_br1(instance: &str, address: &str, mac: &str) -> Value {
    let mut request = vnic("acme", instance, SUBNET, address, mac);
    request["bridge"] = json!("br1");
    request
}

fn with_vnic(b: &Bench) {
    b.vnic(&on_br1("i1", "192.168.111.2", MAC));
}

fn with_all(b: &Bench) {
    with_network(b);
    with_vnic(b);
    b.run("e1", "n1", "192.168.111.2/24", MAC);
    b.run("e2", "n1", "192.168.111.3/24", "");
}

fn delete_network(b: &Bench) -> Outcome {
    said(b.call("DeleteNetwork", &json!({ "NetworkID": id("n1") })))
}

fn delete_i1(b: &Bench) -> Outcome {
    let (_, list) = b.launcher("GET", "/v1/vnics?instance=i1", b"");
    list.as_array().unwrap().iter().try_for_each(|vnic| answered(b.delete_vnic(vnic, true)))
}

#[test]
fn create_network_of_a_new_tenant() {
    at_every_change(true, |_| {}, |b| said(b.call("CreateNetwork", &acme())));
}

#[test]
fn create_network_beside_another_one() {
    at_every_change(
        true,
        |b| drop(b.ok("CreateNetwork", &network("n0", &["10.0.0.0/24"], &[("tenant", "acme"), ("bridge", "br0")]))),
        |b| said(b.call("CreateNetwork", &acme())),
    );
}

#[test]
fn create_network_on_a_launcher_s_bridge() {
    at_every_change(true, with_vnic, |b| said(b.call("CreateNetwork", &acme())));
}

#[test]
fn create_network_without_port_security_on_a_bridge_in_use() {
    at_every_change(true, with_vnic, |b| {
        let options = [("tenant", "acme"), ("bridge", "br1"), ("port_security", "off")];
        said(b.call("CreateNetwork", &network("n1", &[SUBNET], &options)))
    });
}

#[test]
fn delete_network_the_only_one() {
    at_every_change(false, with_network, delete_network);
}

#[test]
fn delete_network_beside_another_one() {
    at_every_change(
        false,
        |b| {
            with_network(b);
            b.ok("CreateNetwork", &network("n0", &["10.0.0.0/24"], &[("tenant", "acme"), ("bridge", "br0")]));
        },
        delete_network,
    );
}

#[test]
fn delete_network_with_a_launcher_s_vnic_and_endpoints() {
    at_every_change(
        false,
        |b| {
            with_all(b);
            b.kill_containers();
            b.reconcile();
            b.ok("CreateEndpoint", &endpoint("e3", "n1", "192.168.111.3/24", ""));
        },
        delete_network,
    );
}

#[test]
fn create_endpoint_of_a_launcher_s_vnic() {
    at_every_change(
        true,
        |b| {
            with_network(b);
            with_vnic(b);
        },
        |b| said(b.call("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", MAC))),
    );
}

#[test]
fn create_endpoint_of_docker_s_own() {
    at_every_change(true, with_network, |b| {
        said(b.call("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24 fd00:1::2/64", "")))
    });
}

#[test]
fn create_endpoint_in_the_place_of_a_stale_one() {
    at_every_change(
        false,
        |b| {
            with_network(b);
            b.ok("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", ""));
        },
        |b| said(b.call("CreateEndpoint", &endpoint("e2", "n1", "192.168.111.2/24", ""))),
    );
}

#[test]
fn delete_endpoint() {
    at_every_change(false, with_all, |b| {
        b.kill_containers();
        said(b.call("DeleteEndpoint", &names_of("n1", "e1")))
            .and(said(b.call("DeleteEndpoint", &names_of("n1", "e2"))))?;
        b.whole_reconcile()
    });
}

#[test]
fn join_of_a_link_that_is_gone() {
    at_every_change(
        true,
        |b| {
            with_network(b);
            with_vnic(b);
            b.ok("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", MAC));
        },
        |b| {
            b.reboot();
            said(b.call("Join", &names_of("n1", "e1")))?;
            b.driver.watch_firewall().map_err(|error| format!("{error:#}"))
        },
    );
}

#[test]
fn create_vnic_of_a_new_tenant() {
    at_every_change(true, |_| {}, |b| answered(b.make_vnic(&on_br1("i1", "192.168.111.2", MAC))));
}

#[test]
fn create_vnic_on_a_network() {
    at_every_change(true, with_network, |b| answered(b.make_vnic(&on_br1("i1", "192.168.111.2", MAC))));
}

#[test]
fn create_vnic_of_another_subnet_of_the_tenant() {
    at_every_change(true, with_network, |b| answered(b.make_vnic(&vnic("acme", "i1", "10.7.0.0/24", "10.7.0.2", MAC))));
}

#[test]
fn delete_vnic_the_only_one() {
    at_every_change(false, with_vnic, delete_i1);
}

#[test]
fn delete_vnic_with_its_bridge_beside_a_network() {
    at_every_change(
        false,
        |b| {
            with_network(b);
            b.vnic(&vnic("acme", "i1", "10.7.0.0/24", "10.7.0.2", MAC));
        },
        delete_i1,
    );
}

#[test]
fn delete_vnic_that_a_container_has() {
    at_every_change(false, with_all, delete_i1);
}

#[test]
fn reconcile_after_a_reboot() {
    at_every_change(false, with_all, |b| {
        b.reboot();
        b.age_endpoints();
        b.whole_reconcile()
    });
}

/// After a reboot the kernel has nothing. Whatever of it cannot be made is a row with an error, and no link is up without
/// its rules meanwhile; the next pass makes the rest.
#[test]
fn what_a_start_could_not_do_is_a_row_of_the_answer() {
    for passes in 0.. {
        let b = Bench::new();
        with_network(&b);
        with_vnic(&b);
        b.reboot();
        b.kernel.fail_once_after(passes);
        let rows = b.driver.reconcile(Depth::Whole);
        let was_last = b.kernel.is_failure_pending();
        b.kernel.fail_after(None);
        let failed: Vec<_> = rows.iter().filter(|row| row.error.is_some()).collect();
        assert_eq!(b.kernel.unguarded(), [""; 0], "when call {passes} failed: {rows:?}");
        assert!(!failed.is_empty() || b.differences() == [""; 0], "when call {passes} failed: {rows:?}");
        b.reconcile_to(Depth::Glance);
        assert_eq!(b.differences(), [""; 0], "when call {passes} failed: {rows:?}");
        if was_last {
            assert!(passes > 15 && failed.is_empty(), "{passes} {failed:?}");
            return;
        }
    }
}
