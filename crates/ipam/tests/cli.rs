// SPDX-License-Identifier: Apache-2.0
//! The commands of ciao-ipam.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output};
use std::time::Duration;

use ciao_common::store::Store;

const CIAO_IPAM: &str = env!("CARGO_BIN_EXE_ciao-ipam");

#[test]
fn a_list_whose_reader_is_gone_ends_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ciao.db");
    drop(Store::open(&path).unwrap());
    for format in [&["--json"][..], &[]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let list =
            Command::new(CIAO_IPAM).args(["lease", "list", "--db"]).arg(&path).args(format).stdout(writer).output();
        let list = list.unwrap();
        assert!(list.status.success() && list.stderr.is_empty(), "{list:?}");
    }
}

/// Docker's socket, with no networks.
fn docker(folder: &Path) {
    let listener = UnixListener::bind(folder.join("docker.sock")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), [0; 1024]);
            let length = stream.read(&mut request).unwrap();
            let body = if request[..length].starts_with(b"GET /info ") { r#"{"ID":"E"}"# } else { "[]" };
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length:";
            write!(stream, "{head} {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
}

fn reconcile(folder: &Path, database: &str) -> Output {
    let path = |name: &str| folder.join(name);
    let (docker, control) = (path("docker.sock"), path("control.sock"));
    let mut command = Command::new(CIAO_IPAM);
    command.args(["reconcile", "--dry-run", "--docker-socket"]).arg(docker).arg("--control").arg(control);
    command.arg("--db").arg(path(database)).output().unwrap()
}

#[test]
fn a_reconcile_of_a_missing_database_creates_none_and_names_it() {
    let folder = tempfile::tempdir().unwrap();
    docker(folder.path());
    let failed = reconcile(folder.path(), "typo/ciao.db");
    let error = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(1));
    assert!(error.contains("typo/ciao.db: no such file: give the path of ciao's database"), "{error}");
    assert!(!folder.path().join("typo").exists());
}

/// A daemon, killed when dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

#[test]
fn a_reconcile_goes_through_the_running_daemon_and_without_one_to_the_database() {
    let folder = tempfile::tempdir().unwrap();
    docker(folder.path());
    let path = |name: &str| folder.path().join(name);
    drop(Store::open(&path("other.db")).unwrap());
    let log = fs::File::create(path("log")).unwrap();
    let mut daemon = Command::new(CIAO_IPAM);
    daemon.arg("serve").arg("--db").arg(path("ciao.db")).arg("--socket").arg(path("plugin.sock"));
    let daemon = Daemon(daemon.arg("--control").arg(path("control.sock")).stderr(log).spawn().unwrap());
    while UnixStream::connect(path("control.sock")).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let through = reconcile(folder.path(), "ciao.db");
    assert!(through.status.success() && through.stdout == b"nothing to do\n", "{through:?}");
    let other = reconcile(folder.path(), "other.db");
    let error = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(error.contains("ciao-ipam runs on database") && error.contains("other.db"), "{error}");
    drop(daemon);
    assert!(reconcile(folder.path(), "other.db").status.success());
    assert!(fs::read_to_string(path("log")).unwrap().contains("/v1/reconcile refused"));
}
