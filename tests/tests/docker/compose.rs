// SPDX-License-Identifier: Apache-2.0
//! Compose files with networks of both drivers. Compose is the machine's, and so is the engine that it talks to:
//! version 1 on Debian 12, version 2 from 13 on. Version 2 drops `ipam.options`; the tenant of `driver_opts` is enough.

use ciao_tests::lab::{Engine, Host};

use crate::scene::{addresses, assert_nothing_left, mac_and_mtu, network, reaches, sql};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker/compose");

/// The machine's Compose: its command.
struct Compose(&'static str);

impl Compose {
    fn find(host: &Host) -> Self {
        let version = |command: &&str| host.sh(&format!("{command} version --short")).ok();
        let (command, version) = ["docker-compose", "docker compose"]
            .into_iter()
            .find_map(|command| version(&command).map(|version| (command, version)))
            .expect("there is no Compose: apt-get install docker-compose");
        println!("{command} {version}");
        Self(command)
    }

    /// Brings the project up on the network of a file, restarts a service, and takes the project down.
    fn up_and_down(&self, host: &Host, file: &str) {
        let compose = format!("{} -f {FOLDER}/project.yml -f {FOLDER}/{file}.yml -p shop", self.0);
        host.sh(&format!("{compose} up -d")).unwrap();
        let web = host.sh(&format!("{compose} ps -q web")).unwrap();
        let db = host.sh(&format!("{compose} ps -q db")).unwrap();
        assert_eq!(addresses(host, &db, "eth0"), ["10.5.0.7/24"]);
        assert_eq!(mac_and_mtu(host, &db, "eth0"), ("02:00:0a:05:00:07".into(), "1400".into()));
        for target in ["db", "10.5.0.7", "10.5.0.1"] {
            assert!(reaches(host, &web, target), "web reaches {target}");
        }
        assert_eq!(sql(host, "SELECT DISTINCT tenant FROM lease"), "shop");
        host.sh(&format!("{compose} restart db")).unwrap();
        assert!(reaches(host, &web, "db"));
        host.sh(&format!("{compose} down")).unwrap();
    }
}

fn open(name: &str) -> (Host, Compose) {
    let host = Host::builder().name(name).engine(Engine::Machine).start().unwrap();
    let compose = Compose::find(&host);
    (host, compose)
}

#[test]
fn compose_brings_a_tenants_project_up_and_down() {
    let (host, compose) = open("compose");
    compose.up_and_down(&host, "tenant");
    assert_nothing_left(&host, &[]);
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn compose_uses_a_tenants_network_that_exists() {
    let (host, compose) = open("external");
    let mtu = "com.docker.network.driver.mtu=1400";
    let tenant = ["-o", "tenant=shop", "--ipam-opt", "tenant=shop", "-o", mtu];
    network(&host, "shared", &[&tenant[..], &["--subnet", "10.5.0.0/24", "--gateway", "10.5.0.1"]].concat());
    compose.up_and_down(&host, "external");
    assert_eq!(sql(&host, "SELECT count(*) FROM network"), "1", "it outlives the project");
    host.docker(&["network", "rm", "shared"]).unwrap();
    assert_nothing_left(&host, &[]);
}
