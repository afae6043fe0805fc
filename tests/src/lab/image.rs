// SPDX-License-Identifier: Apache-2.0
//! The image `busybox`, made inside a host without a registry: tests must run without a network.

use anyhow::{Context, Result};

use super::Host;

/// The end of a `docker run`: a container that lives until SIGTERM, and ends at once then, so that `docker stop`
/// need not wait.
pub const LIVE: &str = "busybox sh -c 'trap exit TERM; sleep 600 & wait'";

/// `/usr/bin/busybox`, because that is the path which `--install` links to; `/bin` leads there too.
pub(super) const IMPORT: &str = r#"
command -v busybox >/dev/null || { echo "busybox is missing: apt-get install busybox-static" >&2; exit 1; }
image=$(mktemp -d)
mkdir -p "$image/usr/bin" "$image/etc" "$image/tmp" "$image/root"
ln -s usr/bin "$image/bin"
cp "$(command -v busybox)" "$image/usr/bin/busybox"
chroot "$image" /bin/busybox true 2>/dev/null || { echo "busybox needs libraries: apt-get install busybox-static" >&2; exit 1; }
busybox --install -s "$image/usr/bin"
tar -C "$image" -c . | docker import --change 'CMD ["sh"]' - busybox
rm -rf "$image"
"#;

pub(super) fn import_busybox(host: &Host) -> Result<()> {
    host.sh(IMPORT).context("make the image busybox")?;
    Ok(())
}
