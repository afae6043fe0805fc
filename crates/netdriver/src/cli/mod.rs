//! The command line: the daemon, the launcher's commands, and lists for people and programs.

mod docker;
mod launch;
mod serve;

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ciao_common::cli::table::{self, List};
use ciao_common::types::{
    InstanceId, LinkName, MacAddr, Mtu, NetworkId, Rate, Subnet, TenantId, VnicId, parse_address,
};
use clap::{Args, Parser, Subcommand};
use serde_json::Value;

use crate::launcher::VnicRequest;
use crate::reconcile::Repair;
use ciao_common::cli::client::Client;

const EXAMPLES: &str = "\
Examples:
  ciao-net launch --tenant red --instance web --subnet 192.168.111.0/24 --ip 192.168.111.2 --mac 02:00:c0:a8:6f:02 nginx
  ciao-net vnic list --tenant red
  ciao-net terminate web
  docker network create -d ciao-net --ipam-driver ciao-ipam -o tenant=acme --ipam-opt tenant=acme app";

/// Network plugin for Docker: tenants are network namespaces, VNICs are made before Docker asks.
#[derive(Parser)]
#[command(name = "ciao-net", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon.
    Serve(serve::Serve),
    /// VNICs of launchers.
    #[command(subcommand)]
    Vnic(VnicCommand),
    /// Make a VNIC, its Docker network if needed, and run a container on it.
    Launch(Box<launch::Launch>),
    /// Remove an instance's container, its VNICs, and a Docker network that nothing is left on.
    Terminate(launch::Terminate),
    /// Docker networks of driver ciao-net.
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Containers' attachments to them.
    #[command(subcommand)]
    Endpoint(ListCommand),
    /// Bring records and kernel together again, as the daemon does at its start.
    Reconcile(Reconcile),
}

#[derive(Args)]
struct Control {
    /// The daemon's control socket.
    #[arg(long, default_value = "/run/ciao/control.sock")]
    control: PathBuf,
}

impl Control {
    fn server(&self) -> Result<Client> {
        Client::new("ciao-net", self.control.clone())
    }
}

#[derive(Subcommand)]
enum VnicCommand {
    /// Make one: veth pair, MAC address, bridge. Prints it, and the Docker network to make.
    Create(Box<Create>),
    /// List them.
    List(List),
    /// Show one.
    Show(Show),
    /// Delete one, with its reservation.
    Delete(Delete),
}

/// A VNIC to make.
#[derive(Args)]
struct Wanted {
    /// Whose.
    #[arg(long)]
    tenant: TenantId,
    /// What it is for.
    #[arg(long)]
    instance: InstanceId,
    /// The tenant's subnet, such as 192.168.111.0/24.
    #[arg(long)]
    subnet: Subnet,
    /// The instance's address in it.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    ip: IpAddr,
    /// Of the instance's interface.
    #[arg(long)]
    mac: MacAddr,
    /// The subnet's gateway; its first address unless given.
    #[arg(long, value_parser = parse_address)]
    gateway: Option<IpAddr>,
    /// In bytes.
    #[arg(long)]
    mtu: Option<Mtu>,
    /// The tenant's bridge; one for the subnet unless given.
    #[arg(long)]
    bridge: Option<LinkName>,
    /// A bridge of the host's own, without isolation and port security.
    #[arg(long, conflicts_with = "bridge")]
    host_bridge: Option<LinkName>,
    /// A second address, for dual stack.
    #[arg(long, value_name = "ADDRESS", requires = "subnet6", value_parser = parse_address)]
    ip6: Option<IpAddr>,
    /// Its subnet.
    #[arg(long, value_name = "SUBNET", requires = "ip6")]
    subnet6: Option<Subnet>,
    /// A further address that the instance may send with, such as a virtual IP. Repeat for more.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    allow: Vec<IpAddr>,
    /// How fast it may be, each way, such as 100mbit.
    #[arg(long)]
    rate: Option<Rate>,
    /// The Docker network's name; TENANT-SUBNET unless given.
    #[arg(long)]
    network: Option<String>,
}

impl Wanted {
    fn request(&self) -> Result<VnicRequest> {
        let request = VnicRequest {
            tenant: self.tenant.clone(),
            instance: self.instance.clone(),
            subnet: self.subnet,
            address: self.ip,
            mac: self.mac,
            gateway: self.gateway,
            mtu: self.mtu,
            bridge: self.bridge.clone(),
            host_bridge: self.host_bridge.clone(),
            address6: self.ip6,
            subnet6: self.subnet6,
            allowed_addresses: self.allow.clone(),
            rate: self.rate,
            network: self.network.clone(),
        };
        request.checked()
    }
}

#[derive(Args)]
struct Create {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    control: Control,
    /// JSON for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Show {
    /// Its id.
    id: VnicId,
    #[command(flatten)]
    control: Control,
    /// JSON for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Delete {
    /// Its id.
    id: VnicId,
    /// Even when a running container has it.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    control: Control,
    /// JSON for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum NetworkCommand {
    /// List them.
    List(List),
    /// Show one, with its namespace, uplink, published ports and rules.
    Show(ShowNetwork),
}

#[derive(Args)]
struct ShowNetwork {
    /// Docker's id, or its beginning. Docker tells no driver a network's name.
    id: NetworkId,
    #[command(flatten)]
    control: Control,
    /// JSON for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum ListCommand {
    /// List them.
    List(List),
}

#[derive(Args)]
struct Reconcile {
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Ask Docker for its networks too, and forget those that it does not know.
    #[arg(long)]
    docker: bool,
    #[command(flatten)]
    engine: docker::Docker,
    #[command(flatten)]
    control: Control,
    /// JSON for programs.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// A sentence for the user.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Vnic(command) => vnic(command),
        Command::Launch(args) => launch::launch(&args),
        Command::Terminate(args) => launch::terminate(&args),
        Command::Network(NetworkCommand::Show(args)) => show_network(&args),
        Command::Network(NetworkCommand::List(list)) => list.run(|tx| tx.network_rows(), |row| row.tenant.as_ref()),
        Command::Endpoint(ListCommand::List(list)) => list.run(|tx| tx.endpoint_rows(), |row| row.tenant.as_ref()),
        Command::Reconcile(args) => reconcile(&args),
    }
}

fn vnic(command: VnicCommand) -> Result<()> {
    match command {
        VnicCommand::Create(args) => {
            let made = args.control.server()?.post("/v1/vnics", &args.wanted.request()?)?.success()?;
            table::print_one(&if args.json { made } else { flat(made) }, args.json)
        }
        VnicCommand::List(list) => list.run(|tx| tx.vnic_rows(), |row| row.tenant.as_ref()),
        VnicCommand::Show(args) => {
            let found = args.control.server()?.get(&format!("/v1/vnics/{}", args.id))?.success()?;
            table::print_one(&if args.json { found } else { flat(found) }, args.json)
        }
        VnicCommand::Delete(args) => {
            let path = format!("/v1/vnics/{}?force={}", args.id, args.force);
            let deleted = args.control.server()?.delete(&path)?.success()?;
            table::print_one(&if args.json { deleted } else { flat(deleted) }, args.json)
        }
    }
}

/// The network's fields beside the others, without the body for Docker, for people.
fn flat(mut value: Value) -> Value {
    let network = value.as_object_mut().and_then(|fields| fields.remove("network"));
    for (key, field) in network.as_ref().and_then(Value::as_object).into_iter().flatten() {
        if key != "docker" {
            value[format!("network_{key}")] = field.clone();
        }
    }
    value
}

fn show_network(args: &ShowNetwork) -> Result<()> {
    let network = args.control.server()?.get(&format!("/v1/networks/{}", args.id))?.success()?;
    table::print_one(&network, args.json)
}

fn reconcile(args: &Reconcile) -> Result<()> {
    let path = format!("/v1/reconcile?dry_run={}", args.dry_run);
    let known = if args.docker { docker::known(&args.engine)? } else { Value::Null };
    let done = args.control.server()?.post(&path, &known)?.success()?;
    let repairs: Vec<Repair> = serde_json::from_value(done).context("read the daemon's answer")?;
    table::print(&repairs, args.json)?;
    let failed = repairs.iter().filter(|repair| repair.error.is_some()).count();
    ensure!(failed == 0, "{failed} of {} repairs could not be made: see the column error", repairs.len());
    Ok(())
}
