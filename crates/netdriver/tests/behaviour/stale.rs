// SPDX-License-Identifier: Apache-2.0
//! Endpoints that are stale, and those that only seem so: killed dockerd, slow starts, Docker's own list.

use std::time::Duration;

use ciao_common::store::Owner;
use serde_json::json;

use crate::bench::Bench;
use crate::reconcile::{SUBNET, busy, forgotten};
use crate::requests::{endpoint, network, network_in, vnic};

#[test]
fn a_killed_dockerd_s_endpoints_are_forgotten_once_they_are_old() {
    let b = busy();
    b.kill_containers();
    let young = b.reconcile();
    assert!(young.iter().all(|repair| !repair.starts_with("remove")), "{young:?}");
    b.age_endpoints();
    b.kill_containers();
    let old = b.reconcile();
    assert_eq!(old.iter().filter(|repair| repair.starts_with("remove endpoint")).count(), 4, "{old:?}");
    b.assert_consistent();
    assert_eq!(b.store.read(|tx| tx.vnics(None)).unwrap().len(), 2, "the launchers' stay");
}

/// As after a reboot.
#[test]
fn many_stale_endpoints_are_forgotten_in_a_few_commits() {
    let b = busy();
    let (many, names) = (40, |number| format!("many{number:02}"));
    for number in 0..many {
        b.run(&names(number), "red", &format!("192.168.111.{}/24", 100 + number), "");
    }
    b.kill_containers();
    b.age_endpoints();
    let before = b.store.commits().commits;
    let done = b.reconcile();
    assert_eq!(done.iter().filter(|repair| repair.starts_with("remove endpoint")).count(), 4 + many, "{done:?}");
    let commits = b.store.commits().commits - before;
    assert!(commits < many as u64, "{commits} commits");
    b.assert_consistent();
}

/// Something that a killed dockerd left in a container's namespace, which it does not know any more.
#[test]
fn endpoints_that_docker_does_not_know_are_forgotten_though_something_has_their_links() {
    let b = busy();
    let endpoints: Vec<String> =
        b.store.read(|tx| tx.endpoints()).unwrap().into_iter().map(|endpoint| endpoint.id.to_string()).collect();
    let networks: Vec<String> =
        b.store.read(|tx| tx.networks()).unwrap().into_iter().map(|network| network.id.to_string()).collect();
    let known = json!({ "engine": "E", "networks": networks, "endpoints": endpoints[..1] }).to_string();
    let forgotten = || {
        let (status, done) = b.launcher("POST", "/v1/reconcile", known.as_bytes());
        assert_eq!(status, 200, "{done}");
        done.as_array().unwrap().iter().filter(|repair| repair["action"] == "remove").count()
    };
    assert_eq!(forgotten(), 0, "young ones may be under way");
    b.age_endpoints();
    assert_eq!(forgotten(), endpoints.len() - 1);
    assert_eq!(forgotten(), 0);
    b.assert_consistent();
    assert_eq!(
        b.store.read(|tx| tx.vnics(None)).unwrap().iter().filter(|vnic| vnic.owner == Owner::Launcher).count(),
        2
    );
    for tenant in ["red", "blue"] {
        let vnic = b.vnic(&vnic(tenant, "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02"))["id"].clone();
        assert!(vnic.is_string(), "the launchers' stay");
    }
}

/// As above, but the engine still said that the endpoint is gone.
#[test]
fn a_launcher_s_vnic_is_recreated_if_its_link_is_in_a_container_unknown_to_docker() {
    let b = busy();
    let ids = |name: &str| endpoint(name, "red", "", "")["EndpointID"].as_str().unwrap().to_owned();
    let all: Vec<String> = ["red1", "red2", "blue1", "blue2"].map(ids).to_vec();
    let made = |endpoints: &[String]| {
        let networks = ["red", "blue"].map(ids);
        let known = json!({ "engine": "E", "networks": networks, "endpoints": endpoints }).to_string();
        let (status, done) = b.launcher("POST", "/v1/reconcile", known.as_bytes());
        assert_eq!(status, 200, "{done}");
        done.as_array().unwrap().iter().filter(|repair| repair["action"] == "create").count()
    };
    assert_eq!(made(&all), 0);
    b.ok("DeleteEndpoint", &json!({ "NetworkID": ids("red"), "EndpointID": all[0] }));
    assert_eq!(b.reconcile(), [""; 0], "a container's link is not touched on mere suspicion");
    assert_eq!(made(&all), 0, "an endpoint that is not recorded may be the VNIC's");
    assert_eq!(made(&all[1..]), 1);
    assert_eq!(made(&all[1..]), 0);
    b.assert_consistent();
    b.ok("CreateEndpoint", &endpoint("red3", "red", "192.168.111.2/24", ""));
}

#[test]
fn a_young_endpoint_that_has_not_joined_is_left_alone() {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[]));
    b.ok("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", ""));
    let (rows, state) = (b.rows(), b.kernel.state());
    assert_eq!(b.reconcile(), [""; 0]);
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
    b.age_endpoints();
    b.reconcile();
    b.assert_consistent();
    assert!(b.store.read(|tx| tx.endpoints()).unwrap().is_empty());
}

#[test]
fn a_step_of_the_host_s_clock_makes_no_endpoint_stale() {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[]));
    b.ok("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", ""));
    b.run("e2", "n1", "192.168.111.3/24", "");
    let state = b.kernel.state();
    let b = b.with_clock_ahead_by(Duration::from_secs(86400));
    assert_eq!(b.reconcile(), [""; 0]);
    assert_eq!(b.kernel.state(), state);
    assert_eq!(b.store.read(|tx| tx.endpoints()).unwrap().len(), 2);
    b.join("n1", "e1");
}

#[test]
fn an_endpoint_whose_start_takes_minutes_is_under_way_until_the_engine_gives_it_up() {
    let start = || {
        let b = Bench::new();
        b.engine_starts();
        let pool = b.pool(SUBNET, "red");
        b.ok("CreateNetwork", &network_in("local", "n1", &[SUBNET], &[("tenant", "red")]));
        assert_eq!(b.lease(&pool, ""), "192.168.111.2/24");
        b.ok("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", ""));
        b.age_endpoints_by(5);
        (b, pool)
    };
    let (b, _) = start();
    let b = b.restarted();
    assert_eq!(b.reconcile(), [""; 0], "its container may still come");
    b.join("n1", "e1");
    b.assert_consistent();
    // The engine releases the address of one that it has given up, and asks for capabilities when it is started again.
    let (b, pool) = start();
    b.ipam("ReleaseAddress", &json!({ "PoolID": pool, "Address": "192.168.111.2" }));
    assert_eq!(b.reconcile()[0], forgotten("e1"));
    let (b, _) = start();
    b.engine_starts();
    assert_eq!(b.reconcile()[0], forgotten("e1"));
    // No container's link comes back to be under way again.
    let (b, _) = start();
    b.join("n1", "e1");
    assert_eq!(b.reconcile(), [""; 0]);
    b.release_link("e1");
    assert_eq!(b.reconcile()[0], forgotten("e1"));
}
