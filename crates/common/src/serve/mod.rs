// SPDX-License-Identifier: Apache-2.0
//! A daemon: [`server`] speaks HTTP on Unix sockets, [`plugin`] is Docker's plugin protocol as a table of methods,
//! [`every`] repeats work on a timer, [`daemon`] is how the process starts and stops around them, [`claim`] is
//! how it makes sure that it is alone.

pub mod claim;
pub mod daemon;
pub mod every;
pub mod plugin;
pub mod server;
