// SPDX-License-Identifier: Apache-2.0
//! The kernel failing in the middle of every call: what is left is nothing, or what a reconcile puts right.

mod endpoints;
mod networks;
mod vnics;

use ciao_netdriver::reconcile::Depth;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{id, network, vnic};

pub(super) const SUBNET: &str = "192.168.111.0/24";
pub(super) const MAC: &str = "02:00:00:00:00:02";

/// What a call answers: an error's sentence, or nothing.
pub(super) type Outcome = Result<(), String>;

/// Makes the kernel fail before the first, second, … change of `call`, until there is none left to fail. A call that
/// failed and is said to undo itself has changed no record once a reconcile has run; the call again then succeeds; and
/// records and kernel agree.
pub(super) fn at_every_change(undoes: bool, prepare: fn(&Bench), call: fn(&Bench) -> Outcome) {
    for restarts in [false, true] {
        for passes in 0.. {
            let mut b = Bench::new();
            prepare(&b);
            b.settle();
            b.assert_consistent();
            let (rows, state) = (b.rows(), b.kernel.state());
            b.kernel.fail_after(Some(passes));
            let outcome = call(&b);
            // Background work fails too, before the kernel is well again.
            b.driver.wait_for_tasks();
            let was_last = b.kernel.is_failure_pending();
            b.kernel.fail_after(None);
            let what = format!("{outcome:?} after {passes} changes, restarts: {restarts}");
            if restarts {
                b = b.restarted();
            }
            let untouched = outcome.is_err() && b.rows() == rows && b.kernel.state() == state;
            if !untouched {
                // The reconcile of a start, or of the timer.
                b.reconcile_to(if restarts { Depth::Full } else { Depth::Changed });
                assert_eq!(b.differences(), [""; 0], "{what}");
            }
            if undoes && outcome.is_err() {
                assert_eq!(b.rows(), rows, "{what}");
            }
            assert_eq!(call(&b), Ok(()), "{what}, then again");
            b.assert_consistent();
            assert_eq!(b.kernel.unguarded(), [""; 0], "{what}");
            if was_last {
                assert_eq!(outcome, Ok(()), "{what}");
                break;
            }
        }
    }
    at_every_call(undoes, prepare, call);
}

/// The same with one failure only, of the first, second, … call of the kernel, whether it changes something or reads
/// it; until there is none left to fail.
pub(super) fn at_every_call(undoes: bool, prepare: fn(&Bench), call: fn(&Bench) -> Outcome) {
    for passes in 0.. {
        let b = Bench::new();
        prepare(&b);
        b.settle();
        let rows = b.rows();
        b.kernel.fail_once_after(passes);
        let outcome = call(&b);
        b.driver.wait_for_tasks();
        let was_last = b.kernel.is_failure_pending();
        b.kernel.fail_after(None);
        let what = format!("{outcome:?} when call {passes} failed once");
        if undoes && outcome.is_err() {
            assert_eq!(b.rows(), rows, "{what}");
        }
        b.reconcile_to(Depth::Changed);
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

pub(super) fn said(result: Result<Value, String>) -> Outcome {
    result.map(drop)
}

pub(super) fn answered((status, reply): (u16, Value)) -> Outcome {
    if status < 300 { Ok(()) } else { Err(reply["error"].as_str().unwrap().to_owned()) }
}

pub(super) fn acme() -> Value {
    network("n1", &[SUBNET, "fd00:1::/64"], &[("tenant", "acme"), ("bridge", "br1")])
}

pub(super) fn with_network(b: &Bench) {
    b.ok("CreateNetwork", &acme());
}

pub(super) fn on_br1(instance: &str, address: &str, mac: &str) -> Value {
    let mut request = vnic("acme", instance, SUBNET, address, mac);
    request["bridge"] = json!("br1");
    request
}

pub(super) fn with_vnic(b: &Bench) {
    b.vnic(&on_br1("i1", "192.168.111.2", MAC));
}

pub(super) fn with_all(b: &Bench) {
    with_network(b);
    with_vnic(b);
    b.run("e1", "n1", "192.168.111.2/24", MAC);
    b.run("e2", "n1", "192.168.111.3/24", "");
}

pub(super) fn delete_network(b: &Bench) -> Outcome {
    said(b.call("DeleteNetwork", &json!({ "NetworkID": id("n1") })))
}

pub(super) fn delete_i1(b: &Bench) -> Outcome {
    let (_, list) = b.launcher("GET", "/v1/vnics?instance=i1", b"");
    list.as_array().unwrap().iter().try_for_each(|vnic| answered(b.delete_vnic(vnic, true)))
}

#[test]
fn reconcile_after_a_reboot() {
    at_every_change(false, with_all, |b| {
        b.reboot();
        b.age_endpoints();
        b.whole_reconcile()
    });
}

/// After a reboot the kernel has nothing. Whatever of it cannot be made is a row with an error, and no link is up
/// without its rules meanwhile; the next pass makes the rest.
#[test]
fn a_failed_repair_at_start_is_a_row_with_an_error() {
    for passes in 0.. {
        let b = Bench::new();
        with_network(&b);
        with_vnic(&b);
        b.reboot();
        b.kernel.fail_once_after(passes);
        let rows = b.driver.reconcile(Depth::Full);
        let was_last = b.kernel.is_failure_pending();
        b.kernel.fail_after(None);
        let failed: Vec<_> = rows.iter().filter(|row| row.error.is_some()).collect();
        assert_eq!(b.kernel.unguarded(), [""; 0], "when call {passes} failed: {rows:?}");
        assert!(!failed.is_empty() || b.differences() == [""; 0], "when call {passes} failed: {rows:?}");
        b.reconcile_to(Depth::Changed);
        assert_eq!(b.differences(), [""; 0], "when call {passes} failed: {rows:?}");
        if was_last {
            assert!(passes > 15 && failed.is_empty(), "{passes} {failed:?}");
            return;
        }
    }
}
