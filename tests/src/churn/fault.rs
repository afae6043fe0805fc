// SPDX-License-Identifier: Apache-2.0
//! What strikes while operations are under way: a daemon is killed and comes back, or a call of a plugin fails.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::chance::Chance;
use crate::lab::Daemon;
use crate::proxy::{Fault, Moment};
use crate::wired::Wired;

const METHODS: [&str; 12] = [
    "IpamDriver.RequestPool",
    "IpamDriver.ReleasePool",
    "IpamDriver.RequestAddress",
    "IpamDriver.ReleaseAddress",
    "NetworkDriver.CreateNetwork",
    "NetworkDriver.DeleteNetwork",
    "NetworkDriver.CreateEndpoint",
    "NetworkDriver.DeleteEndpoint",
    "NetworkDriver.Join",
    "NetworkDriver.Leave",
    "NetworkDriver.ProgramExternalConnectivity",
    "NetworkDriver.RevokeExternalConnectivity",
];

/// How long a fault waits for a call that it is for; then another one is drawn.
const PATIENCE: Duration = Duration::from_secs(2);

/// Draws a fault, and returns its name when it has struck and all daemons run again.
pub(super) fn strike(wired: &Wired, chance: &mut Chance, on_wires: bool) -> Result<String> {
    loop {
        sleep(Duration::from_millis(chance.below(300)));
        if on_wires && chance.below(3) > 0 {
            if let Some(fault) = fail_a_call(wired, chance)? {
                return Ok(fault);
            }
        } else {
            return kill(wired, chance);
        }
    }
}

/// Daemons killed, for up to half a second.
fn kill(wired: &Wired, chance: &mut Chance) -> Result<String> {
    let (net, ipam, dockerd) =
        (("ciao-net", wired.host.ciao_net()), ("ciao-ipam", wired.host.ciao_ipam()), ("dockerd", wired.host.dockerd()));
    let daemons = match chance.below(8) {
        0..=2 => vec![net],
        3..=5 => vec![ipam],
        6 => vec![net, ipam],
        _ => vec![dockerd],
    };
    daemons.iter().try_for_each(|(_, daemon)| daemon.kill())?;
    sleep(Duration::from_millis(chance.below(500)));
    daemons.iter().try_for_each(|(_, daemon)| daemon.start().map(drop))?;
    let names: Vec<_> = daemons.iter().map(|(name, _)| *name).collect();
    Ok(format!("{} killed", names.join(" and ")))
}

/// The next call of a method fails. `None`: there was none.
fn fail_a_call(wired: &Wired, chance: &mut Chance) -> Result<Option<String>> {
    let method = METHODS[chance.index(METHODS.len())];
    let (proxy, daemon) = wired.behind(method);
    let (name, fault) = draw(chance, daemon)?;
    proxy.arm(method, fault);
    if !proxy.has_fired(PATIENCE) {
        return Ok(None);
    }
    if matches!(fault, Fault::Kill { .. }) {
        daemon.start_again().with_context(|| format!("after {method}"))?;
    }
    Ok(Some(format!("{method}: {name}")))
}

fn draw(chance: &mut Chance, daemon: &Daemon) -> Result<(&'static str, Fault)> {
    let pid = daemon.pid()?.try_into().context("read a process id")?;
    let moment = Duration::from_micros(chance.below(10_000));
    Ok(match chance.below(7) {
        0 => ("request lost", Fault::LoseRequest),
        1 => ("reply lost", Fault::LoseReply),
        2 => ("reply cut", Fault::CutReply),
        3 => ("reply late", Fault::DelayReply(50 * moment)),
        4 => ("carried out twice", Fault::Duplicate),
        5 => ("killed in the call", Fault::Kill { pid, at: Moment::AfterRequest(moment) }),
        _ => ("killed at the reply", Fault::Kill { pid, at: Moment::AtReply }),
    })
}
