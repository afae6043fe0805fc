// SPDX-License-Identifier: Apache-2.0
//! A process with namespaces of its own for each test, and what a user would type at a shell.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use ciao_common::types::LinkName;
use ciao_netdriver::kernel::linux::Linux;
use ciao_netdriver::kernel::{Links, Namespace, Namespaces, Veth};
use nix::mount::{MsFlags, mount};

pub(crate) const RED: &str = "ciao-red";

/// How long a test waits for what takes a second or two where nothing else runs.
const PATIENCE: Duration = Duration::from_secs(15);

/// Gives a namespace the settings that it has after a boot.
const SETTINGS: &str = include_str!("../../../../tests/lab/settings.sh");

/// Says to the process of a test that it is in its namespaces.
pub(crate) const APART: &str = "CIAO_TEST_APART";

/// Runs `test`, whose name is given, in a process of its own.
pub(crate) fn apart(name: &str, test: fn(&Linux)) {
    let me = std::fs::metadata("/proc/self").unwrap().uid();
    assert_eq!(me, 0, "the tests of the kernel make network namespaces: run them as root");
    if std::env::var_os(APART).is_some() {
        mount(Some("tmpfs"), "/run/netns", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        // The links that sysfs shows are those of the namespace that it was mounted in.
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).unwrap();
        // A new namespace copies the machine's.
        let set = Command::new("sh").args(["-c", SETTINGS]).status().unwrap();
        assert!(set.success(), "set the kernel's settings after a boot");
        run("ip link set lo up");
        return test(&Linux::new().unwrap());
    }
    std::fs::create_dir_all("/run/netns").unwrap();
    let (_, name) = name.split_once("::").unwrap();
    let mut child = Command::new("unshare");
    child.args(["-n", "-m", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
    let output = child.args(["--exact", name, "--nocapture", "--include-ignored"]).env(APART, "yes").output().unwrap();
    let text = [output.stderr, output.stdout].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
    println!("{}", String::from_utf8_lossy(&text));
}

/// Each test, apart from the others.
macro_rules! tests {
    ($($(#[$attribute:meta])* fn $name:ident($kernel:ident) $body:block)+) => {
        $(
            $(#[$attribute])*
            #[test]
            fn $name() {
                fn test($kernel: &ciao_netdriver::kernel::linux::Linux) $body
                $crate::apart::apart(concat!(module_path!(), "::", stringify!($name)), test);
            }
        )+
    };
}

pub(crate) fn attempt(command: &str) -> Output {
    let words: Vec<_> = command.split(' ').collect();
    Command::new(words[0]).args(&words[1..]).output().unwrap()
}

/// What a command that succeeds says.
pub(crate) fn run(command: &str) -> String {
    let output = attempt(command);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether an address answers a namespace within some seconds.
pub(crate) fn answers(from: &str, address: &str) -> bool {
    let ping = format!("ip netns exec {from} busybox ping -c 1 -W 1 {address}");
    soon(|| attempt(&ping).status.success())
}

/// Whether a single packet is answered, for what must not be.
pub(crate) fn answers_once(from: &str, address: &str) -> bool {
    attempt(&format!("ip netns exec {from} busybox ping -c 1 -W 1 {address}")).status.success()
}

pub(crate) fn inside(name: &str) -> Namespace {
    Namespace::Named(name.to_owned())
}

pub(crate) fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

/// VNIC number `n` of a namespace, on bridge `br0`.
pub(crate) fn veth(namespace: &str, n: u8) -> Veth {
    Veth {
        namespace: inside(namespace),
        bridge: name("br0"),
        host_link: name(&format!("hv{n:010x}")),
        container_link: name(&format!("cv{n:010x}")),
        mac: format!("02:00:00:00:00:{n:02x}").parse().unwrap(),
        addresses: vec![IpAddr::from([10, 1, 0, 100 + n])],
        learns: false,
        mtu: None,
        rate: None,
        alias: format!("ciao1 number {n}"),
    }
}

pub(crate) fn with_bridge(kernel: &Linux, namespace: &str) {
    kernel.ensure_namespace(namespace).unwrap();
    kernel.ensure_bridge(namespace, &name("br0"), None).unwrap();
}

/// What the engine does with a link: into the container's namespace, named, addressed, up.
pub(crate) fn into_container(link: &LinkName, container: &str, addresses: &[&str]) {
    run(&format!("ip netns add {container}"));
    run(&format!("ip link set {link} netns {container} name eth0"));
    for address in addresses {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        run(&format!("ip -n {container} addr add {address} dev eth0{nodad}"));
    }
    run(&format!("ip -n {container} link set eth0 up"));
}

pub(crate) fn gateway(kernel: &Linux, namespace: &str, cidr: &str) {
    let subnet = cidr.parse().unwrap();
    let address: IpAddr = cidr.split('/').next().unwrap().parse().unwrap();
    kernel.add_address(namespace, &name("br0"), subnet, address).unwrap();
}

pub(crate) fn soon(what: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

pub(crate) use tests;
