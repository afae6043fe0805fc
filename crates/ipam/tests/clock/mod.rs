// SPDX-License-Identifier: Apache-2.0
//! Steps of the store's clock, which a store reads when it is opened.

use std::time::Duration;

use ciao_common::store::Store;

/// Whoever opens the store next finds this time passed.
pub(crate) fn step(store: &Store, by: Duration) {
    let stepped = move |clock: String| {
        let (boot, time) = clock.split_once(' ').unwrap();
        let time: i64 = time.parse().unwrap();
        format!("{boot} {}", time + i64::try_from(by.as_millis()).unwrap())
    };
    store.write(move |tx| tx.set_setting("clock", &stepped(tx.setting("clock")?.unwrap()))).unwrap();
}
