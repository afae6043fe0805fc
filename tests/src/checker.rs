// SPDX-License-Identifier: Apache-2.0
//! [`differences`]: at rest, ciao's store, the kernel and Docker's own lists agree. Each way in which they do
//! not is a sentence: a leaked address, an endpoint that nobody has, a link that no record stands for.
//!
//! It reads the tables and not ciao's own code, because it judges that code.

mod addresses;
mod docker;
mod kernel;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::lab::Host;

/// Links are deleted and abandoned leases released in the background.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(200);

/// Prints everything that is compared.
const GATHER: &str = include_str!("checker/gather.sh");

/// Makes everything that is recorded old, since a reconcile leaves what may be under way alone, then runs both, by
/// force where Docker knows none of the networks or pools. The lists that they print begin with a line of headings.
const REPAIR: &str = "
sqlite3 /var/lib/ciao/ciao.db '.timeout 10000' '
    UPDATE pool_record SET created = 0, requested = 0;
    UPDATE address_record SET granted = 0;
    UPDATE network_record SET created = 0;
    UPDATE vnic_record SET created = 0;
    UPDATE endpoint_record SET created = 0'
net=$(ciao-net reconcile --docker --force)
ipam=$(ciao-ipam reconcile --force)
for printed in \"$net\" \"$ipam\"; do printf '%s\n' \"$printed\" | tail -n +2; done";

/// As if the engine had given up to release the leases that ciao-ipam found orphaned.
const UNCLAIMED: &str = "sqlite3 /var/lib/ciao/ciao.db '.timeout 10000' '
    UPDATE address_record SET unclaimed = 0 WHERE unclaimed IS NOT NULL'";

/// Lets ciao repair what a fault left: as if time had passed, an administrator runs both commands, and ciao-ipam looks
/// for abandoned leases, as it does on its timer and when it starts. Returns the repairs, a line each.
///
/// # Errors
/// A daemon that does not come back, a reconcile that fails.
pub fn repair(host: &Host) -> Result<String> {
    let printed = host.sh(REPAIR).context("reconcile")?;
    // The first pass finds orphaned leases, the second one releases them.
    for known_since_long in ["", UNCLAIMED] {
        host.sh(known_since_long)?;
        host.ciao_ipam().stop()?;
        host.ciao_ipam().start()?;
    }
    Ok(printed)
}

/// What store, kernel and Docker do not agree about, once nothing is under way any more.
///
/// # Errors
/// One of them cannot be asked.
pub fn differences(host: &Host) -> Result<Vec<String>> {
    let since = Instant::now();
    loop {
        let found = differences_now(host)?;
        if found.is_empty() || since.elapsed() > PATIENCE {
            return Ok(found);
        }
        sleep(POLL);
    }
}

fn differences_now(host: &Host) -> Result<Vec<String>> {
    let printed = host.sh(GATHER).context("look at store, kernel and Docker")?;
    let facts = serde_json::from_str(&printed).with_context(|| format!("read {printed}"))?;
    let world = World { facts };
    let mut found = Vec::new();
    docker::check(&world, &mut found);
    addresses::check(&world, &mut found);
    kernel::check(&world, &mut found);
    Ok(found)
}

/// All that is compared, as `gather.sh` prints it.
struct World {
    facts: Value,
}

/// An endpoint of a container, by Docker's list.
struct Attached<'a> {
    network: &'a str,
    container: &'a str,
    name: &'a str,
    endpoint: &'a str,
    mac: &'a str,
    addresses: Vec<&'a str>,
}

impl World {
    /// The rows of a table, or the entries of a list.
    fn all(&self, what: &str) -> &[Value] {
        self.facts[what].as_array().map_or(&[], Vec::as_slice)
    }

    /// The first row whose `field` is `value`.
    fn find(&self, what: &str, field: &str, value: &str) -> Option<&Value> {
        self.all(what).iter().find(|row| row[field] == value)
    }

    /// Docker's networks that one of our drivers serves: `Driver` or `IPAM.Driver` is its pointer.
    fn docker_networks(&self, pointer: &'static str, driver: &'static str) -> impl Iterator<Item = &Value> {
        let networks = self.all("docker_networks").iter();
        networks.filter(move |network| network.pointer(pointer).is_some_and(|is| is == driver))
    }

    /// The containers on a network, by Docker's list.
    fn attached<'a>(&'a self, network: &'a Value) -> impl Iterator<Item = Attached<'a>> {
        let containers = network["Containers"].as_object().into_iter().flatten();
        containers.map(|(container, at)| Attached {
            network: text(&network["Id"]),
            container,
            name: text(&at["Name"]),
            endpoint: text(&at["EndpointID"]),
            mac: text(&at["MacAddress"]),
            addresses: ["IPv4Address", "IPv6Address"]
                .into_iter()
                .map(|family| bare(text(&at[family])))
                .filter(|address| !address.is_empty())
                .collect(),
        })
    }
}

/// The text of a JSON string; nothing of anything else.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// An address without its prefix length.
fn bare(cidr: &str) -> &str {
    cidr.split('/').next().unwrap_or_default()
}

/// An id as people know it.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
