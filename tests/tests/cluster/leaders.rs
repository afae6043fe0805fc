// SPDX-License-Identifier: Apache-2.0
//! The least of a swarm: two managers that lead in turn.

use crate::nodes::{Swarm, soon};

#[test]
fn two_managers_lead_in_turn_and_a_tenant_s_containers_reach_each_other() {
    let swarm = Swarm::start(2);
    swarm.network("red", "10.77.0.0/24");
    let options = swarm.options("red");
    assert!(options.contains("\"vni\":"), "{options}");
    swarm.service("r", "red", 4);
    swarm.settles("a service on two nodes", 4);
    let first = swarm.leader();
    swarm.lead(&format!("docker node demote {}", swarm.ids()[first]));
    soon("the other node leads", || swarm.leader() != first);
    swarm.lead("docker service scale -d r=6");
    swarm.settles("leader changed, scaled to 6", 6);
    assert_eq!(swarm.options("red"), options, "the new leader keeps what the former one has allocated");
}
