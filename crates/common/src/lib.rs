//! What ciao's two drivers share, in four pieces.
//!
//! - [`types`]: identifiers, MAC addresses, link names, subnets and address ranges that cannot hold a wrong value;
//! - [`api`]: Docker's plugin protocol as Rust types, with the quirks of the engine's JSON;
//! - [`store`]: the one SQLite file that both daemons keep their records in;
//! - [`server`] and [`daemon`]: HTTP over a Unix socket, and how a process starts and stops around it; [`client`] and
//!   [`table`] for the command lines.
//!
//! Nothing here knows which driver uses it. `api` and `store` know `types`; `server` knows none of the three.

pub mod api;
pub mod client;
pub mod daemon;
pub mod plugin;
pub mod server;
pub mod store;
pub mod table;
pub mod types;
