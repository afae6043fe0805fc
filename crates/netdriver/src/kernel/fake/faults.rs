// SPDX-License-Identifier: Apache-2.0
//! How the double fails on request, and what it checks after each change: nothing is up without its rules.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use ciao_common::sync::lock;

use super::state::{FakeLink, State};
use crate::kernel::Namespace;

/// Which calls fail.
#[derive(Clone, Copy, Debug, Default)]
enum Plan {
    #[default]
    None,
    /// After so many changes, every one.
    AfterChanges(usize),
    /// After so many calls, whether they change or read, one.
    OneCall(usize),
    /// The next call of the thread of this name panics.
    PanicIn(&'static str),
}

/// The plan, and what was found after changes.
#[derive(Default)]
pub(super) struct Faults {
    plan: Mutex<Plan>,
    unguarded: Mutex<Vec<String>>,
    /// Where a look takes until it is released.
    held: Mutex<Option<Namespace>>,
    released: Condvar,
}

impl Faults {
    pub(super) fn fail_after(&self, count: Option<usize>) {
        *lock(&self.plan) = count.map_or(Plan::None, Plan::AfterChanges);
    }

    pub(super) fn fail_once_after(&self, count: usize) {
        *lock(&self.plan) = Plan::OneCall(count);
    }

    pub(super) fn panic_in(&self, thread: &'static str) {
        *lock(&self.plan) = Plan::PanicIn(thread);
    }

    pub(super) fn hold(&self, namespace: Option<Namespace>) {
        *lock(&self.held) = namespace;
        self.released.notify_all();
    }

    /// Waits as long as a namespace is held.
    pub(super) fn pass(&self, namespace: &Namespace) {
        let held = self.released.wait_while(lock(&self.held), |held| held.as_ref() == Some(namespace));
        drop(held.unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether a failure is still to come.
    pub(super) fn is_pending(&self) -> bool {
        !matches!(*lock(&self.plan), Plan::None | Plan::AfterChanges(0))
    }

    pub(super) fn unguarded(&self) -> Vec<String> {
        lock(&self.unguarded).clone()
    }

    /// A call begins: a change, or something that is read.
    pub(super) fn call(&self, is_change: bool) -> Result<()> {
        let mut plan = lock(&self.plan);
        match &mut *plan {
            Plan::AfterChanges(0) if is_change => bail!("the kernel fails, as it was told"),
            Plan::OneCall(0) => {
                *plan = Plan::None;
                bail!("the kernel fails once, as it was told");
            }
            Plan::AfterChanges(left) if is_change => *left -= 1,
            Plan::OneCall(left) => *left -= 1,
            Plan::PanicIn(thread) if std::thread::current().name() == Some(thread) => {
                *plan = Plan::None;
                panic!("the kernel panics, as it was told");
            }
            Plan::None | Plan::AfterChanges(_) | Plan::PanicIn(_) => {}
        }
        Ok(())
    }
}

/// The state while it is changed.
pub(super) struct Changing<'a> {
    pub(super) state: MutexGuard<'a, State>,
    pub(super) faults: &'a Faults,
}

impl Deref for Changing<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Changing<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        lock(&self.faults.unguarded).extend(unguarded(&self.state));
    }
}

/// The links that are up and lack rules: a VNIC's host end its namespace's tables and its own MAC address among the
/// elements, an uplink the host's tables.
fn unguarded(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    for ((namespace, link), kind) in &state.links {
        if state.down.contains(&(namespace.clone(), link.clone())) {
            continue;
        }
        let rules = state.rules.get(namespace);
        let is_guarded = match (kind, namespace) {
            (FakeLink::HostEnd(..), Namespace::Named(_)) => rules.is_some_and(|elements| {
                let own = format!("macs {{ \"{link}\" . ");
                elements.iter().any(|element| element.contains(&own))
            }),
            (FakeLink::Uplink(_), _) => state.rules.contains_key(&Namespace::Host),
            _ => true,
        };
        if !is_guarded {
            found.push(format!("link {link} in {namespace} is up without its rules"));
        }
    }
    found
}
