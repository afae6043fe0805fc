// SPDX-License-Identifier: Apache-2.0
//! The lab's own tests: a host is a whole Docker host, hosts are apart, and the machine below them stays as it was.
//! What every other test takes for granted.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ciao_tests::lab::{Builder, Host, Lan};

fn docker_alone(name: &str) -> Builder {
    Host::builder().name(name).ciao(false)
}

/// What `script` prints on the machine itself.
fn machine(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).output().expect("there is a shell");
    String::from_utf8(output.stdout).expect("the machine speaks UTF-8")
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(20), "{what}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_container_runs_on_dockers_own_bridge() {
    let host = docker_alone("bridge").start().unwrap();
    assert_eq!(host.sh("hostname").unwrap(), "bridge");
    host.docker(&["run", "--rm", "busybox", "ping", "-c", "1", "172.17.0.1"]).unwrap();
}

#[test]
fn a_memory_limit_reaches_the_container() {
    let host = docker_alone("memory").start().unwrap();
    let read = "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes";
    let limit = host.docker(&["run", "--rm", "--memory", "64m", "busybox", "sh", "-c", read]).unwrap();
    assert_eq!(limit, "67108864");
}

#[test]
fn two_hosts_at_once_do_not_see_each_others_containers() {
    let a = docker_alone("a").start().unwrap();
    let b = docker_alone("b").start().unwrap();
    for (host, container) in [(&a, "in-a"), (&b, "in-b")] {
        host.docker(&["run", "-d", "--name", container, "busybox", "sleep", "600"]).unwrap();
    }
    for (host, container) in [(&a, "in-a"), (&b, "in-b")] {
        assert_eq!(host.docker(&["ps", "--format", "{{.Names}}"]).unwrap(), container);
        // Addresses are the same in both, as the networks are apart.
        let address = host.docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", container]).unwrap();
        assert_eq!(address, "172.17.0.2");
    }
    drop(a);
    assert_eq!(b.docker(&["ps", "--format", "{{.Names}}"]).unwrap(), "in-b");
}

#[test]
fn hosts_on_a_lan_reach_each_other() {
    let lan = Lan::new().unwrap();
    let a = docker_alone("a").start().unwrap();
    let b = docker_alone("b").start().unwrap();
    assert_eq!(lan.join(&a, "192.0.2.1/24").unwrap(), "lan0");
    assert_eq!(lan.join(&b, "192.0.2.2/24").unwrap(), "lan0");
    b.sh("busybox ping -c 1 -W 5 192.0.2.1").unwrap();
}

#[test]
fn dockerd_killed_and_started_again_keeps_the_container_list() {
    let host = docker_alone("crash").start().unwrap();
    host.docker(&["run", "-d", "--stop-signal", "KILL", "--name", "web", "busybox", "sleep", "600"]).unwrap();
    let first = host.dockerd().pid().unwrap();
    host.dockerd().kill().unwrap();
    assert!(!host.dockerd().is_running());
    host.dockerd().start().unwrap();
    assert_ne!(host.dockerd().pid().unwrap(), first);
    assert_eq!(host.docker(&["ps", "-a", "--format", "{{.Names}}"]).unwrap(), "web");
    host.docker(&["start", "web"]).unwrap();
    host.docker(&["exec", "web", "true"]).unwrap();
}

#[test]
fn dockerd_stops_when_asked_and_comes_back() {
    let host = docker_alone("stop").start().unwrap();
    host.dockerd().stop().unwrap();
    assert!(host.docker(&["info"]).is_err());
    host.dockerd().start().unwrap();
    host.docker(&["info"]).unwrap();
}

#[test]
fn with_live_restore_a_container_outlives_a_killed_dockerd() {
    let host = docker_alone("live").dockerd_args(["--live-restore"]).start().unwrap();
    host.docker(&["run", "-d", "--stop-signal", "KILL", "--name", "web", "busybox", "sleep", "600"]).unwrap();
    let started = ["inspect", "-f", "{{.State.StartedAt}} {{.State.Running}}", "web"];
    let before = host.docker(&started).unwrap();
    host.dockerd().kill().unwrap();
    host.dockerd().start().unwrap();
    assert_eq!(host.docker(&started).unwrap(), before);
    assert!(before.ends_with("true"));
}

#[test]
fn the_machine_is_unchanged_while_a_host_lives_and_after() {
    const STATE: &str =
        "ip -o link; ip -o address; ip route; ip netns; ls /run /etc/docker; cat /proc/self/mounts; hostname;
        cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/keys/root_maxkeys";
    const TRACES: &str =
        "find /sys/fs/cgroup -maxdepth 2 -name 'ciao-lab-unchanged-*'; ls -d ${TMPDIR:-/tmp}/ciao-lab-unchanged-*";
    let before = machine(STATE);
    let host = docker_alone("unchanged").start().unwrap();
    host.docker(&["network", "create", "red"]).unwrap();
    host.docker(&["run", "-d", "--network", "red", "--publish", "8080:80", "busybox", "sleep", "600"]).unwrap();
    host.sh("ip netns add blue; ip link add br-blue type bridge; touch /etc/trace").unwrap();
    assert_eq!(machine(STATE), before);
    drop(host);
    assert_eq!(machine(STATE), before);
    assert_eq!(machine(TRACES), "");
    assert!(!Path::new("/etc/trace").exists());
}

/// What a machine may have that a host is not to inherit.
const MACHINE: &str = "ipv4/ip_forward=1 ipv4/conf/all/rp_filter=1 ipv4/conf/default/rp_filter=1 \
    ipv4/conf/all/route_localnet=1 ipv4/conf/default/arp_ignore=2 ipv4/conf/lo/accept_local=1 \
    ipv6/conf/all/forwarding=1 ipv6/conf/default/accept_ra=0 \
    ipv6/conf/all/disable_ipv6=1 ipv6/conf/default/disable_ipv6=1";

#[test]
fn a_host_has_the_settings_and_limits_of_a_boot_whatever_the_machines_are() {
    const STATE: &str = "cd /proc/sys/net; grep -rs . ipv4/ip_forward ipv[46]/conf bridge | sort
        ulimit -Sn; ulimit -Sl; ulimit -Sc; umask; nft list ruleset; iptables -S; ip6tables -S
        cat /etc/resolv.conf; [ ! -e /root/.docker ]";
    let state = |inherited: &str, limits: &str| {
        let lab = format!("{limits}; exec {} run --no-docker --no-ciao -- sh -c \"$0\"", env!("CARGO_BIN_EXE_lab"));
        let output =
            Command::new("sh").args(["-c", &lab, STATE]).env("CIAO_LAB_INHERITED", inherited).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let (plain, other) = (state("", "true"), state(MACHINE, "ulimit -Sn 900; ulimit -Sl 64; umask 077"));
    let different: Vec<_> = plain.lines().zip(other.lines()).filter(|(one, two)| one != two).collect();
    assert_eq!(different, []);
    for line in MACHINE.split_whitespace() {
        let (name, value) = line.split_once('=').unwrap();
        let own = other.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap();
        assert_ne!(own, value, "{name}");
    }
}

#[test]
fn a_host_ends_with_the_process_that_opened_it() {
    const FOLDERS: &str = "ls -d ${TMPDIR:-/tmp}/ciao-lab-orphan-* 2>/dev/null";
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["run", "--no-ciao", "--name", "orphan", "--"])
        .args(["sh", "-c", "echo up; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    lab.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    assert_ne!(machine(FOLDERS), "");
    lab.kill().unwrap();
    lab.wait().unwrap();
    wait_until("the host is swept up", || machine(FOLDERS).is_empty());
}

#[test]
fn a_process_has_the_process_id_of_the_machine() {
    let host = docker_alone("spawn").start().unwrap();
    let process = host.spawn("talker", ["sh", "-c", "echo hello; exec sleep 600"]).unwrap();
    wait_until("it speaks", || process.log().unwrap() == "hello\n");
    wait_until("it sleeps", || machine(&format!("cat /proc/{}/comm", process.pid())) == "sleep\n");
    assert_eq!(process.kill().unwrap().to_string(), "signal: 9 (SIGKILL)");
    assert!(!process.is_running());
}

#[test]
fn an_engine_that_does_not_start_reports_why() {
    let error = docker_alone("broken").dockerd_args(["--log-level=loud"]).start().unwrap_err();
    assert!(error.to_string().contains("level: loud"), "{error}");
}

#[test]
fn missing_binaries_are_named_with_what_builds_them() {
    let folder = tempfile::tempdir().unwrap();
    let lab = folder.path().join("lab");
    std::fs::copy(env!("CARGO_BIN_EXE_lab"), &lab).unwrap();
    let refused = |binaries: Option<&str>| {
        let mut command = Command::new(&lab);
        command.args(["run", "--no-docker", "--", "true"]).env_remove("CIAO_BIN_DIR");
        let output = command.envs(binaries.map(|folder| ("CIAO_BIN_DIR", folder))).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let printed = refused(Some("/nowhere"));
    assert!(printed.contains("/nowhere/ciao-net is missing: CIAO_BIN_DIR names"), "{printed}");
    let net = folder.path().join("ciao-net");
    let printed = refused(None);
    assert!(printed.contains(&format!("{} is missing: run `cargo build", net.display())), "{printed}");

    // Older than what it was built from.
    let source = folder.path().join("main.rs");
    std::fs::write(folder.path().join("ciao-net.d"), format!("{}: {}", net.display(), source.display())).unwrap();
    std::fs::write(&net, "").unwrap();
    std::fs::write(&source, "").unwrap();
    std::fs::File::options().write(true).open(&net).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let printed = refused(None);
    assert!(printed.contains(&format!("ciao-net is older than {}: run `cargo build", source.display())), "{printed}");
}

#[test]
fn a_failed_script_reports_why() {
    let host = docker_alone("script").start().unwrap();
    let error = host.sh("echo so far so good; ls /nowhere").unwrap_err().to_string();
    assert!(error.contains("so far so good") && error.contains("'/nowhere'"), "{error}");
    assert_eq!(host.try_sh("exit 7").unwrap().code, 7);
}

#[test]
fn orphans_are_reaped() {
    let host = docker_alone("reap").start().unwrap();
    host.sh("(sleep 0.1 &) ; true").unwrap();
    wait_until("no zombie is left", || host.sh("ps axo stat | grep -c ^Z || true").unwrap() == "0");
}

#[test]
fn lab_run_passes_the_exit_code_on() {
    let status = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["run", "--no-ciao", "--", "sh", "-c", "exit 42"])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(42));
}
