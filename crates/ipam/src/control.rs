// SPDX-License-Identifier: Apache-2.0
//! The control socket, for `ciao-ipam reconcile` beside a running daemon.

use std::fs;
use std::sync::Arc;

use ciao_common::api;
use ciao_common::serve::server::{Handler, JSON, Reply, Request};
use ciao_common::store::Store;
use serde_json::json;

use crate::reconcile;

/// Path of the request.
pub(crate) const RECONCILE: &str = "/v1/reconcile";

/// Serves the control socket.
pub struct Control {
    store: Arc<Store>,
}

impl Control {
    /// The control socket of a daemon on `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

impl Handler for Control {
    fn handle(&self, request: Request<'_>) -> Reply {
        if (request.method, request.path) != ("POST", RECONCILE) {
            return self.refuse(404, &format!("{} {} is unknown", request.method, request.path));
        }
        let wanted: reconcile::Request = match api::parse(request.body) {
            Ok(wanted) => wanted,
            Err(error) => return self.refuse(400, &format!("{error:#}")),
        };
        let own = self.store.path();
        if wanted.db != own && fs::canonicalize(&wanted.db).ok() != fs::canonicalize(own).ok() {
            let (other, own) = (wanted.db.display(), own.display());
            return self.refuse(
                409,
                &format!("ciao-ipam runs on database {own}, not on {other}: give --db {own}, or stop it"),
            );
        }
        match reconcile::run(&self.store, wanted) {
            Ok(repairs) => Reply::json(200, JSON, &repairs),
            Err(error) => self.refuse(500, &format!("{error:#}")),
        }
    }

    fn keeps_connections(&self) -> bool {
        false
    }

    fn refuse(&self, status: u16, sentence: &str) -> Reply {
        Reply::json(status, JSON, &json!({ "error": sentence }))
    }
}
