// SPDX-License-Identifier: Apache-2.0
//! Every target on its corpus, and on changes of it that are the same in each run: what `make fuzz` does for longer,
//! and with an eye on the code that it reaches.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::{fmt, fs, thread};

use ciao_fuzz::{TARGETS, be_alone};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

/// How many changed inputs each target gets.
const CHANGED: u32 = 100;

/// The inputs of a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Each target in a thread and a network namespace of its own.
fn each(act: impl Fn(&str, fn(&[u8])) + Sync) {
    thread::scope(|scope| {
        for (name, target) in TARGETS {
            let act = &act;
            scope.spawn(move || {
                be_alone();
                act(name, target);
            });
        }
    });
}

/// An input that a failure shows as text.
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// A change of an input.
#[derive(Clone, Debug)]
enum Change {
    Put(Index, u8),
    Insert(Index, Vec<u8>),
    Cut(Index, usize),
    Double(Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let word =
        select(vec!["\"\"", "null", "0", "-1", "4294967296", "[]", "{}", "\n", "::1", "0.0.0.0/0", "$P0", "$V0"]);
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(place, byte)| Change::Put(place, byte)),
        (any::<Index>(), word).prop_map(|(place, word)| Change::Insert(place, word.into())),
        (any::<Index>(), 1..40_usize).prop_map(|(place, length)| Change::Cut(place, length)),
        (any::<Index>(), 1..400_usize).prop_map(|(place, length)| Change::Double(place, length)),
    ]
}

fn changed(mut input: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if input.is_empty() {
            break;
        }
        let (Change::Put(place, _) | Change::Insert(place, _) | Change::Cut(place, _) | Change::Double(place, _)) =
            change;
        let place = place.index(input.len());
        let piece = |length: &usize| place..input.len().min(place + length);
        match change {
            Change::Put(_, byte) => input[place] = *byte,
            Change::Insert(_, bytes) => drop(input.splice(place..place, bytes.iter().copied())),
            Change::Cut(_, length) => drop(input.drain(piece(length))),
            Change::Double(_, length) => {
                let again = input[piece(length)].to_vec();
                drop(input.splice(place..place, again));
            }
        }
    }
    input
}

#[test]
fn every_target_keeps_its_promises_on_its_corpus() {
    each(|name, target| {
        for input in corpus(name) {
            target(&input);
        }
    });
}

#[test]
fn every_target_keeps_its_promises_on_changes_of_its_corpus() {
    each(|name, target| {
        let inputs =
            (select(corpus(name)), vec(change(), 1..6)).prop_map(|(input, changes)| Input(changed(input, &changes)));
        let config = ProptestConfig { cases: CHANGED, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRunner::deterministic().rng().clone());
        let ended = runner.run(&inputs, |input| {
            target(&input.0);
            Ok(())
        });
        assert!(ended.is_ok(), "{name}: {}", ended.unwrap_err());
    });
}
