// SPDX-License-Identifier: Apache-2.0
//! PoolIDs that are missing in the database.

use ciao_common::store::Scope;
use ciao_common::types::{PoolId, TenantId};

use crate::bench::{Bench, sentence};

/// Pools as ciao-net rebuilds them, of these tenants.
fn rebuilt(b: &Bench, tenants: &[Option<&str>]) {
    for tenant in tenants {
        let tenant: Option<TenantId> = tenant.map(|name| name.parse().unwrap());
        b.store
            .write(move |tx| {
                let set = tx.insert_pool_set(Scope::Local, tenant.as_ref(), "10.5.0.0/16".parse()?)?;
                tx.insert_pool_as(&set, &PoolId::lost(), &"local".parse()?, None, false).map(drop)
            })
            .unwrap();
    }
}

#[test]
fn a_pool_id_describes_its_pool() {
    let b = Bench::new();
    let id = b.pool("10.5.0.0/16", "10.5.1.0/24", &[("tenant", "acme")]).unwrap().0;
    let described = id.description().unwrap();
    assert_eq!(described.subnet.to_string(), "10.5.0.0/16");
    assert_eq!(described.sub_pool.unwrap().to_string(), "10.5.1.0/24");
    assert_eq!(described.tenant.unwrap().as_str(), "acme");
}

#[test]
fn a_pool_lost_with_the_database_is_rebuilt_and_grants_only_explicit_requests() {
    let b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    let b = b.without_database();
    assert_eq!(b.ask(&pool, "10.5.0.7").unwrap(), "10.5.0.7/16");
    assert!(sentence(b.ask(&pool, "10.5.0.7")).contains("in use"));
    let error = sentence(b.ask(&pool, ""));
    assert!(error.contains("lost with the database") && error.contains("reconcile --docker"), "{error}");
    assert_eq!(b.tenant_pool("acme", "10.5.0.0/16"), pool, "it is the tenant's pool as before");
    b.release(&pool, "10.5.0.7");
    b.release_pool(&pool);
    b.release_pool(&pool);
    assert!(
        sentence(b.pool("10.5.3.0/24", "", &[("tenant", "acme")]).and_then(|(id, _)| b.ask(&id, "10.5.0.1")))
            .contains("outside")
    );
}

#[test]
fn a_released_pool_is_not_mistaken_for_a_lost_one() {
    let b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    b.release_pool(&pool);
    let before = b.state();
    assert!(sentence(b.ask(&pool, "10.5.0.7")).contains("is unknown"));
    assert_eq!(b.state(), before);
}

#[test]
fn only_names_under_which_pools_were_created_are_kept() {
    let b = Bench::new();
    let mut names = Vec::new();
    let mut start = || {
        names.push(b.store.write(|tx| tx.database()).unwrap());
        b.store.write(|tx| tx.rename_database()).unwrap();
    };
    start();
    b.tenant_pool("acme", "10.5.0.0/16");
    start();
    (0..10).for_each(|_| start());
    let kept = |name: &String| b.store.read(|tx| tx.setting(&format!("database {name}"))).unwrap().is_some();
    assert_eq!(names.iter().map(kept).collect::<Vec<_>>(), [vec![false, true], vec![false; 10]].concat());
}

#[test]
fn a_pool_id_is_not_reused_after_an_older_copy_was_restored() {
    let b = Bench::new();
    b.tenant_pool("acme", "10.5.0.0/16");
    let copy = b.copied();
    let newer = b.tenant_pool("blue", "10.5.0.0/16");
    let b = copy;
    assert_ne!(b.tenant_pool("red", "10.5.0.0/16"), newer);
    assert_eq!(b.ask(&newer, "10.5.0.9").unwrap(), "10.5.0.9/16", "made after the copy, so known to Docker alone");
}

#[test]
fn a_rebuilt_pool_without_id_gets_the_one_that_docker_has() {
    let b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    let b = b.without_database();
    rebuilt(&b, &[Some("acme")]);
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.1/16");
    assert_eq!(b.store.read(|tx| tx.view("pool", None)).unwrap()[0]["pool_id"], pool.as_str());
}

#[test]
fn a_release_by_docker_s_id_is_of_the_pool_that_was_rebuilt_for_it() {
    let b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    let b = b.without_database();
    rebuilt(&b, &[Some("acme")]);
    let held = b.store.read(|tx| tx.lost_pools(Scope::Local, "10.5.0.0/16".parse()?)).unwrap().remove(0);
    b.ask(&held.pool_id, "10.5.0.7").unwrap();
    b.release(&pool, "10.5.0.7");
    assert_eq!(b.ask(&pool, "10.5.0.7").unwrap(), "10.5.0.7/16");
    b.release_pool(&pool);
    assert_eq!(b.store.read(|tx| tx.view("pool", None)).unwrap().len(), 0);
}

#[test]
fn a_pool_id_without_tenant_takes_over_none_of_several_rebuilt_pools() {
    let b = Bench::new();
    let pool = b.pool("10.5.0.0/16", "", &[]).unwrap().0;
    let b = b.without_database();
    rebuilt(&b, &[Some("red"), None]);
    let before = b.state();
    assert!(sentence(b.ask(&pool, "10.5.0.7")).contains("2 rebuilt pools match"));
    b.release(&pool, "10.5.0.7");
    b.release_pool(&pool);
    assert_eq!(b.state(), before);
}

#[test]
fn releases_of_unknown_and_empty_ids_succeed() {
    let b = Bench::new();
    for id in ["", "gone", "not an id", "local/10.5.0.0/24,id=0-1-2"] {
        b.ipam.release_pool(ciao_common::api::ipam::ReleasePool { pool_id: id.to_owned() }).wait().unwrap();
        let address = "10.77.0.2".parse().unwrap();
        b.ipam
            .release_address(ciao_common::api::ipam::ReleaseAddress { pool_id: id.to_owned(), address })
            .wait()
            .unwrap();
    }
    let plugin = ciao_ipam::routes::plugin(b.ipam);
    use ciao_common::serve::server::{Handler, Request};
    for (path, body) in [
        ("/IpamDriver.ReleaseAddress", &br#"{"PoolID":"","Address":"10.77.0.39"}"#[..]),
        ("/IpamDriver.ReleasePool", br#"{"PoolID":""}"#),
    ] {
        assert_eq!(plugin.handle(Request { method: "POST", path, query: "", body }).status, 200);
    }
}
