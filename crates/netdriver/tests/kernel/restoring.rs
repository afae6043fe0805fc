// SPDX-License-Identifier: Apache-2.0
//! What somebody else changes on the running kernel is listed, restored by a pass, and restored within seconds by
//! itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ciao_netdriver::kernel::Inspection;
use ciao_netdriver::kernel::linux::Linux;
use ciao_netdriver::reconcile::{Depth, Repair};

use crate::apart::{answers, answers_once, attempt, inside, run, soon, tests};
use crate::driver::{Bench, id};

/// A tenant's network with a container, `box2`.
fn scene() -> Bench {
    let bench = Bench::new();
    bench.network("red", "nat");
    bench.run("red", 2, "10.1.0.2/24");
    assert!(answers("box2", "10.1.0.1"));
    assert_eq!(bench.driver.reconcile(Depth::DryRun), []);
    bench
}

/// What an administrator or another program may do: HV, CU and MAC stand for the links' names and the VNIC's MAC
/// address.
const CHANGES: [&str; 21] = [
    "ip netns exec ciao-red nft flush ruleset",
    "ip netns exec ciao-red nft flush chain bridge ciao prerouting",
    "ip netns exec ciao-red nft flush set bridge ciao macs",
    "ip netns exec ciao-red nft add rule inet ciao forward accept",
    "nft flush ruleset",
    "nft flush chain inet ciao input",
    "ip -n ciao-red link set HV down",
    "ip -n ciao-red link set HV nomaster",
    "ip -n ciao-red link set br0 down",
    "ip -n ciao-red link delete br0",
    "ip -n ciao-red address delete 10.1.0.1/24 dev br0",
    "ip -n ciao-red neigh delete 10.1.0.2 dev br0",
    "bridge -n ciao-red fdb delete MAC dev HV master",
    "ip -n ciao-red link set HV alias mine",
    "ip -n ciao-red link set br0 alias mine",
    "ip netns exec ciao-red busybox sysctl -w net.ipv4.ip_forward=0",
    "busybox sysctl -w net.ipv4.ip_forward=0",
    "ip link set CU down",
    "ip link delete CU",
    "ip -n ciao-red link set up0 down",
    "ip -n ciao-red route delete default",
];

fn change(bench: &Bench, command: &str) {
    let (vnics, uplinks) = bench.store.read(|tx| Ok((tx.vnics(None)?, tx.uplinks()?))).unwrap();
    let command = command.replace("HV", vnics[0].host_link.as_str()).replace("MAC", &vnics[0].mac.to_string());
    run(&command.replace("CU", uplinks[0].host_link.as_str()));
}

fn without_times(rows: Vec<Repair>) -> Vec<String> {
    rows.into_iter().map(|row| format!("{} {}: {} {:?}", row.action, row.what, row.why, row.error)).collect()
}

/// Whether all is as recorded, and the container reaches its gateway and has no more rights than before.
fn is_well(bench: &Bench) -> bool {
    bench.driver.reconcile(Depth::DryRun).is_empty() && answers("box2", "10.1.0.1")
}

tests! {
    fn every_change_is_listed_by_a_dry_run_and_restored_by_a_pass(_kernel) {
        let bench = scene();
        for command in CHANGES {
            change(&bench, command);
            let dry = without_times(bench.driver.reconcile(Depth::DryRun));
            let done = without_times(bench.driver.reconcile(Depth::Changed));
            assert!(!dry.is_empty() && dry.iter().all(|row| row.ends_with("None")), "{command}: {dry:?}");
            assert_eq!(dry, done, "{command}");
            assert!(is_well(&bench), "{command}: {:?}", bench.driver.reconcile(Depth::DryRun));
        }
    }

    fn every_change_is_restored_within_seconds_by_itself(_kernel) {
        let bench = scene();
        bench.watch();
        // Other namespaces come, change and go.
        run("ip netns add noise");
        for command in CHANGES {
            if command.contains("neigh") || command.contains("fdb") {
                // What restored the one before is reported too, and looked at.
                std::thread::sleep(Duration::from_millis(1500));
            }
            change(&bench, command);
            run("ip -n noise link add v0 type veth peer name v1");
            run("ip -n noise link delete v0");
            let since = Instant::now();
            assert!(soon(|| is_well(&bench)), "{command}: {:?}", bench.driver.reconcile(Depth::DryRun));
            println!("{:>6.0} ms  {command}", since.elapsed().as_secs_f64() * 1000.0);
        }
    }

    fn a_repair_that_fails_is_tried_again_within_seconds(_kernel) {
        let bench = scene();
        bench.watch();
        run("cp /usr/sbin/nft /run/netns/.nft");
        run("mount --bind /bin/false /usr/sbin/nft");
        run("ip netns exec ciao-red /run/netns/.nft flush ruleset");
        std::thread::sleep(Duration::from_secs(6));
        let is_empty = || !run("ip netns exec ciao-red /run/netns/.nft list ruleset").contains("\"hv");
        assert!(is_empty(), "nft cannot write them");
        run("umount /usr/sbin/nft");
        assert!(soon(|| !is_empty()));
        assert!(soon(|| is_well(&bench)));
    }

    fn links_say_by_their_aliases_whose_they_are_after_every_repair_too(_kernel) {
        let bench = scene();
        let vnic = bench.store.read(|tx| tx.vnics(None)).unwrap().remove(0);
        let says = |link: &str| {
            run(&format!("ip netns exec ciao-red cat /sys/class/net/{link}/ifalias")).trim().to_owned()
        };
        let expected = [
            "ciao1 red000000000@10.1.0.1@".to_owned(),
            format!("ciao1 o=docker m={} a=10.1.0.2/24 n=red000000000 .", vnic.mac),
        ];
        let found = || [says("br0"), says(vnic.host_link.as_str())];
        assert_eq!(found(), expected);
        for command in CHANGES.iter().filter(|command| command.contains("HV") || command.contains("br0")) {
            change(&bench, command);
            bench.driver.reconcile(Depth::Changed);
            assert_eq!(found(), expected, "{command}");
        }
        let bench = bench.restarted();
        bench.driver.reconcile(Depth::Full);
        assert_eq!(found(), expected);
    }

    fn a_list_that_changes_meanwhile_is_whole(kernel) {
        run("ip netns add ciao-red");
        for n in 0..200 {
            run(&format!("ip -n ciao-red link add d{n} type bridge"));
        }
        // Until the test's process ends.
        std::thread::spawn(|| {
            loop {
                attempt("ip -n ciao-red link add x type bridge");
                attempt("ip -n ciao-red link delete x");
            }
        });
        for _ in 0..50 {
            let seen = kernel.look(&inside("ciao-red")).unwrap().unwrap();
            let stay = seen.links.keys().filter(|link| link.as_str().starts_with('d')).count();
            assert_eq!(stay, 200);
        }
    }

    fn one_tenant_s_odd_namespace_does_not_hold_up_the_others(_kernel) {
        let bench = scene();
        bench.network("blue", "nat");
        // A file, a folder, a dangling link.
        std::fs::write("/run/netns/ciao-odd", "no namespace").unwrap();
        std::fs::create_dir("/run/netns/ciao-folder").unwrap();
        std::os::unix::fs::symlink("/nowhere", "/run/netns/ciao-dangling").unwrap();
        bench.run("blue", 5, "10.1.0.5/24");
        // The container of an endpoint of green's is gone, and no call said so.
        bench.network("green", "nat");
        bench.run("green", 7, "10.1.0.7/24");
        run("ip netns del box7");
        let old = rusqlite::Connection::open(bench.store.path()).unwrap();
        old.execute("UPDATE endpoint_record SET created = created - 3600000", []).unwrap();
        // What blue's namespace was is another kind of one now, which cannot be entered.
        run("umount /run/netns/ciao-blue");
        run("mount --bind /proc/self/ns/uts /run/netns/ciao-blue");
        change(&bench, "ip netns exec ciao-red nft flush ruleset");
        let kernel = Arc::new(Linux::new().unwrap());
        let driver = ciao_netdriver::Driver::new(Arc::clone(&bench.store), kernel, ciao_netdriver::Config::default());
        let rows = driver.unwrap().reconcile(Depth::Full);
        let failed: Vec<_> = rows.iter().filter(|row| row.error.is_some()).map(|row| row.what.as_str()).collect();
        assert!(failed.contains(&"network namespace ciao-blue"), "{rows:?}");
        assert!(rows.iter().any(|row| row.what == "rules of network namespace ciao-red" && row.error.is_none()), "{rows:?}");
        assert!(failed.contains(&"endpoints of network namespace ciao-blue"), "{rows:?}");
        let left = bench.store.read(|tx| tx.endpoints()).unwrap();
        let is_left = |name: &str| left.iter().any(|endpoint| endpoint.id.as_str() == id(name));
        assert!(is_left("e2") && is_left("e5") && !is_left("e7"), "{rows:?}");
        assert!(soon(|| bench.store.read(|tx| tx.vnics_deleting()).unwrap().is_empty()));
        assert!(attempt("ip netns exec ciao-red nft list table bridge ciao").status.success());
        assert!(answers("box2", "10.1.0.1"));
    }

    fn what_tenants_may_not_reach_is_closed_while_the_host_has_no_rules(_kernel) {
        // No watcher: whatever somebody flushes stays so.
        let bench = scene();
        run("ip link add lan type bridge");
        run("ip address add 10.7.0.1/24 dev lan");
        run("ip link set lan up");
        run("ip netns add victim");
        run("ip link add port type veth peer name eth0 netns victim");
        run("ip link set port master lan up");
        run("ip -n victim address add 10.7.0.2/24 dev eth0");
        run("ip -n victim link set eth0 up");
        run("ip -n victim route add default via 10.7.0.1");
        let reached = || ["10.7.0.1", "10.7.0.2"].map(|target| answers_once("box2", target));
        assert!(answers("victim", "10.7.0.1"));
        assert_eq!(reached(), [false, false]);
        run("nft flush ruleset");
        assert!(!run("nft list ruleset").contains("table inet ciao {"), "ciao's own table is gone");
        assert_eq!(reached(), [false, false], "the guard holds: {}", run("nft list ruleset"));
        // Without it everything would be open: what the guard is worth.
        drop(bench.driver);
        assert!(soon(|| !run("nft list ruleset").contains("ciao_guard")), "it goes with the daemon");
        assert_eq!(reached(), [true, true], "the test sees what is not stopped");
    }
}
