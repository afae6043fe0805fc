//! Values with an invariant, checked once, where they enter.
//!
//! Docker mixes bare addresses and CIDRs, links have names of at most 15 bytes, and a subnet with host bits set is
//! a different string for the same thing. Each of these is a type here, so that the code behind cannot mix them up.

mod address;
mod ids;
mod link;
mod mac;
mod mtu;
mod range;
mod rate;
mod subnet;

pub use address::{Family, number, parse_address};
pub use ids::{EndpointId, InstanceId, NetworkId, PoolId, TenantId, VnicId};
pub use link::LinkName;
pub use mac::MacAddr;
pub use mtu::Mtu;
pub use range::AddressRange;
pub use rate::Rate;
pub use subnet::Subnet;
pub(crate) use subnet::parse_cidr;
