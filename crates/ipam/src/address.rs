// SPDX-License-Identifier: Apache-2.0
//! `RequestAddress` and `ReleaseAddress`: the allocation of addresses.
//!
//! Besides leases there are gateways, which the networks on a set share, and reservations: addresses that a launcher
//! assigned to instances, recorded by ciao-net. A dynamic request that would get a reserved address removes it from the
//! free ranges and continues, so each reservation is skipped once only.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use ciao_common::api::Empty;
use ciao_common::api::ipam::{ADDRESS_TYPE, AddressReply, GATEWAY, ReleaseAddress, RequestAddress, SERIAL};
use ciao_common::store::{AddressKind, Answer, Pool, Tx};
use ciao_common::types::{AddressRange, Family};

use crate::lease::{free, is_abandoned, is_reserved, reclaim};
use crate::pool::known;
use crate::{Config, Ipam, lost, term};

impl Ipam {
    /// `IpamDriver.RequestAddress`: grants the requested address, or any free one.
    ///
    /// # Errors
    /// An unknown pool; an address outside of it, of the other family, or in use; a full pool.
    pub fn request_address(&self, request: RequestAddress) -> Answer<AddressReply> {
        let config = self.config.clone();
        let grant = move |tx: &Tx<'_>| {
            let pool = match tx.pool_by_id(&request.pool_id)? {
                Some(pool) => pool,
                None => {
                    tx.guard()?;
                    lost::recover(tx, &request.pool_id)?
                }
            };
            let is_gateway = request.options.text(ADDRESS_TYPE).as_deref() == Some(GATEWAY);
            let kind = if is_gateway { AddressKind::Gateway } else { AddressKind::Lease };
            let address = match request.address {
                Some(address) => {
                    grant_exactly(tx, &config, &pool, address, kind)?;
                    address
                }
                None => grant_any(tx, &config, &pool, kind, pool.serial || request.options.flag(SERIAL))?,
            };
            Ok(AddressReply { address: pool.set.subnet.cidr(address), data: Default::default() })
        };
        self.store.begin_unguarded(grant, true)
    }

    /// `IpamDriver.ReleaseAddress`: releases a grant. A reservation stays, the reference count of a shared gateway is
    /// decreased. An unknown pool or address is not an error: the engine would forget it in any case.
    pub fn release_address(&self, request: ReleaseAddress) -> Answer<Empty> {
        let release = move |tx: &Tx<'_>| {
            match known(tx, &request.pool_id)? {
                Some(pool) => release(tx, &pool, request.address)?,
                None => log::info!("pool {:?} is unknown: {} is not released", request.pool_id, request.address),
            }
            Ok(Empty {})
        };
        self.store.begin_unguarded(release, false)
    }
}

fn grant_exactly(tx: &Tx<'_>, config: &Config, pool: &Pool, address: IpAddr, kind: AddressKind) -> Result<()> {
    let set = &pool.set;
    let (family, subnet) = (Family::of(address), set.subnet);
    ensure!(family == subnet.family(), "address {address} is {family}, but pool {subnet} is {}", subnet.family());
    ensure!(subnet.contains(address), "address {address} is outside of pool {subnet}: give one inside");
    match kind {
        AddressKind::Gateway => ensure!(
            !is_reserved(tx, set, address)?,
            "gateway {address} of pool {subnet} is reserved for an instance: give another --gateway, see \"ciao-ipam lease list\""
        ),
        _ => term::check_gateway(tx, pool)?,
    }
    let Some(held) = tx.address(set, address)? else {
        ensure!(
            tx.take(set, address)?,
            "internal error (please report): {address} of {subnet} is neither free nor allocated"
        );
        return tx.grant(pool, address, kind);
    };
    if term::grant_again(tx, pool, address, kind)? {
        return Ok(());
    }
    match (held.kind, kind) {
        (AddressKind::Reserved, _) | (AddressKind::Gateway, AddressKind::Gateway) => tx.grant(pool, address, kind),
        (AddressKind::Lease, AddressKind::Lease) if is_abandoned(tx, set, address, held.granted, config.takeover)? => {
            log::info!("granted orphaned lease {address} of {subnet} again");
            tx.regrant(pool, address, kind)
        }
        (AddressKind::Gateway, _) => bail!("address {address} of pool {subnet} is in use as a gateway"),
        (AddressKind::Lease, _) if tx.is_bound(set, address)? => {
            bail!("address {address} of pool {subnet} is in use by a container: see \"ciao-ipam lease list\"")
        }
        (AddressKind::Lease, _) => bail!(
            "address {address} of pool {subnet} is in use: it was granted before and not released, see \"ciao-ipam lease list\""
        ),
    }
}

fn grant_any(tx: &Tx<'_>, config: &Config, pool: &Pool, kind: AddressKind, serial: bool) -> Result<IpAddr> {
    let set = &pool.set;
    ensure!(!pool.incomplete, lost::incomplete(pool));
    term::check_gateway(tx, pool)?;
    if kind == AddressKind::Gateway
        && let Some(gateway) = tx.gateway_of(set)?
    {
        tx.grant(pool, gateway, kind)?;
        return Ok(gateway);
    }
    let range = dynamic_range(pool)?;
    if tx.has_reservations(set)? {
        // The pool may be full after the reserved ones.
        tx.guard()?;
    }
    let address = match take_unreserved(tx, pool, range, serial)? {
        Some(address) => address,
        None => {
            tx.guard()?;
            reclaim(tx, config, set)?;
            let address = match take_unreserved(tx, pool, range, serial)? {
                None if term::make_room(tx, pool)? => take_unreserved(tx, pool, range, serial)?,
                address => address,
            };
            address.with_context(|| full(pool))?
        }
    };
    tx.grant(pool, address, kind)?;
    if serial {
        tx.set_pool_cursor(pool, address)?;
    }
    Ok(address)
}

/// The error for a pool without free addresses. It begins with Docker's own message, which users search for.
fn full(pool: &Pool) -> String {
    let subnet = pool.set.subnet;
    let range = pool.sub_pool.map_or_else(String::new, |range| format!(" (--ip-range {range})"));
    format!("no available addresses on this pool: {subnet}{range} is full, see \"ciao-ipam lease list\"")
}

/// The range of dynamic addresses.
fn dynamic_range(pool: &Pool) -> Result<AddressRange> {
    let usable = pool.set.subnet.usable();
    let Some(sub_pool) = pool.sub_pool else { return Ok(usable) };
    usable
        .intersection(sub_pool.range())
        .with_context(|| format!("no available addresses on this pool: its sub-pool {sub_pool} has no usable address"))
}

/// Removes the next dynamic address from the free ranges, and reserved ones before it.
fn take_unreserved(tx: &Tx<'_>, pool: &Pool, range: AddressRange, serial: bool) -> Result<Option<IpAddr>> {
    let set = &pool.set;
    loop {
        let Some(number) = take_next(tx, pool, range, serial)? else { return Ok(None) };
        let address = set.subnet.family().address(number);
        if !is_reserved(tx, set, address)? {
            return Ok(Some(address));
        }
        tx.reserve(set, address)?;
    }
}

fn take_next(tx: &Tx<'_>, pool: &Pool, range: AddressRange, serial: bool) -> Result<Option<u128>> {
    let after = pool.cursor.filter(|_| serial).and_then(|last| last.checked_add(1));
    if let Some(rest) = after.and_then(|next| AddressRange::new(next.max(range.first), range.last))
        && let Some(number) = tx.take_lowest(&pool.set, rest)?
    {
        return Ok(Some(number));
    }
    tx.take_lowest(&pool.set, range)
}

fn release(tx: &Tx<'_>, pool: &Pool, address: IpAddr) -> Result<()> {
    let set = &pool.set;
    // Nearly all are: an address that nobody else waits for.
    if !pool.restoring && !tx.has_reservations(set)? && tx.delete_lease(set, address)? {
        return tx.give(set, address);
    }
    let Some(held) = tx.address(set, address)? else {
        log::info!("{address} of {} is not allocated: nothing to release", set.subnet);
        return Ok(());
    };
    term::check_release(tx, pool, &held)?;
    match held.held {
        0 => log::info!("{address} of {} is reserved, not granted: nothing to release", set.subnet),
        1 => free(tx, set, address)?,
        _ => tx.count_down(set, address, 1)?,
    }
    Ok(())
}
