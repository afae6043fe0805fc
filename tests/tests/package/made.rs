// SPDX-License-Identifier: Apache-2.0
//! The package as `make package` makes it, made once for all tests, in several versions.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use ciao_tests::lab::{built, workspace};

/// What the tests install first, and what they upgrade to. Only the number differs.
pub(crate) const VERSIONS: [&str; 2] = ["0.0.1", "0.0.2"];

/// The two packages, the older first.
pub(crate) fn packages() -> &'static [PathBuf; 2] {
    static MADE: OnceLock<[PathBuf; 2]> = OnceLock::new();
    MADE.get_or_init(|| VERSIONS.map(make))
}

fn make(version: &str) -> PathBuf {
    ciao_package::write(&manual()).unwrap();
    let mut package = Command::new("sh");
    run(package
        .args(["deploy/package.sh", "debian"])
        .env("VERSION", version)
        .env("BINARIES", binaries())
        .env("FAST", "yes"));
    let package = workspace().join(format!("target/package/ciao_{version}-1_amd64.deb"));
    assert!(fs::metadata(&package).unwrap().len() > 1 << 20, "{} is small", package.display());
    package
}

/// The folder of both programs, which every host sees at the same path.
pub(crate) fn binaries() -> PathBuf {
    built("ciao-net").unwrap().parent().unwrap().to_owned()
}

/// The folder of what `ciao-manual` writes.
pub(crate) fn manual() -> PathBuf {
    workspace().join("target/package/manual")
}

/// Runs a program in the workspace, and returns what it prints.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.current_dir(workspace()).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}
