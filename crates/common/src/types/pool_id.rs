// SPDX-License-Identifier: Apache-2.0
//! [`PoolId`]: all that Docker stores of a pool, and so all that is left of it when the database is lost.
//!
//! It therefore describes the pool:
//! `local.0123456789ab/10.5.0.0/24,range=10.5.1.0/25,serial,tenant=red,id=9f3a7c21-17-5b2f0e`. The id consists of the
//! database's name (a new one at every start of ciao-ipam), the row there, and six random digits, so PoolIDs are unique
//! even after an older copy of the database was restored. PoolIDs of earlier versions are 24 hexadecimal digits without
//! a description.

use anyhow::{Result, ensure};

use super::{AddressSpace, Subnet, TenantId, random_hex, text};

/// Maximum length in bytes: room for a tenant, two IPv6 subnets and the rest.
const LONGEST: usize = 255;

/// Prefix of the substitute for a PoolID that is not known.
const LOST: &str = "lost-";

text!(
    /// The id of a pool of ciao-ipam.
    PoolId, check()
);

/// The description in a PoolID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolDescription {
    /// The address space of the first request.
    pub space: AddressSpace,
    /// All addresses of the pool.
    pub subnet: Subnet,
    /// The range of dynamic addresses, if not the whole subnet.
    pub sub_pool: Option<Subnet>,
    /// Whether dynamic addresses are allocated in ascending order, not the lowest free one first.
    pub serial: bool,
    /// The tenant of the request.
    pub tenant: Option<TenantId>,
    /// Name of the database that created the pool.
    pub database: String,
    /// Row in that database.
    pub row: i64,
}

impl PoolId {
    /// A new PoolID with that description.
    pub fn describing(pool: &PoolDescription) -> Self {
        let mut text = format!("{}/{}", pool.space, pool.subnet);
        if let Some(range) = pool.sub_pool {
            text += &format!(",range={range}");
        }
        if pool.serial {
            text += ",serial";
        }
        if let Some(tenant) = &pool.tenant {
            text += &format!(",tenant={tenant}");
        }
        Self(format!("{text},id={}-{}-{}", pool.database, pool.row, random_hex::<3>()))
    }

    /// A substitute for the PoolID that Docker has of a rebuilt pool and that is not known here.
    pub fn lost() -> Self {
        Self(format!("{LOST}{}", random_hex::<12>()))
    }

    /// Whether this is a substitute for an unknown PoolID.
    pub fn is_lost(&self) -> bool {
        self.0.starts_with(LOST)
    }

    /// The description of the pool; `None`: the id has another format.
    pub fn description(&self) -> Option<PoolDescription> {
        let (space, rest) = self.0.split_once('/')?;
        let mut fields = rest.split(',');
        let mut pool = PoolDescription {
            space: space.parse().ok()?,
            subnet: fields.next()?.parse().ok()?,
            sub_pool: None,
            serial: false,
            tenant: None,
            database: String::new(),
            row: 0,
        };
        for field in fields {
            match field.split_once('=').unwrap_or((field, "")) {
                ("range", range) => pool.sub_pool = Some(range.parse().ok()?),
                ("serial", "") => pool.serial = true,
                ("tenant", tenant) => pool.tenant = Some(tenant.parse().ok()?),
                ("id", id) => {
                    let mut parts = id.split('-');
                    pool.database = parts.next()?.to_owned();
                    pool.row = parts.next()?.parse().ok()?;
                    parts.next()?;
                }
                _ => return None,
            }
        }
        let within = pool.sub_pool.is_none_or(|range| pool.subnet.covers(range));
        (within && !pool.database.is_empty()).then_some(pool)
    }
}

fn check(text: &str) -> Result<()> {
    ensure!(!text.is_empty(), "pool id is empty");
    ensure!(text.len() <= LONGEST, "pool id {text:?} has {} bytes: give at most {LONGEST}", text.len());
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_.-/:,=".contains(&b);
    ensure!(
        text.bytes().all(good) && text.as_bytes()[0].is_ascii_alphanumeric(),
        "pool id {text:?} may contain only letters, digits and '_.-/:,=', and must start with a letter or digit"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(sub_pool: Option<&str>, serial: bool, tenant: Option<&str>, subnet: &str) -> PoolDescription {
        PoolDescription {
            space: "local.0123456789ab".parse().unwrap(),
            subnet: subnet.parse().unwrap(),
            sub_pool: sub_pool.map(|text| text.parse().unwrap()),
            serial,
            tenant: tenant.map(|text| text.parse().unwrap()),
            database: "9f3a7c21".to_owned(),
            row: 17,
        }
    }

    #[test]
    fn a_pool_id_describes_the_pool() {
        let pools = [
            pool(None, false, None, "10.5.0.0/24"),
            pool(Some("10.5.1.0/25"), true, Some("acme-1.eu_x"), "10.5.0.0/16"),
            pool(Some("fd00::8/126"), false, Some(&"t".repeat(63)), "fd00:1111:2222:3333:4444:5555:6666:0/112"),
        ];
        for mut described in pools {
            if described.sub_pool.is_some_and(|range| !described.subnet.covers(range)) {
                described.sub_pool = None;
            }
            let id = PoolId::describing(&described);
            assert!(id.as_str().len() <= LONGEST);
            assert_eq!(id.as_str().parse::<PoolId>().unwrap().description(), Some(described));
        }
        let one = pool(None, false, None, "10.5.0.0/24");
        assert_ne!(PoolId::describing(&one), PoolId::describing(&one));
    }

    #[test]
    fn other_formats_have_no_description() {
        for text in [
            "9bcbf369d2afaa304dbbf7bf",
            "local/10.5.0.0/24",
            "local/10.5.0.0/24,id=a",
            "local/10.5.0.0/24,size=9,id=a-1-b",
        ] {
            assert_eq!(text.parse::<PoolId>().unwrap().description(), None, "{text}");
        }
        let outside = "local/10.5.0.0/24,range=10.6.0.0/25,id=9f3a7c21-17-5b2f0e";
        assert_eq!(outside.parse::<PoolId>().unwrap().description(), None);
        let lost = PoolId::lost();
        assert!(lost.is_lost() && lost.description().is_none());
    }

    #[test]
    fn a_pool_id_is_never_empty_blank_or_a_path() {
        for wrong in ["", " ", "a b", "../x", "/a", "-x", "ä"] {
            assert!(wrong.parse::<PoolId>().is_err(), "{wrong}");
        }
    }
}
