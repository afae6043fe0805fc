// SPDX-License-Identifier: Apache-2.0
//! Other tenants' containers, and those on Docker's own bridges.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use ciao_tests::world::{Place, kill_with_guard, network, serve, soon};

use crate::scene::{END, host_with_container, only_the_end, uplink};

#[test]
fn no_tenant_reaches_another_tenants_addresses_even_if_the_host_routes_them() {
    let (host, internet, mallory) = host_with_container("tenants");
    network(&host, "other", "blue", "--subnet 10.9.0.0/24").unwrap();
    let victim = serve(&host, "victim", "--network other --ip 10.9.0.2").unwrap();
    let link = uplink(&host, "blue");
    let inner = host.sh("ip -n ciao-blue -4 -o address show up0 | sed 's/.*inet //; s,/.*,,'").unwrap();
    host.sh(&format!(
        "ip route add 10.9.0.0/24 via {inner} dev {link}; ip -n inet route add 10.9.0.0/24 via 203.0.113.1"
    ))
    .unwrap();
    let counted = || {
        let (capture, itself) = (victim.wire("eth0").unwrap(), Place::host(&host).unwrap());
        for (place, name) in [(&mallory, "tenant"), (&internet, "internet"), (&itself, "host")] {
            place.send_datagram("10.9.0.2:9", name).unwrap();
        }
        sleep(Duration::from_millis(100));
        Place::named(&host, "ciao-blue").unwrap().send_datagram("10.9.0.2:9", END).unwrap();
        capture.received(END).unwrap()
    };
    assert_eq!(counted(), only_the_end());
    kill_with_guard(&host).unwrap();
    host.sh("nft flush chain inet ciao forward").unwrap();
    assert_eq!(counted(), only_the_end(), "the tenant's own namespace does not let them in either");
    host.sh("ip netns exec ciao-blue nft 'add rule inet ciao forward iifname \"up0\" accept'").unwrap();
    let all = BTreeSet::from(["tenant", "internet", "host", END].map(str::to_owned));
    assert!(soon(|| counted() == all), "{:?}", counted());
}

#[test]
fn no_tenant_reaches_containers_on_dockers_own_bridges() {
    let (host, _, mallory) = host_with_container("docker0");
    let named = ["-o", "com.docker.network.bridge.name=br-app"];
    host.docker(&["network", "create", "--subnet", "10.8.0.0/24", named[0], named[1], "private"]).unwrap();
    host.docker(&["network", "create", "--subnet", "10.9.0.0/24", "other"]).unwrap();
    serve(&host, "third", "--network other --ip 10.9.0.2").unwrap();
    serve(&host, "plain", "-p 8080:80").unwrap();
    serve(&host, "user", "--network private --ip 10.8.0.2").unwrap();
    assert_eq!(Place::host(&host).unwrap().fetch("10.8.0.2:80").as_deref(), Some("user"));
    assert_eq!(mallory.fetch("203.0.113.1:8080").as_deref(), Some("plain"), "what is published is for everybody");
    assert_eq!(mallory.fetch_each(["172.17.0.2:80", "10.8.0.2:80", "10.9.0.2:80"]), [None, None, None]);
}
