// SPDX-License-Identifier: Apache-2.0
//! What the kernel reports of links, addresses, routes, forwarding and rules that change, in the host's namespace and
//! in the tenants'.
//!
//! Two sockets in the host's namespace receive the reports of every namespace that has an id there
//! (`NETLINK_LISTEN_ALL_NSID` of netlink(7), which needs `CAP_NET_BROADCAST`); the id comes beside each message.

use std::collections::btree_map::Entry;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;
use nix::libc::{NETLINK_LISTEN_ALL_NSID, SOL_NETLINK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::datagram::messages;
use super::nsid::{self, Ids};
use crate::kernel::Namespace;
use crate::kernel::state::{Changes, Watch};

/// `RTNLGRP_*` of linux/rtnetlink.h: LINK, NEIGH (and forwarding databases), IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR,
/// IPV6_ROUTE, IPV4_NETCONF, IPV6_NETCONF, NSID, NEXTHOP.
const ROUTE_GROUPS: [u32; 10] = [1, 3, 5, 7, 9, 11, 24, 25, 28, 32];
/// `NFNLGRP_NFTABLES` of linux/netfilter/nfnetlink.h.
const NFTABLES_GROUP: u32 = 7;
/// Bytes of reports that may wait; what does not fit is lost, and the kernel reports that.
const BACKLOG: usize = 1 << 20;
/// A report is smaller than NLMSG_GOODSIZE, which grows with the page size.
const DATAGRAM: usize = 64 << 10;
/// How long the reports that follow the first one are waited for: one container's are some thirty, and what is looked
/// at for each is looked at once for all.
const GATHER: Duration = Duration::from_millis(20);
/// Ids come and go with every container of the host; they are not read again for each.
const READ_IDS_EVERY: Duration = Duration::from_secs(1);

/// The sockets, and what the ids mean.
pub(super) struct Reports {
    route: Socket,
    rules: Socket,
    ids: Ids,
    /// Ids came, went, or are not in `ids`.
    is_stale: bool,
    read_ids: Instant,
    buffer: Vec<u8>,
}

/// Subscribes to the reports.
pub(super) fn open() -> Result<Reports> {
    let route = socket(NETLINK_ROUTE, &ROUTE_GROUPS).context("subscribe to link notifications")?;
    let rules = socket(NETLINK_NETFILTER, &[NFTABLES_GROUP]).context("subscribe to nftables notifications")?;
    let (ids, buffer) = (nsid::read()?, vec![0; DATAGRAM]);
    Ok(Reports { route, rules, ids, is_stale: false, read_ids: Instant::now(), buffer })
}

fn socket(protocol: isize, groups: &[u32]) -> Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.set_listen_all_namespaces(true).context("NETLINK_LISTEN_ALL_NSID (needs CAP_NET_BROADCAST)")?;
    socket.set_rx_buf_sz(BACKLOG)?;
    groups.iter().try_for_each(|group| socket.add_membership(*group))?;
    Ok(socket)
}

/// What a message is about.
enum Subject {
    Links,
    /// Routes that are gone and those that came.
    Routes {
        gone: bool,
        is_default: bool,
    },
    /// Neighbours, which change all the time on the host, where none is ciao's alone.
    Neighbours,
    Rules,
    /// Namespaces got or lost ids.
    Ids,
}

/// The messages that say that something may be missing now, or that the host has a route more.
fn subject((kind, body): (u16, &[u8])) -> Option<Subject> {
    // Of struct rtmsg (linux/rtnetlink.h) the second byte is the prefix length.
    let is_default = body.get(1) == Some(&0);
    match kind {
        // RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR, RTM_NEWNETCONF (forwarding), RTM_DELNEXTHOP, with which
        // entries go that are not reported.
        16 | 17 | 20 | 21 | 80 | 105 => Some(Subject::Links),
        // RTM_NEWROUTE, RTM_DELROUTE.
        24 => Some(Subject::Routes { gone: false, is_default }),
        25 => Some(Subject::Routes { gone: true, is_default }),
        // RTM_DELNEIGH.
        29 => Some(Subject::Neighbours),
        // RTM_NEWNSID, RTM_DELNSID.
        88 | 89 => Some(Subject::Ids),
        // NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN: a transaction was committed.
        0x0a0f => Some(Subject::Rules),
        _ => None,
    }
}

impl Reports {
    /// Reads what waits on both sockets.
    fn read_all(&mut self, changes: &mut Changes) -> Result<()> {
        for number in 0..2 {
            loop {
                let socket = if number == 0 { &self.route } else { &self.rules };
                match receive(socket, &mut self.buffer) {
                    Ok((length, id)) => self.is_stale |= note(&self.buffer[..length], id, &mut self.ids, changes),
                    Err(Errno::EAGAIN) => break,
                    Err(Errno::EINTR) => {}
                    // The kernel had more to report than the socket holds.
                    Err(Errno::ENOBUFS) => changes.lost = true,
                    Err(errno) => return Err(std::io::Error::from(errno)).context("receive kernel notifications"),
                }
            }
        }
        Ok(())
    }

    /// Reads the ids again, if they changed. What was reported of a namespace before its id was known is not lost.
    fn refresh_ids(&mut self, changes: &mut Changes) -> Result<()> {
        if !self.is_stale || self.read_ids.elapsed() < READ_IDS_EVERY {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.ids, nsid::read()?);
        (self.is_stale, self.read_ids) = (false, Instant::now());
        for (id, name) in &self.ids {
            if let Some(name) = name
                && before.get(id) != Some(&Some(name.clone()))
            {
                changes.links.insert(Namespace::Named(name.clone()));
                changes.rules.insert(Namespace::Named(name.clone()));
            }
        }
        Ok(())
    }
}

/// Notes what a datagram reports. `true`: the ids are to be read again.
fn note(datagram: &[u8], id: Option<i32>, ids: &mut Ids, changes: &mut Changes) -> bool {
    let mut is_stale = false;
    let namespace = match id.map(|id| ids.entry(id)) {
        None => Some(Namespace::Host),
        Some(Entry::Occupied(known)) => known.get().clone().map(Namespace::Named),
        Some(Entry::Vacant(unknown)) => {
            unknown.insert(None);
            is_stale = true;
            None
        }
    };
    for subject in messages(datagram).filter_map(subject) {
        match (subject, &namespace) {
            (Subject::Ids, _) => is_stale = true,
            (Subject::Routes { is_default, .. }, Some(Namespace::Host)) => {
                changes.routes = true;
                // Traffic may leave the host by another link.
                if is_default {
                    changes.links.insert(Namespace::Host);
                }
            }
            (Subject::Neighbours, Some(Namespace::Host)) | (Subject::Routes { gone: false, .. }, Some(_)) => {}
            (Subject::Links | Subject::Neighbours | Subject::Routes { .. }, Some(namespace)) => {
                changes.links.insert(namespace.clone());
            }
            (Subject::Rules, Some(namespace)) => {
                changes.rules.insert(namespace.clone());
            }
            (_, None) => {}
        }
    }
    is_stale
}

/// One datagram into `buffer`: its length, and the id of the namespace it is about unless that is the host's.
fn receive(socket: &Socket, buffer: &mut [u8]) -> nix::Result<(usize, Option<i32>)> {
    let mut space = nix::cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(buffer)];
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
    let id = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Unknown(unknown)
            if (unknown.cmsg_header.cmsg_level, unknown.cmsg_header.cmsg_type)
                == (SOL_NETLINK, NETLINK_LISTEN_ALL_NSID) =>
        {
            Some(i32::from_ne_bytes(unknown.data_bytes.get(..4)?.try_into().ok()?))
        }
        _ => None,
    });
    Ok((received.bytes, id))
}

impl Watch for Reports {
    fn wait(&mut self, patience: Duration) -> Result<Changes> {
        let patience = if self.is_stale { patience.min(READ_IDS_EVERY) } else { patience };
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut sockets = [&self.route, &self.rules].map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        match poll(&mut sockets, timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => std::thread::sleep(GATHER),
            Err(errno) => return Err(std::io::Error::from(errno)).context("wait for kernel notifications"),
        }
        let mut changes = Changes::default();
        self.read_all(&mut changes)?;
        self.refresh_ids(&mut changes)?;
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::datagram::tests::message;
    use super::*;

    #[test]
    fn an_unknown_id_is_read_once_and_a_known_one_is_noted() {
        let mut ids = BTreeMap::from([(3, Some("ciao-red".to_owned()))]);
        let mut changes = Changes::default();
        assert!(note(&message(17, 16), Some(4), &mut ids, &mut changes));
        assert!(!note(&message(17, 16), Some(4), &mut ids, &mut changes), "it is a container's");
        assert!(!note(&message(24, 16), Some(3), &mut ids, &mut changes), "a new route takes nothing away");
        assert_eq!(changes, Changes::default());
        assert!(!note(&message(17, 16), Some(3), &mut ids, &mut changes));
        assert!(!note(&message(24, 16), None, &mut ids, &mut changes));
        assert!(std::mem::take(&mut changes.routes), "the host has a route more");
        assert!(!note(&message(29, 16), None, &mut ids, &mut changes), "a neighbour of the host's is not ciao's");
        assert!(!note(&message(0x0a0f, 16), None, &mut ids, &mut changes));
        assert!(note(&message(89, 16), None, &mut ids, &mut changes), "an id may mean another namespace now");
        assert_eq!(changes.links, [Namespace::Named("ciao-red".into())].into());
        assert!(!note(&message(24, 28), None, &mut ids, &mut changes));
        assert!(changes.links.contains(&Namespace::Host), "with a default route, traffic may leave by another link");
        assert_eq!(changes.rules, [Namespace::Host].into());
    }
}
