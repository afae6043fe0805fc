// SPDX-License-Identifier: Apache-2.0
//! Hosts of a cluster, their certificates, and a client that says what it likes.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use ciao_netdriver::exchange::{Exchange, ExchangeConfig, Identity};
use ciao_netdriver::{Config, TunnelConfig};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::soon;
use crate::bench::Bench;
use crate::requests::network;

/// An authority that certifies hosts.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        static NEXT: AtomicU8 = AtomicU8::new(1);
        params.distinguished_name.push(DnType::CommonName, format!("CA {}", NEXT.fetch_add(1, Ordering::Relaxed)));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes a certificate and its key; `until`: the year of its end.
    pub(super) fn certify(&self, identity: &Identity, name: &str, until: i32) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(&identity.cert, certificate.pem()).unwrap();
        fs::write(&identity.key, key.serialize_pem()).unwrap();
    }
}

/// What all hosts share: an authority, a folder, a port, and loopback addresses of their own.
pub(super) struct Cluster {
    pub(super) authority: Authority,
    pub(super) folder: TempDir,
    pub(super) port: u16,
    pub(super) net: u8,
}

impl Cluster {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let net = NEXT.fetch_add(1, Ordering::Relaxed);
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        Self { authority: Authority::new(), folder: tempfile::tempdir().unwrap(), port, net }
    }

    pub(super) fn address(&self, n: u8) -> IpAddr {
        [127, 7, self.net, n].into()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn identity(&self, n: u8) -> Identity {
        let path = |ending: &str| self.path(&format!("h{n}{ending}"));
        Identity { ca: path("-ca.pem"), cert: path(".pem"), key: path(".key") }
    }

    /// Writes a host's list of hosts.
    pub(super) fn list(&self, n: u8, hosts: &[u8]) {
        let lines: Vec<_> = hosts.iter().map(|n| format!("h{n} {} 9000\n", self.address(*n))).collect();
        let (new, path) = (self.path("new"), self.path(&format!("h{n}-hosts")));
        fs::write(&new, lines.concat()).unwrap();
        fs::rename(&new, path).unwrap();
    }

    pub(super) fn config(&self, n: u8) -> ExchangeConfig {
        ExchangeConfig {
            listen: SocketAddr::new(self.address(n), self.port),
            identity: self.identity(n),
            hosts: self.path(&format!("h{n}-hosts")),
        }
    }

    /// The files of a host whose list has these hosts.
    pub(super) fn write_files(&self, n: u8, hosts: &[u8]) {
        self.list(n, hosts);
        let identity = self.identity(n);
        fs::write(&identity.ca, &self.authority.pem).unwrap();
        self.authority.certify(&identity, &format!("h{n}"), 2100);
    }

    /// A host whose list has these hosts, with a network 10.1.0.0/24 of tenant red.
    pub(super) fn member(&self, n: u8, hosts: &[u8]) -> Member {
        self.write_files(n, hosts);
        let member = Member::on(self, n, Bench::new());
        soon("the list of hosts is read", || member.ask("GET", "/v1/hosts")["own"] == json!(format!("h{n}")));
        member.network("red", "10.1.0.0/24", "101");
        member
    }

    pub(super) fn members(&self, hosts: &[u8]) -> Vec<Member> {
        hosts.iter().map(|n| self.member(*n, hosts)).collect()
    }

    /// Sends a message as a host that has no daemon. Its answer.
    pub(super) fn say(&self, from: u8, to: u8, message: &[u8]) -> Result<Value, String> {
        let to_address = SocketAddr::new(self.address(to), self.port);
        let answer = self.identity(from).ask(self.address(from), to_address, &format!("h{to}"), message);
        answer.map(|bytes| serde_json::from_slice(&bytes).unwrap()).map_err(|error| format!("{error:#}"))
    }
}

/// A host.
pub(super) struct Member {
    pub(super) n: u8,
    pub(super) bench: Bench,
    exchange: Option<Exchange>,
    config: ExchangeConfig,
}

impl Member {
    fn on(cluster: &Cluster, n: u8, bench: Bench) -> Self {
        let address = cluster.address(n);
        bench.kernel.change(|state| state.addresses.push((format!("{address}/32").parse().unwrap(), address)));
        Self::begin(n, bench, cluster.config(n))
    }

    fn begin(n: u8, bench: Bench, config: ExchangeConfig) -> Self {
        let tunnel = TunnelConfig { exchange_subnets: vec!["10.0.0.0/8".parse().unwrap()], ..Config::default().tunnel };
        let bench = bench.restarted_as(Config { hosts_file: Some(config.hosts.clone()), tunnel, ..Config::default() });
        let mut member = Self { n, bench, exchange: None, config };
        member.start();
        member
    }

    pub(super) fn start(&mut self) {
        self.exchange = Some(Exchange::start(Arc::clone(&self.bench.driver), self.config.clone()).unwrap());
    }

    pub(super) fn stop(&mut self) {
        self.exchange = None;
    }

    /// The daemon killed and started again, with its records, or without them and its containers.
    pub(super) fn restarted(self, with_records: bool) -> Self {
        self.again(|bench| {
            if with_records {
                return bench;
            }
            // Nothing new is made beside containers without records.
            bench.kill_containers();
            bench.without_database()
        })
    }

    /// The daemon killed and started again without its records, while its containers run.
    pub(super) fn without_records(self) -> Self {
        self.again(Bench::without_database)
    }

    fn again(mut self, between: impl FnOnce(Bench) -> Bench) -> Self {
        self.stop();
        Self::begin(self.n, between(self.bench), self.config)
    }

    /// What is left of it without its exchange.
    pub(super) fn into_bench(mut self) -> Bench {
        self.stop();
        self.bench
    }

    pub(super) fn network(&self, tenant: &str, subnet: &str, vni: &str) {
        let name = format!("{tenant}{vni}");
        self.bench.ok("CreateNetwork", &network(&name, &[subnet], &[("tenant", tenant), ("vni", vni)]));
    }

    /// Container of tenant red at 10.1.0.N.
    pub(super) fn run(&self, n: u8) {
        let name = format!("red101-{}-{n}", self.n);
        self.bench.run(&name, "red101", &format!("10.1.0.{n}/24"), "");
    }

    pub(super) fn end(&self, n: u8) {
        self.bench.stop("red101", &format!("red101-{}-{n}", self.n));
    }

    pub(super) fn ask(&self, method: &str, path: &str) -> Value {
        self.bench.launcher(method, path, b"").1
    }

    /// The addresses of tenant red on other hosts that the kernel leads to, as soon as it has what is recorded, each
    /// with its host.
    pub(super) fn reached(&self) -> Vec<String> {
        self.bench.driver.follow_lists();
        let own: Vec<_> = self.ask("GET", "/v1/tenants/red/remotes")["remotes"].as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let state = self.bench.kernel.state();
        let in_kernel = |address: &str| state.neighbours.keys().any(|(.., at)| at.to_string() == address);
        let rows = own.iter().map(|row| (text(&row[0]), text(&row[2])));
        rows.filter(|(address, _)| in_kernel(address)).map(|(address, host)| format!("{address} {host}")).collect()
    }

    pub(super) fn soon_reaches(&self, expected: &[&str]) {
        let since = std::time::Instant::now();
        while self.reached() != expected {
            let hosts = self.ask("GET", "/v1/hosts");
            let remotes = self.ask("GET", "/v1/tenants/red/remotes");
            assert!(
                since.elapsed() < super::PATIENCE,
                "h{}: {:?} and not {expected:?}: {remotes} {hosts}",
                self.n,
                self.reached()
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Why the addresses of tenant red that others say they have are refused: `ADDRESS HOST REASON`.
    pub(super) fn refused(&self) -> Vec<String> {
        let reply = self.ask("GET", "/v1/tenants/red/remotes");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let rows = reply["refused"].as_array().unwrap();
        rows.iter()
            .map(|row| format!("{} {} {}", text(&row["address"]), text(&row["host"]), text(&row["reason"])))
            .collect()
    }

    /// How the exchange with another host stands.
    pub(super) fn stands(&self, other: u8) -> String {
        let how = &self.ask("GET", "/v1/hosts")["exchange"][format!("h{other}")];
        how.as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn soon_stands(&self, other: u8, expected: &str) {
        let since = std::time::Instant::now();
        while !self.stands(other).contains(expected) {
            let found = self.stands(other);
            assert!(since.elapsed() < super::PATIENCE, "h{} with h{other}: {found:?} and not {expected:?}", self.n);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// A counter of what was refused.
    pub(super) fn counted(&self, reason: &str) -> f64 {
        self.bench.driver.follow_lists();
        self.metric(&format!("ciao_exchange_refused_total{{reason=\"{reason}\"}}"))
    }

    /// A metric; 0 if there is none.
    pub(super) fn metric(&self, name: &str) -> f64 {
        use ciao_common::serve::server::{Handler, Request};
        let report = Arc::new(ciao_netdriver::control::Report(Arc::clone(&self.bench.driver)));
        let metrics = ciao_common::serve::metrics::Metrics::new("ciao-net", "1", Vec::new(), report);
        let page = metrics.handle(Request { method: "GET", path: "/metrics", query: "", body: b"" });
        let page = String::from_utf8(page.body).unwrap();
        let line = format!("{name} ");
        page.lines().find_map(|text| text.strip_prefix(&line)).map_or(0.0, |count| count.parse().unwrap())
    }
}

/// A second certificate of an authority beside others.
pub(super) fn write_roots(path: &Path, authorities: &[&Authority]) {
    fs::write(path, authorities.iter().map(|authority| authority.pem.as_str()).collect::<String>()).unwrap();
}
