//! The host's own firewall, as far as it stands in the way.

mod firewalld;
mod iptables;

pub(in crate::kernel) use iptables::{close, is_legacy, open};
