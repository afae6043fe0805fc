// SPDX-License-Identifier: Apache-2.0
//! What is in the package, and what its files say.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use ciao_tests::lab::workspace;

use crate::made::{packages, run};

/// Everything but manual pages and documentation.
const FILES: [&str; 22] = [
    "/etc/default/ciao-ipam",
    "/etc/default/ciao-net",
    "/etc/docker/plugins/ciao-ipam.spec",
    "/etc/docker/plugins/ciao-net.spec",
    "/usr/bin/ciao-ipam",
    "/usr/bin/ciao-net",
    "/usr/lib/sysctl.d/10-ciao.conf",
    "/usr/lib/systemd/network/10-ciao.network",
    "/usr/lib/systemd/network/70-ciao.link",
    "/usr/lib/systemd/system/ciao-ipam.service",
    "/usr/lib/systemd/system/ciao-ipam.socket",
    "/usr/lib/systemd/system/ciao-net.service",
    "/usr/lib/systemd/system/ciao-net.socket",
    "/usr/lib/udev/rules.d/70-ciao.rules",
    "/usr/share/bash-completion/completions/ciao-ipam",
    "/usr/share/bash-completion/completions/ciao-net",
    "/usr/share/doc/ciao/copyright",
    "/usr/share/fish/vendor_completions.d/ciao-ipam.fish",
    "/usr/share/fish/vendor_completions.d/ciao-net.fish",
    "/usr/share/man/man8/ciao-net-vnic-create.8.gz",
    "/usr/share/zsh/vendor-completions/_ciao-ipam",
    "/usr/share/zsh/vendor-completions/_ciao-net",
];

#[test]
#[ignore = "builds cargo-deb and the package: make test-package"]
fn the_package_brings_what_an_installation_needs_and_nothing_beside() {
    let package = &packages()[0];
    let listed = run(Command::new("dpkg-deb").arg("--contents").arg(package));
    let mut files = BTreeSet::new();
    for line in listed.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (mode, owner, path) = (fields[0], fields[1], fields[5].trim_start_matches('.'));
        assert!(owner == "root/root" || owner == "0/0", "{line}");
        let wanted = if path.starts_with("/usr/bin/ciao") { "-rwxr-xr-x" } else { "-rw-r--r--" };
        assert_eq!(mode, if path.ends_with('/') { "drwxr-xr-x" } else { wanted }, "{line}");
        if !path.ends_with('/') {
            files.insert(path.to_owned());
        }
    }
    for file in FILES {
        assert!(files.contains(file), "{file} is missing: {files:#?}");
    }
    let others = ["/usr/share/man/man8/ciao-", "/usr/share/doc/ciao/"];
    let known = |file: &str| FILES.contains(&file) || others.iter().any(|folder| file.starts_with(folder));
    let unknown: Vec<_> = files.iter().filter(|file| !known(file)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");

    let conffiles = run(Command::new("dpkg-deb").arg("--info").arg(package).arg("conffiles"));
    let wanted: BTreeSet<_> = FILES.iter().copied().filter(|file| file.starts_with("/etc/")).collect();
    assert_eq!(conffiles.lines().collect::<BTreeSet<_>>(), wanted);
}

#[test]
#[ignore = "builds cargo-deb and the package: make test-package"]
fn the_package_depends_on_what_its_programs_and_scripts_run() {
    let field = |name: &str| run(Command::new("dpkg-deb").arg("--field").arg(&packages()[0]).arg(name));
    let depends = field("Depends");
    for package in ["libc6", "netbase", "nftables", "passwd"] {
        assert!(depends.contains(package), "{depends}");
    }
    // An engine is the administrator's: another one than Debian's may run here.
    assert!(!depends.contains("docker") && !field("Recommends").contains("docker"));
}

#[test]
#[ignore = "builds cargo-deb and the package: make test-package"]
fn the_maintainer_scripts_are_sh_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    run(Command::new("dpkg-deb").arg("--control").arg(&packages()[0]).arg(folder.path()));
    for script in ["postinst", "prerm", "postrm"] {
        let path = folder.path().join(script);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("#!/bin/sh\nset -eu\n") && text.contains("purge_host()"), "{script}");
        assert!(!text.contains("host.sh\""), "{script} reads a file that is gone when it is purged");
        run(Command::new("sh").arg("-n").arg(&path));
    }
    for entry in fs::read_dir(workspace().join("deploy")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sh") {
            run(Command::new("sh").arg("-n").arg(&path));
        }
    }
}

/// The daemons' unit files name their options by a variable of the file in /etc/default that is beside them.
#[test]
fn each_unit_takes_its_options_from_its_own_file() {
    for (name, variable) in [("ciao-net", "CIAO_NET_OPTIONS"), ("ciao-ipam", "CIAO_IPAM_OPTIONS")] {
        let read = |path: &str| fs::read_to_string(workspace().join("deploy").join(path)).unwrap();
        let unit = read(&format!("{name}.service"));
        assert!(unit.contains(&format!("EnvironmentFile=-/etc/default/{name}\n")), "{unit}");
        assert!(unit.contains("Environment=GLIBC_TUNABLES=glibc.malloc.trim_threshold="), "{unit}");
        let start = unit.lines().find_map(|line| line.strip_prefix(&format!("ExecStart=@PREFIX@/bin/{name} serve ")));
        assert!(start.is_some_and(|options| options.ends_with(&format!(" ${variable}"))), "{unit}");
        let defaults = read(&format!("default/{name}"));
        assert!(defaults.contains(&format!("\n{variable}=\"\"\n")), "{defaults}");
    }
}

/// The unit permits every kind of socket that ciao-net's sources open, and the managed plugin has the unit's
/// capabilities.
#[test]
fn the_unit_and_the_managed_plugin_permit_what_ciao_net_does() {
    let unit = fs::read_to_string(workspace().join("deploy/ciao-net.service")).unwrap();
    let listed = |key: &str| -> BTreeSet<String> {
        unit.lines().find_map(|line| line.strip_prefix(key)).unwrap().split(' ').map(str::to_owned).collect()
    };
    let opened = families(&workspace().join("crates/netdriver/src/kernel/linux"));
    assert!(opened.contains("AF_PACKET"), "{opened:?}");
    assert!(opened.is_subset(&listed("RestrictAddressFamilies=")), "{opened:?}");
    let plugin = fs::read_to_string(workspace().join("deploy/plugin/ciao-net.json")).unwrap();
    let plugin: serde_json::Value = serde_json::from_str(&plugin).unwrap();
    let capabilities: BTreeSet<String> = serde_json::from_value(plugin["linux"]["capabilities"].clone()).unwrap();
    assert_eq!(capabilities, listed("CapabilityBoundingSet="));
}

/// The address families in sources that open sockets by nix.
fn families(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(families(&path));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let names = text.split("AddressFamily::").skip(1).filter(|_| text.contains("nix::sys::socket"));
        found.extend(names.map(|name| name.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap().to_uppercase()));
    }
    found.into_iter().map(|name: String| if name.starts_with("AF_") { name } else { format!("AF_{name}") }).collect()
}

/// udev, systemd-networkd and NetworkManager each have their own pattern for the names of ciao's links.
#[test]
fn the_link_settings_match_every_name_and_no_other() {
    let folder = workspace().join("deploy/host");
    let patterns = |file: &Path, before: &str, after: &str| -> Vec<String> {
        let text = fs::read_to_string(file).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let found = lines.filter_map(|line| line.split_once(before).and_then(|(_, rest)| rest.split_once(after)));
        found.flat_map(|(patterns, _)| patterns.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let with_end = |file: &str| {
        let path = folder.join(file);
        let text = fs::read_to_string(&path).unwrap();
        let line = text.lines().find_map(|line| line.split_once("Name=")).unwrap().1.to_owned();
        line.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    let all =
        [with_end("links.link"), with_end("links.network"), patterns(&folder.join("links.rules"), "KERNEL==\"", "\"")];
    for patterns in all {
        assert_eq!(patterns.len(), 2, "{patterns:?}");
        for (name, wanted) in [
            ("cu0123456789", true),
            ("cvabcdef0123", true),
            ("hv00ff00ff00", true),
            ("hu0123456789", false),
            ("cu012345678", false),
            ("cu0123456789a", false),
            ("cvghijklmnop", false),
            ("eth0", false),
        ] {
            let script = format!("case {name} in {}) exit 0 ;; esac; exit 1", patterns.join("|"));
            let matched = Command::new("sh").args(["-c", &script]).status().unwrap().success();
            assert_eq!(matched, wanted, "{name} and {patterns:?}");
        }
    }
}
