// SPDX-License-Identifier: Apache-2.0
//! Attacks of a container on its neighbours, on other tenants, and on the host; each counted where it would hurt. Every
//! attack is also seen to arrive where nothing stops it, or a test that cannot fail would pass. A file a target;
//! `scene` holds what they share. With `--nocapture` each test prints its part of the table of attacks.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod beyond;
mod host;
mod limits;
mod port_security;
mod scene;
mod several;
mod spoofing;
mod tenants;
