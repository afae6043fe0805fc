//! Which call goes where. The set of paths is the driver's whole plugin interface.

use ciao_common::api::ipam::{AddressSpaces, Capabilities};
use ciao_common::serve::plugin::Plugin;
use ciao_common::store::Scope;

use crate::Ipam;

/// The driver as a plugin.
#[must_use]
pub fn plugin(driver: Ipam) -> Plugin<Ipam> {
    Plugin::new("IpamDriver", driver)
        .constant("/IpamDriver.GetCapabilities", |_| Capabilities {
            requires_mac_address: false,
            requires_request_replay: false,
        })
        .constant("/IpamDriver.GetDefaultAddressSpaces", |_| AddressSpaces {
            local_default_address_space: Scope::Local.to_string(),
            global_default_address_space: Scope::Global.to_string(),
        })
        .call("/IpamDriver.RequestPool", Ipam::request_pool)
        .call("/IpamDriver.ReleasePool", Ipam::release_pool)
        .change("/IpamDriver.RequestAddress", Ipam::request_address)
        .change("/IpamDriver.ReleaseAddress", Ipam::release_address)
}
