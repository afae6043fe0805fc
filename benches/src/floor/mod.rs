// SPDX-License-Identifier: Apache-2.0
//! What the disk and the kernel take without us: the floors that our times are held against.

pub mod sqlite;
pub mod veth;
