// SPDX-License-Identifier: Apache-2.0
//! What links' aliases say, so that records are not all that is known of what runs: the networks on a bridge, with
//! gateways and PoolIDs, and the VNIC of a link.
//!
//! An alias has 254 bytes at most: what does not fit is left out, whole words from the end.

use std::net::IpAddr;

use ciao_common::store::{Network, Vnic};
use ciao_common::types::{LinkName, NetworkId, PoolId, Subnet};

use crate::names;

/// What an alias of ciao's begins with: the version of its form.
const FORM: &str = "ciao1";
/// What the kernel takes of us: less than IFALIASZ, 256, with a final 0.
const LONGEST: usize = 254;

/// The words that fit, with blanks between.
fn join(words: impl IntoIterator<Item = String>) -> String {
    let mut text = FORM.to_owned();
    for word in words {
        if text.len() + 1 + word.len() > LONGEST {
            break;
        }
        text += " ";
        text += &word;
    }
    text
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut words = text.split(' ');
    let is_ours = words.next() == Some(FORM);
    words.filter(move |_| is_ours)
}

/// A bridge's: for each subnet of its networks `NETWORK@GATEWAY@POOLID`.
pub(crate) fn of_bridge<'a>(networks: impl IntoIterator<Item = &'a Network>) -> String {
    let mut words = Vec::new();
    for network in networks {
        for subnet in &network.subnets {
            let gateway = subnet.gateway.map_or_else(String::new, |gateway| gateway.to_string());
            let pool = subnet.pool.as_ref().filter(|pool| !pool.is_lost());
            words.push(format!("{}@{gateway}@{}", network.id.short(), pool.map_or("", PoolId::as_str)));
        }
    }
    words.sort();
    join(words)
}

/// What a bridge's alias says of a network: gateway and PoolID of each subnet.
pub(crate) fn network(alias: &str, id: &NetworkId) -> Vec<(Option<IpAddr>, Option<PoolId>)> {
    let of_network = words(alias).filter_map(|word| {
        let mut parts = word.split('@');
        let (short, gateway, pool) = (parts.next()?, parts.next()?, parts.next()?);
        (short == id.short()).then(|| (gateway.parse().ok(), pool.parse().ok()))
    });
    of_network.collect()
}

/// A VNIC's, in short words for what is not as usual; the last one, a dot, shows that all of it is there.
pub(crate) fn of_vnic(vnic: &Vnic) -> String {
    let cidr = |(subnet, address): (Subnet, IpAddr)| subnet.cidr(address).to_string();
    let word = |key: &str, value: Option<String>| value.map(|value| format!("{key}={value}"));
    let allowed = vnic.allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let words = [
        word("o", Some(vnic.owner.to_string())),
        word("m", Some(vnic.mac.to_string())),
        word("a", vnic.v4.map(cidr)),
        word("b", vnic.v6.map(cidr)),
        word("n", vnic.network.as_ref().map(|network| network.short().to_owned())),
        word("r", vnic.rate.map(|rate| rate.to_string())),
        word("u", vnic.mtu.map(|mtu| mtu.to_string())),
        word("g", vnic.gateway.map(|gateway| gateway.to_string())),
        word("i", vnic.instance.as_ref().map(ToString::to_string)),
        word("w", vnic.network_name.clone()),
        word("x", (!vnic.allowed.is_empty()).then_some(allowed)),
        Some(".".to_owned()),
    ];
    join(words.into_iter().flatten())
}

/// The VNIC that the alias of its link describes, but for the network of one of Docker's; `None`: no alias of ciao's, or
/// not all of it.
pub(crate) fn vnic(alias: &str, host_link: &LinkName, namespace: &str, bridge: &LinkName) -> Option<Vnic> {
    words(alias).find(|word| *word == ".")?;
    let get = |key: &str| words(alias).find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let place = |text: &str| Some((text.parse().ok()?, text.split('/').next()?.parse().ok()?));
    Some(Vnic {
        id: host_link.as_str().strip_prefix(names::HOST_LINK)?.parse().ok()?,
        owner: get("o")?.parse().ok()?,
        tenant: names::tenant_of(namespace).and_then(|tenant| tenant.parse().ok()),
        network: None,
        instance: get("i").and_then(|text| text.parse().ok()),
        v4: get("a").and_then(place),
        v6: get("b").and_then(place),
        mac: get("m")?.parse().ok()?,
        gateway: get("g").and_then(|text| text.parse().ok()),
        mtu: get("u").and_then(|text| text.parse().ok()),
        namespace: Some(namespace.to_owned()),
        bridge: bridge.clone(),
        allowed: get("x").into_iter().flat_map(|text| text.split(',')).filter_map(|text| text.parse().ok()).collect(),
        rate: get("r").and_then(|text| text.parse().ok()),
        network_name: get("w").map(str::to_owned),
        container_link: names::container_end(host_link)?,
        host_link: host_link.clone(),
    })
}

#[cfg(test)]
mod tests {
    use ciao_common::store::Owner;

    use super::*;

    fn launchers() -> Vnic {
        Vnic {
            id: "0123456789".parse().unwrap(),
            owner: Owner::Launcher,
            tenant: Some("red".parse().unwrap()),
            network: None,
            instance: Some("web-1".parse().unwrap()),
            v4: Some(("10.5.0.0/24".parse().unwrap(), "10.5.0.2".parse().unwrap())),
            v6: Some(("fd00::/64".parse().unwrap(), "fd00::2".parse().unwrap())),
            mac: "02:00:00:00:00:02".parse().unwrap(),
            gateway: Some("10.5.0.254".parse().unwrap()),
            mtu: "1400".parse().ok(),
            namespace: Some("ciao-red".to_owned()),
            bridge: "br0".parse().unwrap(),
            allowed: vec!["10.5.0.100".parse().unwrap(), "fd00::100".parse().unwrap()],
            rate: Some("100mbit".parse().unwrap()),
            network_name: Some("red-net".to_owned()),
            container_link: "cv0123456789".parse().unwrap(),
            host_link: "hv0123456789".parse().unwrap(),
        }
    }

    #[test]
    fn a_vnic_s_alias_has_all_that_its_namespace_and_name_do_not_say_or_no_dot_at_its_end() {
        assert_eq!(
            of_vnic(&launchers()),
            "ciao1 o=launcher m=02:00:00:00:00:02 a=10.5.0.2/24 b=fd00::2/64 r=100mbit u=1400 g=10.5.0.254 i=web-1 \
             w=red-net x=10.5.0.100,fd00::100 ."
        );
        let parse = |alias: &str| vnic(alias, &launchers().host_link, "ciao-red", &launchers().bridge);
        assert_eq!(parse(&of_vnic(&launchers())), Some(launchers()));
        for foreign in ["", "to the router", "ciao2 o=docker m=02:00:00:00:00:02 .", "o=docker m=02:00:00:00:00:02 ."] {
            assert_eq!(parse(foreign), None, "{foreign}");
        }
        let long = of_vnic(&Vnic { allowed: vec!["fd00::1111:2222:3333:4444".parse().unwrap(); 12], ..launchers() });
        assert!(long.len() <= LONGEST && long.ends_with("w=red-net"), "{long}");
        assert_eq!(parse(&long), None);
    }
}
