// SPDX-License-Identifier: Apache-2.0
//! [`Lan`], a network between hosts, for everything that takes more than one: tunnels, a swarm, a client outside.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Host;

/// The name of a host's link to a LAN. One host may join several: `lan0`, `lan1`.
const LINK: &str = "lan";

/// An Ethernet segment: a bridge in a network namespace of its own. Dropping it takes the hosts' links away.
#[derive(Debug)]
pub struct Lan {
    /// Does nothing but hold the namespace until its input closes, so nothing is left if we are killed.
    holder: Child,
}

impl Lan {
    /// Makes an empty segment.
    pub fn new() -> Result<Self> {
        let holder = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("run unshare")?;
        let mut lan = Self { holder };
        lan.wait_for_namespace()?;
        lan.ip("link add lan type bridge")?;
        lan.ip("link set lan up")?;
        Ok(lan)
    }

    /// Gives a host a link to this segment with the address `cidr`, and returns the link's name inside.
    pub fn join(&self, host: &Host, cidr: &str) -> Result<String> {
        let count = host.sh(&format!("ls -d /sys/class/net/{LINK}* 2>/dev/null | wc -l"))?;
        let link = format!("{LINK}{count}");
        let port = format!("port{}", host.pid());
        self.ip(&format!("link add {port} type veth peer name {link} netns {}", host.pid()))?;
        self.ip(&format!("link set {port} master lan up"))?;
        host.sh(&format!("ip address add {cidr} dev {link}; ip link set {link} up"))?;
        Ok(link)
    }

    /// `cat` echoes once it runs, and it runs only when unshare has made the namespace.
    fn wait_for_namespace(&mut self) -> Result<()> {
        let (input, output) = (self.holder.stdin.as_mut(), self.holder.stdout.as_mut());
        let (input, output) = input.zip(output).context("hold the streams of unshare")?;
        input.write_all(b"?").and_then(|()| output.read_exact(&mut [0])).context("make the LAN's namespace")
    }

    fn ip(&self, arguments: &str) -> Result<()> {
        let output = Command::new("nsenter")
            .args(["--target", &self.holder.id().to_string(), "--net", "ip"])
            .args(arguments.split(' '))
            .output()
            .context("run nsenter")?;
        ensure!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        if let Err(error) = self.holder.wait() {
            eprintln!("lab: close a LAN: {error}");
        }
    }
}
