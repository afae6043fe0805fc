// SPDX-License-Identifier: Apache-2.0
//! Hosts that tell each other which addresses are on them: real links, real rules, real pings.

use std::fs;
use std::path::Path;
use std::time::Instant;

use ciao_netdriver::exchange::{ExchangeConfig, Identity};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

use crate::apart::{soon, tests};
use crate::cluster::{Cluster, TENANTS, address, mac};
use crate::driver::{EXCHANGE_PORT, id};
use crate::moves::Pings;

/// The files of a host in a folder.
pub(crate) fn config(folder: &Path, n: u8) -> ExchangeConfig {
    let path = |ending: &str| folder.join(format!("h{n}{ending}"));
    ExchangeConfig {
        listen: format!("192.0.2.{n}:{EXCHANGE_PORT}").parse().unwrap(),
        identity: Identity { ca: folder.join("ca.pem"), cert: path(".pem"), key: path(".key") },
        hosts: folder.join("hosts"),
    }
}

fn write_files(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    fs::write(folder.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    for n in 1..=3 {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![format!("h{n}")]).unwrap().signed_by(&key, &issuer).unwrap();
        let identity = config(folder, n).identity;
        fs::write(&identity.cert, certificate.pem()).unwrap();
        fs::write(&identity.key, key.serialize_pem()).unwrap();
    }
    fs::write(folder.join("hosts"), "h1 192.0.2.1\nh2 192.0.2.2\nh3 192.0.2.3\n").unwrap();
}

tests! {
    fn hosts_without_a_controller_reach_each_other(_kernel) {
        let cluster = Cluster::start();
        write_files(cluster.folder.path());
        for member in &cluster.members {
            member.exchange(cluster.folder.path());
            let own = || member.control("GET", "/v1/hosts", &serde_json::Value::Null).1["own"].is_string();
            assert!(soon(own), "the list of hosts is read");
        }
        cluster.run_all();
        cluster.all_reach_each_other();
        // Another container, from its start until another host's reaches it.
        let (tenant, _, middle) = TENANTS[0];
        cluster.members[1].run(tenant, 20, "10.1.0.20/24", &mac(middle, 20));
        let since = Instant::now();
        assert!(soon(|| cluster.members[0].pings("box10", "10.1.0.20")));
        println!("reached {:?} after its start", since.elapsed());
        // It moves.
        let pings = Pings::start(&cluster.members[0], "box10", "10.1.0.20");
        cluster.members[1].stop(tenant, 20);
        cluster.members[2].run(tenant, 20, "10.1.0.20/24", &mac(middle, 20));
        assert!(soon(|| cluster.members[0].pings("box10", "10.1.0.20")));
        let (sent, lost) = pings.end();
        println!("moved: {lost} of {sent} packets lost, one a millisecond");
        assert_eq!(cluster.members[0].reconcile(), serde_json::json!([]));
        // A container does not speak to another host's exchange, by which its host speaks to it.
        let connect = format!("busybox nc -w 2 192.0.2.2 {EXCHANGE_PORT} -e true");
        assert!(cluster.members[0].attempt(&connect).status.success(), "the host does");
        assert!(!cluster.members[0].attempt(&format!("ip netns exec box10 {connect}")).status.success());
        let dropped = cluster.members[0].control("GET", "/v1/hosts", &serde_json::Value::Null).1["dropped"].clone();
        assert!(dropped["forwarded"].as_u64().unwrap() > 0, "{dropped}");
        let mut took: Vec<_> = (21..=25)
            .map(|n| {
                let (address, mac) = (format!("10.1.0.{n}"), mac(middle, n));
                let interface = json!({ "Address": format!("{address}/24"), "MacAddress": mac });
                let endpoint = json!({ "NetworkID": id(tenant), "EndpointID": id(&format!("e{n}")), "Interface": interface });
                cluster.members[1].docker("CreateEndpoint", &endpoint);
                let since = Instant::now();
                let show = format!("ip -n ciao-red neigh show {address} dev br0");
                let is_known = |n: usize| cluster.members[n].type_in(&show).contains(&mac);
                assert!(soon(|| (0..20).any(|_| is_known(0) && is_known(2))));
                since.elapsed()
            })
            .collect();
        took.sort();
        println!("in the kernels of both other hosts after CreateEndpoint's answer: {took:?}");
        // A host that is taken out of the list is led to no more.
        fs::write(cluster.folder.path().join("hosts"), "h1 192.0.2.1\nh2 192.0.2.2\n").unwrap();
        assert!(soon(|| !cluster.members[0].pings("box10", &address(3))));
        assert!(cluster.members[0].pings("box10", &address(2)));
    }
}
