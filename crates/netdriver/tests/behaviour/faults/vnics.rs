// SPDX-License-Identifier: Apache-2.0
//! The kernel failing in the middle of a launcher's calls.

use super::{MAC, answered, at_every_change, delete_i1, on_br1, with_all, with_network, with_vnic};
use crate::requests::vnic;

#[test]
fn create_vnic_of_a_new_tenant() {
    at_every_change(true, |_| {}, |b| answered(b.make_vnic(&on_br1("i1", "192.168.111.2", MAC))));
}

#[test]
fn create_vnic_on_a_network() {
    at_every_change(true, with_network, |b| answered(b.make_vnic(&on_br1("i1", "192.168.111.2", MAC))));
}

#[test]
fn create_vnic_of_another_subnet_of_the_tenant() {
    at_every_change(true, with_network, |b| answered(b.make_vnic(&vnic("acme", "i1", "10.7.0.0/24", "10.7.0.2", MAC))));
}

#[test]
fn delete_vnic_the_only_one() {
    at_every_change(false, with_vnic, delete_i1);
}

#[test]
fn delete_vnic_with_its_bridge_beside_a_network() {
    at_every_change(
        false,
        |b| {
            with_network(b);
            b.vnic(&vnic("acme", "i1", "10.7.0.0/24", "10.7.0.2", MAC));
        },
        delete_i1,
    );
}

#[test]
fn delete_vnic_that_a_container_has() {
    at_every_change(false, with_all, delete_i1);
}
