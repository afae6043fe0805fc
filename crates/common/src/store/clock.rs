// SPDX-License-Identifier: Apache-2.0
//! The store's clock: milliseconds since 1970, UTC, moved by no step of the host's clock.
//!
//! Ages decide what is stale. So what the host's clock said at boot is recorded by whoever opens the database first
//! after it, and the rest is `CLOCK_BOOTTIME`, which goes on while the host sleeps: the same for both daemons, and
//! after a restart. A clock that is behind the newest record then is not believed: nothing is younger than now.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use rusqlite::{Connection, OptionalExtension};

use super::file::explain;

/// The setting with the kernel's boot_id and that boot's time.
const CLOCK: &str = "clock";

/// The newest time that an age is counted from.
const NEWEST: &str = "SELECT max(time) FROM (
    SELECT max(restoring) AS time FROM pool_set
    UNION ALL SELECT max(max(created, requested)) FROM pool_record
    UNION ALL SELECT max(max(granted, ifnull(unclaimed, 0))) FROM address_record
    UNION ALL SELECT max(created) FROM network_record
    UNION ALL SELECT max(created) FROM vnic_record
    UNION ALL SELECT max(max(created, ifnull(attached, 0))) FROM endpoint_record
    UNION ALL SELECT max(since) FROM absent_host
    UNION ALL SELECT max(told) FROM peer_record
    UNION ALL SELECT max(requested) FROM vni_record
    UNION ALL SELECT CAST(value AS INTEGER) FROM setting WHERE name IN ('engine_started', 'restored'))";

/// When the host was booted, by its clock of then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock(i64);

impl Clock {
    /// This boot's, where the host's clock says `wall`: as recorded, or of now or the newest record, and then it is to
    /// be recorded.
    pub(super) fn read(conn: &Connection, wall: SystemTime) -> Result<(Self, Option<String>)> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the kernel's boot_id")?;
        let boot = boot.trim();
        let recorded: Option<String> = conn
            .query_row("SELECT value FROM setting WHERE name = ?1", [CLOCK], |row| row.get(0))
            .optional()
            .map_err(explain)?;
        let of_boot = recorded.as_deref().and_then(|text| text.strip_prefix(boot)?.trim().parse().ok());
        Ok(match of_boot {
            Some(time) => (Self(time), None),
            None => {
                let newest: Option<i64> = conn.query_row(NEWEST, [], |row| row.get(0)).map_err(explain)?;
                let wall = millis(wall.duration_since(UNIX_EPOCH).unwrap_or_default());
                let time = newest.map_or(wall, |newest| wall.max(newest)) - since_boot();
                (Self(time), Some(format!("{boot} {time}")))
            }
        })
    }

    /// The same, recorded.
    pub(super) fn open(conn: &Connection, wall: SystemTime) -> Result<Self> {
        let (clock, fresh) = Self::read(conn, wall)?;
        if let Some(value) = fresh {
            let set = "INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)";
            conn.execute(set, [CLOCK, &value]).map_err(explain)?;
        }
        Ok(clock)
    }

    pub(super) fn now(self) -> i64 {
        self.0 + since_boot()
    }

    pub(super) fn ago(self, by: Duration) -> i64 {
        self.now() - millis(by)
    }
}

/// The host's clock, which may be stepped.
pub(super) fn wall() -> i64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn since_boot() -> i64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| millis(time.into()))
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
