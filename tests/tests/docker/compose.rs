//! A Compose file with a network of both drivers. Compose is the machine's, and so is the engine that it talks to.

use std::path::Path;

use ciao_tests::lab::{Engine, Host};

use crate::scene::{addresses, assert_nothing_left, mac_and_mtu, reaches, sql};

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker/compose.yml");

#[test]
fn compose_brings_a_tenants_project_up_and_down() {
    let host = Host::builder().name("compose").engine(Engine::Machine).start().unwrap();
    let compose = ["docker-compose", "docker compose"]
        .into_iter()
        .find(|command| host.try_sh(&format!("{command} version")).unwrap().code == 0)
        .expect("there is no Compose: apt-get install docker-compose");
    assert!(Path::new(PROJECT).exists());
    let compose = format!("{compose} -f {PROJECT} -p shop");
    host.sh(&format!("{compose} up -d")).unwrap();
    let web = host.sh(&format!("{compose} ps -q web")).unwrap();
    let db = host.sh(&format!("{compose} ps -q db")).unwrap();
    assert_eq!(addresses(&host, &db, "eth0"), ["10.5.0.7/24"]);
    assert_eq!(mac_and_mtu(&host, &db, "eth0"), ("02:00:0a:05:00:07".into(), "1400".into()));
    for target in ["db", "10.5.0.7", "10.5.0.1"] {
        assert!(reaches(&host, &web, target), "web reaches {target}");
    }
    assert_eq!(sql(&host, "SELECT DISTINCT tenant FROM lease"), "shop");
    host.sh(&format!("{compose} restart db")).unwrap();
    assert!(reaches(&host, &web, "db"));
    host.sh(&format!("{compose} down")).unwrap();
    assert_nothing_left(&host, &[]);
}
