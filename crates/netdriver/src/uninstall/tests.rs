// SPDX-License-Identifier: Apache-2.0
//! What a failure leaves undone, and what not.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::kernel::HostSettings as _;
use crate::kernel::fake::Fake;

#[test]
fn what_fails_is_a_row_and_keeps_nothing_of_the_rest() {
    let kernel = Fake::default();
    kernel.change(|state| state.namespaces.extend(["ciao-blue", "ciao-red"].map(str::to_owned)));
    // The host's links, the namespaces, and blue's links are read.
    kernel.fail_once_after(2);
    let outcomes = |rows: &[Restored]| -> Vec<_> {
        rows.iter().map(|row| (row.what.clone(), row.outcome, row.now.clone())).collect()
    };
    let failed = restore(None, &kernel, true);
    let blue = ("network namespace ciao-blue".to_owned(), Outcome::Failed, failed[0].now.clone());
    let red = ("network namespace ciao-red".to_owned(), Outcome::Restored, "removed".to_owned());
    assert_eq!(outcomes(&failed), [blue, red]);
    assert!(failed[0].now.starts_with("left: the kernel fails once"), "{failed:?}");
    assert_eq!(outcomes(&restore(None, &kernel, false))[0].1, Outcome::Left);
    let rest = restore(None, &kernel, true);
    assert!(rest.len() == 1 && rest[0].outcome == Outcome::Restored, "{rest:?}");
}

#[test]
fn a_firewall_that_is_locked_keeps_no_setting() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("db")).unwrap();
    let kernel = Fake::default();
    let (name, boot) = ("net.ipv4.ip_forward", kernel.boot_id().unwrap());
    store.write(move |tx| tx.record_host_setting(&boot, name, "0", "1")).unwrap();
    kernel.set_host_setting(&HostSetting::from(name), "1").unwrap();
    // Links, namespaces, the table, tunnel rules, nexthops; then the firewall.
    kernel.fail_once_after(5);
    let rows = restore(Some(&store), &kernel, false);
    let now: Vec<_> = rows.iter().map(|row| (row.what.as_str(), row.outcome)).collect();
    assert_eq!(now, [("rules of the host's firewall", Outcome::Failed), (name, Outcome::Restored)], "{rows:?}");
    assert_eq!(kernel.host_setting(&HostSetting::from(name)).unwrap().as_deref(), Some("0"));
}
