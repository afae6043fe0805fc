// SPDX-License-Identifier: Apache-2.0
//! The source as text: files, lines of code, words.

use std::fs;
use std::path::{Path, PathBuf};

use ciao_tests::lab::workspace;

/// The files of a folder whose names end so, with their paths relative to it. What cargo builds is none of them.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<(String, String)> {
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
pub(crate) fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim_start()));
    lines.filter(|(_, line)| !line.starts_with("//"))
}

/// The code of a file up to its own tests.
pub(crate) fn program(text: &str) -> impl Iterator<Item = (usize, &str)> {
    code(text).take_while(|(_, line)| *line != "#[cfg(test)]")
}

/// The words of a line of code that are not inside of a string.
pub(crate) fn words(line: &str) -> impl Iterator<Item = &str> {
    let outside = line.split('"').step_by(2);
    outside
        .flat_map(|part| part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .filter(|word| !word.is_empty())
}

/// The rows of a table of ARCHITECTURE.md below a heading, a list of cells each, without backticks.
pub(crate) fn table(heading: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    let mut lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let rows = lines.by_ref().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    let rows: Vec<Vec<String>> = rows.skip(2).map(cells).collect();
    assert!(!rows.is_empty(), "ARCHITECTURE.md has no table below {heading:?}");
    rows
}
