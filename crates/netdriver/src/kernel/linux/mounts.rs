// SPDX-License-Identifier: Apache-2.0
//! Whether network namespaces outlive the process that creates them: each is kept by a mount below /run/netns, and a
//! mount in a mount namespace that nobody else sees ends with the last process there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::namespace::FOLDER;

/// Checks that mounts below /run/netns are seen by the host's first process.
///
/// # Errors
/// They are not, as in a unit with `ProtectSystem=`, or in a container whose /run is its own.
pub(super) fn check() -> Result<()> {
    let mounts = |process: &str| fs::read_to_string(format!("/proc/{process}/mountinfo")).context("list the mounts");
    let Ok(first) = mounts("1") else {
        log::warn!("/proc/1/mountinfo cannot be read: not checked whether the host sees mounts below {FOLDER}");
        return Ok(());
    };
    // In a managed plugin it is a symbolic link.
    let folder = fs::canonicalize(FOLDER).unwrap_or_else(|_| Path::new(FOLDER).to_owned());
    ensure!(
        is_seen(&mounts("self")?, &first, &folder),
        "mounts below {} are not seen by the host, so tenants' network namespaces would end with this process and cut \
         off their containers: in a unit, remove options such as ProtectSystem= and PrivateMounts=; in a container, \
         mount the host's /run with rshared",
        folder.display()
    );
    Ok(())
}

/// Whether mounts below `folder` are those of both processes, of their `/proc/PID/mountinfo`: /proc/1/ns takes more
/// rights than a unit has.
fn is_seen(own: &str, first: &str, folder: &Path) -> bool {
    let containing = own.lines().filter(|line| mount_point(line).is_some_and(|point| folder.starts_with(point)));
    // Of mounts at the same place the last one is on top.
    let longest = containing.max_by_key(|line| mount_point(line).map_or(0, str::len));
    longest.is_some_and(|own| {
        let same =
            |line: &str| id(line) == id(own) || peer_group(own).is_some_and(|group| peer_group(line) == Some(group));
        first.lines().any(same)
    })
}

/// No other mount of any mount namespace has it.
fn id(line: &str) -> Option<&str> {
    line.split(' ').next()
}

fn mount_point(line: &str) -> Option<&str> {
    line.split(' ').nth(4)
}

/// Mounts of one peer group have all that is mounted below any of them.
fn peer_group(line: &str) -> Option<&str> {
    line.split(' ').skip(6).take_while(|field| *field != "-").find_map(|field| field.strip_prefix("shared:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                        24 21 0:22 / /run rw,nosuid shared:5 - tmpfs tmpfs rw\n";

    fn seen(own: &str, folder: &str) -> bool {
        is_seen(own, HOST, Path::new(folder))
    }

    #[test]
    fn only_a_shared_mount_of_the_host_s_is_seen() {
        let plugin = "90 1 0:50 / / rw - overlay overlay rw\n\
                      91 90 0:22 / /host/run rw shared:5 - tmpfs tmpfs rw\n";
        assert!(seen(plugin, "/host/run/netns"));
        assert!(!seen(plugin, "/run/netns"), "of its own root filesystem");
        let hardened = "31 1 8:1 / / rw shared:90 master:1 - ext4 /dev/sda1 rw\n\
                        34 31 0:22 / /run rw shared:91 master:5 - tmpfs tmpfs rw\n";
        assert!(!seen(hardened, "/run/netns"), "the host's mounts come here, and none goes there");
        assert!(seen(HOST, "/run/netns"));
        assert!(seen("24 21 0:22 / /run rw,nosuid - tmpfs tmpfs rw\n", "/run/netns"), "the same, which is private");
        assert!(!seen("", "/run/netns"));
    }

    #[test]
    fn the_mount_that_is_nearest_and_on_top_counts() {
        let own = format!("{HOST}40 24 0:22 / /run/netns rw - tmpfs tmpfs rw\n");
        assert!(!seen(&own, "/run/netns") && seen(&own, "/run/netnses"));
        let own = format!("{own}41 24 0:22 / /run/netns rw shared:5 - tmpfs tmpfs rw\n");
        assert!(seen(&own, "/run/netns"));
    }
}
