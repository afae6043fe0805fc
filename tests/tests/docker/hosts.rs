// SPDX-License-Identifier: Apache-2.0
//! The hosts that scenarios run on. Opening one costs a second of processor, most scenarios leave it as they found it,
//! and [`assert_nothing_left`](crate::scene::assert_nothing_left) proves that; so they share a few, one scenario at a
//! time.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use ciao_tests::lab::Host;

/// Hosts that nobody uses. What is still here when the process ends, ends with it, see `tests/lab/host.sh`.
static IDLE: Mutex<Vec<Host>> = Mutex::new(Vec::new());

/// A host of one scenario, which goes to the next one unless the scenario panics.
pub(crate) struct Shared(Option<Host>);

/// A host with the engine under test and both daemons, for a scenario that leaves nothing on it.
pub(crate) fn shared() -> Shared {
    let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    Shared(Some(idle.unwrap_or_else(|| own("shared"))))
}

/// A host for one scenario alone, which may do with it what it likes.
pub(crate) fn own(name: &str) -> Host {
    Host::builder().name(name).start().unwrap()
}

impl Deref for Shared {
    type Target = Host;

    fn deref(&self) -> &Host {
        self.0.as_ref().expect("it is released when it is dropped")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).extend(self.0.take());
        }
    }
}
