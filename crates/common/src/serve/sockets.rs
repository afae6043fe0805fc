// SPDX-License-Identifier: Apache-2.0
//! A daemon's listening sockets: passed by systemd, or created.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use listenfd::ListenFd;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt};

use super::metrics::MetricsAddress;
use super::server::Listener;

/// Listening sockets, passed by systemd or created here.
pub struct Sockets {
    inherited: ListenFd,
    taken: usize,
    created: Vec<PathBuf>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { inherited: ListenFd::from_env(), taken: 0, created: Vec::new() }
    }
}

impl Sockets {
    /// The next socket passed by systemd, or else one created at `path`, with mode 0660. A stale socket is replaced.
    ///
    /// # Errors
    /// Another process listens there, or the path is not a socket.
    pub fn next(&mut self, path: &Path) -> Result<UnixListener> {
        let inherited = self.inherit()?;
        self.or_created(inherited, path)
    }

    /// Listens for requests of metrics. `None`: systemd passes sockets, but not this one, and its unit keeps the daemon
    /// from creating it.
    ///
    /// # Errors
    /// Without systemd: as [`Self::next`].
    pub fn metrics(&mut self, address: &MetricsAddress) -> Result<Option<Listener>> {
        let path = match address {
            MetricsAddress::Unix(path) => path,
            MetricsAddress::Tcp(address) => {
                return Ok(match listen_early(*address) {
                    Ok(listener) => {
                        log::info!("listening on {address}");
                        Some(Listener::Tcp(listener))
                    }
                    // Tenants' networks do not wait for a port of somebody else's.
                    Err(error) => {
                        log::warn!("no metrics: listen on {address}: {error}: give another address, or free that one");
                        None
                    }
                });
            }
        };
        let at = |listener: &UnixListener| listener.local_addr().ok()?.as_pathname().map(Path::to_owned);
        let inherited = self.inherit()?.filter(|listener| at(listener).as_ref() == Some(path));
        match self.or_created(inherited, path) {
            Err(error) if self.inherited.len() > 0 => {
                log::warn!("no metrics: {error:#}: add ListenStream={} to the socket unit", path.display());
                Ok(None)
            }
            listener => listener.map(|listener| Some(Listener::Unix(listener))),
        }
    }

    fn inherit(&mut self) -> Result<Option<UnixListener>> {
        if self.taken == self.inherited.len() {
            return Ok(None);
        }
        self.taken += 1;
        self.inherited.take_unix_listener(self.taken - 1).context("take a socket from systemd")
    }

    fn or_created(&mut self, inherited: Option<UnixListener>, path: &Path) -> Result<UnixListener> {
        if let Some(listener) = inherited {
            log::info!("listening on {} (passed by systemd)", path.display());
            return Ok(listener);
        }
        let listener = bind(path).with_context(|| format!("listen on {}", path.display()))?;
        self.created.push(path.to_owned());
        log::info!("listening on {}", path.display());
        Ok(listener)
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for path in &self.created {
            drop(fs::remove_file(path));
        }
    }
}

/// Listens on an address that the host may get only later: the daemons start before the network is up.
fn listen_early(address: SocketAddr) -> nix::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    socket::listen(&socket, Backlog::MAXCONN)?;
    Ok(socket.into())
}

pub(super) fn create_folder_of(path: &Path) -> Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::create_dir_all(folder).with_context(|| format!("create folder {}", folder.display()))
}

fn bind(path: &Path) -> Result<UnixListener> {
    create_folder_of(path)?;
    match UnixStream::connect(path) {
        Ok(_) => bail!("another process listens there: stop it first"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        // Left by a daemon that was killed.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused && is_socket(path) => {
            fs::remove_file(path).context("remove the stale socket")?;
        }
        Err(error) => return Err(error).context("the path exists and is not a socket of ciao: move it away"),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o660)).context("set its mode")?;
    Ok(listener)
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/x.sock");
        drop(bind(&path).unwrap());
        let live = bind(&path).expect("the first one is stale");
        let error = format!("{:#}", bind(&path).unwrap_err());
        assert!(error.contains("another process listens"), "{error}");
        drop(live);
    }

    #[test]
    fn metrics_are_served_at_an_address_that_the_host_gets_later() {
        for address in ["192.0.2.10:0", "[2001:db8::10]:0", "127.0.0.1:0"] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(listen_early(address).unwrap().local_addr().unwrap().ip(), address.ip());
        }
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sockets = Sockets { inherited: ListenFd::empty(), taken: 0, created: Vec::new() };
        let address = MetricsAddress::Tcp(taken.local_addr().unwrap());
        assert!(sockets.metrics(&address).unwrap().is_none(), "the daemon starts without");
    }

    #[test]
    fn a_file_at_the_socket_s_path_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        fs::write(&path, "precious").unwrap();
        assert!(bind(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
