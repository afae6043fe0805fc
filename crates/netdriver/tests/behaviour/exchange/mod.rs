// SPDX-License-Identifier: Apache-2.0
//! Hosts that tell each other which addresses are on them: daemons in one process, over TLS on loopback addresses.

mod absence;
mod broken;
mod claims;
mod contact;
mod many;
mod members;
mod scripted;

use std::time::{Duration, Instant};

/// How long a test waits for what must come; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
fn soon(what: &str, mut so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !so() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
