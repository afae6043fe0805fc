// SPDX-License-Identifier: Apache-2.0
//! The host's own settings and firewall on the running kernel.

use std::collections::BTreeSet;

use ciao_common::types::Family;
use ciao_netdriver::kernel::linux::Linux;
use ciao_netdriver::kernel::{Firewall, FirewallOpening, HostSetting, HostSettings, Namespaces};

use crate::apart::{RED, attempt, name, run, tests};
use crate::driver::Bench;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// What iptables shows of FORWARD and of ciao's chain.
fn rules(tool: &str) -> Vec<String> {
    run(&format!("{tool} -S")).lines().filter(|line| line.contains("FORWARD")).map(str::to_owned).collect()
}

/// Makes all changes that forwarding needs, in order, and returns their names.
fn forward(kernel: &Linux, family: Family) -> Vec<String> {
    let changes = kernel.missing_forwarding(family).unwrap();
    let change = |change: ciao_netdriver::kernel::HostChange| {
        kernel.set_host_setting(&change.setting, &change.after).unwrap();
        format!("{} {} {}", change.setting, change.before, change.after)
    };
    changes.into_iter().map(change).collect()
}

tests! {
    fn the_firewall_has_what_is_wanted_in_last_place(kernel) {
        let openings = BTreeSet::from([FirewallOpening::Bridge(name("lan")), FirewallOpening::Uplinks]);
        run("iptables -A FORWARD -i eth9 -j DROP");
        for _ in 0..2 {
            assert_eq!(kernel.open_firewall(&openings, &[]).unwrap(), None);
            for (tool, others) in [("iptables", vec!["-A FORWARD -i eth9 -j DROP"]), ("ip6tables", vec![])] {
                let ours = [
                    "-A FORWARD -j CIAO-FORWARD",
                    "-A CIAO-FORWARD -i lan -o lan -j ACCEPT",
                    "-A CIAO-FORWARD -i cu+ -j ACCEPT",
                    "-A CIAO-FORWARD -o cu+ -j ACCEPT",
                ];
                let expected = [&["-P FORWARD ACCEPT", "-N CIAO-FORWARD"][..], &others, &ours].concat();
                assert_eq!(rules(tool), expected);
            }
        }
        // Somebody's later rule comes first again, and one that nothing passes is named.
        run("iptables -A FORWARD -j REJECT");
        kernel.open_firewall(&openings, &[]).unwrap();
        let found = kernel.open_firewall(&openings, &[]).unwrap();
        assert_eq!(found.as_deref(), Some("-A FORWARD -j REJECT --reject-with icmp-port-unreachable"));
        assert_eq!(rules("iptables")[4], "-A FORWARD -j CIAO-FORWARD");
        // Less, and nothing.
        kernel.open_firewall(&BTreeSet::from([FirewallOpening::Uplinks]), &[]).unwrap();
        assert!(!run("iptables -S").contains("lan"));
        assert!(kernel.is_firewall_used(Family::V4).unwrap() && !kernel.is_firewall_used(Family::V6).unwrap());
        kernel.open_firewall(&BTreeSet::new(), &[]).unwrap();
        assert_eq!(rules("ip6tables"), ["-P FORWARD ACCEPT"]);
        let bridge = FirewallOpening::Bridge(name("br+"));
        assert!(kernel.open_firewall(&BTreeSet::from([bridge]), &[]).unwrap_err().to_string().contains("br+"));
    }

    fn rules_of_an_administrator_s_stay_whatever_they_accept(kernel) {
        let theirs = ["-A FORWARD -i cu+ -j ACCEPT", "-A FORWARD -i lan -o lan -j ACCEPT"];
        theirs.iter().for_each(|rule| drop(run(&format!("iptables {rule}"))));
        let openings = BTreeSet::from([FirewallOpening::Bridge(name("lan")), FirewallOpening::Uplinks]);
        let stand = || theirs.map(|rule| rules("iptables").iter().filter(|line| *line == rule).count());
        for _ in 0..2 {
            kernel.open_firewall(&openings, &[]).unwrap();
            assert_eq!(stand(), [1, 1], "{:?}", rules("iptables"));
            // The chain is written again.
            run("iptables -A FORWARD -i eth9 -j DROP");
        }
        kernel.open_firewall(&BTreeSet::new(), &[]).unwrap();
        assert_eq!(stand(), [1, 1]);
        kernel.open_firewall(&openings, &[]).unwrap();
        // An older version wrote the first one.
        kernel.delete_former_rules().unwrap();
        assert_eq!(stand(), [0, 1]);
        assert!(run("iptables -S").contains("-A CIAO-FORWARD -i cu+ -j ACCEPT"));
    }

    fn a_reloaded_chain_is_closed_again_and_an_administrator_s_word_is_kept(kernel) {
        let openings = BTreeSet::from([FirewallOpening::Uplinks]);
        let policies = || FAMILIES.map(|family| kernel.host_setting(&HostSetting::ForwardPolicy(family)).unwrap().unwrap());
        kernel.open_firewall(&openings, &FAMILIES).unwrap();
        assert_eq!(policies(), ["DROP", "DROP"]);
        run("iptables -P FORWARD ACCEPT");
        kernel.open_firewall(&openings, &FAMILIES).unwrap();
        assert_eq!(policies(), ["ACCEPT", "DROP"], "the chain stands, so somebody meant it");
        for openings in [&openings, &BTreeSet::new()] {
            run("nft flush ruleset");
            assert_eq!(policies(), ["ACCEPT", "ACCEPT"]);
            kernel.open_firewall(openings, &FAMILIES).unwrap();
            assert_eq!(policies(), ["DROP", "DROP"]);
        }
    }

    fn a_host_is_closed_before_it_forwards(kernel) {
        run("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
        run("ip link add eth0.100 type veth peer name cu0123456789");
        run("sysctl -qw net.ipv6.conf.eth0/100.accept_ra=1 net.ipv6.conf.default.accept_ra=1");
        assert_eq!(forward(kernel, Family::V4), ["iptables -P FORWARD ACCEPT DROP", "net.ipv4.ip_forward 0 1"]);
        assert_eq!(forward(kernel, Family::V4), [""; 0]);
        // What switching back would lose.
        run("sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.eth0/100.forwarding=1");
        let four = ["net.ipv4.conf.eth0/100.forwarding 1 1", "net.ipv4.conf.all.accept_redirects 0 0", "net.ipv4.ip_forward 0 1"];
        assert_eq!(forward(kernel, Family::V4), four);
        run("ip6tables -P FORWARD DROP");
        let six = forward(kernel, Family::V6);
        assert_eq!(six.last().unwrap(), "net.ipv6.conf.all.forwarding 0 1");
        assert!(six.contains(&"net.ipv6.conf.eth0/100.accept_ra 1 2".to_owned()), "{six:?}");
        assert!(six.contains(&"net.ipv6.conf.default.accept_ra 1 2".to_owned()), "{six:?}");
        assert!(!six.iter().any(|change| change.contains("ip6tables") || change.contains("cu0")), "{six:?}");
        assert!(kernel.missing_advertisements().unwrap().is_empty());
        // A value of an administrator's is none that is to be changed.
        run("sysctl -qw net.ipv6.conf.eth0/100.accept_ra=0");
        assert!(kernel.missing_advertisements().unwrap().is_empty());
    }

    fn only_what_has_the_mark_is_ours(kernel) {
        run("ip netns add ciao-theirs");
        kernel.ensure_namespace(RED).unwrap();
        assert_eq!(kernel.namespaces().unwrap(), [RED]);
        assert!(run(&format!("ip -n {RED} link show lo")).contains("alias ciao-net"));
        let error = kernel.ensure_namespace("ciao-theirs").unwrap_err().to_string();
        assert!(error.contains("ciao-theirs was not created by ciao-net"), "{error}");
        assert!(!kernel.has_namespace("ciao-theirs").unwrap());
        kernel.delete_namespace("ciao-theirs").unwrap();
        assert!(attempt("ip -n ciao-theirs link show lo").status.success(), "it is still there");
        // An older version's has its rules, and gets the mark.
        run("ip -n ciao-theirs link set lo up");
        run("ip netns exec ciao-theirs nft add table inet ciao");
        assert!(!kernel.ensure_namespace("ciao-theirs").unwrap());
        assert_eq!(kernel.namespaces().unwrap().len(), 2);
    }

    fn the_neighbour_table_s_limits_are_raised_once_recorded_and_never_lowered(_kernel) {
        let limits = || ["ipv4", "ipv6"].map(|family| {
            [1, 2, 3].map(|n| run(&format!("cat /proc/sys/net/{family}/neigh/default/gc_thresh{n}")).trim().to_owned())
        });
        // Only a machine's first namespace has them.
        for (family, found) in [("ipv4", [128, 512, 1024]), ("ipv6", [128, 60000, 100_000])] {
            run(&format!("mount -t tmpfs tmpfs /proc/sys/net/{family}/neigh"));
            std::fs::create_dir(format!("/proc/sys/net/{family}/neigh/default")).unwrap();
            for (n, value) in (1..).zip(found) {
                std::fs::write(format!("/proc/sys/net/{family}/neigh/default/gc_thresh{n}"), value.to_string()).unwrap();
            }
        }
        let bench = Bench::new();
        bench.network("red", "none");
        assert_eq!(limits(), [["8192", "49152", "65536"], ["8192", "60000", "100000"]]);
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let rows = bench.store.read(|tx| tx.host_settings(boot.trim())).unwrap();
        let recorded: BTreeSet<_> = rows.into_iter().map(|row| (row.name, row.before, row.after)).collect();
        let row = |name: &str, before: &str, after: &str| (format!("net.{name}"), before.to_owned(), after.to_owned());
        let expected = [
            row("ipv4.neigh.default.gc_thresh1", "128", "8192"),
            row("ipv4.neigh.default.gc_thresh2", "512", "49152"),
            row("ipv4.neigh.default.gc_thresh3", "1024", "65536"),
            row("ipv6.neigh.default.gc_thresh1", "128", "8192"),
        ];
        assert_eq!(recorded, expected.into());
        // What an administrator sets later stays.
        std::fs::write("/proc/sys/net/ipv4/neigh/default/gc_thresh3", "2048").unwrap();
        bench.network("blue", "none");
        assert_eq!(limits()[0][2], "2048");
    }

    fn the_first_network_of_a_host_runs_iptables_a_few_times(_kernel) {
        // The tool's file is a script that notes each run.
        let tool = std::fs::canonicalize("/usr/sbin/iptables").unwrap();
        let tool = tool.to_str().unwrap();
        run(&format!("cp {tool} /run/netns/tool"));
        let script = "#!/bin/sh\nname=$(basename $0)\necho $name \"$@\" >>/run/netns/log\nexec /run/netns/tool $name \"$@\"\n";
        std::fs::write("/run/netns/script", script).unwrap();
        run("chmod +x /run/netns/script");
        run("touch /run/netns/log");
        run(&format!("mount --bind /run/netns/script {tool}"));
        let bench = Bench::new();
        let since = std::time::Instant::now();
        bench.network("red", "nat");
        println!("{:?}", since.elapsed());
        let runs = std::fs::read_to_string("/run/netns/log").unwrap();
        println!("{runs}");
        // What forwards, and each family's chain: listed once, written once; the policy, before that.
        assert!((5..=7).contains(&runs.lines().count()), "{runs}");
    }
}
