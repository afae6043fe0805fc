// SPDX-License-Identifier: Apache-2.0
//! nftables on the running kernel: scripts, and elements by netlink.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use ciao_common::store::Protocol;
use ciao_common::types::LinkName;
use ciao_netdriver::kernel::element::{self, Change, Element, Part, Ruleset, Table};
use ciao_netdriver::kernel::{Firewall, FirewallOpening, Namespace, Namespaces, Rules};
use ciao_netdriver::names::check_bridge;

use crate::apart::{RED, inside, name, tests};

tests! {
    fn nft_runs_in_the_namespace_meant_all_of_a_script_or_nothing(kernel) {
        kernel.ensure_namespace(RED).unwrap();
        let has = || (kernel.has_rules(&inside(RED)).unwrap(), kernel.has_rules(&Namespace::Host).unwrap());
        assert_eq!(has(), (false, false));
        kernel.run_nft(&inside(RED), "table inet ciao { chain c { }; }\n").unwrap();
        assert_eq!(has(), (true, false));
        kernel.run_nft(&Namespace::Host, "table inet ciao { chain c { }; }\n").unwrap();
        kernel.run_nft(&inside(RED), "delete table inet ciao\n").unwrap();
        assert_eq!(has(), (false, true));
        let error = kernel.run_nft(&inside(RED), "table inet ciao { chain c { }; }\npizza\n").unwrap_err().to_string();
        assert!(error.contains("nft"), "{error}");
        assert_eq!(has(), (false, true));
        assert!(kernel.run_nft(&inside("ciao-none"), "table inet ciao\n").is_err());
    }

    fn whatever_bridge_is_accepted_loads_and_what_an_old_record_has_does_too(kernel) {
        // Every character that a link's name may have, alone and in the middle: the accepted ones load in nft's
        // language.
        let printable = (0x21..0x7f_u8).map(char::from);
        let names: Vec<_> = printable.flat_map(|c| [c.to_string(), format!("a{c}b"), format!("{c}{c}")]).collect();
        let names: Vec<LinkName> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let accepted: Vec<_> = names.iter().filter(|name| check_bridge(name).is_ok()).collect();
        assert!(accepted.len() > 180 && accepted.len() < names.len(), "{} of {}", accepted.len(), names.len());
        kernel.ensure_namespace(RED).unwrap();
        let element = |name: &LinkName| Element::new(Table::Inet, "nat", [Part::Link(name.clone())]);
        let tables = "table inet ciao\ndelete table inet ciao\ntable inet ciao {\n\tset nat { type ifname; }\n}\n";
        let lines: String = accepted.iter().map(|name| element(name).line(Change::Add)).collect();
        kernel.run_nft(&inside(RED), &format!("{tables}{lines}")).unwrap();
        // Records of an earlier version may have any of them.
        let ruleset = Ruleset { tables: tables.to_owned(), elements: names.iter().map(element).collect() };
        assert!(kernel.load_rules(&inside(RED), &ruleset).unwrap().is_some());
        assert_eq!(kernel.rules_difference(&inside(RED), &ruleset).unwrap(), None);
        let fewer = Ruleset { tables: tables.to_owned(), elements: ruleset.elements[1..].to_vec() };
        let difference = kernel.rules_difference(&inside(RED), &fewer).unwrap();
        assert_eq!(difference.as_deref(), Some("set nat has 0 missing elements and 1 unexpected ones"));
    }

    fn every_change_of_the_host_s_rules_is_counted(kernel) {
        let count = || kernel.rules_generation(&Namespace::Host).unwrap();
        let first = count();
        assert!(first.is_some(), "nothing of the older iptables is here");
        assert_eq!(count(), first);
        kernel.run_nft(&Namespace::Host, "table inet ciao { chain c { }; }\n").unwrap();
        let second = count();
        assert_ne!(second, first);
        kernel.ensure_namespace(RED).unwrap();
        kernel.run_nft(&inside(RED), "table inet ciao { chain c { }; }\n").unwrap();
        assert_eq!(count(), second, "another namespace's do not count");
        kernel.open_firewall(&BTreeSet::from([FirewallOpening::Uplinks]), &[]).unwrap();
        assert_ne!(count(), second, "iptables' do");
    }

    fn an_element_by_netlink_is_the_one_that_nft_s_own_line_makes(kernel) {
        let blue = inside("ciao-blue");
        for namespace in [&inside(RED), &blue] {
            kernel.ensure_namespace(namespace.name().unwrap()).unwrap();
            kernel.run_nft(namespace, SETS).unwrap();
        }
        let empty = kernel.list_rules(&blue).unwrap();
        let elements = elements();
        kernel.run_nft(&inside(RED), &element::script(&elements, Change::Add)).unwrap();
        kernel.change_elements(&blue, &elements, Change::Add).unwrap();
        kernel.change_elements(&blue, &elements, Change::Add).unwrap();
        let listed = kernel.list_rules(&blue).unwrap();
        assert_eq!(listed, kernel.list_rules(&inside(RED)).unwrap());
        assert!(listed.contains("\"hv1\" . 02:00:c0:a8:6f:02") && listed.contains("tcp . 8080 : 10.0.0.2 . 80"), "{listed}");
        kernel.change_elements(&blue, &elements, Change::Delete).unwrap();
        assert_eq!(kernel.list_rules(&blue).unwrap(), empty);
        // What is not there cannot be deleted, and then nothing is.
        kernel.change_elements(&blue, &elements[1..], Change::Add).unwrap();
        let before = kernel.list_rules(&blue).unwrap();
        let error = kernel.change_elements(&blue, &elements, Change::Delete).unwrap_err().to_string();
        assert!(error.contains("macs") && error.contains("No such file"), "{error}");
        assert_eq!(kernel.list_rules(&blue).unwrap(), before);
        assert!(kernel.change_elements(&inside("ciao-none"), &elements, Change::Add).is_err());
        assert!(kernel.change_elements(&Namespace::Host, &elements, Change::Add).is_err());
    }
}

/// A set or map of each kind that ciao's rules have.
const SETS: &str = "table bridge ciao {
    set macs { typeof iifname . ether saddr; }
    set ips4 { typeof iifname . ip saddr; }
    set ips6 { typeof iifname . ip6 saddr; }
    set nd_targets { typeof iifname . @th,64,128; }
    set unfiltered { type ifname; }
}
table inet ciao {
    set intra_bridge { type ifname . ifname; }
    map ports4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
    map ports6_on { type ipv6_addr . inet_proto . inet_service : ipv6_addr; }
}
";

fn elements() -> Vec<Element> {
    let link = || Part::Link(name("hv1"));
    let v6: Ipv6Addr = "fd00:5::2".parse().unwrap();
    let tcp = [Part::Protocol(Protocol::Tcp), Part::Port(8080)];
    vec![
        Element::new(Table::Bridge, "macs", [link(), Part::Mac("02:00:c0:a8:6f:02".parse().unwrap())]),
        Element::new(Table::Bridge, "ips4", [link(), Part::Address([10, 0, 0, 2].into())]),
        Element::new(Table::Bridge, "ips6", [link(), Part::Address(v6.into())]),
        Element::new(Table::Bridge, "nd_targets", [link(), Part::Bytes(v6.octets().to_vec())]),
        Element::new(Table::Bridge, "unfiltered", [link()]),
        Element::new(Table::Inet, "intra_bridge", [Part::Link(name("br-45678901234b")), Part::Link(name("br0"))]),
        Element::new(Table::Inet, "ports4", tcp.clone())
            .leading_to([Part::Address([10, 0, 0, 2].into()), Part::Port(80)]),
        Element::new(Table::Inet, "ports6_on", [vec![Part::Address(v6.into())], tcp.to_vec()].concat())
            .leading_to([Part::Address(v6.into())]),
    ]
}
