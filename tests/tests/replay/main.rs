// SPDX-License-Identifier: Apache-2.0
//! Replays: the calls of real engines, one by one, to the handlers of both drivers, without an engine.
//!
//! [`wire`] reads a recording, [`engine`] plays it and puts our ids and addresses where the recorded ones stand,
//! [`host`] is what it is played to: both drivers on one store and on a kernel in memory. Every call must succeed, and
//! when the recorded user has removed what he made, nothing of it may be left.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod engine;
mod host;
mod leader;
mod wire;

use std::collections::BTreeSet;
use std::thread;

use ciao_common::store::Scope;
use ciao_netdriver::reconcile::Depth;
use engine::Engine;
use host::Host;
use nix::sched::{CloneFlags, unshare};

const RECORDINGS: [(&str, &str); 3] = [
    ("20.10.24", include_str!("../../wire/docker-20.10.24.jsonl")),
    ("26.1.5", include_str!("../../wire/docker-26.1.5.jsonl")),
    ("28.5.2", include_str!("../../wire/docker-28.5.2.jsonl")),
];
const SWARM: &str = include_str!("../../wire/swarm-28.5.2.jsonl");

/// Plays each recording. `prepare` comes before every line.
fn replay_all(prepare: impl Fn(&mut Engine) + Sync) {
    for (version, text) in RECORDINGS {
        alone(|has_own_network| {
            let mut engine = Engine::new(Host::new(Scope::Local), has_own_network);
            for line in wire::read(text) {
                prepare(&mut engine);
                engine.play(&line);
            }
            assert!(engine.steps > 20 && engine.calls > 130, "{version} is cut short: {} calls", engine.calls);
            engine.assert_nothing_left(&[]);
        });
    }
}

/// Runs a replay in a thread with a network namespace of its own, whose ports are all free, and returns whether it has
/// one: only root may make it.
fn alone<T: Send>(replay: impl FnOnce(bool) -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(|| replay(unshare(CloneFlags::CLONE_NEWNET).is_ok())).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[test]
fn every_recorded_call_succeeds_and_nothing_is_left() {
    replay_all(|_| {});
}

#[test]
fn daemons_killed_before_every_call_do_as_well() {
    replay_all(|engine| engine.host.restart());
}

#[test]
fn a_reconcile_between_any_two_calls_takes_nothing_away() {
    replay_all(|engine| engine.host.reconcile(Depth::Changed));
}

#[test]
fn every_method_of_both_drivers_is_in_a_recording() {
    let lines = RECORDINGS.iter().flat_map(|(_, text)| wire::read(text)).chain(wire::read(SWARM));
    let called: BTreeSet<_> = lines.filter_map(|line| line.method().map(|method| format!("/{method}"))).collect();
    let answered: BTreeSet<_> = Host::new(Scope::Local).paths().into_iter().map(str::to_owned).collect();
    assert_eq!(called, answered);
}

#[test]
fn a_swarm_of_two_nodes_is_served_on_each() {
    let play = |node: &str, allocated: Option<serde_json::Value>| {
        alone(|has_own_network| {
            let mut engine = Engine::new(Host::new(Scope::Global), has_own_network);
            engine.allocated = allocated;
            for line in wire::with_distinct_ids(wire::read_node(SWARM, node)) {
                engine.play(&line);
            }
            engine
        })
    };
    let manager = play("manager 192.0.2.1", None);
    let allocated = manager.allocated.clone().unwrap();
    assert_eq!(allocated["tenant"], "acme", "the nodes get the user's options");
    manager.assert_nothing_left(&[]);
    // The recording ends before the worker sees the manager leave.
    play("worker 192.0.2.2", Some(allocated)).assert_nothing_left(&[]);
}
