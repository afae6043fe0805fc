// SPDX-License-Identifier: Apache-2.0
//! Two containers on two hosts, over ciao's tunnel and over Docker's own overlay network, in turns.

use ciao_tests::lab::Host;

use crate::nodes::{Swarm, soon};

/// Rounds of each, in turns.
const ROUNDS: usize = 3;

/// What iperf3 prints of what was received, in bits a second, and packets a second of so many bytes.
fn measure(client: &Host, pid: &str, to: &str, options: &str) -> f64 {
    let command = format!("nsenter -t {pid} -n iperf3 -c {to} -t 2 -J {options}");
    let report: serde_json::Value = serde_json::from_str(&client.sh(&command).unwrap()).unwrap();
    let end = &report["end"];
    let received = ["sum_received", "sum"].iter().find_map(|part| end[part]["bits_per_second"].as_f64());
    let lost = end["sum"]["lost_percent"].as_f64().unwrap_or(0.0);
    let is_udp = options.contains("-u");
    received.unwrap() * if is_udp { 1.0 - lost / 100.0 } else { 1.0 }
}

#[test]
#[ignore = "prints figures, needs iperf3: cargo test -p ciao-tests --test cluster -- --ignored beside_docker --nocapture"]
fn throughput_between_hosts_beside_docker_s_overlay() {
    let swarm = Swarm::start(3);
    swarm.network("red", "10.77.0.0/24");
    swarm.lead("docker network create -d overlay --attachable --subnet 10.78.0.0/24 ov");
    let (first, second) = (&swarm.nodes[0], &swarm.nodes[1]);
    let mut ends = Vec::new();
    for network in ["red", "ov"] {
        let run = format!(
            "docker run -d --name {network} --network {network} busybox sleep 1d >/dev/null
             docker inspect -f '{{{{.State.Pid}}}} {{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}' {network}"
        );
        let from = first.sh(&run).unwrap();
        let to = second.sh(&run).unwrap();
        let (from, (server, address)) = (from.split_once(' ').unwrap().0.to_owned(), to.split_once(' ').unwrap());
        second.sh(&format!("nsenter -t {server} -n iperf3 -s -D")).unwrap();
        let ping = format!("nsenter -t {from} -n ping -c 1 -W 1 {address}");
        soon("the other end is reached", || first.try_sh(&ping).unwrap().code == 0);
        ends.push((network, from, address.to_owned()));
    }
    for round in 1..=ROUNDS {
        for (network, pid, to) in &ends {
            let tcp = measure(first, pid, to, "") / 1e9;
            let small = measure(first, pid, to, "-u -b 0 -l 64") / 8.0 / 64.0 / 1e3;
            let large = measure(first, pid, to, "-u -b 0 -l 1400") / 1e9;
            let ping = first.sh(&format!("nsenter -t {pid} -n ping -q -c 500 -i 0.002 {to} | tail -n 1")).unwrap();
            let name = if *network == "red" { "ciao" } else { "overlay" };
            println!(
                "RESULT round {round} {name} | TCP {tcp:.2} Gbit/s | UDP 64 bytes {small:.0} thousand/s | UDP 1400 bytes {large:.2} Gbit/s | {ping}"
            );
        }
    }
}
