// SPDX-License-Identifier: Apache-2.0
//! What a process has used, from `/proc`.

use std::time::Duration;

use anyhow::{Context, Result};
use procfs::process::{MMPermissions, MMapPath, Process};

use crate::numbers::bytes;

/// Watches a process.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    pid: i32,
}

/// What a process has in memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident: its own and, of its binary and libraries, what it touched.
    pub resident: u64,
    /// Resident and its own.
    pub anonymous: u64,
    /// The most that was resident.
    pub peak: u64,
}

impl Watch {
    /// A process of the machine.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { pid: pid.cast_signed() }
    }

    /// The processor time of the process and of the children it has waited for. The kernel counts it in hundredths of
    /// a second, so only the sum of many calls says something.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu(self) -> Result<Duration> {
        Ok(self.cpu_apart()?.iter().sum())
    }

    /// The same, apart: its own code's, the kernel's for it, and its children's.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_apart(self) -> Result<[Duration; 3]> {
        let stat = self.process()?.stat().context("read /proc/PID/stat")?;
        let children = stat.cutime.unsigned_abs() + stat.cstime.unsigned_abs();
        let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64);
        Ok([stat.utime, stat.stime, children].map(time))
    }

    /// Its memory now.
    ///
    /// # Errors
    /// It has ended.
    pub fn memory(self) -> Result<Memory> {
        let status = self.process()?.status().context("read /proc/PID/status")?;
        let bytes = |kib: Option<u64>| kib.unwrap_or(0) * 1024;
        Ok(Memory { resident: bytes(status.vmrss), anonymous: bytes(status.rssanon), peak: bytes(status.vmhwm) })
    }

    /// What is resident now, by where it is from.
    ///
    /// # Errors
    /// It has ended.
    pub fn parts(self) -> Result<String> {
        let process = self.process()?;
        let program = process.exe().context("read /proc/PID/exe")?;
        let mut parts =
            [("the program's code", 0), ("its constants and tables", 0), ("libraries", 0), ("heap and stacks", 0)];
        for map in process.smaps().context("read /proc/PID/smaps")? {
            let part = match &map.pathname {
                MMapPath::Path(path) if *path != program => 2,
                MMapPath::Path(_) if map.perms.contains(MMPermissions::EXECUTE) => 0,
                MMapPath::Path(_) => 1,
                _ => 3,
            };
            parts[part].1 += map.extension.map.get("Rss").copied().unwrap_or(0);
        }
        Ok(parts.map(|(what, size)| format!("{} {what}", bytes(size))).join(", "))
    }

    fn process(self) -> Result<Process> {
        Process::new(self.pid).with_context(|| format!("look at process {}", self.pid))
    }
}
