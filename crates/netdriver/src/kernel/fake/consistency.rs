// SPDX-License-Identifier: Apache-2.0
//! Whether records and a kernel in memory agree: nothing exists without a record, nothing recorded is missing. For
//! tests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;
use ciao_common::store::{Egress, Endpoint, Network, Owner, Store, Tx, Uplink, Vnic};
use ciao_common::types::{LinkName, MacAddr};

use crate::kernel::fake::state::{FakeLink, State};
use crate::kernel::{FirewallOpening, Namespace};
use crate::names;

/// Where records and kernel differ: a sentence each.
pub fn differences(store: &Store, state: &State) -> Result<Vec<String>> {
    let records = store.read(Records::read)?;
    let mut differences = Differences::default();
    differences.missing(&records, state);
    differences.left_over(&records, state);
    Ok(differences.0)
}

/// A bridge in a namespace of ours.
type BridgeKey = (String, LinkName);

/// All records that the kernel has to do with.
struct Records {
    networks: Vec<Network>,
    vnics: Vec<Vnic>,
    going: Vec<Vnic>,
    endpoints: Vec<Endpoint>,
    uplinks: Vec<Uplink>,
}

impl Records {
    fn read(tx: &Tx<'_>) -> Result<Self> {
        Ok(Self {
            networks: tx.networks()?,
            vnics: tx.vnics(None)?,
            going: tx.vnics_deleting()?,
            endpoints: tx.endpoints()?,
            uplinks: tx.uplinks()?,
        })
    }

    /// Every bridge of ours that a network or VNIC is on.
    fn places(&self) -> BTreeSet<BridgeKey> {
        let networks = self.networks.iter().map(|network| (network.namespace.clone(), network.bridge.clone()));
        let vnics = self.vnics.iter().map(|vnic| (vnic.namespace.clone(), vnic.bridge.clone()));
        networks.chain(vnics).filter_map(|(namespace, bridge)| Some((namespace?, bridge))).collect()
    }

    fn leads_out(&self) -> impl Iterator<Item = &Network> {
        self.networks.iter().filter(|network| network.egress == Egress::Nat)
    }

    fn gateways_on(&self, (namespace, bridge): &BridgeKey) -> BTreeSet<IpAddr> {
        let here = self.leads_out().filter(|n| n.namespace.as_ref() == Some(namespace) && n.bridge == *bridge);
        here.flat_map(|network| network.subnets.iter().filter_map(|subnet| subnet.gateway)).collect()
    }
}

/// What a VNIC is to its bridge.
fn neighbours(vnic: &Vnic) -> impl Iterator<Item = ((String, LinkName, IpAddr), MacAddr)> {
    let entry = |address| Some(((vnic.namespace.clone()?, vnic.bridge.clone(), address), vnic.mac));
    vnic.addresses().filter_map(entry)
}

/// What was found wrong.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn wrong(&mut self, wrong: bool, text: impl FnOnce() -> String) {
        if wrong {
            self.0.push(text());
        }
    }

    fn missing(&mut self, records: &Records, state: &State) {
        self.wrong(!records.going.is_empty(), || format!("VNICs {:?} are being deleted still", records.going));
        for (namespace, bridge) in records.places() {
            let inside = Namespace::Named(namespace.clone());
            self.wrong(!state.namespaces.contains(&namespace), || format!("namespace {namespace} does not stand"));
            self.wrong(!state.rules.contains_key(&inside), || format!("namespace {namespace} has no rules"));
            let bridge_stands = state.links.contains_key(&(inside, bridge.clone()));
            self.wrong(!bridge_stands, || format!("bridge {bridge} does not stand"));
        }
        for vnic in &records.vnics {
            let end = (Namespace::of(vnic.namespace.as_deref()), vnic.host_link.clone());
            self.wrong(!state.links.contains_key(&end), || format!("VNIC {} has no link", vnic.id));
            let kept = vnic.owner == Owner::Launcher || records.endpoints.iter().any(|e| e.vnic == vnic.id);
            self.wrong(!kept, || format!("VNIC {} is Docker's and has no endpoint", vnic.id));
        }
        let neighbours: BTreeMap<_, _> = records.vnics.iter().flat_map(neighbours).collect();
        let is_remote = |address: &IpAddr| {
            state.links.values().any(|link| {
                matches!(link, FakeLink::Vxlan(link) if link.neighbours.contains_key(address) && !link.own.contains(address))
            })
        };
        let mut found = state.neighbours.clone();
        found.retain(|(_, _, address), _| !is_remote(address));
        self.wrong(neighbours != found, || format!("permanent neighbours {found:?} for VNICs with {neighbours:?}"));
        for endpoint in &records.endpoints {
            let whole = records.networks.iter().any(|network| network.id == endpoint.network)
                && records.vnics.iter().any(|vnic| vnic.id == endpoint.vnic);
            self.wrong(!whole, || format!("endpoint {} has no network or no VNIC", endpoint.id.short()));
        }
        for uplink in &records.uplinks {
            let stands = state.links.contains_key(&(Namespace::Host, uplink.host_link.clone()));
            self.wrong(!stands, || format!("uplink {} does not stand", uplink.host_link));
        }
    }

    fn left_over(&mut self, records: &Records, state: &State) {
        let places = records.places();
        for namespace in &state.namespaces {
            let used = places.iter().any(|(used, _)| used == namespace);
            self.wrong(!used, || format!("namespace {namespace} has no record"));
        }
        let ends = |vnic: &Vnic| [vnic.host_link.clone(), vnic.container_link.clone()];
        let recorded: BTreeSet<_> = records.vnics.iter().flat_map(ends).collect();
        for ((namespace, link), what) in &state.links {
            match (what, namespace.name()) {
                (FakeLink::Bridge(addresses), Some(name)) => {
                    let place = (name.to_owned(), link.clone());
                    self.wrong(!places.contains(&place), || format!("bridge {link} in {name} has no record"));
                    let gateways = records.gateways_on(&place);
                    self.wrong(*addresses != gateways, || format!("bridge {link} has {addresses:?} for {gateways:?}"));
                }
                (FakeLink::Bridge(_), None) | (FakeLink::Vxlan(_), _) => {}
                (FakeLink::HostEnd(..) | FakeLink::ContainerEnd(_), _) => {
                    self.wrong(!recorded.contains(link), || format!("link {link} has no record"));
                }
                (FakeLink::Uplink(_) | FakeLink::Other, _) => {
                    let known = records.uplinks.iter().any(|uplink| uplink.host_link == *link);
                    self.wrong(names::is_ours(link) && !known, || format!("uplink {link} has no record"));
                }
            }
        }
        let out: BTreeSet<_> = records.leads_out().filter_map(|network| network.namespace.as_deref()).collect();
        let led: BTreeSet<_> = records.uplinks.iter().map(|uplink| uplink.namespace.as_str()).collect();
        self.wrong(out != led, || format!("uplinks of {led:?} for networks in {out:?}"));
        let bridges =
            records.networks.iter().filter(|network| network.namespace.is_none()).map(|network| &network.bridge);
        let bridges =
            bridges.chain(records.vnics.iter().filter(|vnic| vnic.namespace.is_none()).map(|vnic| &vnic.bridge));
        let mut open: BTreeSet<_> = bridges.cloned().map(FirewallOpening::Bridge).collect();
        open.extend((!led.is_empty()).then_some(FirewallOpening::Uplinks));
        self.wrong(state.openings != open, || {
            format!("the host's firewall lets pass {:?} for {open:?}", state.openings)
        });
        let rules = state.rules.contains_key(&Namespace::Host);
        self.wrong(rules == led.is_empty(), || format!("rules of the host: {rules}, uplinks: {led:?}"));
    }
}
