// SPDX-License-Identifier: Apache-2.0
//! Debian packages inside a host, without installing anything on the machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Host, engine};

/// Nothing that comes with a package is to be started by its installation.
const NO_SERVICES: &str = "printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d";

/// By apt, which brings pre-dependencies into order. Nothing is downloaded: what the machine lacks is in the files.
const INSTALL: &str = "set -- /run/*.deb; [ -e \"$1\" ] || exit 0
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
        -o APT::Sandbox::User=root \"$@\" 2>&1
    rm -f /run/*.deb";

impl Host {
    /// Installs packages inside a host whose engine is the machine's, with all that the machine lacks for them. They
    /// are downloaded once, from where the machine's own apt gets its packages.
    pub fn install(&self, packages: &[&str]) -> Result<()> {
        let folder = downloaded(packages).with_context(|| format!("download {}", packages.join(", ")))?;
        self.sh(NO_SERVICES)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                let name = path.file_name().context("a package has a name")?;
                let inside = self.path("/run").join(name);
                fs::copy(&path, &inside).with_context(|| format!("copy {}", path.display()))?;
            }
        }
        self.sh(INSTALL)?;
        Ok(())
    }
}

/// The folder with the packages that the machine lacks.
fn downloaded(packages: &[&str]) -> Result<PathBuf> {
    let (cache, name) = (engine::cache(), format!("{}-{}", packages.join("+"), release()?));
    fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
    // Two tests may want the same at once; the second waits and finds it there.
    let lock = File::create(cache.join(format!("{name}.lock")))?;
    lock.lock().context("wait for another download")?;
    let (folder, partial) = (cache.join(&name), cache.join(format!("{name}.partial")));
    if !folder.exists() {
        fs::create_dir_all(&partial)?;
        if fetch(&partial, packages).is_err() {
            apt(&["update", "-q"])?;
            fetch(&partial, packages)?;
        }
        fs::rename(&partial, &folder)?;
    }
    Ok(folder)
}

/// The machine's release, since packages of another one do not fit: `debian-13`.
fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches('"').to_owned()
    };
    Ok(format!("{}-{}", field("ID"), field("VERSION_ID")))
}

fn fetch(folder: &Path, packages: &[&str]) -> Result<()> {
    let archives = format!("Dir::Cache::archives={}", folder.display());
    // The machine's own apt may be at work.
    let options = ["-qy", "--download-only", "--no-install-recommends", "-o", &archives, "-o", "Debug::NoLocking=1"];
    apt(&[&["install"], &options[..], packages].concat())
}

fn apt(args: &[&str]) -> Result<()> {
    let output = Command::new("apt-get").args(args).output().context("run apt-get")?;
    let printed = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "apt-get {}: {}", args[0], printed.trim());
    Ok(())
}
