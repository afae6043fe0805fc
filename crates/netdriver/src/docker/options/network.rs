// SPDX-License-Identifier: Apache-2.0
//! The options of a network (`docker network create -o`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use ciao_common::api::go::Options;
use ciao_common::api::network::{INTERNAL, MTU};
use ciao_common::store::{Egress, Egress6, HostPort, Route, VnicPolicy};
use ciao_common::types::{LinkName, Mtu, Subnet, TenantId, parse_address};

use super::routes::parse_routes;
use super::{UserOptions, refuse_unknown};
use crate::names;

/// The options of a network of ciao-net.
const KNOWN: &str = "tenant bridge host_bridge cnci vnics egress egress6 egress_allow host_access dst_prefix routes \
                     port_security icc vni encrypted flood com.docker.network.driver.mtu";

/// The options of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkOptions {
    /// `tenant`. None: a namespace of the network's own, unless a launcher's VNICs determine the tenant.
    pub tenant: Option<TenantId>,
    /// `bridge`, or `host_bridge`: its name. None: one made up.
    pub bridge: Option<LinkName>,
    /// `host_bridge`: a bridge of the host, without isolation and anti-spoofing.
    pub on_host: bool,
    /// `cnci`: the concentrator, which is the default gateway.
    pub cnci: Option<IpAddr>,
    /// `vnics=auto|required`.
    pub vnics: VnicPolicy,
    /// `egress=nat|gateway|docker|none`. None: it depends on the bridge, see [`Self::egress`].
    pub egress: Option<Egress>,
    /// `egress6=nat|route|none`: how IPv6 leaves, if `egress` is `nat`.
    pub egress6: Egress6,
    /// `egress_allow=CIDR,…`: what is reached in spite of `serve --egress-deny`, if `egress` is `nat`.
    pub egress_allow: Vec<Subnet>,
    /// `host_access=PORT[/udp],…`: ports of the host's own services that are reached, if `egress` is `nat`.
    pub host_access: Vec<HostPort>,
    /// `dst_prefix`: name of the container's interface, before its number.
    pub dst_prefix: String,
    /// `routes`: `10.0.0.0/8=192.168.111.254,…`; a subnet alone is on the link.
    pub routes: Vec<Route>,
    /// `vni`: its identifier in the tunnels between hosts. None, or `none`: it is on one host.
    pub vni: Option<u32>,
    /// `encrypted=required`: it leads to other hosts over an encrypted link only.
    pub encrypted: bool,
    /// `flood=on|off`: whether broadcast and multicast go to other hosts.
    pub flood: bool,
    /// `port_security=on|off`: anti-spoofing.
    pub port_security: bool,
    /// `icc=on|off`: whether its containers reach each other.
    pub icc: bool,
    /// `com.docker.network.driver.mtu`, in bytes.
    pub mtu: Option<Mtu>,
    /// `docker network create --internal`.
    pub internal: bool,
}

impl NetworkOptions {
    /// Reads `CreateNetwork`'s options.
    ///
    /// # Errors
    /// An unknown option, with a list of the known ones; an invalid value.
    pub fn parse(options: &Options) -> Result<Self> {
        let empty = options.empty_generic();
        refuse_unknown(&empty, KNOWN, "--opt")?;
        ensure!(empty.is_empty(), "--opt {}= is empty: give a value, or omit the option", empty.join("=, --opt "));
        Self::parse_generic(&options.generic(), options.flag(INTERNAL))
    }

    /// Reads the user's options alone, as `AllocateNetwork` has them.
    pub fn parse_generic(user: &BTreeMap<String, String>, internal: bool) -> Result<Self> {
        refuse_unknown(user.keys(), KNOWN, "--opt")?;
        let given = UserOptions(user);
        let (bridge, on_host) = (given.parsed("bridge")?, given.parsed("host_bridge")?);
        ensure!(
            bridge.is_none() || on_host.is_none(),
            "--opt bridge and --opt host_bridge exclude each other: a network is on one bridge"
        );
        let options = Self {
            tenant: given.parsed("tenant")?,
            on_host: on_host.is_some(),
            bridge: bridge.or(on_host),
            cnci: given.text("cnci").map(parse_address).transpose().context("--opt cnci")?,
            vnics: given.parsed("vnics")?.unwrap_or(VnicPolicy::Auto),
            egress: given.parsed("egress")?,
            egress6: given.parsed("egress6")?.unwrap_or(Egress6::Nat),
            egress_allow: given.parsed_list("egress_allow")?,
            host_access: given.parsed_list("host_access")?,
            dst_prefix: given.text("dst_prefix").unwrap_or("eth").to_owned(),
            routes: parse_routes(given.list("routes")).context("--opt routes")?,
            port_security: given.switch("port_security")?,
            icc: given.switch("icc")?,
            vni: given.text("vni").filter(|text| *text != "none").map(parse_vni).transpose()?,
            encrypted: given.text("encrypted").map(parse_encrypted).transpose()?.is_some(),
            flood: given.text("flood").is_some() && given.switch("flood")?,
            mtu: given.text(MTU).map(str::parse).transpose()?,
            internal,
        };
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<()> {
        self.bridge.as_ref().map_or(Ok(()), names::check_bridge)?;
        // The engine adds a number of up to four digits.
        let prefix = &self.dst_prefix;
        let fits = prefix.len() <= 11 && prefix.parse::<LinkName>().is_ok_and(|name| name.is_plain());
        ensure!(fits, "--opt dst_prefix={prefix}: give 1 to 11 letters or digits, such as eth");
        let egress_but = |allowed| self.egress.filter(|egress| *egress != allowed);
        if let (true, Some(egress)) = (self.internal, egress_but(Egress::None)) {
            bail!("--opt egress={egress} provides egress, but the network is --internal: omit one of them");
        }
        ensure!(
            self.vni.is_none() || (self.tenant.is_some() && !self.on_host),
            "--opt vni needs a tenant, and a bridge that ciao-net makes: give -o tenant=T, and no host_bridge"
        );
        for (name, given) in [("encrypted", self.encrypted), ("flood", self.flood)] {
            ensure!(self.vni.is_some() || !given, "--opt {name} is for networks over several hosts: give --opt vni");
        }
        if let (Some(_), Some(egress)) = (self.cnci, egress_but(Egress::Gateway)) {
            bail!(
                "--opt egress={egress} and --opt cnci exclude each other: with a CNCI, the CNCI is the default gateway"
            );
        }
        Ok(())
    }

    /// What acts as the default gateway, on a bridge of ciao-net or of the host.
    ///
    /// # Errors
    /// `egress=nat` on a bridge of the host, whose addresses ciao-net does not change.
    pub fn egress(&self, bridge_is_ours: bool) -> Result<Egress> {
        match self.egress {
            Some(Egress::Nat) if !bridge_is_ours => bail!(
                "--opt egress=nat needs a bridge of ciao-net, and this one is a bridge of the host: \
                 give --opt bridge in place of host_bridge, or egress=gateway"
            ),
            Some(egress) => Ok(egress),
            None if self.internal => Ok(Egress::None),
            None if self.cnci.is_some() || !bridge_is_ours => Ok(Egress::Gateway),
            None => Ok(Egress::Nat),
        }
    }
}

/// A VXLAN network identifier, of 24 bits.
fn parse_vni(text: &str) -> Result<u32> {
    let vni = text.parse().ok().filter(|vni| (1..1 << 24).contains(vni));
    vni.with_context(|| format!("--opt vni={text}: give a number from 1 to 16777215, the same on every host, or none"))
}

fn parse_encrypted(text: &str) -> Result<()> {
    ensure!(text == "required", "--opt encrypted={text}: give required, or omit the option");
    Ok(())
}

#[cfg(test)]
mod tests;
