// SPDX-License-Identifier: Apache-2.0
//! Whether records and kernel agree, after any test.

use ciao_netdriver::kernel::fake::consistency::differences;
use ciao_netdriver::reconcile::Depth;

use crate::bench::Bench;

impl Bench {
    /// Where records and kernel differ, elements of rules included.
    pub(crate) fn differences(&self) -> Vec<String> {
        let mut found = differences(&self.store, &self.kernel.state()).unwrap();
        let rows = self.driver.reconcile(Depth::DryRun).into_iter().filter(|row| row.what.starts_with("rules of "));
        found.extend(rows.map(|row| format!("{}: {}", row.what, row.why)));
        found
    }

    pub(crate) fn assert_consistent(&self) {
        self.settle();
        assert_eq!(self.differences(), [""; 0], "{:#?}\n{}", self.kernel.state(), self.rows());
    }
}
