// SPDX-License-Identifier: Apache-2.0
//! Managers of a swarm, each with a ciao-ipam and a store of its own, and the one allocator that follows the
//! leadership.
//!
//! The model is the allocator and what it keeps in raft. A new leader requests all of that again, networks first,
//! explicitly and with the serial option, and only then anything new. At times a new leadership ends before that is
//! complete; the plugin is disabled, so that releases are lost, and enabled again; a user gives a network the serial
//! option; the daemon is killed after a commit and before the answer, and the allocator asks again.
//!
//! No address is ever held twice, and what a restore did not confirm is granted to nobody else before ten minutes have
//! passed, unless the pool is full. Not in the model: a user's serial option together with a gateway in the minute
//! after the plugin was enabled, which cannot be told from a restore.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "swarm/allocator.rs"]
mod allocator;
mod clock;
#[path = "swarm/manager.rs"]
mod manager;

use std::time::Duration;

use proptest::prelude::*;

use allocator::Allocator;

/// A random step.
#[derive(Clone, Debug)]
enum Step {
    /// `docker network create`, at times with `--gateway`; the answer to the call `lost` is lost.
    Network { tenant: usize, subnet: usize, serial: bool, gateway: bool, lost: Option<usize> },
    /// A new task, with an address of the user's choice, at times one that another task has, or any.
    Task { network: usize, address: Option<u8>, lost: bool },
    /// The end of a task; `lost`: while the plugin is disabled.
    End { task: usize, lost: bool },
    /// `docker network rm` of a network without tasks, or after their end.
    Remove { network: usize },
    /// A manager becomes leader, also the same one; after `cut` calls a further one does.
    Lead { manager: usize, lost: Option<usize>, cut: Option<(usize, usize)> },
    /// The plugin is disabled and enabled on the leader.
    Enable,
    /// Time passes on the leader, and its daemon reclaims.
    Later { minutes: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let rarely = |most: usize| prop::option::weighted(0.15, 0..most);
    prop_oneof![
        3 => (0..3_usize, 0..allocator::SUBNETS.len(), prop::bool::weighted(0.3), any::<bool>(), rarely(2)).prop_map(
            |(tenant, subnet, serial, gateway, lost)| Step::Network { tenant, subnet, serial, gateway, lost }
        ),
        12 => (any::<usize>(), prop::option::weighted(0.2, any::<u8>()), prop::bool::weighted(0.1))
            .prop_map(|(network, address, lost)| Step::Task { network, address, lost }),
        6 => (any::<usize>(), prop::bool::weighted(0.2)).prop_map(|(task, lost)| Step::End { task, lost }),
        1 => any::<usize>().prop_map(|network| Step::Remove { network }),
        3 => (0..3_usize, rarely(8), prop::option::weighted(0.2, (0..6_usize, 0..3_usize)))
            .prop_map(|(manager, lost, cut)| Step::Lead { manager, lost, cut }),
        2 => Just(Step::Enable),
        1 => (1..12_u64).prop_map(|minutes| Step::Later { minutes }),
    ]
}

fn play(steps: &[Step]) {
    let mut swarm = Allocator::new();
    for step in steps {
        match *step {
            Step::Network { tenant, subnet, serial, gateway, lost } => {
                swarm.create((tenant, subnet), serial, gateway, lost);
            }
            Step::Task { network, address, lost } => swarm.start(network, address, lost),
            Step::End { task, lost } => swarm.end(task, lost),
            Step::Remove { network } => swarm.remove(network),
            Step::Lead { manager, lost, cut: None } => swarm.lead(manager, lost, usize::MAX),
            Step::Lead { manager, lost, cut: Some((calls, next)) } => {
                swarm.lead(manager, lost, calls);
                swarm.lead(next, None, usize::MAX);
            }
            Step::Enable => swarm.leader().enable(),
            Step::Later { minutes } => swarm.leader().later(Duration::from_secs(60 * minutes)),
        }
        swarm.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_address_of_a_swarm_is_held_twice(steps in proptest::collection::vec(step(), 1..60)) {
        play(&steps);
    }
}

/// The plugin is enabled again, and a second network has the user's serial option: that is no restore, so a full pool
/// stays full.
#[test]
fn a_running_task_keeps_its_address_when_a_second_network_has_the_serial_option_and_the_pool_is_full() {
    for (lost, gateway) in [None, Some(0), Some(1)].into_iter().flat_map(|lost| [(lost, false), (lost, true)]) {
        let mut steps = vec![Step::Network { tenant: 1, subnet: 1, serial: false, gateway: false, lost: None }];
        steps.extend((0..3).map(|_| Step::Task { network: 0, address: None, lost: false }));
        steps.extend([Step::Enable, Step::Network { tenant: 1, subnet: 1, serial: true, gateway, lost }]);
        steps.extend((0..6).map(|network| Step::Task { network, address: None, lost: false }));
        steps.push(Step::Task { network: 1, address: Some(2), lost: false });
        play(&steps);
    }
}

/// The answer to the request of a further network's pool is lost: the repeated one is for another pool, so nothing but
/// the next task tells that the first network was not restored.
#[test]
fn a_running_task_keeps_its_address_when_a_second_network_s_pool_is_requested_twice() {
    let task = |address| Step::Task { network: 0, address, lost: false };
    let mut steps = vec![Step::Network { tenant: 0, subnet: 1, serial: false, gateway: false, lost: None }];
    steps.extend((0..4).map(|_| task(None)));
    steps.extend([Step::Enable, Step::Network { tenant: 0, subnet: 1, serial: true, gateway: false, lost: Some(0) }]);
    for next in [task(None), task(Some(1))] {
        let steps: Vec<_> = steps.iter().cloned().chain([next.clone(), next]).collect();
        play(&steps);
    }
}
