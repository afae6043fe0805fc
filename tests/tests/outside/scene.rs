// SPDX-License-Identifier: Apache-2.0
//! What the scenarios share: a host with an internet, tenants whose containers have the same addresses, and questions.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};

use ciao_tests::lab::Host;
use ciao_tests::world::{Place, network, serve};

/// Both tenants' subnets, and both containers' address.
pub(crate) const SUBNETS: &str = "--ipv6 --subnet 10.5.0.0/24 --subnet fd00:5::/64";

pub(crate) const ADDRESS: &str = "--ip 10.5.0.2 --ip6 fd00:5::2";

pub(crate) fn open(name: &str) -> (Host, Place, Place) {
    with_internet(Host::builder().name(name).start().unwrap())
}

pub(crate) fn with_internet(host: Host) -> (Host, Place, Place) {
    let internet = Place::internet(&host).unwrap();
    let itself = Place::host(&host).unwrap();
    (host, itself, internet)
}

pub(crate) fn page(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub(crate) fn sql(host: &Host, statement: &str) -> String {
    host.sh(&format!("sqlite3 -readonly /var/lib/ciao/ciao.db \"{statement}\"")).unwrap()
}

/// The command fails, and its error has all of `words`.
pub(crate) fn refused(host: &Host, script: &str, words: &[&str]) {
    let output = host.try_sh(script).unwrap();
    assert_ne!(output.code, 0, "`{script}` should be refused");
    for word in words {
        assert!(output.stderr.contains(word), "`{script}` should print {word:?}, it prints: {}", output.stderr);
    }
}

/// Whether `red` answers at port 8080, on the host and outside.
pub(crate) fn red_is_published(itself: &Place, internet: &Place) -> bool {
    itself.fetch("127.0.0.1:8080") == page("red")
        && internet.fetch_each(["203.0.113.1:8080", "[2001:db8::1]:8080"]) == [page("red"), page("red")]
}

/// A tenant's network and its container, which serves port 80 at 8080 of the host.
pub(crate) fn publish_red(host: &Host, more: &str) -> Place {
    network(host, "red", "red", SUBNETS).unwrap();
    serve(host, "red", &format!("--network red {ADDRESS} -p 8080:80 {more}")).unwrap()
}

/// Tells everybody who asks at a place, over TCP (with a page) or UDP, by which address and port he came, until the
/// test ends.
pub(crate) fn serve_peer_address(place: &Place, at: &'static str) {
    let listener = place.within(|| TcpListener::bind(at)).unwrap();
    let socket = place.within(|| UdpSocket::bind(at)).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let page = format!("HTTP/1.0 200 OK\r\n\r\n{from}");
            // A request that nobody read would reset the connection.
            let _gone = stream.read(&mut [0; 512]).and_then(|_| stream.write_all(page.as_bytes()));
        }
    });
    std::thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
            let _gone = socket.send_to(from.to_string().as_bytes(), from);
        }
    });
}
