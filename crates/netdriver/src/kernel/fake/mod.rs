//! A kernel in memory, for tests: it records what exists where, and fails on request.

pub mod consistency;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use anyhow::{Result, bail, ensure};
use ciao_common::types::{LinkName, MacAddr, Mtu, Subnet};

use crate::kernel::element::{Change, Element};
use crate::kernel::{
    Firewall, FirewallOpening, HostLink, LinkLocation, Links, Namespace, Namespaces, Ports, Rules, UplinkPair, Uplinks,
    Veth,
};
use crate::names;

/// What stands in a namespace under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FakeLink {
    /// A bridge with its gateway addresses.
    Bridge(BTreeSet<IpAddr>),
    /// The host end of a VNIC, on a bridge, and its peer's name.
    HostEnd(LinkName, LinkName),
    /// The container end of a VNIC.
    ContainerEnd(MacAddr),
    /// A namespace's end of its uplink, and the host end's name.
    Uplink(LinkName),
    /// Something else.
    Other,
}

/// All that stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// By namespace and name.
    pub links: BTreeMap<(Namespace, LinkName), FakeLink>,
    /// Those of ciao.
    pub namespaces: BTreeSet<String>,
    /// Where ciao's rules stand.
    pub rules: BTreeSet<Namespace>,
    /// The permanent neighbours of bridges: namespace, bridge and address.
    pub neighbours: BTreeMap<(String, LinkName, IpAddr), MacAddr>,
}

impl State {
    fn add_neighbours(&mut self, veth: &Veth) {
        let Some(namespace) = veth.namespace.name() else { return };
        for address in &veth.addresses {
            self.neighbours.insert((namespace.to_owned(), veth.bridge.clone(), *address), veth.mac);
        }
    }
}

/// The double. `fail_after(n)` lets `n` more changes pass, and then every one fail.
#[derive(Default)]
pub struct Fake {
    state: Mutex<State>,
    passes: Mutex<Option<usize>>,
    /// How often something was changed.
    generation: AtomicU32,
}

impl Fake {
    /// What stands now.
    #[must_use]
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    /// Changes what stands, as somebody else than ciao would.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        change(&mut self.lock());
    }

    /// Lets `count` changes pass and the others fail; `None`: none fails.
    pub fn fail_after(&self, count: Option<usize>) {
        *self.passes.lock().expect("no test panics in it") = count;
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

    fn changing(&self) -> Result<MutexGuard<'_, State>> {
        self.generation.fetch_add(1, Ordering::Relaxed);
        let mut passes = self.passes.lock().expect("no test panics in it");
        match passes.as_mut() {
            Some(0) => bail!("the kernel fails, as requested"),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(self.lock())
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
        _ => {}
    }
}

/// The index of a container's end: another one for another MAC address.
fn index_of(mac: MacAddr) -> u32 {
    mac.octets().into_iter().fold(0, |sum: u32, octet| sum.wrapping_mul(31).wrapping_add(octet.into()))
}

impl Namespaces for Fake {
    fn ensure_namespace(&self, name: &str) -> Result<bool> {
        Ok(self.changing()?.namespaces.insert(name.to_owned()))
    }

    fn has_namespace(&self, name: &str) -> Result<bool> {
        Ok(self.lock().namespaces.contains(name))
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
        Ok(self.lock().namespaces.iter().filter(ours).cloned().collect())
    }
}

impl Links for Fake {
    fn host_link(&self, name: &LinkName) -> Result<HostLink> {
        Ok(match self.lock().links.get(&(Namespace::Host, name.clone())) {
            None => HostLink::Absent,
            Some(FakeLink::Bridge(_)) => HostLink::Bridge,
            Some(_) => HostLink::Other,
        })
    }

    fn links(&self, namespace: &Namespace) -> Result<Vec<LinkName>> {
        Ok(self.lock().links.keys().filter(|(ns, _)| ns == namespace).map(|(_, link)| link.clone()).collect())
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
        Ok(matches!(self.lock().links.get(&place), Some(FakeLink::Bridge(_))))
    }

    fn addresses(&self, namespace: &str) -> Result<Vec<(LinkName, Subnet, IpAddr)>> {
        let mut found = Vec::new();
        for ((inside, link), kind) in &self.lock().links {
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
        }
        Ok(())
    }

    fn forget_neighbours(&self, namespace: &str, bridge: &LinkName, addresses: &[IpAddr]) -> Result<()> {
        let mut state = self.changing()?;
        for address in addresses {
            state.neighbours.remove(&(namespace.to_owned(), bridge.clone(), *address));
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
        let state = self.lock();
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
        Ok(made.is_none())
    }

    fn route_to_uplink(&self, _uplink: &UplinkPair, _subnet: Subnet) -> Result<()> {
        self.changing().map(drop)
    }

    fn unroute_from_uplink(&self, _uplink: &UplinkPair, _subnet: Subnet) -> Result<()> {
        self.changing().map(drop)
    }

    fn egress_bridges(&self) -> Result<Vec<LinkName>> {
        let state = self.lock();
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
        if script.ends_with("delete table inet ciao\n") {
            state.rules.remove(namespace);
        } else {
            state.rules.insert(namespace.clone());
        }
        Ok(())
    }

    fn change_elements(&self, namespace: &Namespace, _elements: &[Element], _change: Change) -> Result<()> {
        let state = self.changing()?;
        ensure!(state.rules.contains(namespace), "network namespace {namespace} has no rules");
        Ok(())
    }

    fn has_rules(&self, namespace: &Namespace) -> Result<bool> {
        Ok(self.lock().rules.contains(namespace))
    }

    fn rules_generation(&self) -> Result<Option<u32>> {
        Ok(Some(self.generation.load(Ordering::Relaxed)))
    }

    fn list_rules(&self, _namespace: &Namespace) -> Result<String> {
        Ok(String::new())
    }
}

impl Firewall for Fake {
    fn open_firewall(&self, _opening: &FirewallOpening) -> Result<()> {
        self.changing().map(drop)
    }

    fn close_firewall(&self, _opening: &FirewallOpening) -> Result<()> {
        self.changing().map(drop)
    }
}

impl Ports for Fake {}
