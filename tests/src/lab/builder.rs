// SPDX-License-Identifier: Apache-2.0
//! [`Builder`], how a host is to be, and the order in which it comes up.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result};

use super::ciao::Ciao;
use super::namespaces::{Inside, Namespaces, find_in};
use super::{Daemon, Engine, Host, image};

/// What a host is to be like; `start` opens it.
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    engine: Option<Engine>,
    dockerd_args: Vec<OsString>,
    docker: bool,
    ciao: bool,
    ciao_net_args: Vec<OsString>,
    ciao_ipam_args: Vec<OsString>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            name: "host".to_owned(),
            engine: None,
            dockerd_args: Vec::new(),
            docker: true,
            ciao: true,
            ciao_net_args: Vec::new(),
            ciao_ipam_args: Vec::new(),
        }
    }
}

impl Builder {
    /// The host's name: its hostname, and a part of its folder's name. Need not be unique.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Whose Docker Engine runs; without it the one that `CIAO_ENGINE` names, or else the machine's.
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// More arguments for dockerd, which is stock without.
    pub fn dockerd_args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.dockerd_args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Whether dockerd runs; yes without it. Otherwise a test may start it later, and import the image `busybox`
    /// itself.
    pub fn docker(mut self, docker: bool) -> Self {
        self.docker = docker;
        self
    }

    /// Whether ciao-net and ciao-ipam are installed and run; yes without it.
    pub fn ciao(mut self, ciao: bool) -> Self {
        self.ciao = ciao;
        self
    }

    /// More arguments for `ciao-net serve`.
    pub fn ciao_net_args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.ciao_net_args.extend(args.into_iter().map(Into::into));
        self
    }

    /// More arguments for `ciao-ipam serve`.
    pub fn ciao_ipam_args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.ciao_ipam_args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Opens the host: namespaces, ciao, dockerd, the image `busybox`. As on a real host, the plugins serve before
    /// dockerd starts.
    pub fn start(self) -> Result<Host> {
        let engine = self.engine.map_or_else(Engine::from_environment, Ok)?;
        let lower = engine.root()?;
        require_docker(&lower)?;
        let namespaces = Namespaces::open(&self.name, &lower)?;
        let inside = namespaces.inside();
        let ciao = self.ciao.then(|| Ciao::start(inside, &self.ciao_net_args, &self.ciao_ipam_args)).transpose()?;
        let argv = [OsString::from("dockerd")].into_iter().chain(self.dockerd_args).collect();
        let dockerd = Daemon::new(inside.clone(), "dockerd", argv, docker_answers);
        let host = Host { dockerd, ciao, namespaces };
        if self.docker {
            host.dockerd().start()?;
            image::import_busybox(&host)?;
        }
        Ok(host)
    }
}

/// The socket first: a refused connection costs nothing, a `docker` command 50 ms of processor.
fn docker_answers(inside: &Inside) -> bool {
    inside.accepts("/run/docker.sock")
        && inside.command(["timeout", "5", "docker", "info"]).output().is_ok_and(|output| output.status.success())
}

fn require_docker(root: &Path) -> Result<()> {
    for (tool, package) in [("dockerd", "docker.io"), ("docker", "docker.io"), ("busybox", "busybox-static")] {
        find_in(root, tool)
            .with_context(|| format!("there is no `{tool}` in {}: apt-get install {package}", root.display()))?;
    }
    Ok(())
}
