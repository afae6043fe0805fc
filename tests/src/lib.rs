// SPDX-License-Identifier: Apache-2.0
//! The crate of ciao's end-to-end tests: `lab` opens private Docker hosts on this machine, and everything in `tests/`
//! runs in them. A library of its own because the tests, the demonstration and a curious person all need the same
//! hosts.

pub mod chance;
pub mod checker;
pub mod churn;
pub mod console;
pub mod frames;
pub mod lab;
pub mod proxy;
pub mod wired;
pub mod world;
