// SPDX-License-Identifier: Apache-2.0
//! A command line: [`client`] asks a daemon or Docker on a Unix socket, [`table`] prints lists, [`exit`] ends the process.

pub mod client;
pub mod exit;
pub mod table;
