//! What each IPAM call does, one sentence a test.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use ciao_common::api::go::Options;
use ciao_common::api::ipam::{ADDRESS_TYPE, GATEWAY, ReleaseAddress, ReleasePool, RequestAddress, RequestPool, SERIAL};
use ciao_common::store::{Egress, Egress6, Network, NetworkSubnet, Owner, Scope, Store, Vnic, VnicPolicy};
use ciao_common::types::{PoolId, TenantId, VnicId};
use ciao_ipam::{Config, Ipam};
use tempfile::TempDir;

struct Bench {
    ipam: Ipam,
    store: Arc<Store>,
    _folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("ciao.db")).unwrap());
        let ipam = Ipam::new(Arc::clone(&store), config).unwrap();
        Self { ipam, store, _folder: folder }
    }

    fn pool(&self, pool: &str, sub: &str, options: &[(&str, &str)]) -> Result<(PoolId, String)> {
        let v6 = pool.contains(':');
        self.request(RequestPool {
            address_space: "local".into(),
            pool: (!pool.is_empty()).then(|| pool.parse()).transpose()?,
            sub_pool: (!sub.is_empty()).then(|| sub.parse()).transpose()?,
            options: options.into(),
            v6,
        })
    }

    fn request(&self, request: RequestPool) -> Result<(PoolId, String)> {
        let reply = self.ipam.request_pool(request)?;
        Ok((reply.pool_id, reply.pool.to_string()))
    }

    fn tenant_pool(&self, tenant: &str, pool: &str) -> PoolId {
        self.pool(pool, "", &[("tenant", tenant)]).unwrap().0
    }

    fn ask(&self, pool: &PoolId, address: &str) -> Result<String> {
        self.ask_with(pool, address, Options::default())
    }

    fn ask_with(&self, pool: &PoolId, address: &str, options: Options) -> Result<String> {
        let address = (!address.is_empty()).then(|| address.parse()).transpose()?;
        Ok(self.ipam.request_address(RequestAddress { pool_id: pool.clone(), address, options }).wait()?.address)
    }

    fn gateway(&self, pool: &PoolId, address: &str) -> Result<String> {
        self.ask_with(pool, address, [(ADDRESS_TYPE, GATEWAY)].into())
    }

    fn release(&self, pool: &PoolId, address: &str) {
        let address: IpAddr = address.parse().unwrap();
        self.ipam.release_address(ReleaseAddress { pool_id: pool.clone(), address }).wait().unwrap();
    }

    fn release_pool(&self, pool: &PoolId) {
        self.ipam.release_pool(ReleasePool { pool_id: pool.clone() }).unwrap();
    }

    /// What the store holds, as text, after checking that it makes sense.
    fn state(&self) -> String {
        self.store
            .read(|tx| {
                tx.check_addresses()?;
                Ok(format!("{:?}\n{:?}", tx.pools()?, tx.leases()?))
            })
            .unwrap()
    }

    /// A launcher's VNIC, as ciao-net records it.
    fn vnic(&self, tenant: &str, subnet: &str, address: &str) -> VnicId {
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

    /// A tenant's network on a pool, as ciao-net records it.
    fn network(&self, tenant: &str, subnet: &str, gateway: &str) {
        let (tenant, subnet): (TenantId, _) = (tenant.parse().unwrap(), subnet.parse().unwrap());
        let gateway = Some(gateway.parse().unwrap());
        self.store
            .write(move |tx| {
                let set_id = tx.pool_set_of(Scope::Local, &tenant, subnet)?.map(|set| set.id);
                tx.insert_network(&Network {
                    id: "7".repeat(64).parse()?,
                    namespace: Some(format!("ciao-{tenant}")),
                    tenant: Some(tenant),
                    bridge: "br0".parse()?,
                    mtu: None,
                    egress: Egress::Nat,
                    vnics: VnicPolicy::Auto,
                    dst_prefix: "eth".to_owned(),
                    egress6: Egress6::Nat,
                    secured: true,
                    icc: true,
                    options: "[]".to_owned(),
                    subnets: vec![NetworkSubnet { subnet, gateway, aux: Vec::new(), set_id }],
                    routes: Vec::new(),
                })
            })
            .unwrap();
    }
}

fn sentence<T: std::fmt::Debug>(result: Result<T>) -> String {
    format!("{:#}", result.unwrap_err())
}

#[test]
fn the_same_subnet_in_two_tenants_is_two_pools_with_the_same_addresses() {
    let b = Bench::new();
    let (red, blue) = (b.tenant_pool("red", "192.168.111.0/24"), b.tenant_pool("blue", "192.168.111.0/24"));
    assert_ne!(red, blue);
    assert_eq!(b.ask(&red, "192.168.111.2").unwrap(), "192.168.111.2/24");
    assert_eq!(b.ask(&blue, "192.168.111.2").unwrap(), "192.168.111.2/24");
}

#[test]
fn a_pool_without_tenant_has_a_space_of_its_own_each_time() {
    let b = Bench::new();
    let (one, _) = b.pool("10.5.0.0/16", "", &[]).unwrap();
    let (two, _) = b.pool("10.5.0.0/16", "", &[]).unwrap();
    assert_ne!(one, two);
    assert_eq!(b.ask(&one, "10.5.0.2").unwrap(), b.ask(&two, "10.5.0.2").unwrap());
}

#[test]
fn the_same_request_in_a_tenant_is_the_same_pool_until_it_is_released_as_often() {
    let b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    assert_eq!(b.tenant_pool("acme", "10.5.0.0/16"), pool);
    b.release_pool(&pool);
    assert!(b.ask(&pool, "").is_ok());
    b.release_pool(&pool);
    assert!(sentence(b.ask(&pool, "")).contains("is unknown"));
    b.release_pool(&pool);
}

#[test]
fn sub_pools_of_a_tenant_s_subnet_share_one_set_of_addresses() {
    let b = Bench::new();
    let low = b.pool("10.5.0.0/16", "10.5.1.0/24", &[("tenant", "acme")]).unwrap().0;
    let high = b.pool("10.5.0.0/16", "10.5.1.0/25", &[("tenant", "acme")]).unwrap().0;
    assert_ne!(low, high);
    let mut given: Vec<_> = (0..4).map(|n| b.ask(if n % 2 == 0 { &low } else { &high }, "").unwrap()).collect();
    given.dedup();
    assert_eq!(given, ["10.5.1.0/16", "10.5.1.1/16", "10.5.1.2/16", "10.5.1.3/16"]);
    b.release_pool(&low);
    assert_eq!(b.ask(&high, "").unwrap(), "10.5.1.0/16", "what went with its pool is free again");
}

#[test]
fn a_pool_that_overlaps_another_of_its_tenant_is_refused_with_both_names() {
    let b = Bench::new();
    b.tenant_pool("acme", "10.5.0.0/16");
    let before = b.state();
    for overlapping in ["10.5.3.0/24", "10.0.0.0/8", "0.0.0.0/0"] {
        let error = sentence(b.pool(overlapping, "", &[("tenant", "acme")]));
        assert!(error.contains(overlapping) && error.contains("10.5.0.0/16"), "{error}");
    }
    assert_eq!(b.state(), before);
}

#[test]
fn default_pools_never_overlap_and_run_out_with_an_error() {
    let config = Config { default_pools: vec!["10.200.0.0/22,24".parse().unwrap()], ..Config::default() };
    let b = Bench::with(config);
    b.tenant_pool("acme", "10.200.1.0/24");
    let any = |tenant: &[(&str, &str)]| b.pool("", "", tenant).map(|(_, pool)| pool);
    assert_eq!(any(&[("tenant", "acme")]).unwrap(), "10.200.0.0/24");
    assert_eq!(any(&[("tenant", "acme")]).unwrap(), "10.200.2.0/24");
    assert_eq!(any(&[("tenant", "acme")]).unwrap(), "10.200.3.0/24");
    assert!(sentence(any(&[("tenant", "acme")])).contains("used up"));
    assert_eq!(any(&[]).unwrap(), "10.200.0.0/24", "who names no tenant is apart from acme");
    assert_eq!(any(&[]).unwrap(), "10.200.1.0/24");
}

#[test]
fn without_configuration_the_default_pools_are_the_engine_s_and_a_ula() {
    let b = Bench::new();
    let pools: Vec<_> = (0..16).map(|_| b.pool("", "", &[]).unwrap().1).collect();
    assert_eq!(
        (pools[0].as_str(), pools[14].as_str(), pools[15].as_str()),
        ("172.31.0.0/16", "172.17.0.0/16", "192.168.0.0/20"),
        "from the other end than the engine, whose docker_gwbridge takes the first one left"
    );
    let v6 = || b.request(RequestPool { address_space: "local".into(), v6: true, ..RequestPool::default() }).unwrap().1;
    let (one, two) = (v6(), v6());
    assert!(one.starts_with("fd") && one.ends_with("/64") && one != two, "{one} {two}");
}

#[test]
fn any_pool_of_a_size_is_a_free_one_of_that_size() {
    let b = Bench::new();
    let (_, one) = b.pool("0.0.0.0/24", "", &[("tenant", "acme")]).unwrap();
    let (_, two) = b.pool("0.0.0.0/24", "", &[("tenant", "acme")]).unwrap();
    assert_eq!((one.as_str(), two.as_str()), ("172.31.0.0/24", "172.31.1.0/24"));
}

#[test]
fn host_bits_of_a_pool_are_masked() {
    let b = Bench::new();
    assert_eq!(b.pool("10.5.3.7/16", "", &[]).unwrap().1, "10.5.0.0/16");
}

#[test]
fn a_senseless_pool_is_refused_and_changes_nothing() {
    let b = Bench::new();
    let before = b.state();
    let cases = [
        (b.pool("10.5.0.0/16", "10.6.0.0/24", &[]), "not inside"),
        (b.pool("10.5.0.0/16", "10.0.0.0/8", &[]), "not inside"),
        (b.pool("10.5.0.0/16", "fd00::/64", &[]), "not inside"),
        (b.pool("", "10.5.1.0/24", &[]), "needs a pool"),
        (b.pool("10.5.0.0/16", "", &[("tenat", "x")]), "unknown option"),
        (b.pool("10.5.0.0/16", "", &[("tenant", "../x")]), "tenant"),
        (b.request(RequestPool { address_space: "mars".into(), ..RequestPool::default() }), "unknown address space"),
        (b.request(RequestPool { pool: "10.0.0.0/8".parse().ok(), v6: true, ..RequestPool::default() }), "IPv6 pool"),
        (b.request(RequestPool { pool: "fd00::/64".parse().ok(), ..RequestPool::default() }), "IPv4 pool"),
    ];
    for (result, expected) in cases {
        let error = sentence(result);
        assert!(error.contains(expected), "{error:?} should contain {expected:?}");
    }
    assert_eq!(b.state(), before);
}

#[test]
fn the_local_and_the_global_space_are_apart() {
    let b = Bench::new();
    let request = |space: &str| RequestPool {
        address_space: space.into(),
        pool: "10.77.0.0/24".parse().ok(),
        options: [("tenant", "acme")].into(),
        ..RequestPool::default()
    };
    let (local, global) = (b.request(request("local")).unwrap().0, b.request(request("global")).unwrap().0);
    assert_ne!(local, global);
    assert_eq!(b.ask(&local, "10.77.0.9").unwrap(), b.ask(&global, "10.77.0.9").unwrap());
}

#[test]
fn dynamic_addresses_are_the_lowest_free_ones_with_the_whole_pool_s_mask() {
    let b = Bench::new();
    let (pool, _) = b.pool("10.5.0.0/29", "", &[]).unwrap();
    assert_eq!(b.gateway(&pool, "10.5.0.1").unwrap(), "10.5.0.1/29");
    let given: Vec<_> = (0..5).map(|_| b.ask(&pool, "").unwrap()).collect();
    assert_eq!(given, ["10.5.0.2/29", "10.5.0.3/29", "10.5.0.4/29", "10.5.0.5/29", "10.5.0.6/29"]);
    assert!(sentence(b.ask(&pool, "")).contains("no available addresses on this pool"));
    b.release(&pool, "10.5.0.4");
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.4/29");
}

#[test]
fn small_subnets_are_used_whole_and_ipv6_spares_the_anycast_address() {
    let b = Bench::new();
    for (subnet, expected) in [
        ("10.0.0.4/31", vec!["10.0.0.4/31", "10.0.0.5/31"]),
        ("10.0.0.7/32", vec!["10.0.0.7/32"]),
        ("fd00::/127", vec!["fd00::/127", "fd00::1/127"]),
        ("fd00::/126", vec!["fd00::1/126", "fd00::2/126", "fd00::3/126"]),
    ] {
        let (pool, _) = b.pool(subnet, "", &[]).unwrap();
        let mut given = Vec::new();
        while let Ok(address) = b.ask(&pool, "") {
            given.push(address);
        }
        assert_eq!(given, expected, "{subnet}");
    }
}

#[test]
fn serial_mode_gives_the_next_address_and_comes_round() {
    let b = Bench::new();
    let (pool, _) = b.pool("10.5.0.0/29", "", &[(SERIAL, "true")]).unwrap();
    let next = || b.ask(&pool, "").unwrap();
    assert_eq!((next(), next()), ("10.5.0.1/29".into(), "10.5.0.2/29".into()));
    b.release(&pool, "10.5.0.1");
    assert_eq!(
        (next(), next(), next(), next()),
        ("10.5.0.3/29".into(), "10.5.0.4/29".into(), "10.5.0.5/29".into(), "10.5.0.6/29".into())
    );
    assert_eq!(next(), "10.5.0.1/29");
}

#[test]
fn an_explicit_address_is_granted_anywhere_in_the_subnet_once() {
    let b = Bench::new();
    let (pool, _) = b.pool("10.5.0.0/16", "10.5.1.0/24", &[]).unwrap();
    for address in ["10.5.0.9", "10.5.1.7", "10.5.255.254"] {
        assert_eq!(b.ask(&pool, address).unwrap(), format!("{address}/16"));
    }
    let before = b.state();
    for (address, expected) in [("10.5.0.9", "in use"), ("10.6.0.1", "outside of pool"), ("fd00::1", "is IPv6")] {
        let error = sentence(b.ask(&pool, address));
        assert!(error.contains(expected) && error.contains(address), "{error}");
    }
    assert_eq!(b.state(), before);
}

#[test]
fn a_gateway_is_shared_by_the_networks_of_a_pool_and_counted() {
    let b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    b.tenant_pool("acme", "10.5.0.0/16");
    assert_eq!(b.gateway(&pool, "10.5.0.1").unwrap(), "10.5.0.1/16");
    assert_eq!(b.gateway(&pool, "10.5.0.1").unwrap(), "10.5.0.1/16");
    assert_eq!(b.gateway(&pool, "").unwrap(), "10.5.0.1/16", "nobody needs a second gateway");
    b.release(&pool, "10.5.0.1");
    b.release(&pool, "10.5.0.1");
    assert!(sentence(b.ask(&pool, "10.5.0.1")).contains("gateway's"));
    b.release(&pool, "10.5.0.1");
    assert!(b.ask(&pool, "10.5.0.1").is_ok());
}

#[test]
fn a_failed_network_create_releases_the_pool_alone_and_leaks_nothing() {
    let b = Bench::new();
    let empty = b.state();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    b.gateway(&pool, "10.5.0.1").unwrap();
    b.ask(&pool, "10.5.0.9").unwrap();
    b.release_pool(&pool);
    assert_eq!(b.state(), empty);
}

#[test]
fn releasing_what_is_unknown_is_a_success() {
    let b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    b.release(&pool, "10.5.0.77");
    b.release(&"gone".parse().unwrap(), "10.5.0.77");
    b.release_pool(&"gone".parse().unwrap());
}

#[test]
fn a_reservation_is_never_given_dynamically_and_outlives_its_lease() {
    let b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/29");
    b.vnic("acme", "10.5.0.0/29", "10.5.0.2");
    b.vnic("other", "10.5.0.0/29", "10.5.0.3");
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.1/29");
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.3/29", ".2 is an instance's; .3 is only in another tenant");
    assert_eq!(b.ask(&pool, "10.5.0.2").unwrap(), "10.5.0.2/29", "the instance's own container asks for it");
    assert!(sentence(b.ask(&pool, "10.5.0.2")).contains("in use"));
    b.release(&pool, "10.5.0.2");
    while let Ok(address) = b.ask(&pool, "") {
        assert_ne!(address, "10.5.0.2/29", "docker stop must not lose it");
    }
    assert_eq!(b.ask(&pool, "10.5.0.2").unwrap(), "10.5.0.2/29");
}

#[test]
fn a_reservation_that_was_deleted_is_free_when_the_pool_is_short() {
    let b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/30");
    let vnic = b.vnic("acme", "10.5.0.0/30", "10.5.0.1");
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.2/30");
    b.store.write(move |tx| tx.delete_vnic(&vnic)).unwrap();
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.1/30");
}

#[test]
fn a_lease_whose_endpoint_was_deleted_waits_for_the_engine_to_release_it() {
    let b = Bench::with(Config { grace: Duration::ZERO, takeover: Duration::from_millis(200), ..Config::default() });
    let pool = b.tenant_pool("acme", "10.5.0.0/30");
    b.gateway(&pool, "10.5.0.1").unwrap();
    b.network("acme", "10.5.0.0/30", "10.5.0.1");
    // Granted long ago, claimed by an endpoint, which is gone now.
    b.ask(&pool, "").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(b.ipam.reclaim().unwrap(), 0, "the engine may still release it");
    assert!(b.ask(&pool, "").is_err());
    // It does: whoever gets the address next keeps it.
    b.release(&pool, "10.5.0.2");
    b.ask(&pool, "").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(b.ipam.reclaim().unwrap(), 0);
    // Nobody releases that one.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(b.ipam.reclaim().unwrap(), 1);
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.2/30");
}

#[test]
fn a_gateway_is_held_as_often_as_networks_have_it_though_replies_were_lost() {
    let b = Bench::with(Config { grace: Duration::ZERO, ..Config::default() });
    let pool = b.tenant_pool("acme", "10.5.0.0/24");
    b.gateway(&pool, "10.5.0.1").unwrap();
    b.network("acme", "10.5.0.0/24", "10.5.0.1");
    // Two more networks that fail: the engine lost the reply to their gateway's request, and gives only the pool back.
    for gateway in ["10.5.0.1", "10.5.0.254"] {
        b.tenant_pool("acme", "10.5.0.0/24");
        b.gateway(&pool, gateway).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(b.ipam.reclaim().unwrap(), 0, "as long as the pool is held, the network may be under way");
        b.release_pool(&pool);
        assert_eq!(b.ipam.reclaim().unwrap(), 1);
    }
    assert_eq!(b.ask(&pool, "10.5.0.254").unwrap(), "10.5.0.254/24");
    assert!(b.ask(&pool, "10.5.0.1").is_err(), "the first network has it");
    b.release(&pool, "10.5.0.1");
    assert_eq!(b.ask(&pool, "10.5.0.1").unwrap(), "10.5.0.1/24");
}

#[test]
fn what_another_network_driver_was_granted_is_never_reclaimed() {
    let config = Config { grace: Duration::ZERO, takeover: Duration::ZERO, ..Config::default() };
    let b = Bench::with(config);
    let (pool, _) = b.pool("10.5.0.0/30", "", &[]).unwrap();
    b.ask(&pool, "10.5.0.1").unwrap();
    b.ask(&pool, "").unwrap();
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(b.ipam.reclaim().unwrap(), 0);
    assert!(b.ask(&pool, "").is_err());
    assert!(b.ask(&pool, "10.5.0.1").is_err());
}

#[test]
fn an_ipv6_64_costs_two_rows() {
    let b = Bench::new();
    let (pool, _) = b.pool("fd00:5::/64", "", &[]).unwrap();
    assert_eq!(b.gateway(&pool, "").unwrap(), "fd00:5::1/64");
    assert_eq!(b.ask(&pool, "").unwrap(), "fd00:5::2/64");
    assert_eq!(b.ask(&pool, "fd00:5::ffff").unwrap(), "fd00:5::ffff/64");
    b.state();
}

#[test]
fn the_set_of_calls_is_pinned() {
    let b = Bench::new();
    let plugin = ciao_ipam::routes::plugin(b.ipam);
    assert_eq!(
        plugin.paths(),
        [
            "/IpamDriver.GetCapabilities",
            "/IpamDriver.GetDefaultAddressSpaces",
            "/IpamDriver.ReleaseAddress",
            "/IpamDriver.ReleasePool",
            "/IpamDriver.RequestAddress",
            "/IpamDriver.RequestPool",
            "/Plugin.Activate",
        ]
    );
}
