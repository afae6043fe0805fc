// SPDX-License-Identifier: Apache-2.0
//! A kernel in memory, for tests: it records what exists where, and fails on request.

pub mod consistency;
mod faults;
mod look;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use ciao_common::types::{Family, LinkName, MacAddr, Mtu, Subnet};

use crate::kernel::element::{Change, Element, Ruleset};
use crate::kernel::state::{Changes, Seen, Watch};
use crate::kernel::{
    Firewall, FirewallOpening, Flows, HostChange, HostGuard, HostLink, HostSetting, HostSettings, Inspection,
    LinkLocation, Links, Namespace, Namespaces, Ports, Rules, UplinkPair, Uplinks, Veth,
};
use crate::names;
use faults::{Changing, Faults};
pub use state::{FakeLink, State};

/// The double.
#[derive(Default)]
pub struct Fake {
    state: Mutex<State>,
    faults: Faults,
    /// How often somebody else changed something.
    foreign: AtomicU32,
    /// How often rules were changed here, by namespace.
    generations: Mutex<BTreeMap<Namespace, u32>>,
}

impl Fake {
    /// What stands now.
    #[must_use]
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    /// Changes what stands, as somebody else than ciao would.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        self.foreign.fetch_add(1, Ordering::Relaxed);
        change(&mut self.lock());
    }

    /// Lets `count` changes pass and the others fail; `None`: none fails.
    pub fn fail_after(&self, count: Option<usize>) {
        self.faults.fail_after(count);
    }

    /// Lets `count` calls pass, whether they change something or only read it, and the next one fail.
    pub fn fail_once_after(&self, count: usize) {
        self.faults.fail_once_after(count);
    }

    /// Whether a failure that was asked for did not come yet.
    #[must_use]
    pub fn is_failure_pending(&self) -> bool {
        self.faults.is_pending()
    }

    /// Links that were up without their rules after a change of ciao's own, a sentence each time.
    #[must_use]
    pub fn unguarded(&self) -> Vec<String> {
        self.faults.unguarded()
    }

    /// A container takes, or returns, a container's end.
    pub fn move_link(&self, link: &LinkName, from: &Namespace, to: &Namespace) {
        let mut state = self.lock();
        if let Some(found) = state.links.remove(&(from.clone(), link.clone())) {
            state.links.insert((to.clone(), link.clone()), found);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics in it")
    }

    fn changing(&self) -> Result<Changing<'_>> {
        self.faults.call(true)?;
        Ok(Changing { state: self.lock(), faults: &self.faults })
    }

    fn reading(&self) -> Result<MutexGuard<'_, State>> {
        self.faults.call(false)?;
        Ok(self.lock())
    }

    /// Rules were changed here.
    fn count(&self, namespace: &Namespace) {
        let mut generations = self.generations.lock().expect("no test panics in it");
        *generations.entry(namespace.clone()).or_default() += 1;
    }

    fn generation(&self, namespace: &Namespace) -> u32 {
        let own = self.generations.lock().expect("no test panics in it").get(namespace).copied();
        own.unwrap_or_default() + 1000 * self.foreign.load(Ordering::Relaxed)
    }
}

/// Nothing is reported: a test says itself what is to be looked at.
struct Silence;

impl Watch for Silence {
    fn wait(&mut self, _patience: Duration) -> Result<Changes> {
        Ok(Changes::default())
    }
}

fn remove(state: &mut State, namespace: &Namespace, link: &LinkName) {
    let removed = state.links.remove(&(namespace.clone(), link.clone()));
    match removed {
        Some(FakeLink::HostEnd(_, peer) | FakeLink::Uplink(peer)) => state.links.retain(|(_, name), _| *name != peer),
        Some(FakeLink::Bridge(_)) => {
            state
                .neighbours
                .retain(|(inside, bridge, _), _| Some(inside.as_str()) != namespace.name() || bridge != link);
        }
        Some(FakeLink::ContainerEnd(_)) => {
            state.links.retain(|_, other| !matches!(other, FakeLink::HostEnd(_, peer) if peer == link));
        }
        Some(FakeLink::Other) => {
            state.links.retain(|_, other| !matches!(other, FakeLink::Uplink(peer) if peer == link));
        }
        None => {}
    }
    let State { links, down, uplinks, .. } = state;
    down.retain(|place| links.contains_key(place));
    uplinks.retain(|_, uplink| links.contains_key(&(Namespace::Host, uplink.host_link.clone())));
}

/// The index of a container's end: another one for another MAC address.
fn index_of(mac: MacAddr) -> u32 {
    mac.octets().into_iter().fold(0, |sum: u32, octet| sum.wrapping_mul(31).wrapping_add(octet.into()))
}

impl Namespaces for Fake {
    fn ensure_namespace(&self, name: &str) -> Result<bool> {
        let mut state = self.changing()?;
        state.not_forwarding.remove(&Namespace::Named(name.to_owned()));
        Ok(state.namespaces.insert(name.to_owned()))
    }

    fn has_namespace(&self, name: &str) -> Result<bool> {
        Ok(self.reading()?.namespaces.contains(name))
    }

    fn delete_namespace(&self, name: &str) -> Result<()> {
        let mut state = self.changing()?;
        state.namespaces.remove(name);
        let inside = Namespace::Named(name.to_owned());
        let names: Vec<_> = state.links.keys().filter(|(ns, _)| *ns == inside).map(|(_, link)| link.clone()).collect();
        names.iter().for_each(|link| remove(&mut state, &inside, link));
        state.rules.remove(&inside);
        Ok(())
    }

    fn namespaces(&self) -> Result<Vec<String>> {
        let ours = |name: &&String| names::NAMESPACE_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        Ok(self.reading()?.namespaces.iter().filter(ours).cloned().collect())
    }
}

impl Links for Fake {
    fn host_link(&self, name: &LinkName) -> Result<HostLink> {
        Ok(match self.reading()?.links.get(&(Namespace::Host, name.clone())) {
            None => HostLink::Absent,
            Some(FakeLink::Bridge(_)) => HostLink::Bridge,
            Some(_) => HostLink::Other,
        })
    }

    fn links(&self, namespace: &Namespace) -> Result<Vec<LinkName>> {
        Ok(self.reading()?.links.keys().filter(|(ns, _)| ns == namespace).map(|(_, link)| link.clone()).collect())
    }

    fn delete_link(&self, namespace: &Namespace, link: &LinkName) -> Result<()> {
        remove(&mut *self.changing()?, namespace, link);
        Ok(())
    }

    fn ensure_bridge(&self, namespace: &str, bridge: &LinkName, _mtu: Option<Mtu>) -> Result<bool> {
        let mut state = self.changing()?;
        ensure!(state.namespaces.contains(namespace), "network namespace {namespace} does not exist");
        let key = (Namespace::Named(namespace.to_owned()), bridge.clone());
        if state.links.contains_key(&key) {
            return Ok(false);
        }
        state.links.insert(key, FakeLink::Bridge(BTreeSet::new()));
        Ok(true)
    }

    fn is_own_bridge(&self, namespace: &str, link: &LinkName) -> Result<bool> {
        let place = (Namespace::Named(namespace.to_owned()), link.clone());
        Ok(matches!(self.reading()?.links.get(&place), Some(FakeLink::Bridge(_))))
    }

    fn addresses(&self, namespace: &str) -> Result<Vec<(LinkName, Subnet, IpAddr)>> {
        let mut found = Vec::new();
        for ((inside, link), kind) in &self.reading()?.links {
            if let (true, FakeLink::Bridge(addresses)) = (inside.name() == Some(namespace), kind) {
                for address in addresses {
                    found.push((
                        link.clone(),
                        Subnet::new(*address, if address.is_ipv4() { 32 } else { 128 })?,
                        *address,
                    ));
                }
            }
        }
        Ok(found)
    }

    fn add_address(&self, namespace: &str, bridge: &LinkName, _subnet: Subnet, address: IpAddr) -> Result<()> {
        let mut state = self.changing()?;
        match state.links.get_mut(&(Namespace::Named(namespace.to_owned()), bridge.clone())) {
            Some(FakeLink::Bridge(addresses)) => addresses.insert(address),
            _ => bail!("bridge {bridge} does not exist"),
        };
        Ok(())
    }

    fn remove_address(&self, namespace: &str, bridge: &LinkName, _subnet: Subnet, address: IpAddr) -> Result<()> {
        let mut state = self.changing()?;
        if let Some(FakeLink::Bridge(addresses)) =
            state.links.get_mut(&(Namespace::Named(namespace.to_owned()), bridge.clone()))
        {
            addresses.remove(&address);
        }
        Ok(())
    }

    fn create_veth(&self, veth: &Veth) -> Result<()> {
        let mut state = self.changing()?;
        let bridge = state.links.get(&(veth.namespace.clone(), veth.bridge.clone()));
        ensure!(matches!(bridge, Some(FakeLink::Bridge(_))), "bridge {} does not exist", veth.bridge);
        let ends = [(veth.namespace.clone(), veth.host_link.clone()), (Namespace::Host, veth.container_link.clone())];
        ensure!(!ends.iter().any(|end| state.links.contains_key(end)), "link {} exists", veth.container_link);
        let [host, container] = ends;
        state.links.insert(host, FakeLink::HostEnd(veth.bridge.clone(), veth.container_link.clone()));
        state.links.insert(container, FakeLink::ContainerEnd(veth.mac));
        state.add_neighbours(veth);
        Ok(())
    }

    fn attach(&self, veth: &Veth) -> Result<()> {
        let mut state = self.changing()?;
        if let Some(FakeLink::HostEnd(bridge, _)) =
            state.links.get_mut(&(veth.namespace.clone(), veth.host_link.clone()))
        {
            bridge.clone_from(&veth.bridge);
            state.add_neighbours(veth);
            state.down.remove(&(veth.namespace.clone(), veth.host_link.clone()));
        }
        Ok(())
    }

    fn announce(&self, _namespace: &str, _bridge: &LinkName, _entries: &[(IpAddr, MacAddr)]) -> Result<()> {
        Ok(())
    }

    fn forget_neighbours(&self, namespace: &str, bridge: &LinkName, addresses: &[IpAddr]) -> Result<()> {
        let mut state = self.changing()?;
        for address in addresses {
            state.neighbours.remove(&(namespace.to_owned(), bridge.clone(), *address));
        }
        Ok(())
    }

    fn set_up(&self, namespace: &str, link: &LinkName) -> Result<()> {
        let place = (Namespace::Named(namespace.to_owned()), link.clone());
        let mut state = self.changing()?;
        ensure!(state.links.contains_key(&place), "link {link} does not exist");
        state.down.remove(&place);
        Ok(())
    }

    fn set_down(&self, namespace: &Namespace, links: &[LinkName]) -> Result<()> {
        let mut state = self.changing()?;
        for link in links {
            let place = (namespace.clone(), link.clone());
            if state.links.contains_key(&place) {
                state.down.insert(place);
            }
        }
        Ok(())
    }

    fn delete_veths(&self, veths: &[Veth]) -> Result<()> {
        let mut state = self.changing()?;
        for veth in veths {
            remove(&mut state, &veth.namespace, &veth.host_link);
        }
        Ok(())
    }

    fn locate(&self, veth: &Veth) -> Result<LinkLocation> {
        let state = self.reading()?;
        Ok(match state.links.get(&(Namespace::Host, veth.container_link.clone())) {
            Some(FakeLink::ContainerEnd(mac)) => LinkLocation::Host(Some(*mac)),
            Some(_) => LinkLocation::Host(None),
            None if state.links.contains_key(&(veth.namespace.clone(), veth.host_link.clone())) => {
                LinkLocation::Container
            }
            None => LinkLocation::Absent,
        })
    }

    fn peek(&self, name: &LinkName) -> Option<(u32, MacAddr)> {
        match self.lock().links.get(&(Namespace::Host, name.clone())) {
            Some(FakeLink::ContainerEnd(mac)) => Some((index_of(*mac), *mac)),
            _ => None,
        }
    }

    fn is_same_link(&self, index: u32, name: &LinkName) -> bool {
        self.peek(name).is_some_and(|(found, _)| found == index)
    }
}

impl Uplinks for Fake {
    fn ensure_uplink(&self, uplink: &UplinkPair) -> Result<bool> {
        let mut state = self.changing()?;
        let inside = Namespace::Named(uplink.namespace.clone());
        ensure!(state.namespaces.contains(&uplink.namespace), "network namespace {inside} does not exist");
        let made = state.links.insert((inside, uplink.inner_link.clone()), FakeLink::Uplink(uplink.host_link.clone()));
        state.links.insert((Namespace::Host, uplink.host_link.clone()), FakeLink::Other);
        state.uplinks.insert(uplink.namespace.clone(), uplink.clone());
        state.not_forwarding.remove(&Namespace::Host);
        state.unrouted.remove(&uplink.namespace);
        let ends =
            [(Namespace::Host, &uplink.host_link), (Namespace::Named(uplink.namespace.clone()), &uplink.inner_link)];
        for (namespace, link) in ends {
            state.down.remove(&(namespace, link.clone()));
        }
        Ok(made.is_none())
    }

    fn route_to_uplink(&self, _uplink: &UplinkPair, _subnet: Subnet) -> Result<()> {
        self.changing().map(drop)
    }

    fn unroute_from_uplink(&self, _uplink: &UplinkPair, _subnet: Subnet) -> Result<()> {
        self.changing().map(drop)
    }

    fn egress_bridges(&self) -> Result<Vec<LinkName>> {
        let state = self.reading()?;
        let bridges =
            state.links.iter().filter(|((ns, _), link)| *ns == Namespace::Host && matches!(link, FakeLink::Bridge(_)));
        Ok(bridges.map(|((_, name), _)| name.clone()).collect())
    }

    fn host_addresses(&self) -> Result<Vec<(Subnet, IpAddr)>> {
        Ok(Vec::new())
    }
}

impl Rules for Fake {
    fn run_nft(&self, namespace: &Namespace, script: &str) -> Result<()> {
        let mut state = self.changing()?;
        self.count(namespace);
        if script.ends_with("delete table inet ciao\n") {
            state.rules.remove(namespace);
            return Ok(());
        }
        let Some(elements) = state.rules.get_mut(namespace) else {
            bail!("network namespace {namespace} has no rules")
        };
        for line in script.lines() {
            match line.strip_prefix("flush set inet ciao ") {
                Some(set) => elements.retain(|element| !element.starts_with(&format!("add element inet ciao {set} "))),
                None => drop(elements.insert(format!("{line}\n"))),
            }
        }
        Ok(())
    }

    fn load_rules(&self, namespace: &Namespace, ruleset: &Ruleset) -> Result<Option<u32>> {
        let mut state = self.changing()?;
        let is_there = namespace.name().is_none_or(|name| state.namespaces.contains(name));
        ensure!(is_there, "network namespace {namespace} is not there");
        state.rules.insert(namespace.clone(), lines(&ruleset.elements).collect());
        self.count(namespace);
        Ok(Some(self.generation(namespace)))
    }

    fn rules_difference(&self, namespace: &Namespace, ruleset: &Ruleset) -> Result<Option<String>> {
        let state = self.reading()?;
        let Some(found) = state.rules.get(namespace) else { return Ok(Some("its tables are gone".to_owned())) };
        let expected: BTreeSet<_> = lines(&ruleset.elements).collect();
        Ok((*found != expected).then(|| "its elements differ".to_owned()))
    }

    fn change_elements(&self, namespace: &Namespace, elements: &[Element], change: Change) -> Result<Option<u32>> {
        let mut state = self.changing()?;
        let Some(found) = state.rules.get_mut(namespace) else { bail!("network namespace {namespace} has no rules") };
        let changed: Vec<_> = lines(elements).collect();
        match change {
            Change::Add => found.extend(changed),
            Change::Delete => {
                let missing = changed.iter().find(|line| !found.contains(*line));
                ensure!(missing.is_none(), "there is no {missing:?} in network namespace {namespace}");
                found.retain(|line| !changed.contains(line));
            }
        }
        self.count(namespace);
        Ok(Some(self.generation(namespace)))
    }

    fn has_rules(&self, namespace: &Namespace) -> Result<bool> {
        Ok(self.reading()?.rules.contains_key(namespace))
    }

    fn rules_generation(&self, namespace: &Namespace) -> Result<Option<u32>> {
        drop(self.reading()?);
        Ok(Some(self.generation(namespace)))
    }

    fn list_rules(&self, _namespace: &Namespace) -> Result<String> {
        Ok(String::new())
    }

    fn forget_flows(&self, _namespace: &Namespace, _flows: &Flows) -> Result<()> {
        Ok(())
    }
}

impl Firewall for Fake {
    fn open_firewall(&self, openings: &BTreeSet<FirewallOpening>, _drop: &[Family]) -> Result<Option<String>> {
        self.changing()?.openings.clone_from(openings);
        Ok(None)
    }

    fn is_firewall_used(&self, _family: Family) -> Result<bool> {
        Ok(false)
    }
}

/// Forwarding alone.
impl HostSettings for Fake {
    fn missing_forwarding(&self, _family: Family) -> Result<Vec<HostChange>> {
        let setting = HostSetting::Sysctl("net/ipv4/ip_forward".to_owned());
        let change = || HostChange { setting, before: "0".to_owned(), after: "1".to_owned() };
        let forwards = !self.reading()?.not_forwarding.contains(&Namespace::Host);
        Ok((!forwards).then(change).into_iter().collect())
    }

    fn missing_advertisements(&self) -> Result<Vec<HostChange>> {
        Ok(Vec::new())
    }

    fn host_setting(&self, _setting: &HostSetting) -> Result<Option<String>> {
        Ok(Some(if self.reading()?.not_forwarding.contains(&Namespace::Host) { "0" } else { "1" }.to_owned()))
    }

    fn set_host_setting(&self, _setting: &HostSetting, value: &str) -> Result<()> {
        let mut state = self.changing()?;
        if value == "1" {
            state.not_forwarding.remove(&Namespace::Host);
        } else {
            state.not_forwarding.insert(Namespace::Host);
        }
        Ok(())
    }

    fn boot_id(&self) -> Result<String> {
        Ok("this".to_owned())
    }
}

impl Ports for Fake {}

impl HostGuard for Fake {
    fn guard_host(&self, _filter: &str, _elements: &[Element]) -> Result<()> {
        self.changing().map(drop)
    }

    fn is_host_guarded(&self) -> bool {
        false
    }

    fn unguard_host(&self) {}
}

impl Inspection for Fake {
    fn look(&self, namespace: &Namespace) -> Result<Option<Seen>> {
        let state = self.reading()?;
        if namespace.name().is_some_and(|name| !state.namespaces.contains(name)) {
            return Ok(None);
        }
        Ok(Some(look::look(&state, namespace)))
    }

    fn watch(&self) -> Result<Box<dyn Watch>> {
        Ok(Box::new(Silence))
    }
}

fn lines(elements: &[Element]) -> impl Iterator<Item = String> {
    elements.iter().map(|element| element.line(Change::Add))
}
