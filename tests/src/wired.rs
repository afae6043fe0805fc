// SPDX-License-Identifier: Apache-2.0
//! [`Wired`], a host whose dockerd reaches both plugins through a [`Proxy`], so that a test can have any call fail.

use std::fs;

use anyhow::Result;

use crate::lab::{Builder, Daemon, Host};
use crate::proxy::Proxy;

/// A host with a proxy before each plugin.
pub struct Wired {
    // In the order of dropping: the host's dockerd is gone before its wires.
    /// The host.
    pub host: Host,
    net: Proxy,
    ipam: Proxy,
}

impl Wired {
    /// Opens a host, and lays its wires.
    ///
    /// # Errors
    /// The host does not come up.
    pub fn open(builder: Builder) -> Result<Self> {
        let host = builder.start()?;
        fs::create_dir(host.path("/run/wire"))?;
        // dockerd reads a spec file when the plugin is first used.
        let wire = |plugin: &str| {
            let spec = format!("unix:///run/wire/{plugin}.sock\n");
            fs::write(host.path(format!("/etc/docker/plugins/{plugin}.spec")), spec)?;
            let socket = |folder: &str| host.path(format!("/run/{folder}/{plugin}.sock"));
            Proxy::open(&socket("wire"), &socket("ciao"))
        };
        let (net, ipam) = (wire("ciao-net")?, wire("ciao-ipam")?);
        Ok(Self { host, net, ipam })
    }

    /// Lets dockerd ask the plugins directly, if it has not asked yet.
    ///
    /// # Errors
    /// The spec files cannot be written.
    pub fn bypass(&self) -> Result<()> {
        for plugin in ["ciao-net", "ciao-ipam"] {
            let spec = format!("unix:///run/ciao/{plugin}.sock\n");
            fs::write(self.host.path(format!("/etc/docker/plugins/{plugin}.spec")), spec)?;
        }
        Ok(())
    }

    /// The wire that a method's calls take, and the daemon behind it.
    pub fn behind(&self, method: &str) -> (&Proxy, &Daemon) {
        if method.starts_with("IpamDriver.") {
            (&self.ipam, self.host.ciao_ipam())
        } else {
            (&self.net, self.host.ciao_net())
        }
    }
}
