// SPDX-License-Identifier: Apache-2.0
//! Random operations while daemons are killed and calls fail, for a short while. `CIAO_FAULTS` asks for more, and the
//! program `churn` goes on for as long as one likes.

use ciao_tests::churn::{Plan, run};
use ciao_tests::lab::{Engine, Host};

const FAULTS: usize = 20;

fn churn(name: &str, wired: bool) {
    let faults = std::env::var("CIAO_FAULTS").map_or(FAULTS, |faults| faults.parse().expect("CIAO_FAULTS is a number"));
    let plan = Plan { seed: 1, faults, rest_every: 10, workers: 3, wired };
    let tally = run(Host::builder().name(name), &plan).unwrap();
    println!("engine {}, {name}: no difference after {tally}", Engine::from_environment().unwrap());
}

#[test]
fn random_operations_among_failing_calls_and_killed_daemons_leave_nothing_behind() {
    churn("churn-wired", true);
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn random_operations_among_killed_daemons_leave_nothing_behind() {
    churn("churn-direct", false);
}
