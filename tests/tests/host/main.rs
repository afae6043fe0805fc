// SPDX-License-Identifier: Apache-2.0
//! What a host looks like with ciao on it: its policies, settings, rules, and what other people run on it. Each test
//! looks at the host and at what stands beside it, and shows that it would see the harm.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod docker_user;
mod egress;
mod forwarding;
mod ipv6;
mod leftovers;
mod links;
mod names;
mod scene;
