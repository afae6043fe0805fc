// SPDX-License-Identifier: Apache-2.0
//! Whether records and kernel agree, after any test.

use ciao_netdriver::kernel::fake::consistency::differences;

use crate::bench::Bench;

impl Bench {
    /// Where records and kernel differ.
    pub(crate) fn differences(&self) -> Vec<String> {
        differences(&self.store, &self.kernel.state()).unwrap()
    }

    pub(crate) fn assert_consistent(&self) {
        self.settle();
        assert_eq!(self.differences(), [""; 0], "{:#?}\n{}", self.kernel.state(), self.rows());
    }
}
