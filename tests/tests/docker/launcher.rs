// SPDX-License-Identifier: Apache-2.0
//! The launcher's flow in one command a host: `ciao-net launch`.

use crate::hosts::shared;
use crate::scene::{
    LIVE, addresses, assert_nothing_left, at_once, exec, inspect, interfaces, is_cut_off, mac_and_mtu, reaches,
    refused, sql,
};
use ciao_tests::lab::Host;

pub(super) fn launch(host: &Host, tenant: &str, instance: &str, last: u8, more: &str) {
    host.sh(&launching(tenant, instance, last, more)).unwrap();
}

fn launching(tenant: &str, instance: &str, last: u8, more: &str) -> String {
    let vnic = format!("--tenant {tenant} --instance {instance} --subnet 192.168.111.0/24 --ip 192.168.111.{last}");
    let mac = format!("--mac 02:00:c0:a8:6f:{last:02x}");
    let command = format!("{} sh -c '{}'", LIVE[0], LIVE[3]);
    format!("ciao-net launch {vnic} {mac} {more} {command}")
}

#[test]
fn two_tenants_instances_have_the_same_subnet_addresses_and_macs_at_once() {
    let host = shared();
    for tenant in ["red", "blue"] {
        launch(&host, tenant, "web", 2, "--mtu 1400");
        launch(&host, tenant, "db", 3, "--mtu 1400");
        let web = format!("{tenant}.web");
        assert_eq!(interfaces(&host, &web), ["eth0", "lo"]);
        assert_eq!(mac_and_mtu(&host, &web, "eth0"), ("02:00:c0:a8:6f:02".into(), "1400".into()));
        assert_eq!(addresses(&host, &web, "eth0"), ["192.168.111.2/24"]);
        let routes = exec(&host, &web, "ip route");
        let lines: Vec<_> = routes.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            ["default via 192.168.111.1 dev eth0", "192.168.111.0/24 dev eth0 scope link  src 192.168.111.2"]
        );
        for target in ["192.168.111.3", "192.168.111.1", "db"] {
            assert!(reaches(&host, &web, target), "{web} reaches {target}");
        }
    }
    // An instance more for one tenant is none for the other.
    launch(&host, "red", "extra", 9, "--mtu 1400");
    assert!(reaches(&host, "red.web", "192.168.111.9"));
    assert!(is_cut_off(&host, "blue.web", "192.168.111.9"));
    assert_eq!(sql(&host, "SELECT count(*) FROM network"), "2", "one network a tenant");
    assert_eq!(sql(&host, "SELECT group_concat(DISTINCT state) FROM lease WHERE instance IS NOT NULL"), "bound");

    refused(&host, "ciao-net terminate web", &["several tenants have an instance web", "--tenant"]);
    for tenant in ["red", "blue"] {
        host.sh(&format!("ciao-net terminate web --tenant {tenant}; ciao-net terminate db --tenant {tenant}")).unwrap();
    }
    assert_eq!(host.docker(&["network", "ls", "-q", "-f", "driver=ciao-net"]).unwrap().lines().count(), 1);
    assert!(reaches(&host, "red.extra", "192.168.111.1"));
    host.sh("ciao-net terminate extra").unwrap();
    assert_eq!(host.docker(&["network", "ls", "-q", "-f", "driver=ciao-net"]).unwrap(), "");
    assert_nothing_left(&host, &[]);
}

#[test]
fn an_instance_keeps_its_vnic_and_address_until_the_launcher_deletes_it() {
    let host = shared();
    launch(&host, "red", "web", 2, "");
    let vnic = sql(&host, "SELECT id FROM vnic");
    let facts = "SELECT id, mac, container_link, host_link, bridge FROM vnic WHERE owner = 'launcher'";
    let before = sql(&host, facts);

    // Stopped, its address is nobody else's, and nobody gets it by asking for any.
    host.docker(&["stop", "red.web"]).unwrap();
    assert_eq!(sql(&host, "SELECT state, instance FROM lease WHERE address = '192.168.111.2'"), "reserved|web");
    host.docker(&["run", "-d", "--name", "other", "--network", "red-192.168.111.0-24", "busybox", "sleep", "600"])
        .unwrap();
    assert_eq!(addresses(&host, "other", "eth0"), ["192.168.111.3/24"]);
    host.docker(&["start", "red.web"]).unwrap();
    assert!(reaches(&host, "other", "192.168.111.2"));
    for verb in ["restart", "kill", "start"] {
        host.docker(&[verb, "red.web"]).unwrap();
        assert_eq!(sql(&host, facts), before);
    }
    assert_eq!(addresses(&host, "red.web", "eth0"), ["192.168.111.2/24"]);
    assert_eq!(mac_and_mtu(&host, "red.web", "eth0").0, "02:00:c0:a8:6f:02");

    refused(&host, &format!("ciao-net vnic delete {vnic}"), &[&vnic, "in use by a running container"]);
    host.sh("docker rm -f red.web other").unwrap();
    assert_eq!(sql(&host, facts), before, "docker rm leaves the launcher's VNIC");
    host.docker(&["network", "rm", "red-192.168.111.0-24"]).unwrap();
    assert_eq!(sql(&host, facts), before, "docker network rm leaves it too");
    let link = sql(&host, "SELECT container_link FROM vnic");
    assert!(host.sh(&format!("ip link show {link}")).unwrap().contains("02:00:c0:a8:6f:02"));

    // Launched again, it is the same VNIC on a new network.
    launch(&host, "red", "web", 2, "");
    assert_eq!(sql(&host, facts), before);
    host.docker(&["rm", "-f", "red.web"]).unwrap();
    host.sh(&format!("ciao-net vnic delete {vnic}; docker network rm red-192.168.111.0-24")).unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn an_instance_may_have_two_address_families_and_a_network_name_gateway_and_bridge() {
    let host = shared();
    let more = "--ip6 fd00:6::5 --subnet6 fd00:6::/64 --network app --gateway 192.168.111.254 --bridge br-app";
    launch(&host, "red", "web", 5, more);
    launch(&host, "red", "db", 6, &more.replace("::5", "::6"));
    assert_eq!(addresses(&host, "red.web", "eth0"), ["192.168.111.5/24", "fd00:6::5/64"]);
    assert_eq!(inspect(&host, "app", "{{.Options.bridge}} {{.Options.tenant}}"), "br-app red");
    for target in ["192.168.111.6", "fd00:6::6", "192.168.111.254", "fd00:6::1", "db"] {
        assert!(reaches(&host, "red.web", target), "red.web reaches {target}");
    }
    host.sh("ciao-net terminate web; ciao-net terminate db").unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn a_launch_that_fails_leaves_nothing() {
    let host = shared();
    let vnic = "--tenant red --instance web --subnet 192.168.111.0/24 --ip 192.168.111.2 --mac 02:00:c0:a8:6f:02";
    refused(&host, &format!("ciao-net launch {vnic} localhost:1/nowhere true"), &["ciao-net: pull image", "nowhere"]);
    refused(&host, &format!("ciao-net launch {vnic} busybox no-such-command"), &["start container", "no-such-command"]);
    assert_nothing_left(&host, &[]);
    assert_eq!(host.docker(&["ps", "-aq"]).unwrap(), "");
    refused(&host, "ciao-net terminate web", &["instance web is unknown"]);

    // A name that a container has already: whose it is, is said.
    host.docker(&["run", "-d", "--name", "red.web", "busybox", "sleep", "600"]).unwrap();
    let taken = ["container name red.web is taken by container", "image busybox", "--name"];
    refused(&host, &format!("ciao-net launch {vnic} busybox true"), &taken);
    assert_eq!(inspect(&host, "red.web", "{{.State.Running}}"), "true", "the other container is left alone");
    launch(&host, "blue", "db", 2, "--name other");
    let taken = ["container name other is taken by container", "instance db of tenant blue"];
    refused(&host, &format!("ciao-net launch {vnic} --name other busybox true"), &taken);
    host.sh("docker rm -f red.web; ciao-net terminate db").unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn an_instance_is_launched_with_the_options_of_docker_run() {
    let host = shared();
    let vnic = "--tenant red --instance web --subnet 192.168.111.0/24 --ip 192.168.111.2 --mac 02:00:c0:a8:6f:02";
    let options = "-p 8080:80 -e GREETING=hello -v /opt/site:/srv:ro --label tier=front --hostname front \
                   --restart on-failure:2 -m 64m --cpus 0.5 -w /srv -u 0:0 --dns 192.168.111.9 --pull never";
    host.sh("mkdir -p /opt/site && echo page >/opt/site/index.html").unwrap();
    let serve = format!("{options} --entrypoint sh busybox -c 'httpd -f -h /srv'");
    host.sh(&format!("ciao-net launch {vnic} {serve}")).unwrap();
    launch(&host, "red", "db", 3, "");

    assert_eq!(exec(&host, "red.db", "wget -qO- http://web/"), "page", "a peer resolves the instance's name");
    assert_eq!(host.sh("curl -s http://127.0.0.1:8080/").unwrap(), "page");
    assert_eq!(exec(&host, "red.web", "echo $GREETING $(hostname) $PWD"), "hello front /srv");
    let facts =
        "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Dns}}";
    assert_eq!(inspect(&host, "red.web", facts), "67108864 500000000 on-failure [192.168.111.9]");
    let labels =
        r#"{{index .Config.Labels "ciao.tenant"}} {{index .Config.Labels "ciao.instance"}} {{.Config.Labels.tier}}"#;
    assert_eq!(inspect(&host, "red.web", labels), "red web front");

    let output = host.try_sh(&format!("ciao-net launch {vnic} --privileged busybox")).unwrap();
    assert_eq!(output.code, 2);
    for word in ["--privileged", "Of the options of docker run it takes", "-p --publish", "--pull"] {
        assert!(output.stderr.contains(word), "{word}: {}", output.stderr);
    }
    refused(&host, &format!("ciao-net launch {vnic} --name x --pull never no-such-image"), &["no-such-image"]);
    host.sh("ciao-net terminate web; ciao-net terminate db").unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn instances_launched_at_once_on_a_new_subnet_share_its_network() {
    let host = shared();
    let instances = || ["web", "db", "cache", "queue"].into_iter().zip(2..);
    let launches = instances().map(|(instance, last)| launching("red", instance, last, ""));
    // One more of them fails.
    at_once(&host, launches.chain([format!("! {}", launching("red", "none", 9, "localhost:1/nowhere"))]));
    assert_eq!(host.docker(&["network", "ls", "-q", "-f", "driver=ciao-net"]).unwrap().lines().count(), 1);
    for last in 3..=5 {
        assert!(reaches(&host, "red.web", &format!("192.168.111.{last}")), "web reaches 192.168.111.{last}");
    }
    at_once(&host, instances().map(|(instance, _)| format!("ciao-net terminate {instance}")));
    assert_nothing_left(&host, &[]);
}

#[test]
fn a_launch_that_fails_leaves_the_network_that_others_need() {
    let host = shared();
    let place = |last: u8| format!("--subnet 192.168.111.0/24 --ip 192.168.111.{last} --mac 02:00:c0:a8:6f:0{last}");
    let failing = format!("ciao-net launch --tenant red --instance web {} localhost:1/nowhere true", place(2));

    // Another's VNIC is there before the network, its container after it.
    let vnic = format!("ciao-net vnic create --tenant red --instance db {}", place(3));
    host.sh(&vnic).unwrap();
    refused(&host, &failing, &["pull image"]);
    let network = sql(&host, "SELECT id FROM network_record");
    launch(&host, "red", "db", 3, "");
    assert_eq!(
        sql(&host, "SELECT id FROM network_record"),
        network,
        "the network that the failed launch made is there still"
    );
    refused(&host, &failing, &["pull image"]);
    assert!(reaches(&host, "red.db", "192.168.111.1"));
    host.sh("ciao-net terminate db").unwrap();

    // A network that was not made by a launch on this subnet.
    host.docker(&["network", "create", "red-192.168.111.0-24"]).unwrap();
    refused(&host, &failing, &["create network red-192.168.111.0-24", "already exists"]);
    host.docker(&["network", "rm", "red-192.168.111.0-24"]).unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn a_running_instance_gets_another_rate_and_other_addresses() {
    let host = shared();
    launch(&host, "red", "web", 2, "");
    let link = sql(&host, "SELECT host_link FROM vnic");
    let (tc, nft) = (
        format!("ip netns exec ciao-red tc qdisc show dev {link}"),
        "ip netns exec ciao-red nft list set bridge ciao ips4".to_owned(),
    );
    host.sh("ciao-net vnic set web --rate 10mbit --allow 192.168.111.100").unwrap();
    assert!(host.sh(&tc).unwrap().contains("tbf"), "{}", host.sh(&tc).unwrap());
    assert!(host.sh(&nft).unwrap().contains("192.168.111.100"));
    assert_eq!(host.sh("ciao-net reconcile --dry-run").unwrap(), "nothing to do");
    host.sh("ciao-net vnic set web --rate none --allow none").unwrap();
    assert!(!host.sh(&tc).unwrap().contains("tbf"));
    assert!(!host.sh(&nft).unwrap().contains("192.168.111.100"));
    assert!(reaches(&host, "red.web", "192.168.111.1"));
    host.sh("ciao-net terminate web").unwrap();
    assert_nothing_left(&host, &[]);
}
