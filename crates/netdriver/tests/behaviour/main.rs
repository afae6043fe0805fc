// SPDX-License-Identifier: Apache-2.0
//! What each call of Docker's and of a launcher does, one sentence a test, on a kernel in memory and a real store.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod aliases;
mod bench;
mod cnci;
mod consistency;
mod crosswise;
mod endpoints;
mod events;
mod exchange;
mod faults;
mod host_bridges;
mod known;
mod launcher;
mod launcher_refusals;
mod logs;
mod lost;
mod networks;
mod pages;
mod pairing;
mod port_conflicts;
mod ports;
mod rebuild;
mod rebuild_pools;
mod reconcile;
mod refusals;
mod remote_networks;
mod remotes;
mod repairs;
mod requests;
mod sandbox;
mod stale;
mod starting;
mod swarm;
mod wrong;
