// SPDX-License-Identifier: Apache-2.0
//! Lines of text as calls. `$P0`, `$V0`, … stand for the ids of pools and VNICs that were answered; `!word` is
//! something that happens around the calls.

use ciao_netdriver::reconcile::Depth;

use crate::daemons::Socket;
use crate::host::Host;

/// `Method body` for a plugin.
pub(crate) fn driver_line(host: &mut Host, driver: &str, line: &[u8]) {
    if event(host, line) {
        return;
    }
    let (method, body) = split(line);
    let socket = if driver == "IpamDriver" { Socket::Ipam } else { Socket::Net };
    let target = format!("/{driver}.{}", String::from_utf8_lossy(method));
    let body = named(host, body);
    let (status, reply) = host.call(socket, "POST", &target, &body);
    if status != 200 {
        return;
    }
    if let Some(pool) = reply["PoolID"].as_str() {
        host.pools.push(pool.to_owned());
    }
    let request: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let endpoint = request["EndpointID"].as_str().unwrap_or_default();
    match target.as_str() {
        "/NetworkDriver.Join" => host.enter(&reply, endpoint),
        "/NetworkDriver.Leave" => host.exit(endpoint),
        _ => {}
    }
}

/// `METHOD target body` for the control socket.
pub(crate) fn control_line(host: &mut Host, line: &[u8]) {
    if event(host, line) {
        return;
    }
    let (method, rest) = split(line);
    let (target, body) = split(rest);
    let (target, body) = (named(host, target), named(host, body));
    let (method, target) = (String::from_utf8_lossy(method), String::from_utf8_lossy(&target));
    // A server reads no other target.
    if target.is_empty() || target.contains(|c: char| c.is_ascii_control() || !c.is_ascii()) {
        return;
    }
    let (_, reply) = host.call(Socket::Control, &method, &target, &body);
    if let Some(vnic) = reply["id"].as_str().filter(|_| method == "POST") {
        host.vnics.push(vnic.to_owned());
    }
}

fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let blank = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    (&line[..blank], line.get(blank + 1..).unwrap_or_default())
}

/// Puts ids in the place of `$P0` and `$V0`.
fn named(host: &Host, text: &[u8]) -> Vec<u8> {
    let mut named = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let ids = match tail.first() {
            Some(b'P') if *first == b'$' => Some(&host.pools),
            Some(b'V') if *first == b'$' => Some(&host.vnics),
            _ => None,
        };
        let number = tail.get(1).filter(|digit| digit.is_ascii_digit()).map(|digit| usize::from(digit - b'0'));
        if let Some(id) = ids.and_then(|ids| ids.get(number?)) {
            named.extend_from_slice(id.as_bytes());
            rest = &tail[2..];
        } else {
            named.push(*first);
            rest = tail;
        }
    }
    named
}

/// What a line with `!` does.
fn event(host: &mut Host, line: &[u8]) -> bool {
    let Some(word) = line.strip_prefix(b"!") else { return false };
    host.tell(|| String::from_utf8_lossy(line).into_owned());
    match word {
        b"restart" => host.restart(),
        b"reconcile" => host.reconcile(Depth::Changed),
        b"reboot" => host.reboot(),
        b"kill" => host.kill_containers(),
        _ => {}
    }
    true
}
