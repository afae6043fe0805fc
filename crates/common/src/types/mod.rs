// SPDX-License-Identifier: Apache-2.0
//! Values with an invariant, checked once, where they enter.
//!
//! Docker mixes bare addresses and CIDRs, links have names of at most 15 bytes, and a subnet with host bits set is
//! a different string for the same thing. Each of these is a type here, so that the code behind cannot mix them up.

mod address;
mod ids;
mod link;
mod mac;
mod mtu;
mod pool_id;
mod range;
mod rate;
mod space;
mod subnet;

pub use address::{Family, number, parse_address};
pub(crate) use ids::random_hex;
pub use ids::{EndpointId, InstanceId, NetworkId, TenantId, VnicId};
pub use link::LinkName;
pub use mac::MacAddr;
pub use mtu::Mtu;
pub use pool_id::{PoolDescription, PoolId};
pub use range::AddressRange;
pub use rate::Rate;
pub use space::{AddressSpace, Scope};
pub use subnet::Subnet;
pub(crate) use subnet::parse_cidr;
