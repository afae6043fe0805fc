// SPDX-License-Identifier: Apache-2.0
//! Docker hosts on a LAN, managers of one swarm, each with both managed plugins that speak by the swarm's own
//! certificates.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ciao_tests::lab::{Host, Lan, built, workspace};

/// How long something may take until a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// The swarm.
pub(crate) struct Swarm {
    pub(crate) nodes: Vec<Host>,
    ids: Vec<String>,
    _lan: Lan,
}

impl Swarm {
    pub(crate) fn start(count: usize) -> Self {
        let binaries = built("ciao-net").unwrap().parent().unwrap().to_owned();
        let mut stage = Command::new("sh");
        let stage = stage.args(["deploy/plugin/build.sh", "stage"]).env("BINARIES", binaries);
        assert!(stage.current_dir(workspace()).status().unwrap().success());
        let lan = Lan::new().unwrap();
        let open = |n: usize| Host::builder().name(format!("m{n}")).ciao(false).start().unwrap();
        let nodes: Vec<_> = thread::scope(|scope| {
            let opened: Vec<_> = (1..=count).map(|n| scope.spawn(move || open(n))).collect();
            opened.into_iter().map(|host| host.join().unwrap()).collect()
        });
        for (n, node) in (1..).zip(&nodes) {
            lan.join(node, &format!("192.0.2.{n}/24")).unwrap();
        }
        let mut swarm = Self { nodes, ids: Vec::new(), _lan: lan };
        // Before there is a swarm, whose certificates they wait for.
        thread::scope(|scope| {
            for n in 0..count {
                let swarm = &swarm;
                scope.spawn(move || swarm.install(n));
            }
        });
        swarm.nodes[0].sh("docker swarm init --advertise-addr 192.0.2.1").unwrap();
        for n in 1..count {
            swarm.join(n);
        }
        swarm.ids = swarm.nodes.iter().map(|node| node.sh("docker info -f '{{.Swarm.NodeID}}'").unwrap()).collect();
        (0..count).for_each(|n| swarm.list(n, &swarm.ids));
        // Until then the scheduler leaves a node out.
        soon("all nodes are known to have the plugins", || {
            let plugins =
                "docker node inspect -f '{{range .Description.Engine.Plugins}}{{.Name}} {{end}}' $(docker node ls -q)";
            swarm.lead(plugins).matches("ciao-net").count() == count
        });
        swarm
    }

    /// A host joins as a manager.
    pub(crate) fn join(&self, n: usize) {
        let token = self.nodes[0].sh("docker swarm join-token -q manager").unwrap();
        let own = format!("192.0.2.{}", n + 1);
        self.nodes[n].sh(&format!("docker swarm join --advertise-addr {own} --token {token} 192.0.2.1:2377")).unwrap();
    }

    /// Gives a node the plugins.
    fn install(&self, n: usize) {
        let folder = workspace().join("target/package/plugin");
        let files = "--exchange-ca CERTS/swarm-root-ca.crt --exchange-cert CERTS/swarm-node.crt \
                     --exchange-key CERTS/swarm-node.key --exchange-peers /var/lib/ciao/hosts";
        let files = files.replace("CERTS", "/var/lib/docker/swarm/certificates");
        let options = format!("--scope global --exchange 192.0.2.{}:14789 {files}", n + 1);
        let script = format!(
            "mkdir -p /var/lib/ciao
             docker plugin create ciao-ipam {0}/ciao-ipam; docker plugin enable ciao-ipam
             docker plugin create ciao-net {0}/ciao-net; docker plugin set ciao-net options='{options}'
             docker plugin enable ciao-net",
            folder.display()
        );
        self.nodes[n].sh(&script).unwrap();
    }

    /// Writes a node's list of hosts.
    pub(crate) fn list(&self, n: usize, ids: &[String]) {
        let lines: String = (1..).zip(ids).map(|(n, id)| format!("{id} 192.0.2.{n}\n")).collect();
        let script = format!("printf '%s' '{lines}' >/var/lib/ciao/new; mv /var/lib/ciao/new /var/lib/ciao/hosts");
        self.nodes[n].sh(&script).unwrap();
    }

    pub(crate) fn ids(&self) -> &[String] {
        &self.ids
    }

    /// The node that leads.
    pub(crate) fn leader(&self) -> usize {
        let mut found = None;
        soon("a node leads", || {
            let leads = |node: &Host| {
                let shown = node.try_sh("docker node inspect self -f '{{.ManagerStatus.Leader}}'").unwrap();
                shown.code == 0 && shown.stdout.trim() == "true"
            };
            found = self.nodes.iter().position(leads);
            found.is_some()
        });
        found.unwrap()
    }

    /// A command of Docker's on the node that leads.
    pub(crate) fn lead(&self, script: &str) -> String {
        let mut printed = None;
        // A new leader refuses for a moment.
        soon(script, || {
            let output = self.nodes[self.leader()].try_sh(script).unwrap();
            printed = Some((output.code, output.stdout, output.stderr));
            matches!(&printed, Some((0, ..)))
        });
        printed.unwrap().1.trim().to_owned()
    }

    /// A network of a tenant over all nodes. Its VNI is the leader's choice.
    pub(crate) fn network(&self, tenant: &str, subnet: &str) {
        self.lead(&format!(
            "docker network create --scope swarm --attachable -d ciao-net:latest --ipam-driver ciao-ipam:latest \
             -o tenant={tenant} --subnet {subnet} {tenant}"
        ));
    }

    /// The options of networks, with what the leader decided of them.
    pub(crate) fn options(&self, networks: &str) -> String {
        self.lead(&format!("docker network inspect -f '{{{{json .Options}}}}' {networks}"))
    }

    /// A service on a tenant's network.
    pub(crate) fn service(&self, name: &str, network: &str, replicas: usize) {
        self.lead(&format!(
            "docker service create -d --no-resolve-image --name {name} --network {network} -e TENANT={network} --replicas {replicas} \
             --endpoint-mode dnsrr --stop-grace-period 1s --restart-delay 1s busybox sleep 1d"
        ));
    }
}

/// Waits until something is so.
pub(crate) fn soon(what: &str, mut so: impl FnMut() -> bool) -> Duration {
    let since = Instant::now();
    while !so() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(200));
    }
    since.elapsed()
}
