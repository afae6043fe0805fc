// SPDX-License-Identifier: Apache-2.0
//! The guard of the host's rules: a copy of their filter that a flush does not remove.

use crate::kernel::Kernel;
use crate::kernel::element::Element;
use crate::rules;

/// What the guard has.
#[derive(Default)]
pub(super) struct HostGuard {
    /// The elements of the filter.
    written: Option<Vec<Element>>,
    /// Why it has not, as logged.
    failure: Option<String>,
}

impl HostGuard {
    /// Makes the guard the same as the host's filter. Where the kernel has no guard, the rules are all there is.
    pub(super) fn update(&mut self, kernel: &dyn Kernel, mut elements: Vec<Element>) {
        elements.retain(rules::is_in_filter);
        if kernel.is_host_guarded() && self.written.as_ref() == Some(&elements) {
            return;
        }
        let failure = kernel.guard_host(rules::HOST_FILTER, &elements).err().map(|error| format!("{error:#}"));
        if let Some(failure) = failure.as_ref().filter(|failure| self.failure.as_ref() != Some(failure)) {
            log::warn!(
                "guard the host's rules: {failure}: after a flush of the rules, tenants are isolated again a second later"
            );
        }
        (self.written, self.failure) = (Some(elements), failure);
    }
}
