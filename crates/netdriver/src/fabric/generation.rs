// SPDX-License-Identifier: Apache-2.0
//! The kernel's counts of changes of rules, as last known.

use std::collections::BTreeMap;
use std::sync::Mutex;

use ciao_common::sync::lock;

/// The generation of the host's rules, if it is known.
#[derive(Default)]
pub(super) struct Generation(Mutex<Option<u32>>);

impl Generation {
    /// Whether it is that one: nobody has changed the rules since.
    pub(super) fn is(&self, now: Option<u32>) -> bool {
        now.is_some() && *lock(&self.0) == now
    }

    pub(super) fn set(&self, generation: Option<u32>) {
        *lock(&self.0) = generation;
    }

    /// A change of ciao-net's own was made. After one of somebody else's it is not known.
    pub(super) fn advance(&self, now: Option<u32>) {
        let mut known = lock(&self.0);
        *known = advanced(*known, now);
    }
}

/// The generations of the namespaces' rules that are known to be as recorded.
#[derive(Default)]
pub(super) struct Generations(Mutex<BTreeMap<String, u32>>);

impl Generations {
    pub(super) fn get(&self, namespace: &str) -> Option<u32> {
        lock(&self.0).get(namespace).copied()
    }

    pub(super) fn set(&self, namespace: &str, generation: Option<u32>) {
        match generation {
            Some(generation) => lock(&self.0).insert(namespace.to_owned(), generation),
            None => lock(&self.0).remove(namespace),
        };
    }

    /// [`Generation::advance`].
    pub(super) fn advance(&self, namespace: &str, now: Option<u32>) {
        self.set(namespace, advanced(self.get(namespace), now));
    }
}

/// After a change of ciao-net's own, which counts as one, or as none if nothing had to change. More: something else
/// changed the rules too.
fn advanced(before: Option<u32>, now: Option<u32>) -> Option<u32> {
    now.filter(|now| before.is_some_and(|before| *now == before || *now == before.wrapping_add(1)))
}
