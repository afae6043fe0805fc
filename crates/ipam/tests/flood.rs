// SPDX-License-Identifier: Apache-2.0
//! A flood of requests: all are answered within a bounded time, and what is refused, or whose client is gone, is not
//! done.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Result;
use ciao_common::api::ipam::{AddressReply, PoolReply, RequestAddress, RequestPool};
use ciao_common::store::{Answer, Store};
use ciao_common::types::PoolId;
use ciao_ipam::{Config, Ipam};
use tempfile::TempDir;

const REQUESTS: usize = 16_384;
/// As long as a change waits at most, and some to make and to refuse the others.
const BOUND: Duration = Duration::from_secs(10);

struct Daemon {
    ipam: Ipam,
    store: Arc<Store>,
    pool: PoolId,
    _folder: TempDir,
}

/// A request under way.
enum Asked {
    Pool(Answer<PoolReply>),
    Address(Answer<AddressReply>),
}

impl Asked {
    fn wait(self) -> (bool, Result<String>) {
        match self {
            Self::Pool(answer) => (true, answer.wait().map(|reply| reply.pool.to_string())),
            Self::Address(answer) => (false, answer.wait().map(|reply| reply.address)),
        }
    }
}

impl Daemon {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("ciao.db")).unwrap());
        let config = Config { default_pools: vec!["10.0.0.0/8,24".parse().unwrap()], ..Config::default() };
        let ipam = Ipam::new(Arc::clone(&store), config).unwrap();
        let pool = Some("172.16.0.0/12".parse().unwrap());
        let pool = ipam.request_pool(RequestPool { pool, ..RequestPool::default() }).wait().unwrap().pool_id;
        Self { ipam, store, pool, _folder: folder }
    }

    /// Occupies the writer until the sender is dropped.
    fn busy(&self) -> (Sender<()>, Answer<()>) {
        let (held, go) = channel::<()>();
        let busy = self.store.begin(move |_| {
            assert!(go.recv().is_err(), "nothing is sent");
            Ok(())
        });
        (held, busy)
    }

    fn ask(&self, number: usize) -> Asked {
        if number.is_multiple_of(2) {
            return Asked::Pool(self.ipam.request_pool(RequestPool::default()));
        }
        let (pool_id, options) = (self.pool.clone(), Default::default());
        Asked::Address(self.ipam.request_address(RequestAddress { pool_id, address: None, options }))
    }

    /// The numbers of recorded pools and addresses, besides the first pool.
    fn recorded(&self) -> (usize, usize) {
        let count = |view| self.store.read(|tx| tx.view(view, None)).unwrap().len();
        self.store.read(|tx| tx.check_addresses()).unwrap();
        (count("pool") - 1, count("lease"))
    }
}

#[test]
fn of_16384_requests_at_once_what_is_refused_or_whose_client_is_gone_is_not_done() {
    let daemon = Daemon::new();
    let since = Instant::now();
    let (held, busy) = daemon.busy();
    // Each fourth client is gone before its request has its turn.
    let asked = (0..REQUESTS).map(|number| (number, daemon.ask(number)));
    let waiting: Vec<_> = asked.filter(|(number, _)| number % 4 < 3).map(|(_, asked)| asked).collect();
    drop(held);
    busy.wait().unwrap();
    let mut granted = (0, 0);
    for (is_pool, answer) in waiting.into_iter().map(Asked::wait) {
        match answer {
            Ok(_) if is_pool => granted.0 += 1,
            Ok(_) => granted.1 += 1,
            Err(error) => assert!(format!("{error:#}").contains("was not made"), "{error:#}"),
        }
    }
    println!("{granted:?} of {REQUESTS} in {:?}", since.elapsed());
    assert!(since.elapsed() < BOUND, "{:?}", since.elapsed());
    assert!(granted.0 > 0 && granted.1 > 0 && granted.0 + granted.1 <= REQUESTS / 4 * 3);
    assert_eq!(daemon.recorded(), granted);
}

#[test]
fn requests_that_waited_too_long_are_refused_and_not_done() {
    let daemon = Daemon::new();
    let (held, busy) = daemon.busy();
    let waiting: Vec<_> = (0..REQUESTS).map(|number| daemon.ask(number)).collect();
    std::thread::sleep(Duration::from_millis(4_100));
    drop(held);
    busy.wait().unwrap();
    let since = Instant::now();
    for (_, answer) in waiting.into_iter().map(Asked::wait) {
        let error = format!("{:#}", answer.unwrap_err());
        assert!(error.contains("the disk is slow") && error.contains("was not made"), "{error}");
    }
    assert!(since.elapsed() < BOUND, "{:?}", since.elapsed());
    assert_eq!(daemon.recorded(), (0, 0));
    // And then requests are served as ever.
    assert_eq!(daemon.ask(0).wait().1.unwrap(), "10.0.0.0/24");
}
