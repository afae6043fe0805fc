//! nftables: whole rulesets by its command, elements by netlink.

pub(in crate::kernel) mod command;
pub(in crate::kernel) mod elements;
