//! Many `docker run` on one network at once: each container gets an address of its own, and nothing remains of them.

use std::collections::BTreeSet;
use std::time::Instant;

use ciao_tests::checker::differences;
use ciao_tests::lab::Host;

use crate::scene::check_addresses;

const CONTAINERS: usize = 50;
/// How many commands run at a time.
const AT_ONCE: usize = 8;

#[test]
fn fifty_containers_started_and_removed_at_once_have_fifty_addresses_and_leak_nothing() {
    let host = Host::builder().name("burst").start().unwrap();
    host.sh(
        "docker network create -d ciao-net --ipam-driver ciao-ipam --subnet 10.7.0.0/24 -o tenant=red --ipam-opt tenant=red app",
    )
    .unwrap();
    let all_at_once = |command: &str| {
        let since = Instant::now();
        let output = host.try_sh(&format!("seq {CONTAINERS} | xargs -P {AT_ONCE} -I% {command}")).unwrap();
        let log = || host.ciao_net().log().unwrap();
        assert_eq!(output.code, 0, "{}\nciao-net said:\n{}", output.stderr, log());
        println!("{CONTAINERS} times `{command}`, {AT_ONCE} at a time: {:?}", since.elapsed());
    };
    all_at_once("docker run -d --name c% --network app busybox sleep 600");
    assert_eq!(differences(&host).unwrap(), [""; 0]);
    let addresses =
        host.sh("docker inspect -f '{{.NetworkSettings.Networks.app.IPAddress}}' $(docker ps -q) | sort -u").unwrap();
    assert_eq!(addresses.lines().collect::<BTreeSet<_>>().len(), CONTAINERS);
    all_at_once("docker rm -f c%");
    assert_eq!(differences(&host).unwrap(), [""; 0], "without any repair");
    check_addresses(&host);
}
