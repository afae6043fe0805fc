// SPDX-License-Identifier: Apache-2.0
//! What a worker may do: Docker's commands and the launcher's, on few names, so that workers meet.

use crate::chance::Chance;
use crate::lab::LIVE;

const NETWORKS: u64 = 6;
const CONTAINERS: u64 = 8;
const INSTANCES: u64 = 3;

/// Removes all that any operation makes. A dockerd that was killed at a bad moment may hold a network in use by a
/// container that is gone, until it starts the next time.
pub(super) const REMOVE_ALL: &str = "
for instance in 0 1 2; do ciao-net terminate i$instance || true; done
containers() { docker ps -aq; }
networks() { docker network ls -q --filter driver=ciao-net; }
for try in 1 2 3; do
    containers | xargs -r docker rm -f || true
    networks | xargs -r docker network rm || true
    [ -n \"$(containers; networks)\" ] || exit 0
done
docker ps -a
docker network ls
exit 1";

/// A command, drawn by chance. Most may fail: a network that is there already, a container that is not.
pub(super) fn any(chance: &mut Chance) -> String {
    let (network, container, instance) = (chance.below(NETWORKS), chance.below(CONTAINERS), chance.below(INSTANCES));
    match chance.below(20) {
        0..=2 => {
            format!("docker network create -d ciao-net --ipam-driver ciao-ipam {} churn-{network}", options(network))
        }
        3 => format!("docker network rm churn-{network}"),
        4..=8 => {
            format!("docker run -d --name c{container} --network churn-{network} {} {LIVE}", extras(chance, container))
        }
        9 => format!("docker rm -f c{container}"),
        10 => format!("docker stop c{container}"),
        11 => format!("docker kill c{container}"),
        12 | 13 => format!("docker start c{container}"),
        14 => format!("docker restart -t 0 c{container}"),
        15 => format!("docker network connect churn-{network} c{container}"),
        16 => format!("docker network disconnect churn-{network} c{container}"),
        17 => format!("docker network disconnect -f churn-{network} c{container}"),
        18 => format!("ciao-net launch {} {LIVE}", vnic(instance)),
        _ => format!("ciao-net terminate i{instance}"),
    }
}

/// Networks of two tenants, with the same subnets, and of none; one of each kind.
fn options(network: u64) -> String {
    let red = "-o tenant=red --ipam-opt tenant=red";
    match network {
        0 => format!("--subnet 10.1.0.0/24 {red}"),
        1 => "--subnet 10.1.0.0/24 -o tenant=blue --ipam-opt tenant=blue".to_owned(),
        2 => "--subnet 10.1.0.0/24".to_owned(),
        3 => format!("--subnet 10.3.0.0/24 --ipv6 --subnet fd00:3::/64 {red}"),
        4 => format!("--internal --subnet 10.4.0.0/24 --ip-range 10.4.0.128/29 {red}"),
        _ => String::new(),
    }
}

fn extras(chance: &mut Chance, container: u64) -> String {
    match chance.below(6) {
        0 => format!("--ip 10.1.0.{}", 50 + container),
        1 => format!("-p {}:80", 8080 + container),
        2 => "--restart always".to_owned(),
        _ => String::new(),
    }
}

fn vnic(instance: u64) -> String {
    format!(
        "--tenant red --instance i{instance} --subnet 10.9.0.0/24 --ip 10.9.0.{0} --mac 02:00:0a:09:00:{0:02x}",
        16 + instance
    )
}
