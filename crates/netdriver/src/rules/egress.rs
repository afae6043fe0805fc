// SPDX-License-Identifier: Apache-2.0
//! Subnets that tenants' egress is denied or allowed, as elements of sets.

use ciao_common::types::{LinkName, Subnet};

use crate::kernel::element::{Element, Part, Table};

/// Elements of two sets, IPv4's and IPv6's: these addresses, for what comes by a link or for all. A set takes no
/// overlapping ones.
pub(crate) fn listed<'a>(
    [v4, v6]: [&'static str; 2],
    link: Option<&LinkName>,
    subnets: impl IntoIterator<Item = &'a Subnet>,
) -> Vec<Element> {
    let key = |subnet| link.cloned().map(Part::Link).into_iter().chain([Part::Subnet(subnet)]).collect::<Vec<_>>();
    let set = |subnet: Subnet| if subnet.network().is_ipv4() { v4 } else { v6 };
    let disjoint = disjoint(subnets).into_iter();
    disjoint.map(|subnet| Element::new(Table::Inet, set(subnet), key(subnet))).collect()
}

/// The addresses that are in both lists.
pub(crate) fn common<'a>(one: impl Iterator<Item = &'a Subnet> + Clone, other: &'a [Subnet]) -> Vec<Subnet> {
    let inner = |a: Subnet, b: Subnet| if a.covers(b) { b } else { a };
    let overlapping = |b: &'a Subnet| one.clone().filter(move |a| a.overlaps(*b)).map(move |a| inner(*a, *b));
    other.iter().flat_map(overlapping).collect()
}

/// The same addresses in subnets that do not overlap.
fn disjoint<'a>(subnets: impl IntoIterator<Item = &'a Subnet>) -> Vec<Subnet> {
    let mut sorted: Vec<_> = subnets.into_iter().copied().collect();
    sorted.sort_unstable_by_key(|subnet| (subnet.prefix(), *subnet));
    let mut found = Vec::<Subnet>::new();
    for subnet in sorted {
        if !found.iter().any(|larger| larger.covers(subnet)) {
            found.push(subnet);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(subnets: &[Subnet]) -> Vec<String> {
        subnets.iter().map(Subnet::to_string).collect()
    }

    #[test]
    fn overlapping_subnets_become_disjoint_ones() {
        let subnets = ["10.1.0.0/16", "fd00::/8", "10.0.0.0/8", "192.168.1.0/24", "10.0.0.0/8", "fd00:1::/32"];
        let subnets = subnets.map(|text| text.parse().unwrap());
        assert_eq!(texts(&disjoint(&subnets)), ["10.0.0.0/8", "fd00::/8", "192.168.1.0/24"]);
        assert!(disjoint(&[]).is_empty());
    }

    #[test]
    fn what_two_lists_have_in_common_is_the_smaller_subnet_of_each_pair() {
        let lists = [&["0.0.0.0/0", "fd00:1::/32"][..], &["10.0.0.0/8", "fd00:1:2::/48", "192.168.0.0/16", "::/128"]];
        let [one, other] = lists.map(|list| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<Subnet>>());
        for (one, other) in [(&one, &other), (&other, &one)] {
            let mut found = common(one.iter(), other);
            found.sort_unstable();
            assert_eq!(texts(&found), ["10.0.0.0/8", "192.168.0.0/16", "fd00:1:2::/48"]);
        }
        assert!(common(one.iter(), &[]).is_empty());
    }
}
