// SPDX-License-Identifier: Apache-2.0
//! The documentation's commands, run: a page a private host, its blocks in order. And its links.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ciao_tests::console::steps;
use ciao_tests::lab::{Engine, Host, Lan, workspace};

/// Runs the commands of each page, in a test of its own.
macro_rules! pages {
    ($($test:ident: $page:literal),+ $(,)?) => {
        const RUN: &[&str] = &[$($page),+];
        $(
            #[test]
            fn $test() {
                run($page);
            }
        )+
    };
}

pages! {
    the_readme_s_commands_do_what_it_shows: "README.md",
    the_concepts_commands_do_what_they_show: "docs/concepts.md",
    the_launcher_s_guide_s_commands_do_what_it_shows: "docs/launcher.md",
    the_docker_guide_s_commands_do_what_it_shows: "docs/docker-and-compose.md",
    the_api_s_commands_do_what_they_show: "docs/api.md",
    the_guide_to_several_hosts_shows_what_the_first_one_does: "docs/hosts.md",
    the_options_commands_do_what_they_show: "docs/options.md",
    the_operations_commands_do_what_they_show: "docs/operations.md",
    the_monitoring_commands_do_what_they_show: "docs/monitoring.md",
    the_recovery_commands_do_what_they_show: "docs/recovery.md",
    the_egress_commands_do_what_they_show: "docs/egress.md",
    the_troubleshooting_commands_do_what_they_show: "docs/troubleshooting.md",
    the_security_model_s_commands_do_what_it_shows: "docs/security.md",
}

/// Runs a page's commands as root in the home folder of a host of its own.
fn run(page: &str) {
    let text = fs::read_to_string(workspace().join(page)).unwrap();
    let name = Path::new(page).file_stem().unwrap().to_string_lossy().to_lowercase();
    let host = Host::builder().name(format!("docs-{name}")).engine(Engine::Machine).start().unwrap();
    // Pages with several hosts show what the first of them does.
    let lan = page.ends_with("hosts.md").then(|| Lan::new().unwrap());
    lan.iter().for_each(|lan| drop(lan.join(&host, "192.0.2.1/24").unwrap()));
    for step in steps(&text).unwrap_or_else(|error| panic!("{page}: {error:#}")) {
        let output = host.try_sh(&format!("exec 2>&1; cd /root; {}", step.command)).unwrap();
        assert!(
            step.fits(output.code, &output.stdout),
            "{page} shows of `{}`:\n{}\nbut it ended with {} and printed:\n{}",
            step.command,
            step.expected.join("\n"),
            output.code,
            output.stdout
        );
    }
}

/// Every page below a folder such as the workspace, as a path from there.
fn pages(root: &Path) -> Vec<PathBuf> {
    let files = |folder: &str| {
        let entries = fs::read_dir(root.join(folder)).into_iter().flatten();
        let paths = entries.map(move |entry| Path::new(folder).join(entry.unwrap().file_name()));
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect::<Vec<_>>()
    };
    ["", "docs", "benches", "tests"].map(files).concat()
}

/// The blocks that are not run: page, how the first line begins, and why.
const NOT_RUN: &[(&str, &str, &str)] = &[
    ("README.md", "make demo", "builds and tests everything"),
    ("README.md", "networks:", "a part of a file; whole ones are in the suite docker"),
    ("docs/compatibility.md", "iptables -I", "for an engine of version 29"),
    ("docs/egress.md", "# /etc/default", "a line of a file"),
    ("docs/hosts.md", "docker exec web ping", "takes a second host; netdriver's suite kernel has three"),
    ("docs/hosts.md", "openssl req", "certificates, without ciao"),
    ("docs/hosts.md", "CIAO_NET_OPTIONS", "a line of a file"),
    ("docs/hosts.md", "systemctl restart", "takes a second host; netdriver's suite kernel has three"),
    ("docs/hosts.md", "docker node ls", "takes a swarm"),
    ("docs/hosts.md", "docker network create --scope swarm", "takes a swarm; tests/tests/cluster has one"),
    ("docs/hosts.md", "ciao-net tunnel list", "takes a second host; netdriver's suite kernel has three"),
    ("docs/monitoring.md", "# /etc/systemd/system/ipam", "files; the suite package uses them"),
    ("docs/operations.md", "apt install ./ciao_0.1.0", "in the suite package"),
    ("docs/operations.md", "tar xf", "install.sh is in the suite package"),
    ("docs/operations.md", "make plugin", "in the suite package"),
    ("docs/operations.md", "apt install ./ciao_0.2.0", "in the suite package"),
    ("docs/recovery.md", "systemctl stop", "takes systemd; the suite storage restores a backup without"),
    ("docs/recovery.md", "apt install --allow-downgrades", "in the suite package"),
];

#[test]
fn every_block_is_run_or_has_a_reason_not_to_be() {
    let mut found = Vec::new();
    for page in pages(&workspace()).iter().filter(|page| page.starts_with("docs") || *page == Path::new("README.md")) {
        let text = fs::read_to_string(workspace().join(page)).unwrap();
        // Every other fence ends a block.
        for block in text.split("\n```").skip(1).step_by(2).filter(|block| !block.starts_with("console run\n")) {
            let first = block.lines().nth(1).unwrap().to_owned();
            found.push((page.to_string_lossy().into_owned(), first));
        }
    }
    found.sort_by_key(|(page, _)| page.clone());
    let listed = |at: usize| NOT_RUN.get(at).map(|(page, first, _)| (*page, *first));
    for (at, (page, first)) in found.iter().enumerate() {
        let is_listed = listed(at).is_some_and(|(its, begin)| its == page && first.starts_with(begin));
        assert!(is_listed, "{page}: {first}: mark the block `console run`, or add it to NOT_RUN with a reason");
    }
    assert_eq!(listed(found.len()), None, "no such block");
}

#[test]
fn every_page_with_commands_to_run_is_run() {
    let marked = |page: &PathBuf| !steps(&fs::read_to_string(workspace().join(page)).unwrap()).unwrap().is_empty();
    let found: BTreeSet<_> = pages(&workspace()).into_iter().filter(marked).collect();
    assert_eq!(found, RUN.iter().map(PathBuf::from).collect());
}

#[test]
fn every_page_is_in_the_readme_s_index() {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    for page in pages(&workspace()).iter().filter(|page| page.starts_with("docs")) {
        assert!(readme.contains(&format!("]({})", page.display())), "{}: add it to the README's table", page.display());
    }
}

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    check_links(&workspace(), 60);
}

#[test]
fn every_link_of_the_installed_documentation_leads_somewhere() {
    let folder = tempfile::tempdir().unwrap();
    let copied = Command::new("sh").arg(workspace().join("deploy/documentation.sh")).arg(folder.path()).status();
    assert!(copied.unwrap().success());
    check_links(folder.path(), 50);
}

/// Follows the links of all pages below a folder, of which there are some.
fn check_links(root: &Path, at_least: usize) {
    let mut links = 0;
    for page in pages(root) {
        let text = fs::read_to_string(root.join(&page)).unwrap();
        for rest in text.split("](").skip(1) {
            let target = rest.split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (file, heading) = target.split_once('#').map_or((target, None), |(file, part)| (file, Some(part)));
            let path = root.join(if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) });
            assert!(path.exists(), "{}: {target} leads nowhere", page.display());
            if let Some(heading) = heading {
                let text = fs::read_to_string(&path).unwrap();
                let mut anchors =
                    text.lines().filter_map(|line| Some(anchor(line.strip_prefix('#')?.trim_start_matches('#'))));
                assert!(anchors.any(|found| found == heading), "{}: {target} has no such heading", page.display());
            }
        }
    }
    assert!(links > at_least, "links were found: {links}");
}
