//! What ARCHITECTURE.md says of the source, kept true: each technology has one home, every file says what it is, the
//! plugin's paths are what Docker knows. Read as text, because the compiler accepts a second home.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ciao_common::store::Store;
use ciao_netdriver::kernel::fake::Fake;
use ciao_netdriver::{Config, Driver};
use ciao_tests::lab::workspace;

/// Crates by the start of their names, and the only place under `crates` whose code may name them.
const HOMES: [(&str, &str); 5] = [
    ("actix", "common/src/serve/server.rs"),
    ("rusqlite", "common/src/store/"),
    ("netlink", "netdriver/src/kernel/"),
    ("hyper", "common/src/cli/client.rs"),
    ("comfy_table", "common/src/cli/table.rs"),
];
/// Folders with source of the project.
const SOURCES: [&str; 4] = ["crates", "tests", "benches", "fuzz"];

/// The files of a folder whose names end so, with their paths relative to it. What cargo builds is none of them.
fn files(folder: &Path, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.is_file() && path.to_str().unwrap().ends_with(ending) {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no *{ending} in {}", folder.display());
    found.sort();
    found
}

/// The code of a file: its lines without comments, as far as a line shows it.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim_start()));
    lines.filter(|(_, line)| !line.starts_with("//"))
}

/// The words of a line of code that are not inside of a string.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let outside = line.split('"').step_by(2);
    outside
        .flat_map(|part| part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .filter(|word| !word.is_empty())
}

/// Lines of programs, not of their tests, that name a crate elsewhere than at home.
fn strays(crate_name: &str, home: &str) -> Vec<String> {
    let sources = files(&workspace().join("crates"), ".rs").into_iter();
    let elsewhere = sources.filter(|(name, _)| name.contains("/src/") && !name.starts_with(home));
    let mut strays = Vec::new();
    for (name, text) in elsewhere {
        let named = code(&text).filter(|(_, line)| words(line).any(|word| word.starts_with(crate_name)));
        strays.extend(named.map(|(number, line)| format!("crates/{name}:{number}: {line}")));
    }
    strays
}

#[test]
fn each_technology_has_one_home() {
    for (crate_name, home) in HOMES {
        assert_eq!(strays(crate_name, home), [""; 0], "{crate_name} belongs into {home}");
    }
}

#[test]
fn every_home_is_lived_in() {
    let sources = files(&workspace().join("crates"), ".rs");
    for (crate_name, home) in HOMES {
        let mut at_home = sources.iter().filter(|(name, _)| name.starts_with(home));
        let named = at_home.any(|(_, text)| code(text).any(|(_, line)| words(line).any(|w| w.starts_with(crate_name))));
        assert!(named, "nothing in {home} names {crate_name}: did it move?");
    }
}

#[test]
fn the_drivers_know_nothing_of_each_other_and_common_nothing_of_them() {
    for (folder, stranger) in
        [("ipam", "ciao_netdriver"), ("netdriver", "ciao_ipam"), ("common", "ciao_ipam"), ("common", "ciao_netdriver")]
    {
        for (name, text) in files(&workspace().join("crates").join(folder).join("src"), ".rs") {
            let named = code(&text).find(|(_, line)| words(line).any(|word| word == stranger));
            assert_eq!(named, None, "crates/{folder}/src/{name} names {stranger}");
        }
    }
}

#[test]
fn every_file_says_first_what_it_is() {
    for folder in SOURCES.map(|folder| workspace().join(folder)).iter().filter(|folder| folder.exists()) {
        for (name, text) in files(folder, ".rs") {
            let first = text.lines().next().unwrap_or_default();
            assert!(first.starts_with("//! "), "{}/{name} starts with {first:?}", folder.display());
        }
    }
}

#[test]
fn no_code_is_unsafe() {
    for (name, text) in files(&workspace().join("crates"), ".rs") {
        let found = code(&text).find(|(_, line)| words(line).any(|word| word == "unsafe" || word == "unsafe_code"));
        assert_eq!(found, None, "crates/{name}");
    }
    let lints = fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    assert!(lints.contains("unsafe_code = \"deny\"") || lints.contains("unsafe_code = \"forbid\""));
    for (name, text) in files(&workspace().join("crates"), "Cargo.toml") {
        assert!(text.contains("[lints]\nworkspace = true"), "crates/{name} has lints of its own");
    }
}

#[test]
fn the_network_driver_answers_dockers_calls_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&folder.path().join("ciao.db")).unwrap());
    let driver = Driver::new(store, Arc::new(Fake::default()), Config::default()).unwrap();
    let paths = ciao_netdriver::docker::plugin(Arc::new(driver)).paths();
    let methods: Vec<_> = paths.iter().map(|path| path.trim_start_matches('/')).collect();
    assert_eq!(
        methods,
        [
            "NetworkDriver.AllocateNetwork",
            "NetworkDriver.CreateEndpoint",
            "NetworkDriver.CreateNetwork",
            "NetworkDriver.DeleteEndpoint",
            "NetworkDriver.DeleteNetwork",
            "NetworkDriver.DiscoverDelete",
            "NetworkDriver.DiscoverNew",
            "NetworkDriver.EndpointOperInfo",
            "NetworkDriver.FreeNetwork",
            "NetworkDriver.GetCapabilities",
            "NetworkDriver.GwAllocCheck",
            "NetworkDriver.Join",
            "NetworkDriver.Leave",
            "NetworkDriver.ProgramExternalConnectivity",
            "NetworkDriver.RevokeExternalConnectivity",
            "Plugin.Activate",
        ]
    );
}

#[test]
fn the_ipam_driver_answers_dockers_calls_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&folder.path().join("ciao.db")).unwrap());
    let driver = ciao_ipam::Ipam::new(store, ciao_ipam::Config::default()).unwrap();
    let paths = ciao_ipam::routes::plugin(driver).paths();
    let methods: Vec<_> = paths.iter().map(|path| path.trim_start_matches('/')).collect();
    assert_eq!(
        methods,
        [
            "IpamDriver.GetCapabilities",
            "IpamDriver.GetDefaultAddressSpaces",
            "IpamDriver.ReleaseAddress",
            "IpamDriver.ReleasePool",
            "IpamDriver.RequestAddress",
            "IpamDriver.RequestPool",
            "Plugin.Activate",
        ]
    );
}
