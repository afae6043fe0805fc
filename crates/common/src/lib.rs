// SPDX-License-Identifier: Apache-2.0
//! Code shared by ciao's two drivers.
//!
//! - [`sync`]: mutexes after a panic;
//! - [`types`]: identifiers, MAC addresses, link names, subnets and address ranges with checked values;
//! - [`api`]: Docker's plugin protocol as Rust types, with the quirks of the engine's JSON;
//! - [`store`]: the SQLite database of both daemons;
//! - [`serve`]: daemons: HTTP over Unix sockets, plugin methods, timers, start and stop;
//! - [`cli`]: commands: the HTTP client, lists, exit codes.
//!
//! `cli` and `serve` use `store` and `api`, which use `types` and `sync`; never the other way, and nothing here depends
//! on a driver. ARCHITECTURE.md has the floors.

pub mod api;
pub mod cli;
pub mod serve;
pub mod store;
pub mod sync;
pub mod types;
