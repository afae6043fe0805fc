// SPDX-License-Identifier: Apache-2.0
//! The command line: the daemon, the launcher's commands, and lists.

mod capture;
mod container;
mod control;
mod docker;
mod doctor;
mod events;
mod exchange;
mod host;
mod launch;
mod lock;
mod network;
mod pull;
mod reconcile;
mod remote;
mod run_options;
mod run_values;
mod serve;
mod status;
mod swarm;
mod tenant;
mod terminate;
mod topology;
mod tunnel;
mod vnic;
mod vnic_argument;

use anyhow::Result;
use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  ciao-net launch --tenant red --instance web --subnet 192.168.111.0/24 \\
      --ip 192.168.111.2 --mac 02:00:c0:a8:6f:02 nginx
  ciao-net vnic list --tenant red
  ciao-net terminate web
  docker network create -d ciao-net -o tenant=acme \\
      --ipam-driver ciao-ipam app";

/// Docker network driver: a network namespace for each tenant, VNICs created before containers
#[derive(Parser)]
#[command(name = "ciao-net", version, after_help = EXAMPLES, max_term_width = 80)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon
    Serve(Box<serve::Serve>),
    /// Manage VNICs of launchers
    #[command(subcommand)]
    Vnic(vnic::Command),
    /// Show versions, counts, and problems with their remedies; exit code 1 if there are any
    Status(status::Status),
    /// Check what ciao-net needs of this host; exit code 1 if something is missing
    Doctor(doctor::Doctor),
    /// Show which containers used an address or a host port, and when
    Events(events::Events),
    /// Show tenants, bridges, VNICs, containers and published ports as a tree
    Topology(topology::Topology),
    /// List, show or delete tenants
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// Create a VNIC, its Docker network if needed, and a container on it
    #[command(override_usage = run_options::usage())]
    Launch(Box<launch::Launch>),
    /// Remove an instance: its container, VNICs, and unused Docker networks
    Terminate(terminate::Terminate),
    /// List or show Docker networks of driver ciao-net
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// List container endpoints on networks of driver ciao-net
    #[command(subcommand)]
    Endpoint(network::EndpointCommand),
    /// Run tcpdump on the link of a VNIC or instance
    Capture(capture::Capture),
    /// List or show addresses of tenants on other hosts
    #[command(subcommand)]
    Remote(remote::Command),
    /// List networks over several hosts, or test the path to a host
    #[command(subcommand)]
    Tunnel(tunnel::Command),
    /// Reconcile the database with the kernel, as the daemon does at startup
    Reconcile(reconcile::Reconcile),
    /// List the cluster's hosts, show or restore the settings of this host
    #[command(subcommand)]
    Host(host::HostCommand),
}

/// Runs the command of a program of that version.
pub fn run(cli: Cli, version: &str) -> Result<()> {
    match cli.command {
        Command::Serve(args) => serve::run(&args, version),
        Command::Vnic(command) => vnic::run(command),
        Command::Status(args) => status::run(&args, version),
        Command::Doctor(args) => doctor::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Topology(args) => topology::run(&args),
        Command::Tenant(command) => tenant::run(command),
        Command::Launch(args) => launch::launch(*args),
        Command::Terminate(args) => terminate::terminate(&args),
        Command::Network(command) => network::network(command),
        Command::Endpoint(command) => network::endpoint(command),
        Command::Capture(args) => capture::run(&args),
        Command::Remote(command) => remote::run(command),
        Command::Tunnel(command) => tunnel::run(command),
        Command::Reconcile(args) => reconcile::run(&args),
        Command::Host(command) => host::run(&command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with the words of a command, `_` for an empty one.
    fn usage_error(args: &str) -> String {
        let words = args.split(' ').map(|word| if word == "_" { "" } else { word });
        Cli::try_parse_from(["ciao-net"].into_iter().chain(words))
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn an_empty_name_is_an_error_and_not_the_beginning_of_every_id() {
        let launch = "launch --tenant red --instance web --subnet 10.5.0.0/24 --ip 10.5.0.2 --mac 02:00:0a:05:00:02";
        assert_eq!(usage_error(&format!("{launch} busybox")), "");
        for args in [
            "vnic show _",
            "vnic set --rate none _",
            "vnic delete _",
            "capture _",
            "network show _",
            &format!("{launch} --name _ busybox"),
            &format!("{launch} _ true"),
        ] {
            assert!(usage_error(args).contains("a value is required"), "{args}: {}", usage_error(args));
        }
    }

    #[test]
    fn a_vnic_is_not_set_without_a_change() {
        assert!(usage_error("vnic set web").contains("--rate"), "{}", usage_error("vnic set web"));
        for args in ["vnic set web --rate none", "vnic set web --allow none"] {
            assert_eq!(usage_error(args), "");
        }
    }
}
