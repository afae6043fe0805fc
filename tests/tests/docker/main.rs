// SPDX-License-Identifier: Apache-2.0
//! End to end: the real daemons, a real engine, real containers. A file a subject; `scene` holds what they share.
//!
//! Every scenario ends with [`scene::assert_nothing_left`]: whoever removes what Docker and the launcher know of has
//! removed all there is.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod by_hand;
mod compose;
mod daemons;
mod egress;
mod engine;
mod host_bridge;
mod hosts;
mod launcher;
mod lists;
mod metrics;
mod other_drivers;
mod refusals;
mod same_subnet;
mod scene;
mod tenant_network;
mod terminate;
