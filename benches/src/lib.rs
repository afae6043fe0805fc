//! ciao measured beside its floors (the disk, the kernel) and beside Docker's own drivers, in one run.
//!
//! - [`service`]: the daemons under load over their plugin sockets;
//! - [`cli`]: the command `bench`.
//!
//! Beneath them: [`load`] generates load with [`calls`] over [`http`], [`floor`] does the same work without ciao,
//! [`host`] opens the places, [`process`] and [`numbers`] count, [`report`] says it.

pub mod calls;
pub mod cli;
pub mod floor;
pub mod host;
pub mod http;
pub mod load;
pub mod numbers;
pub mod process;
pub mod report;
pub mod service;
