// SPDX-License-Identifier: Apache-2.0
//! The guard of the host's rules: a copy of their filter that a flush does not remove.

use crate::kernel::Kernel;
use crate::kernel::element::{Element, Ruleset};
use crate::rules;

/// What the guard has.
#[derive(Default)]
pub(super) struct HostGuard {
    /// The filter and its elements.
    written: Option<(String, Vec<Element>)>,
    /// Why it has not, as logged.
    failure: Option<String>,
}

impl HostGuard {
    /// Makes the guard the same as the ruleset's filter. Where the kernel has no guard, the rules are all there is.
    pub(super) fn update(&mut self, kernel: &dyn Kernel, ruleset: Ruleset) {
        let filter = rules::guard::filter(&ruleset.tables);
        let elements = rules::guard::elements(&filter, ruleset.elements);
        if kernel.is_host_guarded() && self.written.as_ref().is_some_and(|(f, e)| *f == filter && *e == elements) {
            return;
        }
        let failure = kernel.guard_host(&filter, &elements).err().map(|error| format!("{error:#}"));
        if let Some(failure) = failure.as_ref().filter(|failure| self.failure.as_ref() != Some(failure)) {
            log::warn!(
                "guard the host's rules: {failure}: after a flush of the rules, tenants are isolated again a second later"
            );
        }
        (self.written, self.failure) = (Some((filter, elements)), failure);
    }
}
