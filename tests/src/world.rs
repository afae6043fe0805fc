// SPDX-License-Identifier: Apache-2.0
//! The world around a host: an "internet" behind its uplink, and a way for a test to stand in any network namespace.
//!
//! A [`Place`] is where a test asks, answers and listens: the host itself, a container, the internet. Sockets are made
//! in it by this process, because what a socket reaches is decided by the namespace that it was made in, and a socket
//! here tells a test more than the output of a program there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::lab::Host;

/// How long an answer may take; also how long a test waits for what must not come. TCP sends a lost packet of a new
/// connection again after a second.
const ANSWER: Duration = Duration::from_millis(2500);
/// How long something that happens in the background may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The host's link to the internet, and a machine there whose web server returns `internet`.
const INTERNET: &str = "
    ip link add ext0 type veth peer name eth0 netns inet
    ip address add 203.0.113.1/24 dev ext0
    ip address add 2001:db8::1/64 dev ext0 nodad
    ip -n inet address add 203.0.113.2/24 dev eth0
    ip -n inet address add 2001:db8::2/64 dev eth0 nodad
    for link in 'ip link set ext0' 'ip -n inet link set eth0' 'ip -n inet link set lo'; do $link up; done
    ip route add default via 203.0.113.2
    ip -6 route add default via 2001:db8::2
    mkdir -p /run/internet
    echo internet >/run/internet/index.html
    ip netns exec inet busybox httpd -p 80 -h /run/internet
";

/// A network namespace of a host.
#[derive(Debug)]
pub struct Place(File);

impl Place {
    /// The host itself.
    pub fn host(host: &Host) -> Result<Self> {
        Self::open(host, "/proc/1/ns/net")
    }

    /// One that `ip netns` shows, such as a tenant's.
    pub fn named(host: &Host, name: &str) -> Result<Self> {
        Self::open(host, &format!("/run/netns/{name}"))
    }

    /// A running container.
    pub fn container(host: &Host, name: &str) -> Result<Self> {
        let pid = host.docker(&["inspect", "-f", "{{.State.Pid}}", name])?;
        ensure!(pid != "0", "container {name} does not run");
        Self::open(host, &format!("/proc/{pid}/ns/net"))
    }

    /// Gives a host an uplink `ext0` (203.0.113.1, 2001:db8::1) and returns the machine at its other end (203.0.113.2,
    /// 2001:db8::2), whose web server returns `internet`.
    pub fn internet(host: &Host) -> Result<Self> {
        host.add_namespace("inet")?;
        host.sh(INTERNET)?;
        Self::named(host, "inet")
    }

    fn open(host: &Host, path: &str) -> Result<Self> {
        let path = host.path(path);
        File::open(&path).map(Self).with_context(|| format!("open the network namespace {}", path.display()))
    }

    /// Does something here, on a thread of its own. Sockets stay here when they are handed out.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).expect("root may enter a network namespace");
            act()
        };
        scope(|scope| scope.spawn(inside).join().expect("what is done in a place does not panic"))
    }

    /// The body of a web server's response to a request from here, trimmed; `None` without one in time.
    pub fn fetch(&self, at: &str) -> Option<String> {
        let at: SocketAddr = at.parse().expect("a test gives ADDRESS:PORT");
        let stream = self.within(|| TcpStream::connect_timeout(&at, ANSWER)).ok()?;
        page(stream).ok().flatten()
    }

    /// The same of several at once.
    pub fn fetch_each<const N: usize>(&self, at: [&str; N]) -> [Option<String>; N] {
        scope(|scope| {
            let asking = at.map(|at| scope.spawn(move || self.fetch(at)));
            asking.map(|answer| answer.join().expect("a request does not panic"))
        })
    }

    /// The reply to a datagram from here; `None` without one in time.
    pub fn ask(&self, at: &str, question: &str) -> Option<String> {
        self.ask_from(0, at, question)
    }

    /// As [`Self::ask`], from a port of this place.
    pub fn ask_from(&self, port: u16, at: &str, question: &str) -> Option<String> {
        let at: SocketAddr = at.parse().expect("a test gives ADDRESS:PORT");
        let local: IpAddr = if at.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let local = SocketAddr::new(local, port);
        let socket = self.within(|| UdpSocket::bind(local)).ok()?;
        socket.set_read_timeout(Some(ANSWER)).ok()?;
        // A connected socket takes an answer from that very address only.
        socket.connect(at).ok()?;
        socket.send(question.as_bytes()).ok()?;
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer[..length]).into_owned())
    }

    /// Sends a datagram with a name, by which [`Wire::received`] identifies it, and waits for no reply.
    pub fn send_datagram(&self, at: &str, name: &str) -> io::Result<()> {
        let at: SocketAddr = at.parse().expect("a test gives ADDRESS:PORT");
        let local = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        self.within(|| UdpSocket::bind(local))?.send_to(&mark(name), at)?;
        Ok(())
    }

    /// Answers every datagram to an address and port of this place with `word`, until the test ends.
    pub fn answer(&self, at: &str, word: &'static str) -> Result<()> {
        let at: SocketAddr = at.parse().expect("a test gives ADDRESS:PORT");
        let socket = self.within(|| UdpSocket::bind(at))?;
        std::thread::spawn(move || {
            let mut question = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut question) {
                if socket.send_to(word.as_bytes(), from).is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Whether a ping from here is answered; a link-local address has its link behind a `%`.
    pub fn pings(&self, target: &str) -> bool {
        let mut ping = std::process::Command::new("busybox");
        ping.args(["ping", "-q", "-c", "2", "-W", "1", target]);
        self.within(|| ping.output()).is_ok_and(|output| output.status.success())
    }

    /// A link here, to send and capture frames on.
    pub fn wire(&self, link: &str) -> Result<Wire> {
        self.within(|| Wire::open(link)).with_context(|| format!("open a packet socket on {link}"))
    }
}

/// The body of an answer with status 200.
fn page(mut stream: TcpStream) -> io::Result<Option<String>> {
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").filter(|_| answer.contains(" 200 "));
    Ok(body.map(|(_, body)| body.trim().to_owned()))
}

/// A packet socket (packet(7)): frames as they are.
#[derive(Debug)]
pub struct Wire(OwnedFd);

impl Wire {
    fn open(link: &str) -> Result<Self> {
        let frames = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(SockProtocol::EthAll))?;
        let mut links = getifaddrs()?.filter(|entry| entry.interface_name == link);
        let address = links.find_map(|entry| entry.address.and_then(|address| address.as_link_addr().copied()));
        bind(frames.as_raw_fd(), &address.context("no such link")?)?;
        let poll = TimeVal::new(0, 20_000);
        setsockopt(&frames, sockopt::ReceiveTimeout, &poll)?;
        Ok(Self(frames))
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(self.0.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }

    /// Sends frames, each with its name behind its end, by which [`Self::received`] identifies it.
    pub fn send_named<'a>(&self, frames: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> io::Result<()> {
        for (name, mut frame) in frames {
            frame.extend(mark(name));
            self.send(&frame)?;
        }
        Ok(())
    }

    /// The names of the frames that pass until the one named `last`; without it those of five seconds.
    pub fn received(&self, last: &str) -> io::Result<BTreeSet<String>> {
        Ok(self.count(last)?.into_keys().collect())
    }

    /// As [`Self::received`], with how many frames had each name.
    pub fn count(&self, last: &str) -> io::Result<BTreeMap<String, usize>> {
        let since = Instant::now();
        let mut frames = BTreeMap::new();
        while !frames.contains_key(last) && since.elapsed() < 2 * ANSWER {
            if let Some(name) = self.next()?.as_deref().and_then(name_of) {
                *frames.entry(name).or_default() += 1;
            }
        }
        Ok(frames)
    }

    /// The next frame that passes in either direction; `None` if none does in 20 ms.
    pub fn next(&self) -> io::Result<Option<Vec<u8>>> {
        let mut frame = vec![0; 2048];
        match recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()).map_err(io::Error::from) {
            Ok(length) => Ok(Some(frame[..length].to_vec())),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What marks a frame: a name that nothing else on a wire has.
pub fn mark(name: &str) -> Vec<u8> {
    format!("<<{name}>>").into_bytes()
}

fn name_of(frame: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(frame);
    // From its end: a byte of a checksum may be one of the brackets.
    let (_, name) = text.rsplit_once(">>")?.0.rsplit_once("<<")?;
    Some(name.to_owned())
}

/// `docker network create` of both our drivers, of a tenant.
pub fn network(host: &Host, name: &str, tenant: &str, options: &str) -> Result<()> {
    let drivers = format!("-d ciao-net --ipam-driver ciao-ipam -o tenant={tenant} --ipam-opt tenant={tenant}");
    host.sh(&format!("docker network create {drivers} {options} {name}"))?;
    Ok(())
}

/// `docker run` of a container that serves its own name at port 80, with more options.
pub fn serve(host: &Host, name: &str, options: &str) -> Result<Place> {
    // It ends at SIGTERM, so that `docker stop` need not wait.
    let script = format!("echo {name} >/tmp/index.html; trap exit TERM; httpd -f -h /tmp & wait");
    host.sh(&format!("docker run -d --name {name} {options} busybox sh -c '{script}'"))?;
    let place = Place::container(host, name)?;
    ensure!(soon(|| place.fetch("127.0.0.1:80").is_some()), "the server in container {name} does not answer");
    Ok(place)
}

/// SIGKILL of ciao-net, which would restore the rules; also waits until its second copy of the host's filter is gone.
pub fn kill_with_guard(host: &Host) -> Result<()> {
    host.ciao_net().kill()?;
    let guarded = || host.sh("nft list tables").is_ok_and(|tables| tables.contains("ciao_guard"));
    ensure!(soon(|| !guarded()), "ciao_guard outlives ciao-net");
    Ok(())
}

/// Whether something becomes so within ten seconds.
pub fn soon(mut holds: impl FnMut() -> bool) -> bool {
    let since = Instant::now();
    while !holds() {
        if since.elapsed() > PATIENCE {
            return false;
        }
        sleep(Duration::from_millis(20));
    }
    true
}
