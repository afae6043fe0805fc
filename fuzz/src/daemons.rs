// SPDX-License-Identifier: Apache-2.0
//! Both daemons, without their sockets.

use std::path::Path;
use std::sync::Arc;

use ciao_common::serve::plugin::Plugin;
use ciao_common::serve::server::{Handler, Reply, Request};
use ciao_common::store::Store;
use ciao_ipam::Ipam;
use ciao_netdriver::control::{self, Control};
use ciao_netdriver::kernel::fake::Fake;
use ciao_netdriver::{Config, Driver};

/// Both daemons.
pub(crate) struct Daemons {
    pub(crate) net: Plugin<Arc<Driver>>,
    control: Control,
    pub(crate) ipam: Plugin<Ipam>,
    pub(crate) store: Arc<Store>,
}

/// Where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Socket {
    Net,
    Control,
    Ipam,
}

impl Daemons {
    pub(crate) fn start(database: &Path, kernel: &Arc<Fake>) -> Self {
        let store = Arc::new(Store::open(database).expect("open the store"));
        let kernel: Arc<Fake> = Arc::clone(kernel);
        let driver = Arc::new(Driver::new(Arc::clone(&store), kernel, Config::default()).expect("a driver"));
        let ipam = Ipam::new(Arc::clone(&store), ciao_ipam::Config::default()).expect("a driver");
        Self {
            net: ciao_netdriver::docker::plugin(Arc::clone(&driver)),
            control: control::routes(driver),
            ipam: ciao_ipam::routes::plugin(ipam),
            store,
        }
    }

    pub(crate) fn handle(&self, socket: Socket, method: &str, target: &str, body: &[u8]) -> Reply {
        let handler: &dyn Handler = match socket {
            Socket::Net => &self.net,
            Socket::Control => &self.control,
            Socket::Ipam => &self.ipam,
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        handler.handle(Request { method, path, query, body })
    }
}
