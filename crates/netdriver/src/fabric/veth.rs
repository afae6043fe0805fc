// SPDX-License-Identifier: Apache-2.0
//! A VNIC as its links.

use ciao_common::store::Vnic;

use crate::alias;
use crate::kernel::{Namespace, Veth};
use crate::rules::Restrictions;

/// A VNIC's links.
pub(crate) fn veth(vnic: &Vnic) -> Veth {
    Veth {
        namespace: Namespace::of(vnic.namespace.as_deref()),
        bridge: vnic.bridge.clone(),
        host_link: vnic.host_link.clone(),
        container_link: vnic.container_link.clone(),
        mac: vnic.mac,
        addresses: vnic.addresses().collect(),
        learns: false,
        mtu: vnic.mtu,
        rate: vnic.rate,
        alias: alias::of_vnic(vnic),
    }
}

/// The same, with the bridge port's settings that follow from its restrictions.
pub(super) fn restricted(vnic: &Vnic, restrictions: Restrictions) -> Veth {
    Veth { learns: !restrictions.secured, ..veth(vnic) }
}
