//! Values with an invariant, checked once, where they enter.
//!
//! Docker mixes bare addresses and CIDRs, links have names of at most 15 bytes, and a subnet with host bits set is
//! a different string for the same thing. Each of these is a type here, so that the code behind cannot mix them up.

mod ids;
mod link;
mod mac;
mod range;
mod rate;
mod subnet;

pub use ids::{EndpointId, InstanceId, NetworkId, PoolId, TenantId, VnicId};
pub use link::LinkName;
pub use mac::MacAddr;
pub use range::{AddressRange, key, key_address};
pub use rate::Rate;
pub(crate) use subnet::parse_cidr;
pub use subnet::{Family, Subnet};
