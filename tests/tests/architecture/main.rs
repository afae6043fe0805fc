// SPDX-License-Identifier: Apache-2.0
//! ARCHITECTURE.md and the source, held against each other: floors, homes of technologies, what each file says first,
//! the plugins' paths. Read as text, because the compiler accepts a second home.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod rooms;
mod source;

use std::fs;
use std::sync::Arc;

use ciao_common::store::Store;
use ciao_netdriver::kernel::fake::Fake;
use ciao_netdriver::{Config, Driver};
use ciao_tests::lab::workspace;
use source::{code, files, program, table, words};

/// Folders with source of the project.
const SOURCES: [&str; 4] = ["crates", "tests", "benches", "fuzz"];

/// Technologies, and the only files and folders under `crates` whose code may name them.
fn homes() -> Vec<(String, Vec<String>)> {
    let row = |row: Vec<String>| (row[0].clone(), row[1].split(", ").map(str::to_owned).collect());
    table("### Technologies").into_iter().map(row).collect()
}

/// Whether a line of code names a technology: a word that begins so, or a path that ends so.
fn names(line: &str, technology: &str) -> bool {
    match technology.rsplit_once("::") {
        Some(_) => line.split('"').step_by(2).any(|part| part.contains(technology)),
        None => words(line).any(|word| word.starts_with(technology)),
    }
}

#[test]
fn each_technology_has_its_home() {
    let sources = files(&workspace().join("crates"), ".rs");
    let mut strays = Vec::new();
    for (technology, homes) in homes() {
        for (name, text) in sources.iter().filter(|(name, _)| name.contains("/src/") && !name.contains("/tests")) {
            if homes.iter().any(|home| name.starts_with(home.as_str())) {
                continue;
            }
            let named = program(text).filter(|(_, line)| names(line, &technology));
            strays.extend(named.map(|(number, line)| format!("crates/{name}:{number}: {line}")));
        }
    }
    assert_eq!(strays, [""; 0], "outside of their homes in ARCHITECTURE.md");
}

#[test]
fn every_home_is_lived_in() {
    let sources = files(&workspace().join("crates"), ".rs");
    for (technology, homes) in homes() {
        for home in homes {
            let mut at_home = sources.iter().filter(|(name, _)| name.starts_with(&home));
            let named = at_home.any(|(_, text)| code(text).any(|(_, line)| names(line, &technology)));
            assert!(named, "nothing in {home} names {technology}: did it move?");
        }
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
fn every_file_opens_with_its_license_and_subject() {
    for folder in SOURCES.map(|folder| workspace().join(folder)).iter().filter(|folder| folder.exists()) {
        for (name, text) in files(folder, ".rs") {
            let mut lines = text.lines();
            assert_eq!(lines.next(), Some("// SPDX-License-Identifier: Apache-2.0"), "{}/{name}", folder.display());
            let subject = lines.next().unwrap_or_default();
            assert!(subject.starts_with("//! "), "{}/{name} starts with {subject:?}", folder.display());
        }
    }
}

#[test]
fn no_comment_is_wider_than_the_code_may_be() {
    for (ending, mark) in [(".rs", "//"), (".sql", "--"), (".nft", "#"), (".sh", "#"), (".toml", "#")] {
        let sources = files(&workspace(), ending);
        // Dumps of databases as earlier versions made them.
        let own = sources.iter().filter(|(name, _)| !name.contains("/tests/versions/"));
        let lines = own.flat_map(|(name, text)| text.lines().enumerate().map(move |(nth, line)| (name, nth + 1, line)));
        let is_wide = |line: &str| line.trim_start().starts_with(mark) && line.chars().count() > 120;
        let wide: Vec<_> =
            lines.filter(|(.., line)| is_wide(line)).map(|(name, number, _)| format!("{name}:{number}")).collect();
        assert_eq!(wide, [""; 0], "comments of more than 120 columns");
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
