// SPDX-License-Identifier: Apache-2.0
//! The allocator: what is in raft, and how a leader requests it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ciao_common::api::go::Options;
use ciao_common::api::ipam::{ADDRESS_TYPE, GATEWAY, RequestAddress, RequestPool, SERIAL};
use ciao_common::types::{PoolId, Subnet};

use crate::manager::{MINUTE, Manager};

/// Small, so that pools run full.
pub(crate) const SUBNETS: [&str; 2] = ["10.77.0.0/28", "10.78.0.0/29"];

/// Where an address is one endpoint's: a subnet of a tenant, or of one network without a tenant.
pub(crate) type Domain = (usize, usize, usize);

/// A network, in raft.
struct Network {
    tenant: usize,
    subnet: usize,
    gateway: IpAddr,
    tasks: BTreeSet<IpAddr>,
}

pub(crate) struct Allocator {
    managers: [Manager; 3],
    leader: usize,
    /// By number, in the order of raft.
    networks: BTreeMap<usize, Network>,
    /// The leader's memory.
    pools: BTreeMap<usize, PoolId>,
    made: usize,
}

fn subnet(index: usize) -> Subnet {
    SUBNETS[index].parse().unwrap()
}

/// Tenant 0: none.
fn domain(tenant: usize, subnet: usize, network: usize) -> Domain {
    (tenant, subnet, if tenant > 0 { 0 } else { network })
}

fn pool_request(tenant: usize, index: usize, serial: bool) -> RequestPool {
    let name = format!("t{tenant}");
    let mut options = Vec::new();
    options.extend((tenant > 0).then_some(("tenant", name.as_str())));
    options.extend(serial.then_some((SERIAL, "true")));
    let (pool, options) = (Some(subnet(index)), options.as_slice().into());
    RequestPool { address_space: "global".into(), pool, options, ..RequestPool::default() }
}

fn address_request(pool: &PoolId, address: Option<IpAddr>, is_gateway: bool) -> RequestAddress {
    let options: Options = match is_gateway {
        true => [(ADDRESS_TYPE, GATEWAY), (SERIAL, "true")].into(),
        false => [(SERIAL, "true")].into(),
    };
    RequestAddress { pool_id: pool.clone(), address, options }
}

impl Allocator {
    pub(crate) fn new() -> Self {
        let managers = [Manager::new(), Manager::new(), Manager::new()];
        let mut new = Self { managers, leader: 0, networks: BTreeMap::new(), pools: BTreeMap::new(), made: 0 };
        new.leader().capabilities();
        new
    }

    pub(crate) fn leader(&mut self) -> &mut Manager {
        &mut self.managers[self.leader]
    }

    fn domain(&self, number: usize) -> Domain {
        let network = &self.networks[&number];
        domain(network.tenant, network.subnet, number)
    }

    fn domains(&self) -> BTreeSet<Domain> {
        self.networks.keys().map(|number| self.domain(*number)).collect()
    }

    /// The gateways and the tasks' addresses.
    fn gateways(&self, of: Domain) -> BTreeSet<IpAddr> {
        self.networks.iter().filter(|(n, _)| self.domain(**n) == of).map(|(_, network)| network.gateway).collect()
    }

    fn tasks(&self, of: Domain) -> BTreeSet<IpAddr> {
        let networks = self.networks.iter().filter(|(n, _)| self.domain(**n) == of);
        networks.flat_map(|(_, network)| network.tasks.iter().copied()).collect()
    }

    /// The number of the network at a random index.
    fn chosen(&self, index: usize) -> Option<usize> {
        self.networks.keys().nth(index % self.networks.len().max(1)).copied()
    }

    /// Requests a pool; if the answer is lost, again, as a retry with the serial option; `started`: after the engine
    /// has started the plugin.
    fn request_pool(&mut self, tenant: usize, subnet: usize, serial: bool, lost: bool, started: bool) -> PoolId {
        let pool = self.leader().request_pool(pool_request(tenant, subnet, serial));
        if !lost {
            return pool;
        }
        self.leader().restart();
        if started {
            self.leader().capabilities();
        }
        self.leader().request_pool(pool_request(tenant, subnet, true))
    }

    /// Creates a network, at most four at a time; with the first address as its gateway, or any.
    pub(crate) fn create(&mut self, (tenant, at): (usize, usize), serial: bool, named: bool, lost: Option<usize>) {
        if self.networks.len() == 4 {
            return;
        }
        self.made += 1;
        let (number, pool) = (self.made, self.request_pool(tenant, at, serial, lost == Some(0), false));
        let (of, wanted) = (domain(tenant, at, number), named.then(|| subnet(at).first_usable()));
        let mut gateway = self.leader().request(of, address_request(&pool, wanted, true), true);
        if lost == Some(1) {
            self.leader().restart();
            gateway = self.leader().request(of, address_request(&pool, wanted, true), true);
        }
        let Ok(gateway) = gateway else {
            let held = &self.gateways(of) | &self.tasks(of);
            return self.leader().release_pool(&pool, of, &held);
        };
        assert!(!self.tasks(of).contains(&gateway), "{gateway} is a task's, and now a gateway");
        self.networks.insert(number, Network { tenant, subnet: at, gateway, tasks: BTreeSet::new() });
        self.pools.insert(number, pool);
    }

    pub(crate) fn start(&mut self, index: usize, offset: Option<u8>, lost: bool) {
        let Some(number) = self.chosen(index) else { return };
        let (of, pool, whole) =
            (self.domain(number), self.pools[&number].clone(), subnet(self.networks[&number].subnet));
        let held = self.tasks(of);
        let wanted = offset.map(|offset| match held.iter().nth(usize::from(offset) % (2 * held.len()).max(1)) {
            Some(held) => *held,
            None => whole.family().address(whole.range().first + 1 + u128::from(offset % 6)),
        });
        let mut granted = self.leader().request(of, address_request(&pool, wanted, false), false);
        if lost {
            self.leader().restart();
            granted = self.leader().request(of, address_request(&pool, wanted, false), false);
        }
        let Ok(address) = granted else { return };
        assert!(!self.gateways(of).contains(&address), "{address} is a gateway, and now a task's");
        assert!(!self.tasks(of).contains(&address), "{address} is held twice");
        self.networks.get_mut(&number).unwrap().tasks.insert(address);
    }

    pub(crate) fn end(&mut self, index: usize, lost: bool) {
        let tasks = self.networks.iter().flat_map(|(number, n)| n.tasks.iter().map(move |task| (*number, *task)));
        let tasks: Vec<_> = tasks.collect();
        if tasks.is_empty() {
            return;
        }
        let (number, address) = tasks[index % tasks.len()];
        self.networks.get_mut(&number).unwrap().tasks.remove(&address);
        let (of, pool) = (self.domain(number), self.pools[&number].clone());
        match lost {
            true => self.leader().enable(),
            false => self.leader().release(&pool, of, address),
        }
    }

    pub(crate) fn remove(&mut self, index: usize) {
        let Some(number) = self.chosen(index) else { return };
        let (of, pool) = (self.domain(number), self.pools.remove(&number).unwrap());
        let network = self.networks.remove(&number).unwrap();
        for address in network.tasks.into_iter().chain([network.gateway]) {
            self.leader().release(&pool, of, address);
        }
        let held = &self.gateways(of) | &self.tasks(of);
        self.leader().release_pool(&pool, of, &held);
    }

    /// A manager becomes leader and requests what exists, at most `calls`. The answer to the call `lost` is lost: a
    /// task whose address is refused then keeps it. Nothing new is requested in the next minute.
    pub(crate) fn lead(&mut self, manager: usize, lost: Option<usize>, calls: usize) {
        self.restore_all(manager, lost, calls);
        self.leader().pass(MINUTE);
    }

    fn restore_all(&mut self, manager: usize, lost: Option<usize>, calls: usize) {
        self.leader = manager;
        self.pools.clear();
        let (domains, mut call) = (self.domains(), 0);
        self.leader().restore(&domains);
        let numbers: Vec<usize> = self.networks.keys().copied().collect();
        for number in &numbers {
            let network = &self.networks[number];
            let (of, gateway) = (self.domain(*number), network.gateway);
            if call >= calls {
                return;
            }
            let pool = self.request_pool(network.tenant, network.subnet, true, lost == Some(call), true);
            self.pools.insert(*number, pool.clone());
            self.restore(of, &pool, gateway, true, lost == Some(call + 1));
            call += 2;
        }
        for number in &numbers {
            let (of, pool) = (self.domain(*number), self.pools[number].clone());
            for task in self.networks[number].tasks.clone() {
                if call >= calls {
                    return;
                }
                self.restore(of, &pool, task, false, lost == Some(call));
                call += 1;
            }
        }
    }

    fn restore(&mut self, of: Domain, pool: &PoolId, address: IpAddr, is_gateway: bool, lost: bool) {
        let request = || address_request(pool, Some(address), is_gateway);
        let granted = self.leader().request(of, request(), is_gateway);
        assert!(granted.is_ok(), "a restore of {address} is refused: {granted:?}");
        if lost {
            self.leader().restart();
            self.leader().capabilities();
            drop(self.leader().request(of, request(), is_gateway));
        }
    }

    pub(crate) fn check(&self) {
        self.managers.iter().for_each(Manager::check);
        let leader = &self.managers[self.leader];
        assert!(self.pools.values().all(|pool| leader.has(pool)), "the pool of a network is gone");
    }
}
