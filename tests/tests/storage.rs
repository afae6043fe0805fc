// SPDX-License-Identifier: Apache-2.0
//! The disk below both daemons: a backup taken while they write and restored as documented, and a disk that is full
//! for a while.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::scope;

use ciao_tests::checker::differences;
use ciao_tests::lab::Host;
use ciao_tests::proxy::call;
use serde_json::{Value, json};

const DATABASE: &str = "/var/lib/ciao/ciao.db";
const BACKUP: &str = "/root/ciao-backup.db";
const LIVE: &str = "busybox sh -c 'trap exit TERM; sleep 600 & wait'";
const NETWORK: &str = "docker network create -d ciao-net --ipam-driver ciao-ipam --subnet 10.5.0.0/24 -o tenant=red --ipam-opt tenant=red app";

fn run(host: &Host, name: &str) {
    host.sh(&format!("docker run -d --name {name} --network app {LIVE}")).unwrap();
}

fn address(host: &Host, name: &str) -> String {
    let field = "{{.NetworkSettings.Networks.app.IPAddress}}";
    host.docker(&["inspect", "-f", field, name]).unwrap()
}

/// Asks ciao-ipam for an address, which must be granted.
fn ask(host: &Host, method: &str, body: &Value) -> Value {
    let socket = host.path("/run/ciao/ciao-ipam.sock");
    let (status, reply) = call(&socket, &format!("IpamDriver.{method}"), &body.to_string()).unwrap();
    assert_eq!(status, 200, "{reply}");
    serde_json::from_str(&reply).unwrap()
}

/// Grants and releases addresses until stopped; returns how many times.
fn write_until(host: &Host, done: &AtomicBool, written: &AtomicUsize) {
    let pool = ask(host, "RequestPool", &json!({ "AddressSpace": "local", "Pool": "10.9.0.0/16" }))["PoolID"].clone();
    while !done.load(Ordering::Acquire) {
        let reply = ask(host, "RequestAddress", &json!({ "PoolID": pool, "Address": "" }));
        let address = reply["Address"].as_str().unwrap().split('/').next().unwrap().to_owned();
        ask(host, "ReleaseAddress", &json!({ "PoolID": pool, "Address": address }));
        written.fetch_add(2, Ordering::Relaxed);
    }
    ask(host, "ReleasePool", &json!({ "PoolID": pool }));
}

#[test]
fn a_backup_taken_under_writes_is_whole_and_is_restored_as_documented() {
    let host = Host::builder().name("backup").start().unwrap();
    host.sh(NETWORK).unwrap();
    run(&host, "web");
    let (done, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| write_until(&host, &done, &written));
        }
        for _ in 0..10 {
            host.sh(&format!("sqlite3 {DATABASE} '.backup {BACKUP}'")).unwrap();
            let check = "'PRAGMA integrity_check; PRAGMA foreign_key_check; SELECT count(*) FROM endpoint_record'";
            assert_eq!(host.sh(&format!("sqlite3 {BACKUP} {check}")).unwrap(), "ok\n1");
        }
        done.store(true, Ordering::Release);
    });
    println!("10 backups under {} changes", written.load(Ordering::Relaxed));
    assert!(written.load(Ordering::Relaxed) > 100, "the backups met changes");
    run(&host, "late");
    let before = address(&host, "web");
    for daemon in [host.ciao_net(), host.ciao_ipam()] {
        assert!(daemon.stop().unwrap().success());
    }
    host.sh(&format!("cp {BACKUP} {DATABASE}; rm -f {DATABASE}-wal {DATABASE}-shm")).unwrap();
    host.ciao_ipam().start().unwrap();
    host.ciao_net().start().unwrap();
    // What is in it goes on; what is not can be taken away.
    host.sh("docker exec web ping -c 1 -W 5 10.5.0.1").unwrap();
    host.docker(&["restart", "web"]).unwrap();
    assert_eq!(address(&host, "web"), before);
    host.docker(&["rm", "-f", "late"]).unwrap();
    run(&host, "next");
    host.sh("docker exec next ping -c 1 -W 5 web").unwrap();
    host.sh("docker rm -f web next; docker network rm app").unwrap();
    host.sh("ciao-ipam reconcile; ciao-net reconcile").unwrap();
    let left =
        host.sh(&format!("sqlite3 {DATABASE} 'SELECT count(*) FROM network_record; SELECT count(*) FROM vnic_record'"));
    assert_eq!(left.unwrap(), "0\n0");
}

#[test]
fn a_full_disk_is_reported_to_the_user_and_needs_no_restart() {
    let host = Host::builder().name("full").start().unwrap();
    for daemon in [host.ciao_net(), host.ciao_ipam()] {
        assert!(daemon.stop().unwrap().success());
    }
    host.sh("mount -t tmpfs -o size=2m tmpfs /var/lib/ciao").unwrap();
    host.ciao_ipam().start().unwrap();
    host.ciao_net().start().unwrap();
    host.sh("cat /dev/zero >/var/lib/ciao/ballast 2>/dev/null || true").unwrap();
    // What is left of the file's last page may take a few changes.
    let refused = (0..50).find_map(|number| {
        let network = NETWORK.replace(" app", &format!(" app{number}")).replace("10.5.0", &format!("10.5.{number}"));
        let output = host.try_sh(&network).unwrap();
        (output.code != 0).then_some(output.stderr)
    });
    let refused = refused.expect("a change that the disk has no room for");
    assert!(refused.contains("the disk is full: free some space"), "{refused}");
    let found = differences(&host).unwrap();
    assert!(found.is_empty(), "{found:#?}");
    host.sh("rm /var/lib/ciao/ballast").unwrap();
    host.sh(&NETWORK.replace("10.5.0", "10.6.0")).unwrap();
    run(&host, "web");
    host.sh("docker exec web ping -c 1 -W 5 10.6.0.1").unwrap();
    let found = differences(&host).unwrap();
    assert!(found.is_empty(), "{found:#?}");
}

/// The file lost, emptied, or its log lost, while a container sends: not a packet is lost, and what is new is refused.
#[test]
fn a_lost_database_cuts_off_no_container() {
    let host = Host::builder().name("lost").start().unwrap();
    host.sh(NETWORK).unwrap();
    host.sh(&format!("docker run -d --name web --network app -p 8080:80 {LIVE}")).unwrap();
    run(&host, "db");
    host.sh(&format!("sqlite3 {DATABASE} '.backup {BACKUP}'")).unwrap();
    let standing = "ip netns exec ciao-red ip -br link; ip -br link show type veth; \
                    nft list table inet ciao; ip netns exec ciao-red nft list ruleset";
    let look = || host.sh(&format!("({standing}) | sed 's/packets [0-9]* bytes [0-9]*//'")).unwrap();
    let before = look();
    let ways = [
        ("the file", format!("rm -f {DATABASE} {DATABASE}-wal {DATABASE}-shm")),
        ("its content", format!("rm -f {DATABASE}-wal {DATABASE}-shm; : >{DATABASE}")),
        (
            "the log",
            format!(
                "rm -f {DATABASE}-wal {DATABASE}-shm; sqlite3 {BACKUP} 'VACUUM INTO \"/root/old.db\"'; \
            sqlite3 /root/old.db 'DELETE FROM endpoint_record; DELETE FROM vnic_record'; mv /root/old.db {DATABASE}"
            ),
        ),
    ];
    for (what, lose) in ways {
        host.sh("docker exec -d web sh -c 'ping -i 0.2 -c 40 10.5.0.3 >/tmp/near; echo $? >>/tmp/near'").unwrap();
        host.sh("docker exec -d db sh -c 'ping -i 0.2 -c 40 10.5.0.1 >/tmp/far; echo $? >>/tmp/far'").unwrap();
        for daemon in [host.ciao_net(), host.ciao_ipam()] {
            daemon.kill().unwrap();
        }
        host.sh(&lose).unwrap();
        host.ciao_ipam().start().unwrap();
        host.ciao_net().start().unwrap();
        host.sh("ciao-net reconcile").unwrap();
        assert_eq!(look(), before, "{what} was lost");
        let refused = host.try_sh(&NETWORK.replace("10.5.0", "10.6.0").replace(" app", " other")).unwrap();
        assert!(refused.code != 0 && refused.stderr.contains("restore a backup"), "{what}: {}", refused.stderr);
        for (container, file) in [("web", "near"), ("db", "far")] {
            let script = format!("while [ $(wc -l </tmp/{file}) -lt 45 ]; do sleep 0.2; done; tail -4 /tmp/{file}");
            let counted = host.docker(&["exec", container, "sh", "-c", &script]).unwrap();
            assert!(counted.contains("40 packets received, 0% packet loss"), "{what}, {container}: {counted}");
        }
    }
    for daemon in [host.ciao_net(), host.ciao_ipam()] {
        daemon.kill().unwrap();
    }
    host.sh(&format!("rm -f {DATABASE}-wal {DATABASE}-shm; cp {BACKUP} {DATABASE}")).unwrap();
    host.ciao_ipam().start().unwrap();
    host.ciao_net().start().unwrap();
    host.docker(&["restart", "db"]).unwrap();
    run(&host, "next");
    host.sh("docker exec next ping -c 1 -W 5 web; docker rm -f web db next; docker network rm app").unwrap();
    let found = differences(&host).unwrap();
    assert!(found.is_empty(), "{found:#?}");
}

/// What is recorded, without times.
const ROWS: &str = "
    SELECT id, tenant, namespace, bridge, options FROM network_record;
    SELECT network, subnet, gateway, pool FROM network_subnet;
    SELECT pool_id, sub_pool, serial, refs FROM pool_record;
    SELECT address, kind, held FROM address_record ORDER BY key;
    SELECT id, network, vnic, address FROM endpoint_record ORDER BY id;
    SELECT id, owner, tenant, network, subnet, address, mac, namespace, bridge, host_link FROM vnic_record ORDER BY id;
    SELECT namespace, number, host_link FROM uplink_record;
    SELECT protocol, host_address, host_port, endpoint, address, container_port FROM port_record ORDER BY host_port";

/// The file lost while a container sends: the records are made again as they were, and not a packet is lost.
#[test]
fn a_lost_database_is_made_again_while_containers_run() {
    let host = Host::builder().name("again").start().unwrap();
    host.sh(NETWORK).unwrap();
    run(&host, "web");
    let serve = "busybox sh -c 'echo up >index.html; trap exit TERM; httpd -f & wait'";
    host.sh(&format!("docker run -d --name db --network app --ip 10.5.0.9 -p 8080:80 -p 81 {serve}")).unwrap();
    let asked = || host.sh("timeout 5 busybox wget -q -O - http://127.0.0.1:8080").unwrap();
    assert_eq!(asked(), "up");
    let recorded = || host.sh(&format!("sqlite3 {DATABASE} '{ROWS}'")).unwrap();
    let before = recorded();
    host.sh("docker exec -d web sh -c 'ping -i 0.2 -c 60 10.5.0.9 >/tmp/near; echo $? >>/tmp/near'").unwrap();
    for daemon in [host.ciao_net(), host.ciao_ipam()] {
        daemon.kill().unwrap();
    }
    host.sh(&format!("rm -f {DATABASE} {DATABASE}-wal {DATABASE}-shm")).unwrap();
    host.ciao_ipam().start().unwrap();
    host.ciao_net().start().unwrap();
    assert_eq!(asked(), "up");
    println!("{}", host.sh("ciao-net reconcile --docker").unwrap());
    assert_eq!(recorded(), before);
    println!("recorded before and after:\n{before}");
    let taken = host.try_sh("timeout 1 busybox nc -l -p 8080").unwrap();
    assert!(taken.stderr.contains("in use"), "the port is held again: {}", taken.stderr);
    assert_eq!(asked(), "up");
    let script = "while [ $(wc -l </tmp/near) -lt 65 ]; do sleep 0.2; done; tail -4 /tmp/near";
    let counted = host.docker(&["exec", "web", "sh", "-c", script]).unwrap();
    assert!(counted.contains("60 packets received, 0% packet loss"), "{counted}");
    run(&host, "next");
    host.docker(&["restart", "db"]).unwrap();
    host.sh("docker exec next ping -c 1 -W 5 10.5.0.9").unwrap();
    host.sh("docker rm -f web db next; docker network rm app").unwrap();
    host.sh(NETWORK).unwrap();
    host.sh("docker network rm app").unwrap();
    let found = differences(&host).unwrap();
    assert!(found.is_empty(), "{found:#?}");
}
