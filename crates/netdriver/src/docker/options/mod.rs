//! The options of a network and of an endpoint.

mod network;

pub use network::*;
