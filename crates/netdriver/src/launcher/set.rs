// SPDX-License-Identifier: Apache-2.0
//! A change of a VNIC that is in use: its rate limit and the additional addresses it may send with.

use std::net::IpAddr;

use anyhow::Result;
use ciao_common::store::Vnic;
use ciao_common::types::{Address, Rate, VnicId, parse_address};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::{Change, reply};
use crate::Driver;
use crate::address_check::{self, check_address};
use crate::rollback::rolled_back;

/// What changes; absent: it stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VnicChange {
    /// Rate limit per direction; null: none.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Rate>)]
    pub rate: Option<Option<Rate>>,
    /// All additional source addresses.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Address>>)]
    pub allowed_addresses: Option<Vec<String>>,
}

/// A field that is there, null or not.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Rate>>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

impl VnicChange {
    /// The addresses, read and checked.
    pub fn allowed(&self) -> Result<Option<Vec<IpAddr>>> {
        let read = |list: &Vec<String>| list.iter().map(|text| check_address(parse_address(text)?)).collect();
        self.allowed_addresses.as_ref().map(read).transpose()
    }
}

impl Driver {
    /// Changes a VNIC's rate and additional addresses in the store and in the kernel.
    ///
    /// # Errors
    /// The disk's or kernel's: then nothing is changed.
    pub fn set_vnic(&self, id: &VnicId, rate: Option<Option<Rate>>, allowed: Option<Vec<IpAddr>>) -> Result<Change> {
        let Some(vnic) = self.store.read(|tx| tx.vnic(id))? else { return Ok(Change::Unknown) };
        self.fabric.restored(vnic.namespace.as_deref())?;
        let _lock = self.fabric.lock(vnic.namespace.as_deref());
        let id = id.clone();
        let recorded = self.store.write(move |tx| {
            let Some(before) = tx.vnic(&id)? else { return Ok(Err(Change::Unknown)) };
            let after = Vnic {
                rate: rate.unwrap_or(before.rate),
                allowed: allowed.unwrap_or_else(|| before.allowed.clone()),
                ..before.clone()
            };
            if after.allowed != before.allowed
                && let Some(sentence) = address_check::refused(tx, &after)?
            {
                return Ok(Err(Change::Conflict(sentence)));
            }
            tx.set_vnic(&id, after.rate, &after.allowed)?;
            Ok(Ok((before, after)))
        })?;
        let (before, after) = match recorded {
            Ok(vnics) => vnics,
            Err(outcome) => return Ok(outcome),
        };
        if let Err(error) = self.fabric.vnics.change(&before, &after) {
            let vnic = before.clone();
            let reverted = self.store.write(move |tx| tx.set_vnic(&vnic.id, vnic.rate, &vnic.allowed));
            return Err(rolled_back(error, reverted.and_then(|()| self.fabric.vnics.change(&after, &before))));
        }
        self.store.read(|tx| reply(tx, after)).map(|reply| Change::Changed(Box::new(reply)))
    }
}
