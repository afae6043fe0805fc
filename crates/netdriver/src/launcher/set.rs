// SPDX-License-Identifier: Apache-2.0
//! A change of a VNIC that is in use: its rate limit and the additional addresses it may send with.

use std::net::IpAddr;

use anyhow::Result;
use ciao_common::store::Vnic;
use ciao_common::types::{Address, Rate, VnicId, parse_address};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::{VnicReply, reply};
use crate::Driver;
use crate::claims::check_address;
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
    /// Changes a VNIC's rate and additional addresses in the store and in the kernel. `None`: no such VNIC.
    ///
    /// # Errors
    /// The disk's or kernel's: then nothing is changed.
    pub fn set_vnic(
        &self,
        id: &VnicId,
        rate: Option<Option<Rate>>,
        allowed: Option<Vec<IpAddr>>,
    ) -> Result<Option<VnicReply>> {
        let Some(before) = self.store.read(|tx| tx.vnic(id))? else { return Ok(None) };
        let after = Vnic {
            rate: rate.unwrap_or(before.rate),
            allowed: allowed.unwrap_or_else(|| before.allowed.clone()),
            ..before.clone()
        };
        self.fabric.restored(before.namespace.as_deref())?;
        let _lock = self.fabric.lock(before.namespace.as_deref());
        self.record_vnic(&after)?;
        if let Err(error) = self.fabric.vnics.change(&before, &after) {
            let reverted = self.record_vnic(&before).and_then(|()| self.fabric.vnics.change(&after, &before));
            return Err(rolled_back(error, reverted));
        }
        self.store.read(|tx| reply(tx, after)).map(Some)
    }

    fn record_vnic(&self, vnic: &Vnic) -> Result<()> {
        let vnic = vnic.clone();
        self.store.write(move |tx| tx.set_vnic(&vnic.id, vnic.rate, &vnic.allowed))
    }
}
