// SPDX-License-Identifier: Apache-2.0
//! Ports that something else has, and ranges of which some are taken.

use std::net::{TcpListener, UdpSocket};

use ciao_netdriver::reconcile::Depth;
use serde_json::json;

use crate::ports::{binding, free_port, publish, published, two};
use crate::requests::names_of;

#[test]
fn two_tenants_cannot_publish_one_port_and_the_error_names_its_holder() {
    let b = two();
    let port = free_port();
    b.ok("ProgramExternalConnectivity", &publish("red", "red1", &[binding(6, (port, port), "")]));
    let rows = b.rows();
    let error =
        b.call("ProgramExternalConnectivity", &publish("blue", "blue1", &[binding(6, (port, port), "")])).unwrap_err();
    let expected =
        format!("port {port}/tcp is in use on 0.0.0.0 by endpoint red100000000 of tenant red: publish another one");
    assert_eq!(error, expected);
    assert_eq!(b.rows(), rows);
    b.ok("ProgramExternalConnectivity", &publish("blue", "blue1", &[binding(17, (port, port), "")]));
    assert!(UdpSocket::bind(("0.0.0.0", port)).is_err());
}

#[test]
fn one_port_at_several_of_the_host_s_addresses_leads_to_several_container_ports() {
    let b = two();
    b.run("red2", "red", "192.168.111.3/24", "");
    let port = free_port();
    let at = |address| binding(6, (port, port), address);
    b.driver.reconcile(Depth::Full);
    let rows = b.rows();
    let mut other = at("127.0.0.2");
    other["Port"] = json!(81);
    b.ok("ProgramExternalConnectivity", &publish("red", "red1", &[at("127.0.0.1"), other]));
    b.ok("ProgramExternalConnectivity", &publish("red", "red2", &[at("127.0.0.3")]));
    b.ok("ProgramExternalConnectivity", &publish("blue", "blue1", &[at("127.0.0.4")]));
    let expected = ["1 192.168.111.2:80", "2 192.168.111.2:81", "3 192.168.111.3:80", "4 192.168.111.2:80"];
    let expected = expected.map(|place| place.replacen(' ', &format!(":{port} "), 1));
    assert_eq!(published(&b), expected.map(|place| format!("tcp 127.0.0.{place}")));
    let inner = b.store.read(|tx| Ok(tx.ports()?.into_iter().map(|port| port.inner_port).collect::<Vec<_>>())).unwrap();
    assert_eq!(inner, [port, u16::MAX, u16::MAX - 1, port], "a number each at the uplink of a tenant");
    b.run("red3", "red", "192.168.111.4/24", "");
    for address in ["", "127.0.0.1"] {
        let error = b.call("ProgramExternalConnectivity", &publish("red", "red3", &[at(address)])).unwrap_err();
        assert!(
            error.contains(&format!("port {port}/tcp is in use on")) && error.contains("by endpoint red1"),
            "{error}"
        );
    }
    // Of the ports of a refused request, those that were free open nothing and close nothing.
    let theirs = TcpListener::bind("127.0.0.5:0").unwrap();
    let taken = theirs.local_addr().unwrap().port();
    let body = publish("red", "red3", &[at("127.0.0.6"), binding(6, (taken, taken), "127.0.0.5")]);
    b.call("ProgramExternalConnectivity", &body).unwrap_err();
    assert_eq!(b.driver.reconcile(Depth::Full), []);
    b.ok("RevokeExternalConnectivity", &names_of("red", "red1"));
    b.ok("RevokeExternalConnectivity", &names_of("red", "red2"));
    b.ok("RevokeExternalConnectivity", &names_of("blue", "blue1"));
    b.stop("red", "red3");
    assert_eq!(b.rows(), rows);
}

#[test]
fn a_port_of_another_program_is_refused_with_the_command_that_shows_it_and_none_is_left_published() {
    let b = two();
    let theirs = TcpListener::bind("0.0.0.0:0").unwrap();
    let (taken, free) = (theirs.local_addr().unwrap().port(), free_port());
    let rows = b.rows();
    let body = publish("red", "red1", &[binding(6, (free, free), ""), binding(6, (taken, taken), "")]);
    let error = b.call("ProgramExternalConnectivity", &body).unwrap_err();
    let shown = format!("ss -ltnp 'sport = :{taken}'");
    assert!(error.contains(&format!("port {taken}/tcp is in use on 0.0.0.0")) && error.contains(&shown), "{error}");
    assert_eq!(b.rows(), rows);
    TcpListener::bind(("0.0.0.0", free)).unwrap();
}

#[test]
fn a_port_range_yields_its_first_free_port_and_zero_any() {
    let b = two();
    let theirs = loop {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let next = listener.local_addr().unwrap().port() + 1;
        if TcpListener::bind(("0.0.0.0", next)).is_ok() {
            break listener;
        }
    };
    let first = theirs.local_addr().unwrap().port();
    b.ok("ProgramExternalConnectivity", &publish("red", "red1", &[binding(6, (first, first + 1), "")]));
    assert_eq!(published(&b), [format!("tcp 0.0.0.0:{} 192.168.111.2:80", first + 1)]);
    let any = publish("blue", "blue1", &[binding(6, (0, 0), ""), binding(6, (0, 0), "127.0.0.1")]);
    b.ok("ProgramExternalConnectivity", &any);
    assert_eq!(published(&b).len(), 3);
}

#[test]
fn the_port_of_a_container_that_a_killed_dockerd_lost_is_free_for_another_one() {
    let b = two();
    let port = free_port();
    let program = |on: &str, endpoint: &str| {
        b.call("ProgramExternalConnectivity", &publish(on, endpoint, &[binding(6, (port, port), "")]))
    };
    program("red", "red1").unwrap();
    b.run("red2", "red", "192.168.111.3/24", "");
    assert!(program("red", "red2").is_err(), "the first one runs");
    b.kill_containers();
    program("red", "red2").unwrap();
    assert_eq!(published(&b), [format!("tcp 0.0.0.0:{port} 192.168.111.3:80")]);
    program("blue", "blue1").unwrap();
    assert_eq!(published(&b), [format!("tcp 0.0.0.0:{port} 192.168.111.2:80")]);
}

/// At the tenant's uplink, the host's number is another container's.
#[test]
fn what_was_published_before_a_port_that_is_in_use_takes_no_other_container_s_port_with_it() {
    let b = two();
    b.run("red2", "red", "192.168.111.3/24", "");
    let (port, theirs) = (free_port(), TcpListener::bind("0.0.0.0:0").unwrap());
    let taken = theirs.local_addr().unwrap().port();
    b.ok("ProgramExternalConnectivity", &publish("red", "red1", &[binding(6, (port, port), "127.0.0.2")]));
    let (rows, rules) = (b.rows(), b.kernel.state().rules);
    let body = publish("red", "red2", &[binding(6, (port, port), "127.0.0.3"), binding(6, (taken, taken), "")]);
    let error = b.call("ProgramExternalConnectivity", &body).unwrap_err();
    assert!(error.contains(&format!("port {taken}/tcp is in use")), "{error}");
    assert_eq!((b.rows(), b.kernel.state().rules), (rows, rules));
    TcpListener::bind(("127.0.0.3", port)).unwrap();
}

#[test]
fn a_port_that_another_program_had_at_the_start_stays_its_container_s_and_is_held_again() {
    let b = two();
    let port = free_port();
    b.ok("ProgramExternalConnectivity", &publish("red", "red1", &[binding(6, (port, port), "")]));
    // Nobody holds it, as after a start while another program has it.
    let b = b.restarted();
    let (rows, rules) = (b.rows(), b.kernel.state().rules);
    for address in ["", "127.0.0.2"] {
        let body = publish("blue", "blue1", &[binding(6, (port, port), address)]);
        let error = b.call("ProgramExternalConnectivity", &body).unwrap_err();
        assert!(error.contains("by endpoint red1") && error.contains("of tenant red"), "{error}");
        assert_eq!((b.rows(), b.kernel.state().rules), (rows.clone(), rules.clone()));
    }
    let theirs = TcpListener::bind(("0.0.0.0", port)).unwrap();
    assert_eq!(b.reconcile(), [""; 0]);
    drop(theirs);
    assert_eq!(b.reconcile(), [""; 0]);
    assert!(TcpListener::bind(("0.0.0.0", port)).is_err());
    b.stop("red", "red1");
    TcpListener::bind(("0.0.0.0", port)).unwrap();
}
