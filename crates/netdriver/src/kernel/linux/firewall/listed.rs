// SPDX-License-Identifier: Apache-2.0
//! The chains as a tool listed them last: a process takes some milliseconds, the kernel's count of changes none.

use std::collections::HashMap;
use std::sync::Mutex;

use ciao_common::sync::lock;
use ciao_common::types::Family;

use super::chain::Chains;

/// What changes the table `filter`.
#[derive(Clone, Copy)]
pub(super) enum Tool {
    Iptables,
    Nft,
}

/// Each family's, with the count of changes of the host's rules before.
#[derive(Default)]
pub(in crate::kernel::linux) struct Listed(Mutex<HashMap<Family, (u32, Tool, Chains)>>);

impl Listed {
    /// What was listed at that count.
    pub(super) fn at(&self, family: Family, generation: Option<u32>) -> Option<(Tool, Chains)> {
        let listed = lock(&self.0);
        let known = listed.get(&family).filter(|(of, ..)| Some(*of) == generation);
        known.map(|(_, tool, chains)| (*tool, chains.clone()))
    }

    /// Notes a listing; without a count it may change unnoticed.
    pub(super) fn note(&self, family: Family, generation: Option<u32>, (tool, chains): (Tool, Chains)) {
        if let Some(generation) = generation {
            lock(&self.0).insert(family, (generation, tool, chains));
        }
    }

    /// The only change since was of other tables.
    pub(in crate::kernel::linux) fn keep(&self, before: u32, after: u32) {
        lock(&self.0).values_mut().filter(|(of, ..)| *of == before).for_each(|(of, ..)| *of = after);
    }

    /// The only change since was that of the policy.
    pub(super) fn set_policy(&self, family: Family, (before, after): (u32, u32), policy: &str) {
        if let Some((_, _, chains)) = lock(&self.0).get_mut(&family).filter(|(of, ..)| *of == before) {
            chains.policy = Some(policy.to_owned());
        }
        self.keep(before, after);
    }
}
