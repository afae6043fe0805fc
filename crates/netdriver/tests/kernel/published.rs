// SPDX-License-Identifier: Apache-2.0
//! Published ports at single addresses of the host.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ciao_netdriver::reconcile::Depth;
use serde_json::json;

use crate::apart::{run, soon, tests};
use crate::driver::{Bench, id};
use crate::shares::{BOX2, LAN, Place, lan, two_tenants};

const BOX3: Place = Place("box3");

/// Publishes a container's TCP port 80 as such a port at single addresses of the host.
pub(crate) fn publish_at(bench: &Bench, tenant: &str, n: u8, addresses: &[&str], port: u16) {
    let binding = |at: &&str| json!({ "Proto": 6, "Port": 80, "HostIP": at, "HostPort": port, "HostPortEnd": port });
    let options = json!({ "com.docker.network.portmap": addresses.iter().map(binding).collect::<Vec<_>>() });
    let ids = json!({ "NetworkID": id(tenant), "EndpointID": id(&format!("e{n}")), "Options": options });
    bench.ok("ProgramExternalConnectivity", &ids);
}

/// Answers on port 80 with a word.
fn serve(place: &Place, word: &'static str) {
    let listener = place.within(|| TcpListener::bind("[::]:80").unwrap());
    std::thread::spawn(move || listener.incoming().for_each(|stream| drop(stream.unwrap().write_all(word.as_bytes()))));
}

/// What answers there, as a place reaches it.
fn answer(from: &Place, to: &str) -> Option<String> {
    let (to, patience): (SocketAddr, _) = (to.parse().unwrap(), Duration::from_secs(1));
    from.within(|| {
        let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
        stream.set_read_timeout(Some(patience)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text).ok()
    })
}

tests! {
    fn one_port_at_two_of_the_host_s_addresses_leads_to_two_containers_of_a_tenant(_kernel) {
        lan();
        run("ip addr add 198.51.100.9/24 dev lan0");
        run("ip addr add 2001:db8::9/64 dev lan0 nodad");
        let bench = Bench::new();
        two_tenants(&bench);
        bench.run_dual("red", 3, "10.1.0.3/16", "fd00:1::3/64");
        run("ip -n box3 route add default via fd00:1::1");
        publish_at(&bench, "red", 2, &["198.51.100.1", "2001:db8::1"], 80);
        publish_at(&bench, "red", 3, &["198.51.100.9", "2001:db8::9"], 80);
        serve(&BOX2, "two");
        serve(&BOX3, "three");
        let all = |from: &Place| {
            for (to, word) in [("198.51.100.1:80", "two"), ("198.51.100.9:80", "three"), ("[2001:db8::1]:80", "two"), ("[2001:db8::9]:80", "three")] {
                assert!(soon(|| answer(from, to).as_deref() == Some(word)), "{to}: {:?}", answer(from, to));
            }
        };
        all(&LAN);
        // By the host, from a container of the same tenant and from itself.
        all(&BOX2);
        assert_eq!(answer(&BOX2, "10.1.0.1:80").as_deref(), Some("two"), "at the gateway, the first one's");
        let bench = bench.restarted();
        bench.driver.reconcile(Depth::Full);
        bench.driver.resume().unwrap();
        assert_eq!(bench.driver.reconcile(Depth::DryRun), []);
        all(&LAN);
        bench.stop("red", 2);
        assert!(soon(|| bench.driver.reconcile(Depth::DryRun).is_empty()), "the VNIC is deleted behind that");
        assert!(answer(&LAN, "198.51.100.1:80").is_none());
        assert_eq!(answer(&LAN, "198.51.100.9:80").as_deref(), Some("three"), "goes on");
    }
}
