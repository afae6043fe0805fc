// SPDX-License-Identifier: Apache-2.0
//! The rules of an older version, found under running containers when the daemon starts after an upgrade.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use ciao_netdriver::kernel::linux::Linux;
use ciao_netdriver::kernel::{Namespace, Rules};
use ciao_netdriver::reconcile::Depth;

use crate::apart::{answers, answers_once, inside, run, soon, tests};
use crate::driver::Bench;
use crate::shares::BOX2;

/// The rulesets of version 0.1.0 before its sets were renamed.
const TENANT: &str = include_str!("upgrade/tenant.nft");
const HOST: &str = include_str!("upgrade/host.nft");
/// Names that only they have.
const OLD: [&str; 8] =
    ["set open", "set slow", "set alone", "set targets", "set same", "set self", "set in6", "set ways_out"];

/// A network with two containers, of which the first has port 8080, under the rules that the older version had loaded.
fn scene(kernel: &Linux) -> Bench {
    let bench = Bench::new();
    bench.network("red", "nat");
    bench.run("red", 2, "10.1.0.2/24");
    bench.run("red", 3, "10.1.0.3/24");
    bench.publish("red", 2, 8080);
    let (vnics, uplinks) = bench.store.read(|tx| Ok((tx.vnics(None)?, tx.uplinks()?))).unwrap();
    let mut tenant = TENANT.to_owned()
        + "add element inet ciao nat { \"br0\" }\nadd element inet ciao self { \"br0\" . \"br0\" }\n"
        + "add element inet ciao same { \"br0\" . \"br0\" }\nadd element inet ciao ports4 { tcp . 8080 : 10.1.0.2 . 80 }\n";
    for vnic in &vnics {
        let (link, (_, address)) = (&vnic.host_link, vnic.v4.unwrap());
        tenant += &format!("add element bridge ciao macs {{ \"{link}\" . {} }}\n", vnic.mac);
        tenant += &format!("add element bridge ciao ips4 {{ \"{link}\" . {address} }}\n");
    }
    let uplink = run("ip -4 -o -n ciao-red addr show dev up0");
    let uplink = uplink.split_whitespace().nth(3).unwrap().split('/').next().unwrap();
    assert_eq!(uplinks.len(), 1);
    kernel.run_nft(&inside("ciao-red"), &tenant).unwrap();
    let host = HOST.to_owned() + &format!("add element inet ciao ports4 {{ tcp . 8080 : {uplink} }}\n");
    kernel.run_nft(&Namespace::Host, &host).unwrap();
    bench
}

fn rules(kernel: &Linux) -> String {
    kernel.list_rules(&inside("ciao-red")).unwrap() + &kernel.list_rules(&Namespace::Host).unwrap()
}

/// Answers on port 80 of the first container.
fn serve() {
    let listener = BOX2.within(|| TcpListener::bind("0.0.0.0:80").unwrap());
    std::thread::spawn(move || listener.incoming().for_each(|stream| drop(stream.unwrap().write_all(b"web"))));
}

/// Whether the host reaches the container's port 80 by its own port 8080.
fn is_published() -> bool {
    let timeout = Duration::from_secs(1);
    let Ok(mut stream) = TcpStream::connect_timeout(&([127, 0, 0, 1], 8080).into(), timeout) else { return false };
    stream.set_read_timeout(Some(timeout)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).is_ok_and(|_| text == "web")
}

tests! {
    fn a_daemon_s_start_replaces_the_rules_of_an_older_version_under_running_containers(kernel) {
        let bench = scene(kernel);
        serve();
        run("ip -n box3 addr add 10.1.0.77/24 dev eth0");
        let before = rules(kernel);
        assert!(OLD.iter().all(|name| before.contains(name)), "{before}");
        assert!(soon(is_published), "the older version's rules work");

        let bench = bench.restarted();
        bench.driver.reconcile(Depth::Full);
        bench.driver.resume().unwrap();
        let after = rules(kernel);
        assert!(!OLD.iter().any(|name| after.contains(&format!("{name} {{"))), "{after}");
        for name in ["set unfiltered", "set rate_limited", "set isolated", "set intra_bridge", "set egress_links"] {
            assert!(after.contains(name), "{name}: {after}");
        }
        assert_eq!(bench.driver.reconcile(Depth::DryRun), [], "a pass is enough");
        assert!(soon(is_published), "the port is still published");
        assert!(answers("box2", "10.1.0.3") && answers("box2", "10.1.0.1"));
        assert!(!answers_once("box2", "10.1.0.77"), "box3 sends with its own address only");
        // What comes after the upgrade finds the new sets.
        bench.stop("red", 3);
        bench.run("red", 5, "10.1.0.5/24");
        assert!(answers("box5", "10.1.0.2"));
        assert_eq!(bench.driver.reconcile(Depth::DryRun), []);
    }

    fn a_container_that_ends_before_the_first_pass_leaves_nothing_of_the_older_rules(kernel) {
        let bench = scene(kernel).restarted();
        bench.stop("red", 3);
        // The maps of the older rules take no address with a port.
        bench.run("red", 5, "10.1.0.5/24");
        bench.publish("red", 5, 8082);
        bench.driver.reconcile(Depth::Full);
        let after = rules(kernel);
        assert!(after.contains("tcp . 8080") && after.contains("tcp . 8082"), "{after}");
        assert!(!OLD.iter().any(|name| after.contains(&format!("{name} {{"))), "{after}");
        assert!(!after.contains("10.1.0.3"), "{after}");
    }
}
