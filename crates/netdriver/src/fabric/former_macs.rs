// SPDX-License-Identifier: Apache-2.0
//! The MAC addresses that addresses of deleted VNICs had: neighbours may remember them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;

use ciao_common::store::Vnic;
use ciao_common::sync::lock;
use ciao_common::types::{MacAddr, NetworkId, TenantId};

/// How many are remembered. Without one, a VNIC is announced if anybody but ciao-net chose its own.
const MOST: usize = 4096;

/// The last MAC address of each address, by namespace.
#[derive(Default)]
pub(super) struct FormerMacs(Mutex<BTreeMap<(String, IpAddr), MacAddr>>);

impl FormerMacs {
    /// Forgets the addresses of a new VNIC. `true`: neighbours may remember another MAC address for one of them.
    pub(super) fn take_change(&self, vnic: &Vnic) -> bool {
        let Some(namespace) = &vnic.namespace else { return false };
        let owner = vnic.tenant.as_ref().map(TenantId::as_str).or(vnic.network.as_ref().map(NetworkId::as_str));
        let mut former = lock(&self.0);
        let changed = vnic.addresses().filter(|address| match former.remove(&(namespace.clone(), *address)) {
            Some(mac) => mac != vnic.mac,
            None => owner.is_none_or(|owner| MacAddr::derived(owner, *address) != vnic.mac),
        });
        changed.count() > 0
    }

    /// Remembers those of deleted VNICs.
    pub(super) fn remember(&self, deleted: &[Vnic]) {
        let mut former = lock(&self.0);
        for vnic in deleted {
            if let Some(namespace) = &vnic.namespace {
                former.extend(vnic.addresses().map(|address| ((namespace.clone(), address), vnic.mac)));
            }
        }
        while former.len() > MOST {
            former.pop_first();
        }
    }
}
