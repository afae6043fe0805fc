// SPDX-License-Identifier: Apache-2.0
//! Values with an invariant, checked when they are parsed.
//!
//! Docker mixes bare addresses and CIDRs, link names have at most 15 bytes, and a subnet with host bits set is another
//! text for the same value. Each is a type of its own here, so the rest of the code cannot confuse them.

mod address;
mod ids;
mod link;
mod mac;
mod mtu;
mod pool_id;
mod range;
mod rate;
mod schema;
mod space;
mod subnet;
mod text;
mod words;

pub use address::{Family, from_octets, number, octets, parse_address};
pub(crate) use ids::random_hex;
pub use ids::{EndpointId, HostId, InstanceId, NetworkId, TenantId, VnicId};
pub use link::LinkName;
pub use mac::MacAddr;
pub(crate) use mac::fnv1a;
pub use mtu::Mtu;
pub use pool_id::{PoolDescription, PoolId};
pub use range::AddressRange;
pub use rate::Rate;
pub use schema::{Address, DockerCidr};
pub use space::{AddressSpace, Scope};
pub use subnet::Subnet;
pub(crate) use subnet::parse_cidr;
pub(crate) use text::text;
pub(crate) use words::words;
