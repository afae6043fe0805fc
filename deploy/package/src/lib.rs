// SPDX-License-Identifier: Apache-2.0
//! Manual pages and shell completions of both programs.
//!
//! They come from the same definitions that parse the command lines, so neither can name an option that is not there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

/// Commands for administrators.
const SECTION: &str = "8";

/// Writes everything of both programs below a folder, laid out as below `/usr/share`.
pub fn write(share: &Path) -> Result<()> {
    for program in [ciao_netdriver::cli::Cli::command(), ciao_ipam::cli::Cli::command()] {
        let mut program = program.disable_help_subcommand(true);
        completions(&mut program, share)?;
        program.build();
        let pages = share.join("man/man8");
        fs::create_dir_all(&pages).with_context(|| format!("create folder {}", pages.display()))?;
        manual(&program, &pages)?;
    }
    Ok(())
}

/// Where each shell looks for the completions that packages bring.
fn completions(program: &mut Command, share: &Path) -> Result<()> {
    let name = program.get_name().to_owned();
    for (shell, path) in [
        (Shell::Bash, format!("bash-completion/completions/{name}")),
        (Shell::Zsh, format!("zsh/vendor-completions/_{name}")),
        (Shell::Fish, format!("fish/vendor_completions.d/{name}.fish")),
    ] {
        let mut text = Vec::new();
        clap_complete::generate(shell, program, &name, &mut text);
        put(&share.join(path), &text)?;
    }
    Ok(())
}

/// A page for the command, and one for each below it: `ciao-net-vnic-create` is that of `ciao-net vnic create`.
fn manual(command: &Command, folder: &Path) -> Result<()> {
    let page = Man::new(command.clone()).section(SECTION).source(concat!("ciao ", env!("CARGO_PKG_VERSION")));
    page.generate_to(folder).with_context(|| format!("write the page of {}", command.get_name()))?;
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| manual(below, folder))
}

fn put(path: &Path, text: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create folder {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::collections::BTreeSet;

    use super::*;

    /// The pages that the command and all below it should have.
    fn pages(command: &Command, name: &str, into: &mut BTreeSet<String>) {
        into.insert(format!("{name}.8"));
        for below in command.get_subcommands() {
            pages(below, &format!("{name}-{}", below.get_name()), into);
        }
    }

    #[test]
    fn every_command_has_a_page_with_each_of_its_options() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let mut wanted = BTreeSet::new();
        for program in [ciao_netdriver::cli::Cli::command(), ciao_ipam::cli::Cli::command()] {
            pages(&program, program.get_name(), &mut wanted);
        }
        let written = fs::read_dir(folder.path().join("man/man8")).unwrap();
        let written = written.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(wanted, written);
        let page = fs::read_to_string(folder.path().join("man/man8/ciao-net-vnic-create.8")).unwrap();
        for text in [".TH ciao-net-vnic-create 8", "ciao\\-net vnic create", "tenant", "subnet"] {
            assert!(page.contains(text), "{text}: {page}");
        }
    }

    #[test]
    fn each_shell_completes_both_programs() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        for name in ["ciao-net", "ciao-ipam"] {
            for path in [
                format!("bash-completion/completions/{name}"),
                format!("zsh/vendor-completions/_{name}"),
                format!("fish/vendor_completions.d/{name}.fish"),
            ] {
                let text = fs::read_to_string(folder.path().join(&path)).unwrap();
                assert!(text.contains("reconcile") && text.contains("dry-run"), "{path}");
            }
        }
    }
}
