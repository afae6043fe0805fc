// SPDX-License-Identifier: Apache-2.0
//! Ids of ciao's namespaces in the host's, by which the kernel's reports name them.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use nix::errno::Errno;

use super::namespace;
use super::netlink::Netlink;
use crate::names;

/// Which namespace an id is; `None` for one that is not ciao's, such as a container's.
pub(super) type Ids = BTreeMap<i32, Option<String>>;

/// Gives each of ciao's namespaces an id in the host's, unless it has one, and lists them.
pub(super) fn read() -> Result<Ids> {
    let mut netlink = Netlink::open()?;
    let mut found = BTreeMap::new();
    for name in namespace::list(&names::NAMESPACE_PREFIXES)? {
        // One that cannot be opened is reported by whoever needs it.
        let Ok(Some(file)) = namespace::open(&name) else { continue };
        if let Some(id) = identify(&mut netlink, &file)? {
            found.insert(id, Some(name));
        }
    }
    Ok(found)
}

/// A namespace's id in the host's, assigned now if it had none; `None` for a file that is another kind of namespace.
pub(super) fn identify(netlink: &mut Netlink, namespace: &impl AsRawFd) -> Result<Option<i32>> {
    let fd = NsidAttribute::Fd(u32::try_from(namespace.as_raw_fd()).context("a file descriptor is negative")?);
    let message = |more: &[NsidAttribute]| {
        let mut message = NsidMessage::default();
        message.attributes.push(fd.clone());
        message.attributes.extend_from_slice(more);
        message
    };
    let assign = RouteNetlinkMessage::NewNsId(message(&[NsidAttribute::Id(-1)]));
    match netlink.request(assign, 0)? {
        Ok(_) | Err(Errno::EEXIST) => {}
        Err(Errno::EINVAL) => return Ok(None),
        Err(errno) => return Err(std::io::Error::from(errno)).context("assign an ID to a network namespace"),
    }
    let replies = netlink.request(RouteNetlinkMessage::GetNsId(message(&[])), 0)?.map_err(std::io::Error::from)?;
    Ok(replies.iter().find_map(|reply| match reply {
        RouteNetlinkMessage::NewNsId(found) => found.attributes.iter().find_map(|attribute| match attribute {
            NsidAttribute::Id(id) if *id >= 0 => Some(*id),
            _ => None,
        }),
        _ => None,
    }))
}
