// SPDX-License-Identifier: Apache-2.0
//! A network's options, read and refused.

use super::*;

fn parse(pairs: &[(&str, &str)]) -> Result<NetworkOptions> {
    let user = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    NetworkOptions::parse_generic(&user, false)
}

fn sentence<T: std::fmt::Debug>(result: Result<T>) -> String {
    format!("{:#}", result.unwrap_err())
}

#[test]
fn every_option_is_read() {
    let options = parse(&[
        ("tenant", "acme"),
        ("bridge", "br1"),
        ("vnics", "required"),
        ("egress", "none"),
        ("dst_prefix", "net"),
        ("egress_allow", "10.9.0.1/16, fd00::/8"),
        ("host_access", "5432,53/udp"),
        ("routes", "10.0.0.0/8=192.168.111.254,10.9.0.0/16"),
        (MTU, "1400"),
    ])
    .unwrap();
    assert_eq!(options.mtu.map(Mtu::bytes), Some(1400));
    let allowed: Vec<_> = options.egress_allow.iter().map(Subnet::to_string).collect();
    assert_eq!(allowed, ["10.9.0.0/16", "fd00::/8"]);
    let ports: Vec<_> = options.host_access.iter().map(HostPort::to_string).collect();
    assert_eq!(ports, ["5432/tcp", "53/udp"]);
    assert_eq!(options.routes.len(), 2);
    assert_eq!(options.routes[1].next_hop, None);
    assert_eq!(options.egress(true).unwrap(), Egress::None);
}

#[test]
fn a_wrong_option_is_an_error_that_names_it() {
    for (pair, expected) in [
        (("brigde", "br1"), "brigde: options of ciao-net are tenant, bridge"),
        (("bridge", "1234567890123456"), "has 16 bytes"),
        (("vnics", "maybe"), "vnics=maybe"),
        (("egress", "NAT"), "option egress=NAT: egress is one of nat, gateway, docker, none"),
        (("dst_prefix", "a/b"), "dst_prefix=a/b"),
        (("dst_prefix", "twelve-bytes"), "1 to 11"),
        (("routes", "10.0.0.0/8=x"), "\"x\" is not an IP address"),
        (("routes", "10.0.0.0/8=fd00::1"), "mixes"),
        (("routes", "10.0.0.0/8,10.0.0.0/8"), "twice"),
        (("routes", "0.0.0.0/0=10.0.0.1"), "--gateway"),
        (("routes", "127.0.0.0/8=10.0.0.1"), "loopback"),
        (("routes", "224.0.0.0/4"), "multicast"),
        (("routes", "10.0.0.0=10.1.0.1"), "give DESTINATION=NEXT_HOP"),
        (("cnci", "x"), "--opt cnci: \"x\" is not an IP address"),
        (("vni", "0"), "1 to 16777215, the same on every host, or none"),
        (("vni", "16777216"), "vni=16777216"),
        (("encrypted", "no"), "encrypted=no: give required"),
        (("encrypted", "required"), "give --opt vni"),
        (("flood", "on"), "--opt flood is for networks over several hosts"),
        (("flood", "100"), "flood=100: give on or off"),
        ((MTU, "67"), "67"),
        ((MTU, "many"), "MTU \"many\" is not a number of bytes: give one between 68 and 65535"),
        (("tenant", "../x"), "tenant"),
        (("host_access", "5432,http"), "host_access=5432,http: port \"http\" is not a number from 1 to 65535"),
        (("host_access", "80/icmp"), "protocol is one of tcp, udp, sctp"),
        (("egress_allow", "10.0.0.0/8,10.9.0.1"), "egress_allow=10.0.0.0/8,10.9.0.1: \"10.9.0.1\" is not a CIDR"),
    ] {
        let error = sentence(parse(&[pair]));
        assert!(error.contains(expected), "{error:?} should contain {expected:?}");
    }
}

#[test]
fn the_default_gateway_follows_egress_and_bridge() {
    let egress = |pairs: &[(&str, &str)], ours| parse(pairs).unwrap().egress(ours);
    assert_eq!(egress(&[], true).unwrap(), Egress::Nat);
    assert_eq!(egress(&[], false).unwrap(), Egress::Gateway);
    assert_eq!(egress(&[("cnci", "10.0.0.9")], true).unwrap(), Egress::Gateway);
    assert!(sentence(egress(&[("egress", "nat")], false)).contains("is a bridge of the host"));
    let internal = NetworkOptions::parse_generic(&BTreeMap::new(), true).unwrap();
    assert_eq!(internal.egress(true).unwrap(), Egress::None);
}
