//! The rules of tenants' namespaces: whole rulesets from the records, and elements that come and go.

use std::sync::Arc;

use anyhow::{Context, Result};
use ciao_common::store::Store;

use super::locks::Locks;
use crate::kernel::element::{Change, Element};
use crate::kernel::{Kernel, Namespace};
use crate::rules::Tenant;

/// The rules of all namespaces of ours.
pub(crate) struct TenantRules {
    store: Arc<Store>,
    kernel: Arc<dyn Kernel>,
    /// Held while a namespace's rules are written, so that a ruleset read from the records is never older than an element
    /// that another thread just wrote. No other lock is taken inside.
    locks: Locks,
}

impl TenantRules {
    pub(super) fn new(store: Arc<Store>, kernel: Arc<dyn Kernel>) -> Self {
        Self { store, kernel, locks: Locks::default() }
    }

    /// Writes a namespace's whole ruleset from the records.
    pub(crate) fn load(&self, namespace: &str) -> Result<()> {
        let _lock = self.locks.lock(namespace);
        self.write(namespace)
    }

    fn write(&self, namespace: &str) -> Result<()> {
        // A new VNIC's elements may be in the kernel before its record is in the store.
        self.store.settle()?;
        let (networks, vnics, ports) = self.store.read(|tx| {
            let ports = tx.ports()?.into_iter().filter(|port| port.namespace == namespace).collect::<Vec<_>>();
            Ok((tx.networks_in_namespace(namespace)?, tx.vnics_in_namespace(namespace)?, ports))
        })?;
        let script = Tenant { networks: &networks, vnics: &vnics, ports: &ports }.script();
        self.kernel.run_nft(&Namespace::Named(namespace.to_owned()), &script).context("load a tenant's rules")
    }

    /// Changes elements of a namespace's rules. Where one is not as expected, after a crash or a manual change, all are
    /// written again from the records.
    pub(crate) fn change(&self, namespace: &str, elements: &[Element], change: Change) -> Result<()> {
        let _lock = self.locks.lock(namespace);
        let changed = self.kernel.change_elements(&Namespace::Named(namespace.to_owned()), elements, change);
        changed.or_else(|error| {
            log::info!("rules of {namespace} differ from the records ({error:#}): written again");
            self.write(namespace)
        })
    }
}
