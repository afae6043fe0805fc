// SPDX-License-Identifier: Apache-2.0
//! What goes with ciao, and what of others' stays.

use ciao_tests::lab::{Engine, Host};
use ciao_tests::world::{network, serve, soon};

use crate::scene::{SUBNETS, open, sql};

const CREATE: &str = "ciao-net vnic create --tenant red --instance";

#[test]
fn a_host_bridge_s_rule_is_removed_with_its_last_vnic() {
    let scene = open("bridge");
    let host = &scene.host;
    host.sh("ip link add lan type bridge; ip link set lan up").unwrap();
    let rules = || host.sh("iptables -S; ip6tables -S; iptables -P FORWARD DROP").unwrap();
    let before = rules();
    let made = |instance: &str, last: u8| {
        let place = format!("--subnet 10.7.0.0/24 --host-bridge lan --ip 10.7.0.{last} --mac 02:00:0a:07:00:0{last}");
        host.sh(&format!("{CREATE} {instance} {place} --json")).unwrap();
        sql(host, &format!("SELECT id FROM vnic WHERE instance = '{instance}'"))
    };
    let (one, two) = (made("one", 2), made("two", 3));
    assert!(rules().contains("-A CIAO-FORWARD -i lan -o lan -j ACCEPT"), "{}", rules());
    host.sh(&format!("ciao-net vnic delete {one}")).unwrap();
    assert!(rules().contains("-A CIAO-FORWARD -i lan -o lan -j ACCEPT"), "one is left on it");
    host.sh(&format!("ciao-net vnic delete {two}")).unwrap();
    assert!(soon(|| rules() == before), "{}", rules());
}

#[test]
fn reconcile_deletes_no_foreign_namespace() {
    let scene = open("foreign");
    let host = &scene.host;
    host.sh("ip netns add ciao-theirs; ip netns exec ciao-theirs ip link add br0 type bridge; ip netns add ciao.other")
        .unwrap();
    network(host, "red", "red", SUBNETS).unwrap();
    for dry in ["--dry-run", ""] {
        let done = host.sh(&format!("ciao-net reconcile {dry}")).unwrap();
        assert!(!done.contains("theirs") && !done.contains("ciao.other"), "{done}");
    }
    host.ciao_net().stop().unwrap();
    host.ciao_net().start().unwrap();
    let left = host.sh("ip netns list").unwrap();
    assert!(left.contains("ciao-theirs") && left.contains("ciao.other"), "{left}");
    // A tenant of that name does not take it over.
    let create =
        "docker network create -d ciao-net --ipam-driver ciao-ipam -o tenant=theirs --ipam-opt tenant=theirs t";
    let refused = host.try_sh(create).unwrap();
    assert!(refused.code != 0 && refused.stderr.contains("ciao-theirs"), "{refused:?}");
    assert_eq!(sql(host, "SELECT count(*) FROM network WHERE tenant = 'theirs'"), "0");
    host.sh("ip netns exec ciao-theirs ip link show br0").unwrap();
    // What is ours and nobody's goes, by its mark.
    host.ciao_net().stop().unwrap();
    host.sh("sqlite3 /var/lib/ciao/ciao.db 'DELETE FROM network_record'").unwrap();
    host.ciao_net().start().unwrap();
    let left = host.sh("ip netns list").unwrap();
    assert!(!left.contains("ciao-red") && left.contains("ciao-theirs"), "{left}");
}

#[test]
fn restore_lists_what_stays_and_removes_everything_on_request() {
    let host = Host::builder().name("restore").engine(Engine::Machine).start().unwrap();
    host.sh("ip link add lan type bridge; ip link set lan up").unwrap();
    network(&host, "red", "red", SUBNETS).unwrap();
    serve(&host, "web", "--network red").unwrap();
    host.sh("ip netns add ciao-theirs").unwrap();
    host.ciao_net().stop().unwrap();
    // Its exit code says that something stays.
    let restore = |options: &str, code: i32| {
        let run = host.try_sh(&format!("ciao-net host restore {options}")).unwrap();
        assert_eq!(run.code, code, "{run:?}");
        run.stdout
    };
    let used = restore("--remove-vnics", 3);
    assert!(used.contains("running containers (hv") && !used.contains("ciao-theirs"), "{used}");
    assert!(host.sh("docker exec web ping -c 1 -W 2 10.5.0.1").is_ok() && !used.contains("FORWARD"), "{used}");
    host.ciao_net().start().unwrap();
    host.sh("docker rm -f web; docker network rm red").unwrap();
    for (instance, place) in
        [("one", "--subnet 10.5.1.0/24 --ip 10.5.1.2"), ("two", "--subnet 10.7.0.0/24 --ip 10.7.0.2 --host-bridge lan")]
    {
        host.sh(&format!("{CREATE} {instance} {place} --mac 02:00:00:00:00:02")).unwrap();
    }
    host.ciao_net().stop().unwrap();
    let left = restore("", 3);
    for word in ["network namespace ciao-red", "link cv", "VNICs", "--remove-vnics"] {
        assert!(left.contains(word), "{word}: {left}");
    }
    assert!(host.sh("ip netns list").unwrap().contains("ciao-red"));
    let gone = host.sh("ciao-net host restore --remove-vnics").unwrap();
    println!("{gone}");
    assert_eq!(
        host.sh("ip netns delete ciao-theirs; ip netns list; ls /sys/class/net | grep -e '^c[uv]' || true").unwrap(),
        ""
    );
    let rules = host.sh("nft list ruleset; iptables -S; ip6tables -S").unwrap();
    assert!(!rules.to_lowercase().contains("ciao"), "{rules}");
    assert_eq!(
        host.sh("cat /proc/sys/net/ipv6/conf/all/forwarding; ip6tables -S FORWARD").unwrap(),
        "0\n-P FORWARD ACCEPT"
    );
    assert_eq!(host.sh("cat /proc/sys/net/ipv4/ip_forward").unwrap(), "1", "dockerd switched that on");
    assert_eq!(sql(&host, "SELECT count(*) FROM vnic; SELECT count(*) FROM host_setting"), "0\n0");
}
