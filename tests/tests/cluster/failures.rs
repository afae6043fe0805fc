// SPDX-License-Identifier: Apache-2.0
//! Leaders, nodes, daemons and links that fail or go.

use std::thread::sleep;
use std::time::{Duration, Instant};

use ciao_tests::lab::built;

use crate::nodes::{Swarm, soon};
use crate::state::{Pings, Running};

/// Two tenants with one subnet at once, five containers each, and their state.
fn two_tenants() -> (Swarm, Vec<Running>) {
    let since = Instant::now();
    let swarm = Swarm::start(3);
    println!("RESULT three managers with plugins | after {:.1} s", since.elapsed().as_secs_f64());
    swarm.network("red", "10.77.0.0/24");
    // A stack file has no IPAM options: the driver's are enough.
    let stack = "version: '3.8'
services:
  web:
    image: busybox
    command: sleep 1d
    environment: [TENANT=blue]
    networks: [blue]
    stop_grace_period: 1s
    deploy: { replicas: 5, endpoint_mode: dnsrr, restart_policy: { delay: 1s } }
networks:
  blue:
    driver: ciao-net:latest
    attachable: true
    driver_opts: { tenant: blue }
    ipam: { driver: ciao-ipam:latest, config: [{ subnet: 10.77.0.0/24 }] }
";
    swarm.lead(&format!(
        "cat >/tmp/stack.yml <<'END'\n{stack}END\ndocker stack deploy --resolve-image never -c /tmp/stack.yml shop"
    ));
    swarm.service("r", "red", 5);
    let running = swarm.settles("two tenants with one subnet", 10);
    (swarm, running)
}

/// Pings between hosts of each tenant, from the containers that run.
fn traffic(swarm: &Swarm, running: &[Running], spared: &[usize]) -> Vec<Pings> {
    let stays = |one: &&Running| !spared.contains(&one.node);
    let mut pings = Vec::new();
    for from in running.iter().filter(stays) {
        let mut others = running.iter().filter(stays);
        if let Some(to) = others.find(|to| to.network == from.network && to.node > from.node) {
            pings.push(swarm.ping(from, to));
        }
    }
    assert!(!pings.is_empty(), "no two containers of a tenant are on different hosts");
    pings
}

/// Prints and returns how many packets of all are lost.
fn lost(swarm: &Swarm, what: &str, pings: &[Pings]) -> u32 {
    let counts: Vec<_> = pings.iter().map(|one| swarm.lost(one)).collect();
    let (sent, lost) = counts.iter().fold((0, 0), |(sent, lost), one| (sent + one.0, lost + one.1));
    println!("RESULT {what} | packets lost {lost} of {sent} on {} pairs", pings.len());
    lost
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn leaders_change_and_no_address_is_given_twice() {
    let (swarm, running) = two_tenants();
    let options = swarm.options("red shop_blue");
    println!("RESULT the leader's choice:\n{options}");
    assert_eq!(options.matches("\"vni\":").count(), 2, "{options}");
    let pings = traffic(&swarm, &running, &[]);
    let first = swarm.leader();
    swarm.lead(&format!("docker node demote {}", swarm.ids()[first]));
    soon("another node leads", || swarm.leader() != first);
    swarm.lead("docker service scale -d r=8 shop_web=8");
    swarm.settles("leader changed, scaled to 8", 16);
    swarm.lead(&format!("docker node promote {}", swarm.ids()[first]));
    for other in (0..3).filter(|other| *other != first) {
        soon("the node is demoted", || {
            swarm.nodes[first].try_sh(&format!("docker node demote {}", swarm.ids()[other])).unwrap().code == 0
        });
    }
    soon("the first leads again", || swarm.leader() == first);
    swarm.lead("docker service scale -d r=10 shop_web=10");
    swarm.settles("the first leads again, scaled to 10", 20);
    assert_eq!(lost(&swarm, "leaders change", &pings), 0);

    // The only manager is killed and started again.
    let running = swarm.running();
    let pings = traffic(&swarm, &running, &[first]);
    swarm.nodes[first].dockerd().kill().unwrap();
    sleep(Duration::from_secs(3));
    swarm.nodes[first].dockerd().start().unwrap();
    swarm.lead("docker service scale -d r=12 shop_web=12");
    swarm.settles("the only manager killed and started again, scaled to 12", 24);
    assert_eq!(swarm.options("red shop_blue"), options, "over three changes of the leader");
    assert_eq!(lost(&swarm, "the only manager killed", &pings), 0);

    // The plugin of the leader.
    let pings = traffic(&swarm, &swarm.running(), &[]);
    swarm.lead("docker plugin disable -f ciao-net; sleep 1; docker plugin enable ciao-net");
    swarm.lead(
        "docker plugin disable -f ciao-ipam; docker plugin enable ciao-ipam; docker service scale -d r=13 shop_web=13",
    );
    swarm.settles("the leader's plugins disabled and enabled, scaled to 13", 26);
    assert_eq!(lost(&swarm, "the leader's plugins disabled and enabled", &pings), 0);
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn nodes_daemons_and_links_fail_and_come_back() {
    let (swarm, running) = two_tenants();
    let other = (0..3).find(|n| *n != swarm.leader()).unwrap();

    // ciao-net is killed on each node; Docker starts it again.
    let pings = traffic(&swarm, &running, &[]);
    for node in &swarm.nodes {
        node.sh("kill -KILL $(pidof ciao-net)").unwrap();
    }
    swarm.lead("docker service scale -d r=6 shop_web=6");
    let running = swarm.settles("ciao-net killed on all nodes, scaled to 6", 12);
    assert_eq!(lost(&swarm, "ciao-net killed", &pings), 0);

    // Two nodes do not reach each other at all.
    let cut = format!("192.0.2.{}", other + 1);
    let third = 3 - other - swarm.leader();
    let pings = traffic(&swarm, &running, &[]);
    swarm.nodes[third]
        .sh(&format!(
            "nft 'table inet cut {{ chain in {{ type filter hook prerouting priority -450; ip saddr {cut} drop; }}; \
             chain out {{ type filter hook output priority -450; ip daddr {cut} drop; }}; }}'"
        ))
        .unwrap();
    swarm.lead("docker service scale -d r=8 shop_web=8");
    sleep(Duration::from_secs(10));
    swarm.nodes[third].sh("nft delete table inet cut").unwrap();
    swarm.settles("two nodes parted for 10 s, scaled to 8 meanwhile", 16);
    lost(&swarm, "two nodes parted for 10 s", &pings);

    // dockerd of one node is dead: its containers are reached.
    let pings = traffic(&swarm, &swarm.running(), &[]);
    swarm.nodes[other].dockerd().kill().unwrap();
    sleep(Duration::from_secs(4));
    assert_eq!(lost(&swarm, "dockerd of a node dead for 4 s", &pings), 0);
    swarm.nodes[other].dockerd().start().unwrap();
    swarm.settles("dockerd killed and started again", 16);

    let pings = traffic(&swarm, &swarm.running(), &[other]);
    swarm.lead(&format!("docker node update --availability drain {}", swarm.ids()[other]));
    sleep(Duration::from_secs(2));
    swarm.settles("a node drained", 16);
    swarm.lead(&format!("docker node update --availability active {}", swarm.ids()[other]));
    swarm.lead("docker service scale -d r=10 shop_web=10");
    swarm.settles("the node active again, scaled to 10", 20);
    assert_eq!(lost(&swarm, "a node drained, other pairs", &pings), 0);

    // A node leaves.
    let pings = traffic(&swarm, &swarm.running(), &[other]);
    let leaving = &swarm.ids()[other];
    swarm.lead(&format!("docker node demote {leaving}"));
    soon("the node leaves", || swarm.nodes[other].try_sh("docker swarm leave --force").unwrap().code == 0);
    soon("the others notice", || {
        swarm.lead(&format!("docker node inspect -f '{{{{.Status.State}}}}' {leaving}")) == "down"
    });
    swarm.lead(&format!("docker node rm {leaving}"));
    let left: Vec<_> =
        swarm.ids().iter().map(|id| if id == leaving { "gone".to_owned() } else { id.clone() }).collect();
    let leader = swarm.leader();
    for n in (0..3).filter(|n| *n != other) {
        swarm.list(n, &left);
    }
    swarm.settles("a node left", 20);
    assert_eq!(lost(&swarm, "a node left, other pairs", &pings), 0);
    let shown = swarm.nodes[leader].sh(&format!("{} host list", built("ciao-net").unwrap().display())).unwrap();
    println!("RESULT hosts at the leader after a node left:\n{shown}");
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn rolling_updates_in_a_small_subnet() {
    let swarm = Swarm::start(3);
    swarm.network("red", "10.88.0.0/28");
    swarm.service("r", "red", 8);
    swarm.settles("eight containers in a /28", 8);
    for round in 1..=4 {
        swarm.lead("docker service update -d --force --no-resolve-image --update-parallelism 2 --update-delay 0s r");
        soon("the update ends", || swarm.lead("docker service inspect -f '{{.UpdateStatus.State}}' r") == "completed");
        swarm.settles(&format!("rolling update {round} in a /28"), 8);
    }
}
