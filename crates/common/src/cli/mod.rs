// SPDX-License-Identifier: Apache-2.0
//! Commands: [`client`] sends requests to a daemon or to Docker, [`table`] prints lists, [`events`] what
//! happened, [`exit`] maps results to exit codes.

pub mod client;
pub mod events;
pub mod exit;
pub mod table;
pub mod version;
