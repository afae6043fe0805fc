// SPDX-License-Identifier: Apache-2.0
//! `capture`: tcpdump on a VNIC's link, in the network namespace where that is.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use super::control::Control;
use super::vnic_argument::VnicArgument;

/// Where the names of network namespaces are.
const NAMESPACES: &str = "/run/netns";

#[derive(Args)]
pub(super) struct Capture {
    #[command(flatten)]
    vnic: VnicArgument,
    /// Options and filter for tcpdump, such as "-- -w web.pcap tcp port 80"
    #[arg(last = true, value_name = "TCPDUMP")]
    tcpdump: Vec<OsString>,
    #[command(flatten)]
    control: Control,
}

pub(super) fn run(args: &Capture) -> Result<()> {
    // nsenter, which starts it, would not say what to do.
    Command::new("tcpdump").arg("--version").output().context("run tcpdump: install it first")?;
    let vnic = args.vnic.find(&args.control.client()?)?;
    let words = command(vnic.namespace.as_deref(), vnic.host_link.as_str(), &args.tcpdump);
    let error = Command::new(&words[0]).args(&words[1..]).exec();
    Err(error).with_context(|| format!("run {}: install util-linux", words[0].display()))
}

/// On the bridge's side: what the container sends is there before its rules, and what it receives after them.
fn command(namespace: Option<&str>, link: &str, tcpdump: &[OsString]) -> Vec<OsString> {
    let enter =
        namespace.map(|name| [OsString::from("nsenter"), format!("--net={NAMESPACES}/{name}").into(), "--".into()]);
    let listen = ["tcpdump", "-n", "-i", link].map(OsString::from);
    enter.into_iter().flatten().chain(listen).chain(tcpdump.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn tcpdump_listens_on_the_vnic_s_link_in_its_namespace() {
        let words = |namespace| command(namespace, "hv0123456789", &["icmp".into()]).join(OsStr::new(" "));
        assert_eq!(words(Some("ciao-red")), "nsenter --net=/run/netns/ciao-red -- tcpdump -n -i hv0123456789 icmp");
        assert_eq!(words(None), "tcpdump -n -i hv0123456789 icmp", "on a bridge of the host");
    }
}
