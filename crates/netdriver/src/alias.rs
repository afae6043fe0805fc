// SPDX-License-Identifier: Apache-2.0
//! What links' aliases say, so that records are not all that is known of what runs: the networks on a bridge, with
//! gateways and PoolIDs, and the VNIC of a link.
//!
//! An alias has 254 bytes at most: what does not fit is left out, whole words from the end.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ciao_common::store::{Network, Vnic};
use ciao_common::types::{LinkName, PoolId, Subnet};

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

/// What a bridge's alias says: gateway and PoolID of each subnet, with the short id of its network.
pub(crate) fn subnets(alias: &str) -> impl Iterator<Item = (String, (Option<IpAddr>, Option<PoolId>))> {
    words(alias).filter_map(|word| {
        let mut parts = word.split('@');
        let (short, gateway, pool) = (parts.next()?, parts.next()?, parts.next()?);
        Some((short.to_owned(), (gateway.parse().ok(), pool.parse().ok())))
    })
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
        // Of others, the namespace says it.
        word("t", vnic.tenant.as_ref().filter(|_| vnic.namespace.is_none()).map(ToString::to_string)),
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

/// The VNIC that the alias of its link describes, but for the network of one of Docker's; `None`: no alias of ciao's,
/// not all of it, or a word of it cannot be read: its rules would be others than those that were made for it.
pub(crate) fn vnic(alias: &str, host_link: &LinkName, namespace: Option<&str>, bridge: &LinkName) -> Option<Vnic> {
    let mut words: Vec<_> = words(alias).collect();
    words.pop().filter(|word| *word == ".")?;
    let mut words: BTreeMap<_, _> = words.into_iter().map(|word| word.split_once('=')).collect::<Option<_>>()?;
    let place = |text: &str| Some((text.parse().ok()?, text.split('/').next()?.parse().ok()?));
    let tenant = read(words.remove("t"), |text| text.parse().ok())?;
    words.remove("n");
    let vnic = Vnic {
        id: host_link.as_str().strip_prefix(names::HOST_LINK)?.parse().ok()?,
        owner: words.remove("o")?.parse().ok()?,
        tenant: match namespace {
            Some(namespace) => read(names::tenant_of(namespace), |text| text.parse().ok())?,
            None => tenant,
        },
        network: None,
        instance: read(words.remove("i"), |text| text.parse().ok())?,
        v4: read(words.remove("a"), place)?,
        v6: read(words.remove("b"), place)?,
        mac: words.remove("m")?.parse().ok()?,
        gateway: read(words.remove("g"), |text| text.parse().ok())?,
        mtu: read(words.remove("u"), |text| text.parse().ok())?,
        namespace: namespace.map(str::to_owned),
        bridge: bridge.clone(),
        allowed: read(words.remove("x"), |text| text.split(',').map(|one| one.parse().ok()).collect())?
            .unwrap_or_default(),
        rate: read(words.remove("r"), |text| text.parse().ok())?,
        network_name: words.remove("w").map(str::to_owned),
        container_link: names::container_end(host_link)?,
        host_link: host_link.clone(),
    };
    words.is_empty().then_some(vnic)
}

/// The value of a word that may be omitted; `None`: it cannot be read.
fn read<T>(word: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    word.map_or(Some(None), |text| parse(text).map(Some))
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
    fn a_vnic_s_alias_describes_it_and_one_that_was_cut_describes_nothing() {
        assert_eq!(
            of_vnic(&launchers()),
            "ciao1 o=launcher m=02:00:00:00:00:02 a=10.5.0.2/24 b=fd00::2/64 r=100mbit u=1400 g=10.5.0.254 i=web-1 \
             w=red-net x=10.5.0.100,fd00::100 ."
        );
        let parse = |alias: &str| vnic(alias, &launchers().host_link, Some("ciao-red"), &launchers().bridge);
        assert_eq!(parse(&of_vnic(&launchers())), Some(launchers()));
        for foreign in ["", "to the router", "ciao2 o=docker m=02:00:00:00:00:02 .", "o=docker m=02:00:00:00:00:02 ."] {
            assert_eq!(parse(foreign), None, "{foreign}");
        }
        let long = of_vnic(&Vnic { allowed: vec!["fd00::1111:2222:3333:4444".parse().unwrap(); 12], ..launchers() });
        assert!(long.len() <= LONGEST && long.ends_with("w=red-net"), "{long}");
        assert_eq!(parse(&long), None);
    }
    #[test]
    fn on_a_bridge_of_the_host_the_alias_names_the_tenant() {
        let vnic_on_host = Vnic { namespace: None, ..launchers() };
        let alias = of_vnic(&vnic_on_host);
        assert!(alias.contains(" t=red "), "{alias}");
        assert_eq!(vnic(&alias, &vnic_on_host.host_link, None, &vnic_on_host.bridge), Some(vnic_on_host));
    }

    #[test]
    fn an_alias_of_which_a_word_cannot_be_read_describes_nothing() {
        let whole = of_vnic(&launchers());
        for (word, wrong) in [
            ("o=launcher", "o=nobody"),
            ("m=02:00:00:00:00:02", "m=02:00"),
            ("a=10.5.0.2/24", "a=10.5.0.2"),
            ("b=fd00::2/64", "b=fd00::2/200"),
            ("r=100mbit", "r=fast"),
            ("u=1400", "u=1"),
            ("g=10.5.0.254", "g=10.5.0.256"),
            ("i=web-1", "i=-"),
            ("x=10.5.0.100,fd00::100", "x=10.5.0.100,fd00::100,"),
            ("x=10.5.0.100,fd00::100", "x=10.5.0.1000,fd00::100"),
            (" w=red-net", " w=red-net new=1"),
            (" w=red-net", " w"),
        ] {
            assert!(whole.contains(word), "{word}");
            let text = whole.replace(word, wrong);
            assert_eq!(vnic(&text, &launchers().host_link, Some("ciao-red"), &launchers().bridge), None, "{text}");
        }
    }
}
