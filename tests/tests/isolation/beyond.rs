// SPDX-License-Identifier: Apache-2.0
//! What lies beyond a container's own network: the host, the metadata service, another tenant, Docker's own bridges. No
//! option lifts this isolation; that the test detects a leak is shown by removing the host's rules.

use std::net::UdpSocket;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ciao_tests::lab::Host;
use ciao_tests::world::{Place, kill_with_guard, network, serve, soon};

use crate::scene::{host_with_container, show, show_head, uplink};

const TIMES: usize = 10;

/// Something that a container must not reach, and the socket where a test counts what arrives.
struct Target {
    name: &'static str,
    at: String,
    bytes: usize,
    capture: UdpSocket,
}

impl Target {
    fn new(name: &'static str, place: &Place, at: &str) -> Self {
        let capture = place.within(|| UdpSocket::bind(at)).unwrap();
        capture.set_nonblocking(true).unwrap();
        Self { name, at: at.to_owned(), bytes: 20, capture }
    }

    /// How many datagrams came.
    fn received(&self) -> usize {
        std::iter::from_fn(|| self.capture.recv_from(&mut [0; 4096]).ok()).count()
    }

    /// How many of the attacker's datagrams come; waits for all that are `expected`.
    fn attacked(&self, attacker: &Place, expected: usize) -> usize {
        let local = if self.at.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = attacker.within(|| UdpSocket::bind(local)).unwrap();
        let mut received = 0;
        // A first one over IPv6 may wait for neighbour discovery in vain.
        let all = soon(|| {
            for _ in 0..TIMES {
                let _refused = socket.send_to(&vec![7; self.bytes], &self.at);
            }
            let since = Instant::now();
            received = 0;
            // All of it if there is nothing to come, or until all have come.
            while since.elapsed() < Duration::from_millis(300) && (expected == 0 || received < expected) {
                sleep(Duration::from_millis(10));
                received += self.received();
            }
            received >= expected
        });
        assert!(all, "{}: {received} of {TIMES}", self.name);
        received
    }
}

fn address_of(host: &Host, link: &str, family: &str) -> String {
    host.sh(&format!("ip -{family} -o address show {link} scope global | sed 's/.*inet6* //; s,/.*,,'")).unwrap()
}

/// The targets of a container of tenant red.
fn targets(host: &Host, internet: &Place) -> Vec<Target> {
    let itself = Place::host(host).unwrap();
    let link = uplink(host, "red");
    let link4 = host.sh(&format!("ip -4 -o address show {link} | sed 's/.*inet //; s,/.*,,'")).unwrap();
    // The metadata service of a cloud, which only its machines are to ask.
    host.sh("ip -n inet address add 169.254.169.254/32 dev lo; ip route add 169.254.169.254 via 203.0.113.2").unwrap();
    let plain = serve(host, "plain", "").unwrap();
    let plain_at = host.docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "plain"]).unwrap();
    network(host, "other", "blue", "--subnet 10.9.0.0/24").unwrap();
    let other = serve(host, "victim", "--network other --ip 10.9.0.2").unwrap();
    let inner = host.sh("ip -n ciao-blue -4 -o address show up0 | sed 's/.*inet //; s,/.*,,'").unwrap();
    host.sh(&format!("ip route add 10.9.0.0/24 via {inner} dev {}", uplink(host, "blue"))).unwrap();
    let mut targets = vec![
        Target::new("the host's address", &itself, "203.0.113.1:9"),
        Target::new("the host's address, in fragments", &itself, "203.0.113.1:10"),
        Target::new("the host's IPv6 address", &itself, "[2001:db8::1]:9"),
        Target::new("the host's address on docker0", &itself, "172.17.0.1:9"),
        Target::new("the host's end of the uplink", &itself, &format!("{link4}:9")),
        Target::new("the host's end of the uplink, IPv6", &itself, &format!("[{}]:9", address_of(host, &link, "6"))),
        Target::new("the metadata service 169.254.169.254", internet, "169.254.169.254:9"),
        Target::new("a container on docker0", &plain, &format!("{plain_at}:9")),
        Target::new("another tenant's container, to which the host has a route", &other, "10.9.0.2:9"),
    ];
    targets[1].bytes = 3000;
    targets
}

#[test]
fn nothing_of_a_container_comes_to_the_host_to_another_tenant_or_to_dockers_bridges() {
    let (host, internet, mallory) = host_with_container("beyond");
    let targets = targets(&host, &internet);
    Place::host(&host).unwrap().answer("203.0.113.1:12", "host").unwrap();
    host.sh("echo host >/run/index.html; busybox httpd -p 22 -h /run").unwrap();
    let connects =
        || mallory.fetch_each(["203.0.113.1:22", "172.17.0.1:22", "[2001:db8::1]:22"]).iter().flatten().count();

    let stopped: Vec<_> = targets.iter().map(|target| target.attacked(&mallory, 0)).collect();
    let stopped_connects = connects();
    kill_with_guard(&host).unwrap();
    host.sh("ip netns exec ciao-blue nft 'insert rule inet ciao forward iifname \"up0\" accept'").unwrap();
    // Newer engines protect docker0 themselves, in the table raw and in FORWARD.
    host.sh("nft flush chain inet ciao input; nft flush chain inet ciao forward; iptables -t raw -F || true; iptables -I FORWARD -o docker0 -j ACCEPT").unwrap();
    let open: Vec<_> = targets.iter().map(|target| target.attacked(&mallory, TIMES)).collect();
    let open_connects = connects();

    show_head("from a container, counted at the target's socket", "without the host's rules");
    for ((target, stopped), open) in targets.iter().zip(&stopped).zip(&open) {
        show(target.name, (TIMES, *stopped, *open));
    }
    show("a TCP service of the host's, such as sshd", (3, stopped_connects, open_connects));
    assert_eq!((stopped, stopped_connects), (vec![0; targets.len()], 0));
    assert_eq!((open, open_connects), (vec![TIMES; targets.len()], 3), "the test sees what is not stopped");
}

#[test]
fn no_container_of_a_tenant_receives_what_another_tenants_container_sends_to_the_same_address() {
    let (host, _, mallory) = host_with_container("same");
    network(&host, "other", "blue", "--subnet 10.5.0.0/24 --ipv6 --subnet fd00:5::/64").unwrap();
    let victim = serve(&host, "victim", "--network other --ip 10.5.0.2 --ip6 fd00:5::2").unwrap();
    let neighbour = serve(&host, "neighbour", "--network other --ip 10.5.0.3 --ip6 fd00:5::3").unwrap();
    show_head("to 10.5.0.2 and fd00:5::2, counted at tenant blue's container", "from blue's own");
    for (name, at) in [("tenant red's container", "10.5.0.2:9"), ("tenant red's container, IPv6", "[fd00:5::2]:9")] {
        let target = Target::new(name, &victim, at);
        let (stopped, open) = (target.attacked(&mallory, 0), target.attacked(&neighbour, TIMES));
        show(name, (TIMES, stopped, open));
        assert_eq!((stopped, open), (0, TIMES));
    }
}

#[test]
fn no_container_sees_ciaos_sockets() {
    let (host, _, _mallory) = host_with_container("sockets");
    let sockets = "ls /run/ciao /var/run/ciao /run/docker.sock 2>/dev/null | grep -c sock || true";
    let abstract_ones = "grep -c ciao /proc/net/unix || true";
    let seen = |script: &str| host.docker(&["exec", "mallory", "sh", "-c", script]).unwrap();
    show_head("from a container", "on the host");
    for (name, script) in [("sockets of ciao and Docker to be seen", sockets), ("bound to a name", abstract_ones)] {
        let (inside, outside) = (seen(script).parse().unwrap(), host.sh(script).unwrap().parse().unwrap());
        show(name, (1, inside, outside));
        assert_eq!(inside, 0);
        assert!(outside >= 3, "{outside}");
    }
    let mode = host.sh("stat -c '%a %U' /run/ciao/control.sock").unwrap();
    assert_eq!(mode, "660 root", "and who is not root has no business there");
}
