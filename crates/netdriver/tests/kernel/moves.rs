// SPDX-License-Identifier: Apache-2.0
//! Packets that are lost while an address moves from one host to another, and while the controller is away.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::apart::{run, soon, tests};
use crate::cluster::{Cluster, Member, address, mac};

/// A ping a millisecond.
pub(crate) struct Pings(Child);

impl Pings {
    /// From a container of a host to an address, once it answers.
    pub(crate) fn start(member: &Member, container: &str, address: &str) -> Self {
        assert!(soon(|| member.pings(container, address)), "{address}");
        let command = format!(
            "nsenter -t {} -n -m -r ip netns exec {container} busybox ping -q -i 0.001 {address}",
            member.pid()
        );
        let words: Vec<_> = command.split(' ').collect();
        let pings = Self(Command::new(words[0]).args(&words[1..]).stdout(Stdio::piped()).spawn().unwrap());
        run("sleep 1");
        pings
    }

    /// How many were sent, and how many of them not answered.
    pub(crate) fn end(mut self) -> (u32, u32) {
        run("sleep 1");
        run(&format!("kill -INT {}", self.0.id()));
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let line = text.lines().find(|line| line.contains("packets received")).unwrap();
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        (numbers[0], numbers[0] - numbers[1])
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

tests! {
    fn an_address_that_moves_under_load_loses_next_to_nothing(_kernel) {
        let cluster = Cluster::connected();
        let [one, two, three] = &cluster.members[..] else { panic!() };
        let here = format!("{}/24", address(3));
        let give = |generation: u64, host: &str| {
            let set = json!([[address(3), mac(0xa, 3), host]]);
            let body = json!({ "base": generation - 1, "generation": generation, "set": set });
            for member in &cluster.members {
                assert_eq!(member.control("PATCH", "/v1/tenants/red/remotes", &body).0, 200);
            }
        };
        // As documented: started there, then the list, then stopped here.
        let pings = Pings::start(one, "box10", &address(3));
        two.run("red", 13, &here, &mac(0xa, 3));
        give(2, "h2");
        three.stop("red", 10);
        let (sent, lost) = pings.end();
        println!("moved, started there first: {lost} of {sent} packets lost");
        assert!(lost * 10 < sent, "{lost} of {sent}");
        // As with a container that cannot run twice.
        let pings = Pings::start(one, "box10", &address(3));
        two.stop("red", 13);
        three.run("red", 10, &here, &mac(0xa, 3));
        give(3, "h3");
        let (sent, lost) = pings.end();
        println!("moved, stopped here first: {lost} of {sent} packets lost");
        cluster.all_reach_each_other();
    }

    fn while_the_controller_is_away_nothing_that_it_gave_is_lost(_kernel) {
        let cluster = Cluster::connected();
        let [one, two, three] = &cluster.members[..] else { panic!() };
        let pings = Pings::start(one, "box10", &address(2));
        // A container at an address of the list starts again, and what somebody deletes is restored.
        three.stop("red", 10);
        three.run("red", 10, &format!("{}/24", address(3)), &mac(0xa, 3));
        two.type_in("nft flush ruleset");
        cluster.members.iter().for_each(|member| drop(member.reconcile()));
        cluster.all_reach_each_other();
        let (sent, lost) = pings.end();
        println!("the controller away, a container started again, rules of a host deleted: {lost} of {sent} packets lost");
        assert!(lost * 10 < sent, "{lost} of {sent}");
    }
}
