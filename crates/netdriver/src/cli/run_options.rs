// SPDX-License-Identifier: Apache-2.0
//! The options of `docker run` that `launch` takes, with their names and meaning.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

use super::run_values::{Binding, Bytes, Cpus, Restart, Volume};

/// What `launch` takes of `docker run`.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options of docker run")]
pub(super) struct RunOptions {
    /// Name of the container [default: TENANT.INSTANCE]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(super) name: Option<String>,
    /// Publish a port: [[ADDRESS:]PORT:]PORT[/PROTOCOL], or ranges of them (repeatable)
    #[arg(short, long, value_name = "PORTS")]
    pub(super) publish: Vec<Binding>,
    /// Environment variable, NAME=VALUE, or NAME for its value here (repeatable)
    #[arg(short, long, value_name = "VARIABLE")]
    pub(super) env: Vec<String>,
    /// Mount a volume or a directory: [SOURCE:]TARGET[:OPTIONS] (repeatable)
    #[arg(short, long)]
    pub(super) volume: Vec<Volume>,
    /// Label, NAME=VALUE (repeatable)
    #[arg(long, value_parser = label)]
    pub(super) label: Vec<(String, String)>,
    /// Host name in the container [default: Docker's]
    #[arg(long, value_name = "NAME")]
    pub(super) hostname: Option<String>,
    /// Restart policy: no, on-failure[:RETRIES], always or unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    pub(super) restart: Restart,
    /// Memory limit, such as 512m
    #[arg(short, long, value_name = "BYTES")]
    pub(super) memory: Option<Bytes>,
    /// Number of processors, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub(super) cpus: Option<Cpus>,
    /// Program in place of the image's entry point
    #[arg(long, value_name = "PROGRAM")]
    pub(super) entrypoint: Option<String>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIRECTORY")]
    pub(super) workdir: Option<String>,
    /// User in the container: NAME or UID, :GROUP or :GID
    #[arg(short, long)]
    pub(super) user: Option<String>,
    /// Name server (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    pub(super) dns: Vec<IpAddr>,
    /// When to pull the image
    #[arg(long, value_enum, value_name = "WHEN", default_value = "missing")]
    pub(super) pull: Pull,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Pull {
    /// Before each container
    Always,
    /// If the image is not present
    Missing,
    /// Not at all
    Never,
}

fn label(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    ensure!(!name.is_empty(), "label {text:?} has no name");
    ensure!(!name.starts_with("ciao."), "labels ciao.… are set by launch: give another name");
    Ok((name.to_owned(), value.to_owned()))
}

/// The usage of `launch`, which is also shown when an option is not taken. In short lines: clap does not wrap it.
pub(super) fn usage() -> String {
    let options = RunOptions::augment_args(clap::Command::default());
    let name = |option: &clap::Arg| {
        let short = option.get_short().map_or_else(String::new, |short| format!("-{short} "));
        format!("{short}--{}", option.get_long().unwrap_or_default())
    };
    let names: Vec<_> = options.get_arguments().map(name).collect();
    let lines: Vec<_> = names.chunks(5).map(|names| names.join(", ")).collect();
    format!(
        "ciao-net launch [OPTIONS] --tenant <TENANT> --instance <INSTANCE>
           --subnet <CIDR> --ip <ADDRESS> --mac <MAC> <IMAGE> [COMMAND]...

Of the options of docker run it takes
  {}",
        lines.join(",\n  ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_by_which_an_instance_is_found_are_nobody_else_s() {
        assert!(label("ciao.tenant=blue").is_err() && label("=x").is_err());
    }

    #[test]
    fn the_usage_lists_every_option_that_is_taken() {
        for name in [
            "-p --publish",
            "-e --env",
            "-v --volume",
            "--label",
            "--hostname",
            "--name",
            "--restart",
            "-m --memory",
            "--cpus",
            "--entrypoint",
            "-w --workdir",
            "-u --user",
            "--dns",
            "--pull",
        ] {
            assert!(usage().contains(name), "{name}: {}", usage());
        }
    }
}
