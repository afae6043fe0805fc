// SPDX-License-Identifier: Apache-2.0
//! A driver on a new database, with short forms of its calls.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::Result;
use ciao_common::api::go::Options;
use ciao_common::api::ipam::{ADDRESS_TYPE, GATEWAY, ReleaseAddress, ReleasePool, RequestAddress, RequestPool, SERIAL};
use ciao_common::store::{Egress, Egress6, Network, NetworkSubnet, Owner, Scope, Store, Vnic, VnicPolicy};
use ciao_common::types::{NetworkId, PoolId, TenantId, VnicId};
use ciao_ipam::{Config, Ipam};
use tempfile::TempDir;

use crate::clock;

pub(crate) struct Bench {
    pub(crate) ipam: Ipam,
    pub(crate) store: Arc<Store>,
    config: Config,
    folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("ciao.db")).unwrap());
        let ipam = Ipam::new(Arc::clone(&store), config.clone()).unwrap();
        Self { ipam, store, config, folder }
    }

    /// Restarts the daemon.
    pub(crate) fn restarted(self) -> Self {
        let Self { ipam, store, config, folder } = self;
        drop((ipam, store));
        let store = Arc::new(Store::open(&folder.path().join("ciao.db")).unwrap());
        let ipam = Ipam::new(Arc::clone(&store), config.clone()).unwrap();
        Self { ipam, store, config, folder }
    }

    /// Restarts the daemon after this time: steps the store's clock.
    pub(crate) fn later(&mut self, by: Duration) {
        clock::step(&self.store, by);
        self.store = Arc::new(Store::open(self.store.path()).unwrap());
        self.ipam = Ipam::new(Arc::clone(&self.store), self.config.clone()).unwrap();
    }

    /// Restarts the daemon without its database.
    pub(crate) fn without_database(self) -> Self {
        let Self { ipam, store, config, folder } = self;
        drop((ipam, store, folder));
        Self::with(config)
    }

    /// Another driver on a copy of the database.
    pub(crate) fn copied(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("ciao.db");
        let database = rusqlite::Connection::open(self.store.path()).unwrap();
        database.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        let store = Arc::new(Store::open(&copy).unwrap());
        let ipam = Ipam::new(Arc::clone(&store), self.config.clone()).unwrap();
        Self { ipam, store, config: self.config.clone(), folder }
    }

    /// A swarm's leader's request for a pool of a tenant, or of none.
    pub(crate) fn global(&self, tenant: &str, pool: &str, serial: bool) -> PoolId {
        let mut options = Vec::new();
        options.extend((!tenant.is_empty()).then_some(("tenant", tenant)));
        options.extend(serial.then_some((SERIAL, "true")));
        let pool = pool.parse().ok();
        let options = options.as_slice().into();
        self.request(RequestPool { address_space: "global".into(), pool, options, ..RequestPool::default() }).unwrap().0
    }

    /// The engine starts, becomes a swarm's leader, or finds the plugin enabled again.
    pub(crate) fn capabilities(&self) {
        let reply = done(self.ipam.capabilities()).unwrap();
        assert!(!reply.requires_mac_address && !reply.requires_request_replay);
    }

    /// Moves all times of global sets into the past.
    pub(crate) fn age_restores(&self, by: i64) {
        let database = rusqlite::Connection::open(self.store.path()).unwrap();
        database.execute("UPDATE pool_set SET restoring = restoring - ?1", [by]).unwrap();
    }

    pub(crate) fn pool(&self, pool: &str, sub: &str, options: &[(&str, &str)]) -> Result<(PoolId, String)> {
        let v6 = pool.contains(':');
        self.request(RequestPool {
            address_space: "local".into(),
            pool: (!pool.is_empty()).then(|| pool.parse()).transpose()?,
            sub_pool: (!sub.is_empty()).then(|| sub.parse()).transpose()?,
            options: options.into(),
            v6,
        })
    }

    pub(crate) fn request(&self, request: RequestPool) -> Result<(PoolId, String)> {
        let reply = self.ipam.request_pool(request).wait()?;
        Ok((reply.pool_id, reply.pool.to_string()))
    }

    pub(crate) fn tenant_pool(&self, tenant: &str, pool: &str) -> PoolId {
        self.pool(pool, "", &[("tenant", tenant)]).unwrap().0
    }

    pub(crate) fn ask(&self, pool: &PoolId, address: &str) -> Result<String> {
        self.ask_with(pool, address, Options::default())
    }

    pub(crate) fn ask_with(&self, pool: &PoolId, address: &str, options: Options) -> Result<String> {
        let address = (!address.is_empty()).then(|| address.parse()).transpose()?;
        Ok(self.ipam.request_address(RequestAddress { pool_id: pool.clone(), address, options }).wait()?.address)
    }

    pub(crate) fn gateway(&self, pool: &PoolId, address: &str) -> Result<String> {
        self.ask_with(pool, address, [(ADDRESS_TYPE, GATEWAY)].into())
    }

    pub(crate) fn release(&self, pool: &PoolId, address: &str) {
        let address: IpAddr = address.parse().unwrap();
        self.ipam.release_address(ReleaseAddress { pool_id: pool.to_string(), address }).wait().unwrap();
    }

    pub(crate) fn release_pool(&self, pool: &PoolId) {
        self.ipam.release_pool(ReleasePool { pool_id: pool.to_string() }).wait().unwrap();
    }

    /// The content of the store as text, after a consistency check.
    pub(crate) fn state(&self) -> String {
        self.store
            .read(|tx| {
                tx.check_addresses()?;
                Ok(format!("{:?}\n{:?}", tx.view("pool", None)?, tx.view("lease", None)?))
            })
            .unwrap()
    }

    /// A launcher's VNIC, as ciao-net records it.
    pub(crate) fn vnic(&self, tenant: &str, subnet: &str, address: &str) -> VnicId {
        let id = VnicId::random();
        let vnic = Vnic {
            id: id.clone(),
            owner: Owner::Launcher,
            tenant: Some(tenant.parse().unwrap()),
            network: None,
            instance: Some(format!("i-{id}").parse().unwrap()),
            v4: Some((subnet.parse().unwrap(), address.parse().unwrap())),
            v6: None,
            mac: "02:00:00:00:00:01".parse().unwrap(),
            gateway: None,
            mtu: None,
            namespace: Some(format!("ciao-{tenant}")),
            bridge: "br0".parse().unwrap(),
            allowed: Vec::new(),
            rate: None,
            network_name: None,
            container_link: format!("cv{id}").parse().unwrap(),
            host_link: format!("hv{id}").parse().unwrap(),
        };
        self.store.write(move |tx| tx.insert_vnic(&vnic)).unwrap();
        id
    }

    /// A tenant's network on the tenant's set, as ciao-net records it.
    pub(crate) fn network(&self, tenant: &str, subnet: &str, gateway: &str) {
        let (owner, within): (TenantId, _) = (tenant.parse().unwrap(), subnet.parse().unwrap());
        let set = self.store.read(|tx| tx.pool_set_of(Scope::Local, &owner, within)).unwrap();
        self.network_on(Some(tenant), subnet, gateway, set.map(|set| set.id));
    }

    /// A network without a tenant on a pool.
    pub(crate) fn own_network(&self, pool: &PoolId, gateway: &str) {
        let set = self.store.read(|tx| tx.pool_by_id(pool)).unwrap().unwrap().set;
        self.network_on(None, &set.subnet.to_string(), gateway, Some(set.id));
    }

    fn network_on(&self, tenant: Option<&str>, subnet: &str, gateway: &str, set_id: Option<i64>) {
        let (tenant, subnet): (Option<TenantId>, _) =
            (tenant.map(|name| name.parse().unwrap()), subnet.parse().unwrap());
        let gateway = Some(gateway.parse().unwrap());
        self.store
            .write(move |tx| {
                let id: NetworkId = "7".repeat(64).parse()?;
                tx.insert_network(&Network {
                    id: id.clone(),
                    namespace: Some(tenant.as_ref().map_or_else(|| "own".to_owned(), |name| format!("ciao-{name}"))),
                    tenant,
                    bridge: "br0".parse()?,
                    mtu: None,
                    egress: Egress::Nat,
                    vnics: VnicPolicy::Auto,
                    dst_prefix: "eth".to_owned(),
                    egress6: Egress6::Nat,
                    secured: true,
                    icc: true,
                    egress_allow: Vec::new(),
                    host_access: Vec::new(),
                    options: "[]".to_owned(),
                    subnets: vec![NetworkSubnet { subnet, gateway, aux: Vec::new(), set_id, pool: None }],
                    routes: Vec::new(),
                    remote: false,
                })?;
                set_id.map_or(Ok(()), |set| tx.set_network_set(&id, subnet, set))
            })
            .unwrap();
    }
}

/// Waits for a reply.
fn done<T>(reply: impl Future<Output = T>) -> T {
    let mut reply = pin!(reply);
    loop {
        match reply.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reply) => return reply,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

pub(crate) fn sentence<T: std::fmt::Debug>(result: Result<T>) -> String {
    format!("{:#}", result.unwrap_err())
}
