// SPDX-License-Identifier: Apache-2.0
//! What ciao's two drivers share, in five rooms.
//!
//! - [`types`]: identifiers, MAC addresses, link names, subnets and address ranges that cannot hold a wrong value;
//! - [`api`]: Docker's plugin protocol as Rust types, with the quirks of the engine's JSON;
//! - [`store`]: the one SQLite file that both daemons keep their records in;
//! - [`serve`]: a daemon: HTTP over Unix sockets, a plugin's methods, timers, start and stop;
//! - [`cli`]: a command: the client of a daemon's socket, lists, exit codes.
//!
//! `cli` uses `store`, `store` uses `types`; `serve` uses `api`, `api` uses `types`. `serve` and `store` do not use each
//! other, and nothing here depends on a driver.

pub mod api;
pub mod cli;
pub mod serve;
pub mod store;
pub mod types;
