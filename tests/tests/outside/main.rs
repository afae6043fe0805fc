// SPDX-License-Identifier: Apache-2.0
//! Egress and ingress: containers reach the internet, the internet reaches published ports, and two tenants
//! with the same addresses do both at once. What nobody asked for stays closed. A file a subject; `scene` holds what
//! they share.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod egress;
mod firewall;
mod ipv6;
mod publish;
mod scene;
mod traces;
mod two_tenants;
