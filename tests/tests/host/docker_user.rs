// SPDX-License-Identifier: Apache-2.0
//! Whose word comes first: the administrator's, in DOCKER-USER and FORWARD, before whatever ciao accepts.

use ciao_tests::world::{Place, network, serve, soon};

use crate::scene::{Scene, open, page};

/// Whether the LAN is answered at a container's port of Docker's own network, and at red's.
fn answered(scene: &Scene) -> [bool; 2] {
    scene.lan.fetch_each(["198.51.100.1:8081", "198.51.100.1:8080"]).map(|page| page.is_some())
}

/// The same over IPv6, for red alone: not every engine publishes IPv4-only containers at IPv6 addresses.
fn answered6(scene: &Scene) -> bool {
    scene.lan.fetch("[2001:db8:a::1]:8080").is_some()
}

fn gets_out(container: &Place) -> bool {
    container.fetch("203.0.113.2:80") == page("internet")
}

#[test]
fn a_drop_in_docker_user_holds_without_a_restart_of_anything() {
    let scene = open("user");
    let host = &scene.host;
    host.docker(&["network", "create", "ctl"]).unwrap();
    serve(host, "ctl", "--network ctl -p 8081:80").unwrap();
    let red = scene.publish("red", "");
    assert!(soon(|| answered(&scene) == [true, true]));
    // In, and out; IPv4, and IPv6.
    let drop_in = "-i lan0 -p tcp -m conntrack --ctstate NEW -j DROP";
    host.sh(&format!("iptables -I DOCKER-USER {drop_in}")).unwrap();
    assert_eq!(answered(&scene), [false, false], "after iptables -I DOCKER-USER {drop_in}");
    host.sh(&format!("iptables -D DOCKER-USER {drop_in}")).unwrap();
    assert_eq!(answered(&scene), [true, true]);
    host.sh("iptables -I DOCKER-USER -o ext0 -j DROP").unwrap();
    assert!(!gets_out(&red));
    host.sh("iptables -D DOCKER-USER -o ext0 -j DROP").unwrap();
    assert!(gets_out(&red));
    assert!(answered6(&scene));
    // DOCKER-USER of ip6tables is made by engines that have IPv6 rules; FORWARD is always there.
    host.sh("ip6tables -I FORWARD -i lan0 -j DROP").unwrap();
    assert!(!answered6(&scene));
    host.sh("ip6tables -D FORWARD -i lan0 -j DROP").unwrap();

    // Appended: up to 26.1 the chain ends in RETURN, and nothing after that is reached, for Docker neither.
    host.sh("iptables -A DOCKER-USER -j DROP").unwrap();
    let [control, ours] = answered(&scene);
    assert_eq!(ours, control, "after iptables -A DOCKER-USER -j DROP");
    let ends_in_return = host.sh("iptables -S DOCKER-USER").unwrap().contains("-j RETURN");
    assert_eq!(ours, ends_in_return);
    println!("iptables -A DOCKER-USER -j DROP: Docker's own answers: {control}, ciao's answers: {ours}");
    host.sh("iptables -D DOCKER-USER -j DROP; iptables -I DOCKER-USER -j DROP").unwrap();
    assert_eq!(answered(&scene), [false, false]);
}

#[test]
fn the_chain_of_ciao_is_the_last_of_forward_and_stays_there() {
    let scene = open("last");
    let host = &scene.host;
    let red = scene.publish("red", "");
    let last = || host.sh("for tool in iptables ip6tables; do $tool -S FORWARD | tail -n 1; done").unwrap();
    let ours = "-A FORWARD -j CIAO-FORWARD\n-A FORWARD -j CIAO-FORWARD";
    assert_eq!(last(), ours);
    // dockerd writes its own rules again, above; a new network of Docker's adds to them.
    host.dockerd().stop().unwrap();
    host.dockerd().start().unwrap();
    host.docker(&["network", "create", "more"]).unwrap();
    assert!(soon(|| last() == ours), "{}", last());
    host.docker(&["start", "red"]).unwrap();
    // A rule that an administrator appends later comes first all the same, within seconds.
    host.sh("iptables -A FORWARD -i lan0 -j DROP").unwrap();
    assert!(soon(|| scene.lan.fetch("198.51.100.1:8080").is_none() && last() == ours));
    host.sh("iptables -D FORWARD -i lan0 -j DROP").unwrap();
    assert!(soon(|| scene.lan.fetch("198.51.100.1:8080") == page("red")));
    // And so does a final REJECT: the log names it.
    host.sh("iptables -A FORWARD -j REJECT").unwrap();
    let red = {
        drop(red);
        Place::container(host, "red").unwrap()
    };
    assert!(soon(|| !gets_out(&red)));
    assert!(soon(|| host.ciao_net().log().unwrap().contains("-A FORWARD -j REJECT")));
    host.sh("iptables -D FORWARD -j REJECT").unwrap();
    assert!(soon(|| gets_out(&red)));
    // Nothing is left with the last network, where dockerd made the host forward.
    host.sh("docker rm -f red; docker network rm red").unwrap();
    assert!(soon(|| !host.sh("iptables -S").unwrap().contains("CIAO-FORWARD")));
}

#[test]
fn rules_of_version_0_1_0_in_chains_of_others_go() {
    let scene = open("former");
    let host = &scene.host;
    let former = "for tool in iptables ip6tables; do
        chain=DOCKER-USER; $tool -n -L $chain >/dev/null 2>&1 || chain=FORWARD
        for rule in '-i cu+' '-o cu+'; do $tool -I $chain $rule -j ACCEPT; done; done";
    host.sh(former).unwrap();
    // As in a database of that version.
    host.sh("sqlite3 /var/lib/ciao/ciao.db \"INSERT INTO setting VALUES ('former_rules', '1')\"").unwrap();
    network(host, "red", "red", "--subnet 10.5.0.0/24").unwrap();
    let rules = host.sh("iptables -S; ip6tables -S").unwrap();
    assert!(rules.contains("-A CIAO-FORWARD -i cu+ -j ACCEPT"), "{rules}");
    assert!(!rules.contains("DOCKER-USER -i cu+") && !rules.contains("-A FORWARD -i cu+"), "{rules}");
    // An administrator's own ones stay, however often ciao's chain is written.
    host.sh("iptables -I FORWARD -i cu+ -j ACCEPT; iptables -A FORWARD -i eth9 -j DROP").unwrap();
    assert!(soon(|| host.sh("iptables -S FORWARD | tail -n 1").unwrap() == "-A FORWARD -j CIAO-FORWARD"));
    assert!(host.sh("iptables -S FORWARD").unwrap().contains("-A FORWARD -i cu+ -j ACCEPT"));
}
