// SPDX-License-Identifier: Apache-2.0
//! The table of calls: the complete plugin interface.

use ciao_common::api::ipam::AddressSpaces;
use ciao_common::serve::plugin::Plugin;
use ciao_common::types::{AddressSpace, Scope};

use crate::Ipam;

/// The driver as a plugin.
pub fn plugin(driver: Ipam) -> Plugin<Ipam> {
    Plugin::new("IpamDriver", driver)
        .change_without_argument("/IpamDriver.GetCapabilities", Ipam::capabilities)
        .constant("/IpamDriver.GetDefaultAddressSpaces", |_| AddressSpaces {
            local_default_address_space: AddressSpace::fresh().to_string(),
            global_default_address_space: AddressSpace::of(Scope::Global).to_string(),
        })
        .change("/IpamDriver.RequestPool", Ipam::request_pool)
        .change("/IpamDriver.ReleasePool", Ipam::release_pool)
        .change("/IpamDriver.RequestAddress", Ipam::request_address)
        .change("/IpamDriver.ReleaseAddress", Ipam::release_address)
}
