// SPDX-License-Identifier: Apache-2.0
//! A swarm with the managed plugins: what happens to addresses and to traffic when leaders change, and when nodes,
//! daemons and links fail. Each test prints what it measured.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod failures;
mod leaders;
mod nodes;
mod state;
mod throughput;
