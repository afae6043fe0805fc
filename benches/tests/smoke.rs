// SPDX-License-Identifier: Apache-2.0
//! Every measurement once, at tiny counts: the numbers say nothing, but there are some.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;

use ciao_bench::all::{Size, run};

#[test]
#[ignore = "needs what `deps.sh bench` installs, and a release build"]
fn everything_is_measured_written_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &Size::quick()).unwrap();
    let page = fs::read_to_string(folder.path().join("RESULTS.md")).unwrap();
    for heading in ["Goals", "Service", "Docker", "CNI", "Data path", "Scale", "Instructions", "What was tried"] {
        let heading = format!("## {heading}");
        assert!(page.contains(&heading), "{heading} is missing in:\n{page}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    let picture = fs::read_to_string(folder.path().join("results.svg")).unwrap();
    assert!(picture.contains("<rect") && picture.contains("user-defined bridge"), "{picture}");
}
