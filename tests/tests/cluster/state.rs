// SPDX-License-Identifier: Apache-2.0
//! What is so on all nodes: addresses as they are in containers' namespaces, who reaches whom, and packets that are
//! lost meanwhile.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::nodes::{PATIENCE, Swarm};

/// A running container, as its host sees it.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) node: usize,
    pub(crate) pid: u32,
    /// The tenant, which has one network.
    pub(crate) network: String,
    pub(crate) address: String,
}

/// A ping that goes on.
pub(crate) struct Pings {
    node: usize,
    file: String,
}

impl Swarm {
    /// All running containers on swarm networks, with the addresses that are in their namespaces.
    pub(crate) fn running(&self) -> Vec<Running> {
        // Not from Docker's records: whoever has a namespace of its own, whether dockerd runs or not.
        let script = "for pid in $(pgrep -x sleep); do
             [ \"$(readlink /proc/$pid/ns/net)\" != \"$(readlink /proc/1/ns/net)\" ] || continue
             tenant=$(tr '\\0' '\\n' </proc/$pid/environ | sed -n 's/^TENANT=//p')
             for address in $(nsenter -t $pid -n ip -4 -o addr show scope global | awk '{ print $4 }'); do
                 case $address in 10.*) echo $pid $tenant ${address%/*} ;; esac
             done
             done";
        let mut found = Vec::new();
        for (node, host) in self.nodes.iter().enumerate() {
            for line in host.sh(script).unwrap_or_default().lines() {
                // One that has just ended has no tenant.
                let [pid, network, address] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
                let pid = pid.parse().unwrap();
                found.push(Running { node, pid, network: network.to_owned(), address: address.to_owned() });
            }
        }
        found
    }

    /// Addresses that two containers of a tenant have.
    pub(crate) fn twice(running: &[Running]) -> Vec<String> {
        let mut count = BTreeMap::<(&str, &str), usize>::new();
        for one in running {
            *count.entry((&one.network, &one.address)).or_default() += 1;
        }
        count
            .into_iter()
            .filter(|(_, n)| *n > 1)
            .map(|((network, address), _)| format!("{network} {address}"))
            .collect()
    }

    /// Pairs of a tenant's containers, both ways, and those that do not reach each other.
    pub(crate) fn pairs(&self, running: &[Running]) -> (usize, Vec<String>) {
        let mut count = 0;
        let scripts: Vec<(usize, String)> = running
            .iter()
            .map(|from| {
                let others = running.iter().filter(|to| to.network == from.network);
                let targets: Vec<_> = others.map(|to| to.address.as_str()).collect();
                count += targets.len();
                let (pid, targets) = (from.pid, targets.join(" "));
                let ping = "busybox ping -c 1 -W 1 $to >/dev/null 2>&1";
                let own = &from.address;
                let script = format!(
                    "nsenter -t {pid} -n sh -c 'for to in {targets}; do ({ping} || {ping} || echo {own} $to) & done; wait'"
                );
                (from.node, script)
            })
            .collect();
        let failing = thread::scope(|scope| {
            let ask =
                |(node, script): (usize, String)| scope.spawn(move || self.nodes[node].sh(&script).unwrap_or_default());
            let asked: Vec<_> = scripts.into_iter().map(ask).collect();
            let lines = asked.into_iter().map(|one| one.join().unwrap());
            lines.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
        });
        (count, failing)
    }

    /// Waits until so many containers run, none has another's address, and all of a tenant reach each other.
    pub(crate) fn settles(&self, what: &str, containers: usize) -> Vec<Running> {
        let since = Instant::now();
        let mut worst = 0;
        loop {
            let running = self.running();
            let twice = Self::twice(&running);
            worst = worst.max(twice.len());
            let (pairs, failing) = self.pairs(&running);
            let is_settled = running.len() == containers && failing.is_empty() && twice.is_empty();
            if is_settled {
                println!(
                    "RESULT {what} | settled after {:.1} s | containers {} | pairs {pairs} failing 0 | twice {worst}",
                    since.elapsed().as_secs_f64(),
                    running.len()
                );
                assert_eq!(worst, 0, "addresses of two containers");
                return running;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "{what}: {} of {containers} containers, twice {twice:?}, failing {failing:?}\n{}",
                running.len(),
                self.lead("docker service ls; docker service ps -q $(docker service ls -q) | head -50 | xargs docker inspect -f '{{.Status.State}} {{.Status.Err}}' | sort | uniq -c")
            );
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Begins to ping from one container to another, ten times a second.
    pub(crate) fn ping(&self, from: &Running, to: &Running) -> Pings {
        let file = format!("/tmp/pings-{}-{}-{}", from.network, from.address, to.address);
        let (pid, address) = (from.pid, &to.address);
        self.nodes[from.node]
            .sh(&format!("nsenter -t {pid} -n busybox ping -i 0.1 {address} >{file} 2>&1 & echo $! >{file}.pid"))
            .unwrap();
        Pings { node: from.node, file }
    }

    /// How many packets were sent and are lost, without the last one, which may be on its way.
    pub(crate) fn lost(&self, pings: &Pings) -> (u32, u32) {
        let file = &pings.file;
        let script = format!(
            "kill -INT $(cat {file}.pid)
             for _ in $(seq 100); do ! grep -q transmitted {file} || break; sleep 0.1; done
             sed -n 's/^\\([0-9]*\\) packets transmitted, \\([0-9]*\\) packets received.*/\\1 \\2/p' {file}"
        );
        let printed = self.nodes[pings.node].sh(&script).unwrap();
        let numbers: Vec<u32> = printed.split_whitespace().map(|number| number.parse().unwrap()).collect();
        (numbers[0], (numbers[0] - numbers[1]).saturating_sub(1))
    }
}
