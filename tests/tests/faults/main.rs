// SPDX-License-Identifier: Apache-2.0
//! Every fault that a call, a daemon or the engine can meet, on a real engine: afterwards nothing is lost, nothing is
//! left over, and Docker goes on. A file a kind of fault; `scene` holds what they share.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bursts;
mod calls;
mod churn;
mod engine;
mod load;
mod scene;
mod unsent;
