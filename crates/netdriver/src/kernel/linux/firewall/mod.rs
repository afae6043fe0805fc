//! The host's own firewall, where it would drop tenants' traffic.

mod firewalld;
mod iptables;

use anyhow::Result;

use super::Linux;
use crate::kernel::{Firewall, FirewallOpening};
pub(super) use iptables::is_legacy;

impl Firewall for Linux {
    fn open_firewall(&self, opening: &FirewallOpening) -> Result<()> {
        iptables::open(opening)?;
        if *opening == FirewallOpening::Uplinks { firewalld::open() } else { Ok(()) }
    }

    fn close_firewall(&self, opening: &FirewallOpening) -> Result<()> {
        iptables::close(opening)?;
        if *opening == FirewallOpening::Uplinks { firewalld::close() } else { Ok(()) }
    }
}
