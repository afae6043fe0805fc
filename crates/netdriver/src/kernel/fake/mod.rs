// SPDX-License-Identifier: Apache-2.0
//! A kernel in memory, for tests: it records what exists where, and fails on request.

pub mod consistency;
mod faults;
mod host;
mod links;
mod look;
mod rules;
mod state;
mod tunnel;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use anyhow::Result;
use ciao_common::types::LinkName;

use crate::kernel::{Kernel, Namespace, Namespaces};
use crate::names;
use faults::{Changing, Faults};
pub use state::{FakeLink, State};

/// The double.
#[derive(Default)]
pub struct Fake {
    state: Mutex<State>,
    faults: Faults,
    /// How often something else changed something.
    foreign: AtomicU32,
    /// How often rules were changed here, by namespace.
    generations: Mutex<BTreeMap<Namespace, u32>>,
    /// How often the host's firewall was looked at.
    firewall_looks: AtomicU32,
}

impl Fake {
    /// What exists now.
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    /// Changes the state, as something other than ciao would.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        self.foreign.fetch_add(1, Ordering::Relaxed);
        change(&mut self.lock());
    }

    /// Lets `count` changes pass and the others fail; `None`: none fails.
    pub fn fail_after(&self, count: Option<usize>) {
        self.faults.fail_after(count);
    }

    /// Lets `count` calls pass, whether they change something or only read it, and the next one fail.
    pub fn fail_once_after(&self, count: usize) {
        self.faults.fail_once_after(count);
    }

    /// Lets the next call of the thread of a name panic.
    pub fn panic_in(&self, thread: &'static str) {
        self.faults.panic_in(thread);
    }

    /// Lets whoever looks into a namespace wait until another one is held, or none.
    pub fn hold(&self, namespace: Option<Namespace>) {
        self.faults.hold(namespace);
    }

    /// Whether a requested failure is still to come.
    pub fn is_failure_pending(&self) -> bool {
        self.faults.is_pending()
    }

    /// Links that were up without their rules after a change of ciao's own, a sentence each time.
    pub fn unguarded(&self) -> Vec<String> {
        self.faults.unguarded()
    }

    /// How often the host's firewall was looked at.
    pub fn firewall_looks(&self) -> u32 {
        self.firewall_looks.load(Ordering::Relaxed)
    }

    /// A container takes, or returns, a container's end.
    pub fn move_link(&self, link: &LinkName, from: &Namespace, to: &Namespace) {
        let mut state = self.lock();
        if let Some(found) = state.links.remove(&(from.clone(), link.clone())) {
            state.links.insert((to.clone(), link.clone()), found);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics in it")
    }

    fn changing(&self) -> Result<Changing<'_>> {
        self.faults.call(true)?;
        Ok(Changing { state: self.lock(), faults: &self.faults })
    }

    fn reading(&self) -> Result<MutexGuard<'_, State>> {
        self.faults.call(false)?;
        Ok(self.lock())
    }

    /// Rules were changed here.
    fn count(&self, namespace: &Namespace) {
        let mut generations = self.generations.lock().expect("no test panics in it");
        *generations.entry(namespace.clone()).or_default() += 1;
    }

    fn generation(&self, namespace: &Namespace) -> u32 {
        let own = self.generations.lock().expect("no test panics in it").get(namespace).copied();
        own.unwrap_or_default() + 1000 * self.foreign.load(Ordering::Relaxed)
    }
}

impl Namespaces for Fake {
    fn ensure_namespace(&self, name: &str) -> Result<bool> {
        let mut state = self.changing()?;
        state.not_forwarding.remove(&Namespace::Named(name.to_owned()));
        Ok(state.namespaces.insert(name.to_owned()))
    }

    fn has_namespace(&self, name: &str) -> Result<bool> {
        Ok(self.reading()?.namespaces.contains(name))
    }

    fn delete_namespace(&self, name: &str) -> Result<()> {
        let mut state = self.changing()?;
        state.namespaces.remove(name);
        let inside = Namespace::Named(name.to_owned());
        let names: Vec<_> = state.links.keys().filter(|(ns, _)| *ns == inside).map(|(_, link)| link.clone()).collect();
        names.iter().for_each(|link| state.remove(&inside, link));
        state.rules.remove(&inside);
        Ok(())
    }

    fn namespaces(&self) -> Result<Vec<String>> {
        let ours = |name: &&String| names::NAMESPACE_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        Ok(self.reading()?.namespaces.iter().filter(ours).cloned().collect())
    }
}

impl Kernel for Fake {}
