// SPDX-License-Identifier: Apache-2.0
//! Daemons: [`server`] serves HTTP on Unix sockets, [`plugin`] implements Docker's plugin protocol as a table of
//! methods, [`routes`] a control socket with its OpenAPI document, [`events`] who had which address, [`every`] runs
//! periodic tasks, [`daemon`] starts and stops the process, [`sockets`] are where it listens, [`lock_file`] excludes a
//! second one.

pub mod calls;
pub mod daemon;
mod dispatch;
pub mod events;
pub mod every;
mod handler;
pub mod lines;
pub mod lock_file;
mod log;
pub mod metrics;
pub mod plugin;
mod progress;
pub mod routes;
pub mod server;
pub mod sockets;
