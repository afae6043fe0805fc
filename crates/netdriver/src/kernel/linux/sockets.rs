// SPDX-License-Identifier: Apache-2.0
//! Idle netlink sockets, kept for the next call in the same namespace.
//!
//! When a netfilter socket is closed, the kernel has the lock of its namespace's rules and waits for an RCU grace
//! period if elements were deleted: some 14 ms for whoever changes rules next. So sockets are used again, and closed
//! when nobody used them for a while. Until then a socket keeps its namespace alive, with all links: not for long, so
//! that the kernel reports soon what became of a namespace that somebody else deleted.

use std::ops::{Deref, DerefMut};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ciao_common::sync::lock;
use netlink_sys::Socket;

use super::netlink::{Message, Netlink};

/// After so long an idle socket is closed.
pub(super) const QUIET: Duration = Duration::from_millis(500);
/// How many are kept. Each is an open file.
const MOST: usize = 64;

/// A namespace: device and inode of its file, which no other one has as long as a socket is kept.
pub(super) type NamespaceFile = (u64, u64);

/// The idle sockets of all namespaces.
pub(super) struct Sockets {
    state: Mutex<State>,
    quiet: Duration,
    wake: Sender<()>,
}

#[derive(Default)]
struct State {
    /// Those that are idle for the longest time first.
    idle: Vec<Idle>,
    /// The thread that closes them is at work.
    is_watched: bool,
}

struct Idle {
    place: NamespaceFile,
    protocol: isize,
    socket: Socket,
    sequence: u32,
    since: Instant,
}

impl Sockets {
    /// None yet, and the thread that closes those that were idle for `quiet`. It ends when this is dropped.
    pub(super) fn new(quiet: Duration) -> Result<Arc<Self>> {
        let (wake, woken) = channel();
        let sockets = Arc::new(Self { state: Mutex::default(), quiet, wake });
        let weak = Arc::downgrade(&sockets);
        let thread = std::thread::Builder::new().name("idle-sockets".into());
        thread.spawn(move || close_quiet(&weak, quiet, &woken)).context("start the thread that closes sockets")?;
        Ok(sockets)
    }

    /// An idle socket of a namespace, or a new one, which `open` opens there. It is kept when it is dropped.
    pub(super) fn take<M: Message>(
        self: &Arc<Self>,
        place: NamespaceFile,
        open: impl FnOnce() -> Result<Netlink<M>>,
    ) -> Result<Kept<M>> {
        let idle = {
            let idle = &mut lock(&self.state).idle;
            let found = idle.iter().rposition(|one| one.place == place && one.protocol == M::PROTOCOL);
            found.map(|at| idle.remove(at))
        };
        let netlink = match idle {
            Some(Idle { socket, sequence, .. }) => Netlink::resumed(socket, sequence),
            None => open()?,
        };
        Ok(Kept { netlink: Some(netlink), place, sockets: Arc::clone(self) })
    }

    fn keep<M: Message>(&self, place: NamespaceFile, netlink: Netlink<M>) {
        let Some((socket, sequence)) = netlink.into_idle() else { return };
        let mut state = lock(&self.state);
        state.idle.push(Idle { place, protocol: M::PROTOCOL, socket, sequence, since: Instant::now() });
        let surplus = (state.idle.len() > MOST).then(|| state.idle.remove(0));
        if !std::mem::replace(&mut state.is_watched, true) {
            // Without the thread they are bounded all the same.
            let _ = self.wake.send(());
        }
        drop(state);
        drop(surplus);
    }

    /// Closes those of a namespace that is being deleted.
    pub(super) fn close(&self, place: NamespaceFile) {
        let closed: Vec<_> = lock(&self.state).idle.extract_if(.., |one| one.place == place).collect();
        drop(closed);
    }

    /// Takes out those that are quiet, and returns whether others are left: without any, the thread waits to be woken.
    fn take_quiet(&self) -> (Vec<Idle>, bool) {
        let mut state = lock(&self.state);
        let count = state.idle.partition_point(|one| one.since.elapsed() >= self.quiet);
        let quiet = state.idle.drain(..count).collect();
        state.is_watched = !state.idle.is_empty();
        (quiet, state.is_watched)
    }
}

fn close_quiet(sockets: &Weak<Sockets>, quiet: Duration, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        loop {
            std::thread::sleep(quiet);
            let Some(sockets) = sockets.upgrade() else { return };
            let (closed, are_more) = sockets.take_quiet();
            drop(closed);
            if !are_more {
                break;
            }
        }
    }
}

/// A socket that goes back to the idle ones.
pub(super) struct Kept<M: Message> {
    netlink: Option<Netlink<M>>,
    place: NamespaceFile,
    sockets: Arc<Sockets>,
}

impl<M: Message> Deref for Kept<M> {
    type Target = Netlink<M>;

    fn deref(&self) -> &Self::Target {
        self.netlink.as_ref().expect("taken when it is dropped")
    }
}

impl<M: Message> DerefMut for Kept<M> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.netlink.as_mut().expect("taken when it is dropped")
    }
}

impl<M: Message> Drop for Kept<M> {
    fn drop(&mut self) {
        if let Some(netlink) = self.netlink.take() {
            self.sockets.keep(self.place, netlink);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use netlink_packet_route::RouteNetlinkMessage;

    use super::super::message;
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// A socket, and whether it is a new one.
    fn take(sockets: &Arc<Sockets>, place: NamespaceFile) -> (Kept<RouteNetlinkMessage>, bool) {
        let mut is_new = false;
        let open = || Netlink::open().inspect(|_| is_new = true);
        let kept = sockets.take(place, open).unwrap();
        (kept, is_new)
    }

    fn idle(sockets: &Sockets) -> Vec<NamespaceFile> {
        lock(&sockets.state).idle.iter().map(|one| one.place).collect()
    }

    #[test]
    fn a_socket_is_used_again_in_its_namespace_alone_until_that_is_deleted() {
        let sockets = Sockets::new(LONG).unwrap();
        for expected in [true, false, false] {
            let (mut socket, is_new) = take(&sockets, (1, 1));
            assert_eq!(is_new, expected);
            assert!(socket.find(&"lo".parse().unwrap()).unwrap().is_some());
        }
        assert!(take(&sockets, (1, 2)).1, "another namespace");
        assert_eq!(idle(&sockets), [(1, 1), (1, 2)]);
        sockets.close((1, 1));
        assert_eq!(idle(&sockets), [(1, 2)]);
    }

    #[test]
    fn sockets_are_closed_when_nobody_used_them_for_a_while_again_and_again() {
        let sockets = Sockets::new(Duration::from_millis(10)).unwrap();
        for _ in 0..3 {
            drop(take(&sockets, (1, 1)));
            let since = Instant::now();
            while !idle(&sockets).is_empty() {
                assert!(since.elapsed() < Duration::from_secs(20), "an idle socket stays open");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    #[test]
    fn a_socket_whose_reply_was_not_read_to_its_end_is_closed() {
        let sockets = Sockets::new(LONG).unwrap();
        let (mut socket, _) = take(&sockets, (1, 1));
        let list = || socket.dump(message::get_all(), |_| -> Option<()> { panic!("expected by the test") });
        assert!(catch_unwind(AssertUnwindSafe(list)).is_err());
        drop(socket);
        assert!(idle(&sockets).is_empty());
    }

    #[test]
    fn of_many_the_oldest_are_closed() {
        let sockets = Sockets::new(LONG).unwrap();
        let many: Vec<_> = (0..MOST as u64 + 3).map(|number| take(&sockets, (1, number))).collect();
        drop(many);
        let idle = idle(&sockets);
        assert_eq!((idle.len(), idle[0]), (MOST, (1, 3)));
    }
}
