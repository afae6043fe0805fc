// SPDX-License-Identifier: Apache-2.0
//! Several hosts, each a process in namespaces of its own, with links to a bridge between them.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;

use ciao_common::serve::server::{self, Handler, Request};
use ciao_netdriver::control;
use ciao_netdriver::exchange::Exchange;
use ciao_netdriver::reconcile::Depth;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::apart::{APART, attempt, name, run, soon, tests};
use crate::driver::{Bench, id};

/// Says to a process that it is a host.
const HOST: &str = "CIAO_TEST_HOST";
/// Where its control socket is.
const SOCKET: &str = "CIAO_TEST_SOCKET";
/// How its answers begin, beside what the test's own program prints.
const ANSWER: &str = "answer ";

/// What host 1 denies to its tenants.
pub(crate) const DENIED: &str = "203.0.113.1";

/// The tenants that each host has, with the VNI, and the middle of MAC addresses of each.
pub(crate) const TENANTS: [(&str, u32, u8); 2] = [("red", 101, 0xa), ("blue", 102, 0xb)];

/// A host.
pub(crate) struct Member {
    pub(crate) n: u8,
    pub(crate) socket: PathBuf,
    child: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Member {
    fn start(n: u8, folder: &Path) -> Self {
        let socket = folder.join(format!("h{n}.sock"));
        let mut child = Command::new("unshare");
        child.args(["-n", "-m", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
        child.args(["--exact", "cluster::a_host", "--nocapture"]).env(APART, "yes").env(HOST, n.to_string());
        let mut child = child.env(SOCKET, &socket).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let pipes = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { n, socket, child, pipes: RefCell::new(pipes) }
    }

    pub(crate) fn ask(&self, request: &Value) -> Value {
        let mut pipes = self.pipes.borrow_mut();
        writeln!(pipes.0, "{request}").unwrap();
        loop {
            let mut line = String::new();
            assert!(pipes.1.read_line(&mut line).unwrap() > 0, "host {} has ended", self.n);
            if let Some((_, answer)) = line.split_once(ANSWER) {
                return serde_json::from_str(answer).unwrap();
            }
        }
    }

    /// A request to the control socket: status and body.
    pub(crate) fn control(&self, method: &str, path: &str, body: &Value) -> (u64, Value) {
        let answer = self.ask(&json!({ "control": method, "path": path, "body": body }));
        (answer[0].as_u64().unwrap(), answer[1].clone())
    }

    /// Starts the exchange, with the files of a folder.
    pub(crate) fn exchange(&self, folder: &Path) {
        self.ask(&json!({ "exchange": folder, "n": self.n }));
    }

    pub(crate) fn docker(&self, method: &str, body: &Value) -> Value {
        self.ask(&json!({ "docker": method, "body": body }))
    }

    /// What a whole reconcile did.
    pub(crate) fn reconcile(&self) -> Value {
        self.ask(&json!({ "reconcile": true }))
    }

    /// Container `box{n}` of a tenant.
    pub(crate) fn run(&self, tenant: &str, n: u8, address: &str, mac: &str) {
        self.ask(&json!({ "run": tenant, "n": n, "address": address, "mac": mac }));
    }

    /// What the daemon does every two seconds.
    pub(crate) fn probe(&self) {
        self.ask(&json!({ "probe": true }));
    }

    pub(crate) fn stop(&self, tenant: &str, n: u8) {
        self.ask(&json!({ "stop": tenant, "n": n }));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What a user of this host types.
    pub(crate) fn attempt(&self, command: &str) -> Output {
        attempt(&format!("nsenter -t {} -n -m -r {command}", self.child.id()))
    }

    pub(crate) fn type_in(&self, command: &str) -> String {
        run(&format!("nsenter -t {} -n -m -r {command}", self.child.id()))
    }

    pub(crate) fn pings(&self, from: &str, address: &str) -> bool {
        self.attempt(&format!("ip netns exec {from} busybox ping -c 1 -W 1 {address}")).status.success()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Hosts 1 to 3 at 192.0.2.1 to 3, each with a network 10.1.0.0/24 of each tenant and a container of each at 10.1.0.10
/// + n: red's is box10, blue's box11.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    pub(crate) folder: TempDir,
}

pub(crate) fn address(n: u8) -> String {
    format!("10.1.0.{}", 10 + n)
}

pub(crate) fn mac(tenant: u8, n: u8) -> String {
    format!("02:00:00:00:{tenant:02x}:{n:02x}")
}

impl Cluster {
    pub(crate) fn start() -> Self {
        run("ip link add lan type bridge");
        run("ip addr add 192.0.2.99/24 dev lan");
        run("ip link set lan up");
        let folder = tempfile::tempdir().unwrap();
        let members: Vec<_> = (1..=3).map(|n| Member::start(n, folder.path())).collect();
        for member in &members {
            member.ask(&json!({}));
            let (n, pid) = (member.n, member.child.id());
            run(&format!("ip link add w{n} type veth peer name u0 netns {pid}"));
            run(&format!("ip link set w{n} master lan up"));
            member.type_in(&format!("ip addr add 192.0.2.{n}/24 dev u0"));
            member.type_in("ip link set u0 up");
        }
        Self { members, folder }
    }

    /// The same with hosts known to each other, networks, containers and remotes.
    pub(crate) fn connected() -> Self {
        let cluster = Self::start();
        cluster.connect();
        cluster
    }

    pub(crate) fn connect(&self) {
        self.give_hosts(1, [1, 2, 3]);
        self.run_all();
        self.give_remotes(1, [1, 2, 3]);
    }

    /// Networks and containers, which know nothing of each other.
    pub(crate) fn run_all(&self) {
        self.run_all_as(&[]);
    }

    /// The same, with an option of some tenants.
    pub(crate) fn run_all_as(&self, options: &[(&str, &str, &str)]) {
        for member in &self.members {
            for (index, (tenant, vni, middle)) in TENANTS.into_iter().enumerate() {
                let mut body = network(tenant, vni);
                for (_, option, value) in options.iter().filter(|(one, ..)| *one == tenant) {
                    body["Options"]["com.docker.network.generic"][option] = json!(value);
                }
                member.docker("CreateNetwork", &body);
                let box_number = 10 + u8::try_from(index).unwrap();
                member.run(tenant, box_number, &format!("{}/24", address(member.n)), &mac(middle, member.n));
            }
        }
    }

    /// To every host, the last byte of each host's address.
    pub(crate) fn give_hosts(&self, generation: u64, last: [u8; 3]) {
        let host =
            |(n, last): (usize, &u8)| json!({ "id": format!("h{}", n + 1), "address": format!("192.0.2.{last}") });
        let hosts: Vec<_> = last.iter().enumerate().map(host).collect();
        self.give("/v1/hosts", &json!({ "generation": generation, "hosts": hosts }));
    }

    /// To every host, at which host the container number n of each tenant is.
    pub(crate) fn give_remotes(&self, generation: u64, at: [u8; 3]) {
        for (tenant, _, middle) in TENANTS {
            let remote = |n: u8| json!([address(n), mac(middle, n), format!("h{}", at[usize::from(n) - 1])]);
            let remotes: Vec<_> = (1..=3).map(remote).collect();
            let path = format!("/v1/tenants/{tenant}/remotes");
            self.give(&path, &json!({ "generation": generation, "remotes": remotes }));
        }
    }

    pub(crate) fn give(&self, path: &str, body: &Value) {
        for member in &self.members {
            let (status, reply) = member.control("PUT", path, body);
            assert_eq!(status, 200, "{reply}");
        }
    }

    /// The pairs of a tenant's containers that do not reach each other, both ways.
    pub(crate) fn failing(&self) -> Vec<String> {
        let mut failing = Vec::new();
        for member in &self.members {
            for (index, (tenant, ..)) in TENANTS.into_iter().enumerate() {
                for other in (1..=3).filter(|other| *other != member.n) {
                    if !member.pings(&format!("box{}", 10 + index), &address(other)) {
                        failing.push(format!("{tenant}: {} to {other}", member.n));
                    }
                }
            }
        }
        failing
    }

    pub(crate) fn all_reach_each_other(&self) {
        assert!(soon(|| self.failing().is_empty()), "{:?}", self.failing());
    }
}

/// `CreateNetwork` of a tenant's network over several hosts.
pub(crate) fn network(tenant: &str, vni: u32) -> Value {
    let data = json!([{ "AddressSpace": "LocalDefault", "Pool": "10.1.0.0/24", "Gateway": "10.1.0.1/24" }]);
    let generic = json!({ "tenant": tenant, "bridge": "br0", "vni": vni.to_string() });
    json!({ "NetworkID": id(tenant), "Options": { "com.docker.network.generic": generic }, "IPv4Data": data })
}

/// Sends datagrams to UDP port 9 from a container.
fn broadcast(container: &str, request: &Value) {
    let byte = |n: usize| u8::try_from(request["to"][n].as_u64().unwrap()).unwrap();
    let to = (Ipv4Addr::new(byte(0), byte(1), byte(2), byte(3)), 9);
    let (place, count) = (format!("/run/netns/{container}"), request["count"].as_u64().unwrap());
    std::thread::spawn(move || {
        let namespace = std::fs::File::open(place).unwrap();
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
        socket.set_broadcast(true).unwrap();
        (0..count).for_each(|_| drop(socket.send_to(b"hi", to)));
    })
    .join()
    .unwrap();
}

/// Serves requests from standard input, as the daemon does, with a watcher.
fn serve() {
    let is = |n: &str| std::env::var(HOST).is_ok_and(|own| own == n);
    // One of them names the link, and another denies something to its tenants.
    let deny = is("1").then(|| format!("{DENIED}/32").parse().unwrap());
    let bench = Bench::with_tunnel(is("3").then(|| name("u0")), deny.into_iter().collect());
    let control = Arc::new(control::routes(Arc::clone(&bench.driver)));
    let listener = UnixListener::bind(std::env::var_os(SOCKET).unwrap()).unwrap();
    let handler: Arc<dyn Handler> = control.clone();
    std::thread::spawn(move || server::serve(vec![(listener.into(), handler, None)], || {}, || {}).unwrap());
    bench.watch();
    for line in std::io::stdin().lines() {
        let request: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let text = |key: &str| request[key].as_str().unwrap_or_default();
        let n = || u8::try_from(request["n"].as_u64().unwrap()).unwrap();
        let answer = if request["docker"].is_string() {
            bench.ok(text("docker"), &request["body"])
        } else if request["control"].is_string() {
            let body = request["body"].to_string();
            let asked = Request { method: text("control"), path: text("path"), query: "", body: body.as_bytes() };
            let reply = control.handle(asked);
            json!([reply.status, serde_json::from_slice::<Value>(&reply.body).unwrap()])
        } else if request["address6"].is_string() {
            bench.run_dual(text("run"), n(), text("address"), text("address6"));
            Value::Null
        } else if request["probe"].is_boolean() {
            bench.driver.probe_concentrators().unwrap();
            Value::Null
        } else if request["run"].is_string() {
            bench.run_as(text("run"), n(), text("address"), Some(text("mac")));
            Value::Null
        } else if request["stop"].is_string() {
            bench.stop(text("stop"), n());
            Value::Null
        } else if request["exchange"].is_string() {
            let config = crate::exchange::config(Path::new(text("exchange")), n());
            std::mem::forget(Exchange::start(Arc::clone(&bench.driver), config).unwrap());
            Value::Null
        } else if request["broadcast"].is_string() {
            broadcast(text("broadcast"), &request);
            Value::Null
        } else if request["reconcile"].is_boolean() {
            serde_json::to_value(bench.driver.reconcile(Depth::Full)).unwrap()
        } else {
            Value::Null
        };
        println!("\n{ANSWER}{answer}");
    }
}

tests! {
    fn a_host(_kernel) {
        if std::env::var_os(HOST).is_some() {
            serve();
        }
    }
}
