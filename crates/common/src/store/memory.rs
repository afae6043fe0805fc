// SPDX-License-Identifier: Apache-2.0
//! What the writer has read and would read again for each lease: its pool, what ciao-net has on its set of addresses,
//! and the free ranges of a set that has few.
//!
//! It is true while nobody else commits, which SQLite's `data_version` tells, and while nothing but leases is changed
//! here. A debug build compares it with the records whenever it is used.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, ensure};

use crate::types::AddressRange;

/// Most pools, and most sets, that are remembered.
const MOST: usize = 256;
/// Most free ranges of a set that are remembered: about as many as are looked at by one search.
pub(super) const FEW: usize = 32;

/// What is remembered does not depend on these: changes of leases.
const LEASES: [&str; 7] = [
    "SAVEPOINT ",
    "INSERT INTO address_record ",
    "UPDATE address_record ",
    "DELETE FROM address_record ",
    "INSERT INTO free_range ",
    "UPDATE free_range ",
    "DELETE FROM free_range ",
];

/// What ciao-net has on a set of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetUse {
    /// A network.
    pub(super) network: bool,
    /// A launcher's VNIC with an address of its subnet.
    pub(super) launcher: bool,
}

/// What was read; nothing, unless [`begin`](Self::begin) was called.
#[derive(Default)]
pub(super) struct Memory {
    version: Cell<Option<i64>>,
    /// By PoolID. The type is of a file that uses this one.
    pools: RefCell<HashMap<String, Box<dyn Any>>>,
    uses: RefCell<HashMap<i64, SetUse>>,
    runs: RefCell<HashMap<i64, Option<Runs>>>,
}

/// Free ranges by their last address.
pub(super) type Runs = BTreeMap<u128, AddressRange>;

impl Memory {
    /// Whether this is the file's version that [`begin`](Self::begin) was called with: nobody else has committed since.
    pub(super) fn is_of(&self, version: i64) -> bool {
        self.version.get() == Some(version)
    }

    /// What is read from now on is of that version.
    pub(super) fn begin(&self, version: i64) {
        self.forget();
        self.version.set(Some(version));
    }

    pub(super) fn forget(&self) {
        self.pools.borrow_mut().clear();
        self.uses.borrow_mut().clear();
        self.runs.borrow_mut().clear();
    }

    /// Forgets all before such a statement, unless it is a change of leases.
    pub(super) fn forget_before(&self, change: &str) {
        if self.version.get().is_some() && !LEASES.iter().any(|lease| change.starts_with(lease)) {
            self.forget();
        }
    }

    /// The pool of that id, as remembered or as `read` now; one that is not there is not remembered.
    pub(super) fn pool<T>(&self, id: &str, read: impl Fn() -> Result<Option<T>>) -> Result<Option<T>>
    where
        T: Clone + PartialEq + 'static,
    {
        let known = self.pools.borrow().get(id).and_then(|pool| pool.downcast_ref::<T>()).cloned();
        if known.is_some() {
            return if cfg!(debug_assertions) { same(known, read()?) } else { Ok(known) };
        }
        let found = read()?;
        if let Some(pool) = &found {
            self.keep(&self.pools, id.to_owned(), Box::new(pool.clone()));
        }
        Ok(found)
    }

    /// The use of the set of that id, as remembered or as `read` now.
    pub(super) fn set_use(&self, id: i64, read: impl Fn() -> Result<SetUse>) -> Result<SetUse> {
        let known = self.uses.borrow().get(&id).copied();
        if let Some(known) = known {
            return if cfg!(debug_assertions) { same(known, read()?) } else { Ok(known) };
        }
        let found = read()?;
        self.keep(&self.uses, id, found);
        Ok(found)
    }

    /// What `look` finds in the free ranges of the set of that id, which `read` reads if they are not remembered;
    /// `None`: there are too many.
    pub(super) fn runs<R>(
        &self,
        id: i64,
        read: impl Fn() -> Result<Vec<AddressRange>>,
        look: impl FnOnce(&Runs) -> R,
    ) -> Result<Option<R>> {
        if self.version.get().is_none() {
            return Ok(None);
        }
        if !self.runs.borrow().contains_key(&id) {
            let all = read()?;
            let few = (all.len() <= FEW).then(|| all.into_iter().map(|run| (run.last, run)).collect());
            self.keep(&self.runs, id, few);
        }
        Ok(self.runs.borrow().get(&id).and_then(Option::as_ref).map(look))
    }

    /// Does the same with the remembered free ranges of a set as was done with its records.
    pub(super) fn change_runs<R>(&self, id: i64, change: impl FnOnce(&mut Runs) -> R) {
        if let Some(known) = self.runs.borrow_mut().get_mut(&id) {
            *known = known.take().filter(|runs| runs.len() < FEW);
            if let Some(runs) = known {
                change(runs);
            }
        }
    }

    fn keep<K: Eq + std::hash::Hash, V>(&self, all: &RefCell<HashMap<K, V>>, key: K, value: V) {
        let mut all = all.borrow_mut();
        if self.version.get().is_none() {
            return;
        }
        if all.len() == MOST {
            all.clear();
        }
        all.insert(key, value);
    }
}

pub(super) fn same<T: PartialEq>(known: T, recorded: T) -> Result<T> {
    ensure!(
        known == recorded,
        "internal error (please report): what the store's writer remembers is not what is recorded"
    );
    Ok(known)
}
