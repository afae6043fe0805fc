// SPDX-License-Identifier: Apache-2.0
//! What `--help` of every command of both programs prints, in at most 80 columns wherever it goes.

use clap::{Command, CommandFactory};

const COLUMNS: usize = 80;

/// The help of a command and of all below it, short (`-h`) and long (`--help`), with the name that a user types.
fn pages(command: &Command, name: &str, into: &mut Vec<(String, Command)>) {
    let mut command = command.clone().bin_name(name);
    command.build();
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        pages(below, &format!("{name} {}", below.get_name()), into);
    }
    into.push((name.to_owned(), command));
}

fn all() -> Vec<(String, Command)> {
    let mut found = Vec::new();
    for program in [ciao_netdriver::cli::Cli::command(), ciao_ipam::cli::Cli::command()] {
        pages(&program, program.get_name(), &mut found);
    }
    found
}

#[test]
fn every_help_page_fits_80_columns_and_breaks_no_example() {
    let pages = all();
    assert!(pages.len() > 20, "{} commands", pages.len());
    for (name, command) in pages {
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for text in [command.clone().render_help().to_string(), command.clone().render_long_help().to_string()] {
            for line in text.lines() {
                assert!(line.chars().count() <= COLUMNS, "{name} --help has a line of more than {COLUMNS}: {line}");
            }
            for line in examples.lines() {
                assert!(text.lines().any(|found| found == line), "{name} --help wraps {line}");
            }
        }
    }
}

/// Texts are noun or verb phrases without a full stop, as clap's own; a metavariable, `-` or `[` may begin one.
#[test]
fn every_command_and_option_has_a_text_of_the_same_style() {
    for (name, command) in all() {
        let about = command.get_about().map(ToString::to_string);
        let options = command.get_arguments().filter(|option| !["help", "version"].contains(&option.get_id().as_str()));
        let texts = options.map(|option| (option.get_id().to_string(), option.get_help().map(ToString::to_string)));
        for (of, text) in texts.chain([("(the command)".to_owned(), about)]) {
            let text = text.unwrap_or_default();
            assert!(!text.is_empty() && !text.ends_with('.'), "{name}: {of}: {text:?}");
            assert!(text.starts_with(|first: char| first.is_uppercase()), "{name}: {of}: {text:?}");
        }
    }
}
