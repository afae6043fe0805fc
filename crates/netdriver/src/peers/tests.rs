// SPDX-License-Identifier: Apache-2.0
//! When hosts are asked, and what is logged of them.

use super::*;

#[test]
fn a_host_is_asked_at_once_then_later_and_later_and_never_twice_at_a_time() {
    let own = |generation| ListState { generation, digest: "0".to_owned() };
    let (peers, id) = (Peers::default(), "h2".parse::<HostId>().unwrap());
    let due = |own: &ListState| peers.due([&id].into_iter(), own, (1, Duration::from_secs(60))).len();
    assert_eq!((due(&own(1)), due(&own(1))), (1, 0), "it is being asked");
    assert_eq!(peers.answered(&id, Ok(Some(own(1)))), None);
    assert_eq!((due(&own(1)), due(&own(2))), (0, 1));
    assert_eq!(peers.answered(&id, Err("gone".to_owned())), Some("gone".to_owned()));
    assert_eq!(due(&own(2)), 0, "in a second");
    assert!(peers.told(&id, None), "it is there again");
    assert_eq!(due(&own(2)), 1);
    assert_eq!(peers.answered(&id, Err("gone".to_owned())), None, "not news");
    assert!(peers.all()[&id].heard.is_some(), "what was heard is kept");
    assert_eq!(peers.due([].into_iter(), &own(2), (1, Duration::ZERO)), []);
    assert!(peers.all().is_empty());
}

#[test]
fn a_host_is_silent_after_some_tries_and_not_if_it_answers_something_else() {
    let own = ListState { generation: 1, digest: "0".to_owned() };
    let (peers, id) = (Peers::default(), "h2".parse::<HostId>().unwrap());
    peers.due([&id].into_iter(), &own, (1, Duration::ZERO));
    let fails = |times: u32| (0..times).for_each(|_| drop(peers.answered(&id, Err("refused".to_owned()))));
    assert_eq!((peers.turned(&id), peers.turned(&id)), (Some(false), None));
    fails(SILENT - 1);
    assert_eq!(peers.turned(&id), None, "it may be restarting");
    peers.reached(&id);
    fails(SILENT - 1);
    assert_eq!(peers.turned(&id), None);
    fails(1);
    assert_eq!((peers.turned(&id), peers.turned(&id)), (Some(true), None));
    peers.told(&id, None);
    assert_eq!(peers.turned(&id), Some(false));
}

#[test]
fn a_host_that_answers_wrong_is_asked_later_and_later_whatever_it_says() {
    let own = ListState { generation: 1, digest: "0".to_owned() };
    let (peers, id) = (Peers::default(), "h2".parse::<HostId>().unwrap());
    let due = || peers.due([&id].into_iter(), &own, (1, Duration::from_secs(60))).len();
    assert_eq!(due(), 1);
    peers.reached(&id);
    peers.answered(&id, Err("it has generation 2".to_owned()));
    peers.told(&id, None);
    assert_eq!(due(), 0);
    assert!(peers.may_raise(&id) && !peers.may_raise(&id), "its answer costs the others once");
    // One that is reached again after it was not is asked at once.
    std::thread::sleep(Duration::from_millis(1300));
    assert_eq!(due(), 1);
    peers.answered(&id, Err("gone".to_owned()));
    peers.told(&id, None);
    assert_eq!(due(), 1);
}

#[test]
fn hosts_are_not_asked_at_the_same_moment() {
    let own = ListState { generation: 1, digest: "0".to_owned() };
    let peers = Peers::default();
    let ids: Vec<HostId> = (0..200).map(|n| format!("h{n}").parse().unwrap()).collect();
    let due = |period| peers.due(ids.iter(), &own, (200, period)).len();
    assert_eq!(due(Duration::ZERO), 200);
    ids.iter().for_each(|id| drop(peers.answered(id, Ok(Some(own.clone())))));
    std::thread::sleep(Duration::from_millis(100));
    let since = lock(&peers.hosts)[&ids[0]].tried.unwrap();
    let part = due(since.elapsed());
    assert!((20..180).contains(&part), "{part}: those whose time is shorter");
}

#[test]
fn a_subject_is_logged_once_a_while_and_strangers_fill_no_memory_and_silence_nothing() {
    let peers = Peers::default();
    assert!(peers.may_log("claim", "a".to_owned()) && !peers.may_log("claim", "a".to_owned()));
    let logged = (0..2 * SUBJECTS).filter(|n| peers.may_log("unlisted", n.to_string())).count();
    assert_eq!(logged, SUBJECTS);
    assert!(peers.may_log("claim", "b".to_owned()), "nor silence what else is logged");
}
