// SPDX-License-Identifier: Apache-2.0
//! The Debian package, the archive and `make install`: what is in them, and what a host looks like before, meanwhile
//! and after. What takes seconds runs in every `cargo test`; what boots systemd on bare root filesystems is `make
//! test-package`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod contents;
mod hosts;
mod local;
mod made;
mod managers;
mod plugin;
mod scene;
mod scripts;
