// SPDX-License-Identifier: Apache-2.0
//! Calls that nobody would make, to both drivers as they are served, on a real store and on a kernel in memory.
//!
//! Each target is a function over bytes, which `cargo fuzz` calls (`targets/`), and the test that replays the corpus:
//!
//! - [`bodies`]: what reads and writes Docker's JSON, alone;
//! - [`ipam`], [`net`], [`control`]: lines of text, each a call with a body of any kind, to a host where something
//!   runs;
//! - [`peer`]: lines of text, each a message of another host;
//! - [`sequence`]: plausible calls in any order, with few names and addresses, among kills, reboots and a failing
//!   kernel.
//!
//! A target panics when a promise is broken: [`promises`] says which ones there are.

mod bodies;
mod daemons;
mod engine;
mod host;
mod lines;
mod names;
mod peer;
mod promises;
mod requests;
mod scenes;
mod steps;

use arbitrary::{Arbitrary, Unstructured};
use nix::sched::{CloneFlags, unshare};

pub use bodies::bodies;
use host::Host;
use lines::{control_line, driver_line};
pub use peer::peer;
use steps::Step;

/// Most calls in one input: bounds the time that it takes.
const CALLS: usize = 60;

/// A function over bytes, which panics when a promise is broken.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Target); 6] =
    [("bodies", bodies), ("ipam", ipam), ("net", net), ("control", control), ("peer", peer), ("sequence", sequence)];

/// Gives the calling thread, and those that it starts, a network of its own: published ports are bound in earnest.
pub fn be_alone() {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        panic!("make a network namespace, so that no port of this machine is taken: {error}: run it as root");
    }
}

/// Lines `Method body` for ciao-ipam.
pub fn ipam(input: &[u8]) {
    play(input, |host, line| driver_line(host, "IpamDriver", line));
}

/// Lines `Method body` for ciao-net's plugin socket.
pub fn net(input: &[u8]) {
    play(input, |host, line| driver_line(host, "NetworkDriver", line));
}

/// Lines `METHOD target body` for ciao-net's control socket.
pub fn control(input: &[u8]) {
    play(input, control_line);
}

fn play(input: &[u8], call: impl Fn(&mut Host, &[u8])) {
    let mut host = scenes::busy();
    for line in input.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).take(CALLS) {
        call(&mut host, line);
    }
    host.leave();
}

/// Plausible calls.
pub fn sequence(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let mut host = Host::empty();
    for _ in 0..CALLS {
        if input.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut input) else { break };
        host.tell(|| format!("{step:?}"));
        step.take(&mut host);
    }
    host.leave();
}
