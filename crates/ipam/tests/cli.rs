// SPDX-License-Identifier: Apache-2.0
//! The commands of ciao-ipam.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

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
