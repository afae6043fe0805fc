// SPDX-License-Identifier: Apache-2.0
//! `RequestAddress` and `ReleaseAddress`: who has which address of a set.
//!
//! Besides leases there are gateways, which networks on one set share, and reservations: addresses that a launcher
//! assigned to instances. A reservation stands in ciao-net's table. Here it is met on the way: a dynamic request that
//! would get such an address takes it out of the free runs and goes on, so each is passed over once and not each time.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use ciao_common::api::Empty;
use ciao_common::api::ipam::{ADDRESS_TYPE, AddressReply, GATEWAY, ReleaseAddress, RequestAddress, SERIAL};
use ciao_common::store::{AddressKind, Answer, Pool, PoolSet, Tx};
use ciao_common::types::{AddressRange, Family};

use crate::lease::{free, is_abandoned, is_reserved, reclaim};
use crate::pool::known;
use crate::{Config, Ipam, lost, term};

impl Ipam {
    /// `IpamDriver.RequestAddress`: grants the address asked for, or any free one.
    ///
    /// # Errors
    /// An unknown pool; an address outside of it, of the other family, or in use; no address left.
    pub fn request_address(&self, request: RequestAddress) -> Answer<AddressReply> {
        let config = self.config.clone();
        self.store.begin_while_awaited(move |tx| {
            let pool = match tx.pool_by_id(&request.pool_id)? {
                Some(pool) => pool,
                None => lost::found_again(tx, &request.pool_id)?,
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
        })
    }

    /// `IpamDriver.ReleaseAddress`: takes a grant back. A reservation stays one, a shared gateway is counted down.
    ///
    /// # Errors
    /// The disk's. An unknown pool or address is none: the engine would forget it in any case.
    pub fn release_address(&self, request: ReleaseAddress) -> Answer<Empty> {
        self.store.begin(move |tx| {
            match known(tx, &request.pool_id)? {
                Some(pool) => {
                    term::heed_release(tx, &pool, request.address)?;
                    release(tx, &pool.set, request.address)?;
                }
                None => log::info!("pool {:?} is unknown: {} need not be released", request.pool_id, request.address),
            }
            Ok(Empty {})
        })
    }
}

fn grant_exactly(tx: &Tx<'_>, config: &Config, pool: &Pool, address: IpAddr, kind: AddressKind) -> Result<()> {
    let set = &pool.set;
    let (family, subnet) = (Family::of(address), set.subnet);
    ensure!(family == subnet.family(), "address {address} is {family}, but pool {subnet} is {}", subnet.family());
    ensure!(subnet.contains(address), "address {address} is outside of pool {subnet}: give one inside");
    let Some(held) = tx.address(set, address)? else {
        ensure!(tx.take(set, address)?, "a defect in ciao: {address} of {subnet} is neither free nor taken");
        return tx.grant(pool, address, kind);
    };
    if term::grant_again(tx, pool, address, kind)? {
        return Ok(());
    }
    match (held.kind, kind) {
        (AddressKind::Reserved, _) | (AddressKind::Gateway, AddressKind::Gateway) => tx.grant(pool, address, kind),
        (AddressKind::Lease, AddressKind::Lease) if is_abandoned(tx, set, address, held.granted, config.takeover)? => {
            log::info!("lease {address} of {subnet} waited for its endpoint in vain: granted anew");
            tx.regrant(pool, address, kind)
        }
        (AddressKind::Gateway, _) => bail!("address {address} of pool {subnet} is in use: it is the gateway's"),
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
    if kind == AddressKind::Gateway
        && let Some(gateway) = tx.gateway_of(set)?
    {
        tx.grant(pool, gateway, kind)?;
        return Ok(gateway);
    }
    let range = dynamic_range(pool)?;
    let number = match lowest_unreserved(tx, pool, range, serial)? {
        Some(number) => number,
        None => {
            reclaim(tx, config, set)?;
            let number = match lowest_unreserved(tx, pool, range, serial)? {
                None if term::make_room(tx, pool)? => lowest_unreserved(tx, pool, range, serial)?,
                number => number,
            };
            number.with_context(|| full(pool))?
        }
    };
    let address = set.subnet.family().address(number);
    tx.take(set, address)?;
    tx.grant(pool, address, kind)?;
    if serial {
        tx.set_pool_cursor(pool, number)?;
    }
    Ok(address)
}

/// What is said of a pool without free addresses. It begins with Docker's own words, which users look for.
fn full(pool: &Pool) -> String {
    let subnet = pool.set.subnet;
    let range = pool.sub_pool.map_or_else(String::new, |range| format!(" (--ip-range {range})"));
    format!("no available addresses on this pool: {subnet}{range} is full, see \"ciao-ipam lease list\"")
}

/// Where dynamic addresses come from.
fn dynamic_range(pool: &Pool) -> Result<AddressRange> {
    let usable = pool.set.subnet.usable();
    let Some(sub_pool) = pool.sub_pool else { return Ok(usable) };
    usable
        .intersection(sub_pool.range())
        .with_context(|| format!("no available addresses on this pool: its sub-pool {sub_pool} has no usable one"))
}

/// The address to give next. Reserved ones on the way are taken out of the free runs.
fn lowest_unreserved(tx: &Tx<'_>, pool: &Pool, range: AddressRange, serial: bool) -> Result<Option<u128>> {
    let set = &pool.set;
    loop {
        let Some(number) = next_free(tx, pool, range, serial)? else { return Ok(None) };
        let address = set.subnet.family().address(number);
        if !is_reserved(tx, set, address)? {
            return Ok(Some(number));
        }
        tx.take(set, address)?;
        tx.reserve(set, address)?;
    }
}

fn next_free(tx: &Tx<'_>, pool: &Pool, range: AddressRange, serial: bool) -> Result<Option<u128>> {
    let after = pool.cursor.filter(|_| serial).and_then(|last| last.checked_add(1));
    if let Some(rest) = after.and_then(|next| AddressRange::new(next.max(range.first), range.last))
        && let Some(number) = tx.lowest_free(&pool.set, rest)?
    {
        return Ok(Some(number));
    }
    tx.lowest_free(&pool.set, range)
}

fn release(tx: &Tx<'_>, set: &PoolSet, address: IpAddr) -> Result<()> {
    match tx.address(set, address)? {
        None => log::info!("{address} of {} is not held: nothing to release", set.subnet),
        Some(held) if held.held > 1 => tx.count_down(set, address, 1)?,
        Some(held) if held.held == 0 => log::info!("{address} of {} is reserved only: nothing to release", set.subnet),
        Some(_) => free(tx, set, address)?,
    }
    Ok(())
}
