// SPDX-License-Identifier: Apache-2.0
//! Which file of a crate uses which other one, and whether that is as ARCHITECTURE.md's floors allow.

use std::collections::{BTreeMap, BTreeSet};

use ciao_tests::lab::workspace;

use crate::source::{files, program, table};

/// The modules of a crate: the file of each, by its path without `crate`.
struct Modules {
    files: BTreeMap<Vec<String>, (String, Vec<String>)>,
}

/// The path of a module by its file's name.
fn path_of(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// A file's code without comments, strings and its tests, as words and the signs between them.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let code: Vec<_> = program(text).map(|(_, line)| line).collect();
    for part in code.join("\n").split('"').step_by(2) {
        let mut word = String::new();
        for c in part.chars().chain([' ']) {
            if c.is_ascii_alphanumeric() || c == '_' {
                word.push(c);
                continue;
            }
            if !word.is_empty() {
                tokens.push(std::mem::take(&mut word));
            }
            if matches!(c, '{' | '}' | ',' | ';') {
                tokens.push(c.to_string());
            } else if c == ':' && tokens.last().is_some_and(|last| last == ":") {
                tokens.pop();
                tokens.push("::".to_owned());
            } else if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
        }
    }
    tokens
}

/// The paths that begin at a token: one, or those of a tree in braces.
fn paths(tokens: &[String], at: &mut usize, prefix: &[String], found: &mut Vec<Vec<String>>) {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(*at) {
        *at += 1;
        if token == "{" {
            while tokens.get(*at).is_some_and(|token| token != "}") {
                paths(tokens, at, &path, found);
                if tokens.get(*at).is_some_and(|token| token == ",") {
                    *at += 1;
                }
            }
            *at += 1;
            return;
        }
        path.push(token.clone());
        if tokens.get(*at).is_none_or(|token| token != "::") {
            break;
        }
        *at += 1;
    }
    if tokens.get(*at).is_some_and(|token| token == "as") {
        *at += 2;
    }
    found.push(path);
}

impl Modules {
    fn of(crate_name: &str) -> Self {
        let sources = files(&workspace().join("crates").join(crate_name).join("src"), ".rs");
        let rows = sources.into_iter().map(|(file, text)| (path_of(&file), (file, tokens(&text))));
        Self { files: rows.collect() }
    }

    /// A path that a module names, from the crate's root.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let mut absolute = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.to_vec(),
            "super" => module.split_last()?.1.to_vec(),
            child => {
                let declared = [module, &[child.to_owned()]].concat();
                return self.files.contains_key(&declared).then(|| [&declared, rest].concat());
            }
        };
        for part in rest {
            if part == "super" {
                absolute.pop();
            } else {
                absolute.push(part.clone());
            }
        }
        Some(absolute)
    }

    /// The module whose file defines what a path from the root names: through re-exports, where there are any.
    fn definer(&self, path: &[String]) -> Vec<String> {
        let module =
            (0..=path.len()).rev().map(|length| &path[..length]).find(|prefix| self.files.contains_key(*prefix));
        let module = module.unwrap_or_default();
        let Some(item) = path.get(module.len()) else { return module.to_vec() };
        let exported = self.exports(module).into_iter().find(|export| export.last() == Some(item));
        exported.map_or_else(|| module.to_vec(), |path| self.definer(&path))
    }

    /// What a module re-exports, from the crate's root.
    fn exports(&self, module: &[String]) -> Vec<Vec<String>> {
        let (used, _) = self.named(module);
        used.into_iter().filter(|(_, public)| *public).map(|(path, _)| path).collect()
    }

    /// The paths from the root that a module names, and whether each is a re-export.
    fn named(&self, module: &[String]) -> (Vec<(Vec<String>, bool)>, &str) {
        let (file, tokens) = &self.files[module];
        let (mut found, mut at) = (Vec::new(), 0);
        while at < tokens.len() {
            let previous = at.checked_sub(1).map(|index| tokens[index].as_str());
            let is_path = tokens[at].chars().next().is_some_and(|c| c.is_ascii_alphabetic())
                && tokens.get(at + 1).is_some_and(|next| next == "::")
                && !matches!(previous, Some("::" | "in"));
            if !is_path {
                at += 1;
                continue;
            }
            let public = previous == Some("use")
                && at.checked_sub(2).is_some_and(|index| matches!(tokens[index].as_str(), "pub" | ")"));
            let mut here = Vec::new();
            paths(tokens, &mut at, &[], &mut here);
            found.extend(here.iter().filter_map(|path| Some((self.absolute(module, path)?, public))));
        }
        (found, file)
    }

    /// Which file uses which other one.
    fn arrows(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut arrows = BTreeMap::new();
        for module in self.files.keys() {
            let (named, file) = self.named(module);
            let used = named.iter().filter(|(_, public)| !public).map(|(path, _)| self.definer(path));
            let used = used.map(|module| self.files[&module].0.as_str()).filter(|used| *used != file);
            arrows.insert(file, used.collect::<BTreeSet<_>>());
        }
        arrows
    }
}

/// The crates, and their rooms by floors from the top.
fn floors() -> Vec<(String, Vec<BTreeSet<String>>)> {
    let floor = |text: &str| text.split(", ").map(str::to_owned).collect();
    let row = |row: Vec<String>| (row[0].clone(), row[1].split(" → ").map(floor).collect());
    table("### Floors").into_iter().map(row).collect()
}

/// The room that a file is in: the part of its path after the house's.
fn room<'a>(house: &str, file: &'a str) -> Option<&'a str> {
    let inner = if house.is_empty() { file } else { file.strip_prefix(house)?.strip_prefix('/')? };
    Some(inner.split('/').next()?.trim_end_matches(".rs"))
}

#[test]
fn arrows_between_rooms_run_down_only() {
    let mut wrong = Vec::new();
    for (place, floors) in floors() {
        let (crate_name, house) = place.split_once('/').unwrap_or((&place, ""));
        let floor_of = |room: &str| floors.iter().position(|floor| floor.contains(room));
        let modules = Modules::of(crate_name);
        for (file, used) in modules.arrows() {
            let Some(from) = room(house, file) else { continue };
            let above = floor_of(from).unwrap_or_else(|| panic!("{place} has no floor for {from} in ARCHITECTURE.md"));
            for other in used {
                let Some(to) = room(house, other).filter(|to| *to != from) else { continue };
                if floor_of(to).is_none_or(|below| below <= above) {
                    wrong.push(format!("crates/{crate_name}/src/{file} uses {other}"));
                }
            }
        }
        let rooms: BTreeSet<_> = modules.arrows().into_keys().filter_map(|file| room(house, file)).collect();
        for named in floors.iter().flatten() {
            assert!(rooms.contains(named.as_str()), "ARCHITECTURE.md names {named} in {place}, which does not exist");
        }
    }
    assert_eq!(wrong, [""; 0], "against the floors of ARCHITECTURE.md");
}

#[test]
fn only_the_daemon_s_start_and_what_runs_without_it_name_the_running_kernel() {
    let modules = Modules::of("netdriver");
    let outside = |file: &&str| !file.starts_with("kernel/linux/");
    let uses = |used: &BTreeSet<&str>| used.iter().any(|other| !outside(other));
    let users = modules.arrows().into_iter().filter(|(file, used)| outside(file) && uses(used)).map(|(file, _)| file);
    assert_eq!(users.collect::<Vec<_>>(), ["cli/doctor.rs", "cli/host.rs", "cli/serve.rs"]);
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut circles = Vec::new();
    for crate_name in ["common", "ipam", "netdriver"] {
        let modules = Modules::of(crate_name);
        let mut arrows = modules.arrows();
        // A file that uses no other one is in no circle; without it, the next ones use none.
        while let Some(last) = arrows.iter().find(|(_, used)| used.is_empty()).map(|(file, _)| *file) {
            arrows.remove(last);
            for used in arrows.values_mut() {
                used.remove(last);
            }
        }
        // Nor is one that none of the others uses.
        while let Some(first) = arrows.keys().find(|file| !arrows.values().any(|used| used.contains(*file))).copied() {
            arrows.remove(first);
        }
        circles.extend(arrows.iter().map(|(file, used)| format!("crates/{crate_name}/src/{file} uses {used:?}")));
    }
    assert_eq!(circles, [""; 0]);
}

#[test]
fn a_path_is_followed_to_the_file_that_defines_it() {
    let modules = Modules::of("netdriver");
    let arrows = modules.arrows();
    let uses = |file: &str, other: &str| arrows[file].contains(other);
    assert!(uses("cli/serve.rs", "kernel/linux/mod.rs"), "{:?}", arrows["cli/serve.rs"]);
    assert!(uses("fabric/bridges.rs", "kernel/mod.rs") && uses("fabric/bridges.rs", "rules/elements.rs"));
    assert!(uses("fabric/ports.rs", "kernel/port.rs"), "by kernel's re-export");
    assert!(!arrows.values().any(|used| used.contains("main.rs")));
}
