// SPDX-License-Identifier: Apache-2.0
//! Calls during the first pass of a start: each waits for its own namespace, which is restored first.

use std::thread;

use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::reconcile::Depth;
use serde_json::json;

use crate::bench::Bench;
use crate::reconcile::busy;
use crate::requests::{endpoint, names_of};

fn inside(name: &str) -> Namespace {
    Namespace::Named(format!("ciao-{name}"))
}

/// Two tenants with running containers, after a reboot; nothing was compared since.
fn rebooted() -> Bench {
    let b = busy();
    b.reboot();
    b.age_endpoints();
    b.restarted()
}

/// What the status says of the first pass.
fn first_pass(b: &Bench) -> Vec<String> {
    let (_, status) = b.launcher("GET", "/v1/status", b"");
    let problems = status["problems"].as_array().unwrap().iter().map(|one| one["problem"].as_str().unwrap().to_owned());
    problems.filter(|problem| problem.contains("first pass")).collect()
}

#[test]
fn a_slow_tenant_delays_its_own_calls_and_nobody_else_s() {
    let b = &rebooted();
    b.kernel.hold(Some(inside("red")));
    thread::scope(|scope| {
        let pass = scope.spawn(|| b.driver.reconcile(Depth::Full));
        let slow = scope.spawn(|| b.ok("CreateEndpoint", &endpoint("red4", "red", "192.168.111.4/24", "")));
        b.run("blue4", "blue", "192.168.111.4/24", "");
        let said = first_pass(b);
        assert!(said.len() == 1 && said[0].ends_with(" parts are left"), "{said:?}");
        assert!(!slow.is_finished() && !pass.is_finished());
        b.kernel.hold(None);
        slow.join().unwrap();
        assert!(pass.join().unwrap().iter().all(|row| row.error.is_none()));
    });
    assert_eq!(first_pass(b), [""; 0]);
    b.join("red", "red4");
    b.settle();
    b.assert_consistent();
    assert_eq!(b.kernel.unguarded(), [""; 0]);
}

#[test]
fn a_call_has_its_own_namespace_and_the_host_s_rules_restored_first() {
    let b = busy();
    b.ok("CreateEndpoint", &endpoint("blue3", "blue", "192.168.111.5/24", ""));
    let good = b.kernel.state();
    let flushed = [Namespace::Host, inside("red"), inside("blue")];
    let b = b.restarted();
    b.kernel.change(|state| flushed.iter().for_each(|namespace| drop(state.rules.remove(namespace))));
    b.ok("CreateEndpoint", &endpoint("red4", "red", "192.168.111.4/24", ""));
    let state = b.kernel.state();
    assert!(state.rules[&inside("red")].is_superset(&good.rules[&inside("red")]));
    assert_eq!(state.rules.get(&Namespace::Host), good.rules.get(&Namespace::Host));
    assert!(!state.rules.contains_key(&inside("blue")), "nobody has asked for it");
    b.join("blue", "blue3");
    assert_eq!(b.kernel.state().rules[&inside("blue")], good.rules[&inside("blue")]);
    // Whatever else is done first of all.
    for (method, body) in [
        ("ProgramExternalConnectivity", {
            let mut body = names_of("red", "red1");
            body["Options"] = json!({ "com.docker.network.portmap": [
                { "Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 0, "HostPortEnd": 0 }] });
            body
        }),
        ("CreateNetwork", crate::requests::network("more", &["10.9.0.0/24"], &[("tenant", "red")])),
    ] {
        let b = busy().restarted();
        let good = b.kernel.state();
        b.kernel.change(|state| flushed.iter().for_each(|namespace| drop(state.rules.remove(namespace))));
        b.ok(method, &body);
        let rules = b.kernel.state().rules;
        assert!(rules[&inside("red")].is_superset(&good.rules[&inside("red")]), "{method}");
        assert!(rules[&Namespace::Host].is_superset(&good.rules[&Namespace::Host]), "{method}");
    }
    let b = busy().restarted();
    let good = b.kernel.state();
    b.kernel.change(|state| drop(state.rules.remove(&inside("red"))));
    let (_, vnics) = b.launcher("GET", "/v1/vnics?tenant=red", b"");
    let target = format!("/v1/vnics/{}", vnics[0]["id"].as_str().unwrap());
    assert_eq!(b.launcher("PATCH", &target, br#"{"rate":"10mbit"}"#).0, 200);
    assert!(b.kernel.state().rules[&inside("red")].len() >= good.rules[&inside("red")].len());
}

#[test]
fn a_namespace_that_cannot_be_restored_refuses_calls_until_it_can() {
    let b = busy().restarted();
    b.kernel.change(|state| drop(state.rules.remove(&inside("red"))));
    b.kernel.fail_after(Some(0));
    let call = || b.call("CreateEndpoint", &endpoint("red4", "red", "192.168.111.4/24", ""));
    for _ in 0..2 {
        let error = call().unwrap_err();
        assert!(
            error.contains("restore rules of network namespace ciao-red: ") && error.contains("kernel fails"),
            "{error}"
        );
    }
    b.kernel.fail_after(None);
    call().unwrap();
    b.join("red", "red4");
    b.reconcile();
    b.assert_consistent();
}

/// Whichever call of the kernel fails, no link is up without its rules.
#[test]
fn the_first_call_after_a_reboot_opens_nothing_whatever_fails() {
    for passes in 0.. {
        let b = rebooted();
        b.kernel.fail_once_after(passes);
        let call = || b.call("CreateEndpoint", &endpoint("red4", "red", "192.168.111.4/24", ""));
        let outcome = call();
        let was_last = b.kernel.is_failure_pending();
        b.kernel.fail_after(None);
        b.driver.wait_for_tasks();
        assert_eq!(b.kernel.unguarded(), [""; 0], "{outcome:?} when call {passes} failed");
        call().unwrap();
        b.join("red", "red4");
        b.reconcile_to(Depth::Changed);
        assert_eq!(b.differences(), [""; 0], "{outcome:?} when call {passes} failed");
        if was_last {
            assert!(passes > 15 && outcome.is_ok(), "{passes} {outcome:?}");
            return;
        }
    }
}
