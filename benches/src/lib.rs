// SPDX-License-Identifier: Apache-2.0
//! ciao measured beside its floors (the disk, the kernel) and beside Docker's own drivers, in one run.
//!
//! - [`service`]: the daemons under load over their plugin sockets, beside [`peers`];
//! - [`docker`]: containers and networks through Docker's API;
//! - [`cni`]: CNI's plugins for the same jobs;
//! - [`data`]: what packets meet, on one host and between two;
//! - [`scale`]: many networks, many leases, much churn;
//! - [`instructions`]: what calls cost, to a few percent on a busy machine too;
//! - [`all`]: all of them, and what becomes of it: a page and a picture;
//! - [`cli`]: the command `bench`.
//!
//! Beneath them: [`load`] generates load with [`calls`] over [`http`], [`floor`] does the same work without ciao,
//! [`host`] opens the places, [`process`] and [`numbers`] count, [`report`] says it, [`picture`]
//! draws it.

pub mod all;
pub mod calls;
pub mod cli;
pub mod cni;
pub mod data;
pub mod docker;
pub mod floor;
pub mod host;
pub mod http;
pub mod instructions;
pub mod load;
pub mod numbers;
pub mod peers;
pub mod picture;
pub mod process;
pub mod report;
pub mod scale;
pub mod service;
