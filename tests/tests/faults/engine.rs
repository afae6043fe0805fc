// SPDX-License-Identifier: Apache-2.0
//! dockerd killed with five containers, one of which comes back by itself: with and without `--live-restore`, and with
//! plugins that start after it, or only when somebody starts them later.

use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use ciao_tests::checker::differences;
use ciao_tests::lab::{Daemon, Engine, Host, LIVE};

use crate::scene::assert_repaired;

/// How long dockerd may take to start without plugins: it asks a dead one for 15 seconds, once for each of the five
/// addresses to release, and for each network.
const DEAD: Duration = Duration::from_secs(240);
/// How long dockerd is ahead of the plugins.
const LATE: Duration = Duration::from_secs(2);

const FIVE: [&str; 5] = ["one", "two", "three", "four", "five"];

/// Five containers on a tenant's network; `one` has `--restart=always`.
fn open(name: &str, dockerd: &[&str]) -> Host {
    let host = Host::builder().name(name).dockerd_args(dockerd).start().unwrap();
    let runs: String = FIVE
        .iter()
        .map(|name| {
            let restart = if *name == "one" { "always" } else { "no" };
            format!("docker run -d --name {name} --restart {restart} --network app {LIVE}; ")
        })
        .collect();
    let options = "-o tenant=red --ipam-opt tenant=red";
    host.sh(&format!(
        "docker network create -d ciao-net --ipam-driver ciao-ipam --subnet 10.7.0.0/24 {options} app; {runs}"
    ))
    .unwrap();
    assert_eq!(differences(&host).unwrap(), [""; 0]);
    host
}

/// Says how long something took.
fn print(what: &str, took: Duration) {
    println!("engine {}: {what}: {took:.1?}", Engine::from_environment().unwrap());
}

fn running(host: &Host) -> usize {
    host.docker(&["ps", "-q"]).unwrap().lines().count()
}

/// The rest of them are started, reach each other, and go without a trace.
fn go_on(host: &Host) {
    host.docker(&[&["start"], &FIVE[..]].concat()).unwrap();
    host.sh("docker exec five ping -c 3 -W 1 one").unwrap();
    assert_eq!(differences(host).unwrap(), [""; 0]);
    // An engine that was killed may count an endpoint for a moment longer than it has its container.
    let remove = "for try in $(seq 50); do docker network rm app && break; sleep 0.2; done";
    host.sh(&format!("docker rm -f {}; {remove}", FIVE.join(" "))).unwrap();
    assert_repaired(host, "after all are removed");
    let rows = host.sh("sqlite3 /var/lib/ciao/ciao.db 'SELECT count(*) FROM pool_set'").unwrap();
    assert_eq!(rows, "0");
}

#[test]
fn five_containers_of_a_killed_dockerd_leak_nothing() {
    let host = open("five", &[]);
    for round in 1..=2 {
        host.dockerd().kill().unwrap();
        let took = host.dockerd().start().unwrap();
        print("dockerd, killed with five containers, starts", took);
        assert_repaired(&host, "dockerd was killed");
        assert_eq!(running(&host), 1, "the one with --restart=always");
        if round == 1 {
            host.docker(&[&["start"], &FIVE[..]].concat()).unwrap();
        }
    }
    go_on(&host);
}

#[test]
fn five_containers_live_on_when_a_dockerd_with_live_restore_is_killed() {
    let host = open("five-live", &["--live-restore"]);
    host.dockerd().kill().unwrap();
    let took = host.dockerd().start().unwrap();
    print("dockerd with --live-restore, killed with five containers, starts", took);
    assert_eq!(running(&host), 5);
    assert_eq!(differences(&host).unwrap(), [""; 0], "nothing needs to be repaired");
    assert_repaired(&host, "nor does a reconcile take anything away");
    go_on(&host);
}

/// dockerd asks a plugin that does not answer for 15 seconds, so both are back before it gives up.
#[test]
fn plugins_that_start_after_dockerd_has_begun_to_are_waited_for() {
    let host = open("late", &[]);
    for daemon in [host.dockerd(), host.ciao_net(), host.ciao_ipam()] {
        daemon.kill().unwrap();
    }
    let took = scope(|scope| {
        let dockerd = scope.spawn(|| host.dockerd().start().unwrap());
        sleep(LATE);
        host.ciao_ipam().start().unwrap();
        host.ciao_net().start().unwrap();
        dockerd.join().unwrap()
    });
    print("dockerd starts 2 s before both plugins", took);
    assert_repaired(&host, "the plugins were late");
    go_on(&host);
}

/// dockerd is killed with its containers, and so are plugins, which nobody starts before it serves again.
fn dockerd_starts_without(name: &str, dockerd: &[&str], plugins: fn(&Host) -> Vec<&Daemon>) {
    let host = open(name, dockerd);
    plugins(&host).into_iter().chain([host.dockerd()]).for_each(|daemon| daemon.kill().unwrap());
    let took = host.dockerd().start_within(DEAD).unwrap();
    print(
        &format!("{} starts, dead meanwhile: {name}", ["dockerd", dockerd.join(" ").as_str()].join(" ").trim()),
        took,
    );
    plugins(&host).into_iter().map(|daemon| daemon.start().unwrap()).for_each(drop);
    let since = Instant::now();
    assert_repaired(&host, "the plugins came when dockerd served already");
    host.docker(&[&["start"], &FIVE[..]].concat()).unwrap();
    print("and all five containers run again after", since.elapsed());
    go_on(&host);
}

#[test]
fn dockerd_starts_without_ciao_net() {
    dockerd_starts_without("ciao-net", &[], |host| vec![host.ciao_net()]);
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn dockerd_starts_without_both_plugins() {
    dockerd_starts_without("both-plugins", &[], |host| vec![host.ciao_net(), host.ciao_ipam()]);
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn dockerd_with_live_restore_starts_without_both_plugins() {
    dockerd_starts_without("live-both", &["--live-restore"], |host| vec![host.ciao_net(), host.ciao_ipam()]);
}
