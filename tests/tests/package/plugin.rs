// SPDX-License-Identifier: Apache-2.0
//! The managed plugins, in an engine of their own: a network, a published port, and traffic that goes on while a plugin
//! is disabled and enabled, as an upgrade of it does.

use std::process::Command;

use ciao_tests::lab::{Host, workspace};

use crate::made::{binaries, run};

#[test]
fn traffic_continues_while_the_managed_plugin_is_replaced() {
    run(Command::new("sh").args(["deploy/plugin/build.sh", "stage"]).env("BINARIES", binaries()));
    let host = Host::builder().name("plugin").ciao(false).start().unwrap();
    let folder = workspace().join("target/package/plugin");
    // Namespaces that end with the daemon would cut off all containers at its first upgrade.
    let hidden = format!("unshare --mount --propagation slave {}/ciao-net serve 2>&1", binaries().display());
    let refused = host.try_sh(&hidden).unwrap();
    assert!(refused.code == 1 && refused.stdout.contains("/run/netns are not seen by the host"), "{refused:?}");
    for name in ["ciao-ipam", "ciao-net"] {
        host.sh(&format!("docker plugin create {name} {}/{name}; docker plugin enable {name}", folder.display()))
            .unwrap();
    }
    host.sh(
        "docker network create -d ciao-net:latest --ipam-driver ciao-ipam:latest -o tenant=red --ipam-opt tenant=red \
         --subnet 10.9.0.0/24 app
         docker run -d --name web --network app -p 8080:80 busybox sh -c 'echo hello >index.html; exec httpd -f'",
    )
    .unwrap();
    assert_eq!(host.sh("wget -qO- http://127.0.0.1:8080/").unwrap(), "hello");
    // The namespace is the host's, not the plugin's.
    assert!(host.sh("ip netns exec ciao-red ip -o link").unwrap().contains("up0"));
    assert!(host.sh("iptables -S; iptables -t filter -S").unwrap().contains("cu+"), "dockerd's policy is passed");
    // It sees what stands behind systemd-resolved's stub.
    host.sh("mkdir -p /run/systemd/resolve; echo nameserver 192.0.2.53 >/run/systemd/resolve/resolv.conf").unwrap();
    let seen = "nsenter -t $(pidof ciao-net) -m sh -c \
                'read -r stub </etc/resolv.conf; read -r behind </run/systemd/resolve/resolv.conf; echo $behind'";
    assert_eq!(host.sh(seen).unwrap(), "nameserver 192.0.2.53");
    // It sees the certificate of a swarm that the host joins later.
    let certificate = "docker swarm init --advertise-addr 127.0.0.1 >/dev/null
                       nsenter -t $(pidof ciao-net) -m sh -c \
                       'read -r line </var/lib/docker/swarm/certificates/swarm-node.crt; echo $line'
                       docker swarm leave --force >/dev/null";
    assert_eq!(host.sh(certificate).unwrap(), "-----BEGIN CERTIFICATE-----");

    let exchange = "docker exec web ping -i 0.1 -c 30 10.9.0.1 >/tmp/pings & \
                    docker plugin disable -f ciao-net; docker plugin set ciao-net options='--reconcile-every 30'
                    docker plugin enable ciao-net; wait; tail -n 2 /tmp/pings";
    let pings = host.sh(exchange).unwrap();
    assert!(pings.contains("30 packets received, 0% packet loss"), "{pings}");
    assert!(host.sh("tr '\\0' ' ' </proc/$(pidof ciao-net)/cmdline").unwrap().contains("--reconcile-every 30"));
    assert_eq!(host.sh("wget -qO- http://127.0.0.1:8080/").unwrap(), "hello");
    host.sh("docker run --rm --network app busybox ping -c 1 10.9.0.2").unwrap();

    host.sh("docker rm -f web; docker network rm app; docker plugin rm -f ciao-net ciao-ipam").unwrap();
    assert_eq!(host.sh("ip netns list; nft list tables | grep ciao || true").unwrap(), "");
}
