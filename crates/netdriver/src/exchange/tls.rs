// SPDX-License-Identifier: Apache-2.0
//! One question and its answer between two daemons, over mutual TLS 1.3.
//!
//! Each side proves its name: a DNS name of its certificate, signed by an authority that the other side has. The files
//! are read for each connection, so renewed certificates and further authorities need no restart, and no session is
//! resumed.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustls::client::{Resumption, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Error, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use socket2::{Domain, Socket, Type};

use super::message::MESSAGE_LIMIT;

/// For all of a connection: a host that sends a byte now and then holds nothing for longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The end of the year 9998, in seconds since 1970.
const FAR: u64 = 253_370_764_799;
/// The protocol, and its version: hosts of different ones refuse each other.
const PROTOCOL: &[u8] = b"ciao-exchange/1";

/// The files by which a daemon proves who it is, and recognizes others; PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Certificates of authorities, one or more.
    pub ca: PathBuf,
    /// The certificate, with those between it and the authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What the files have.
struct Loaded {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn load(&self) -> Result<Loaded> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.ca)? {
            roots.add(authority).with_context(|| format!("read {}", self.ca.display()))?;
        }
        let at = || format!("read a key from {}", self.key.display());
        let key =
            PrivateKeyDer::from_pem_slice(without_headers(&fs::read_to_string(&self.key).with_context(at)?).as_bytes());
        let key = key.with_context(at)?;
        Ok(Loaded { roots: Arc::new(roots), chain: certificates(&self.cert)?, key })
    }

    fn client(&self) -> Result<Arc<ClientConfig>> {
        let Loaded { roots, chain, key } = self.load()?;
        let config = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
        let config = config.with_root_certificates(roots).with_client_auth_cert(chain, key);
        let mut config = config.with_context(|| format!("use certificate {}", self.cert.display()))?;
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![PROTOCOL.to_owned()];
        Ok(Arc::new(config))
    }

    fn server(&self) -> Result<Arc<ServerConfig>> {
        let Loaded { roots, chain, key } = self.load()?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
        let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
        let config = config.with_client_cert_verifier(verifier).with_single_cert(chain, key);
        let mut config = config.with_context(|| format!("use certificate {}", self.cert.display()))?;
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![PROTOCOL.to_owned()];
        Ok(Arc::new(config))
    }

    /// Whether the files can be used.
    ///
    /// # Errors
    /// They cannot.
    pub fn check(&self) -> Result<()> {
        self.client().and_then(|_| self.server()).map(drop)
    }

    /// When the certificate begins and ends, in seconds since 1970, as other hosts with the same authorities see it.
    pub(super) fn validity(&self) -> Result<(u64, u64)> {
        let Loaded { roots, chain, .. } = self.load()?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
        let at = |seconds| {
            let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            verifier.verify_client_cert(&chain[0], &chain[1..], time)
        };
        let begin = match at(0) {
            Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
                not_before.as_secs()
            }
            _ => 0,
        };
        match at(FAR) {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                Ok((begin, not_after.as_secs()))
            }
            Err(error) => Err(error).with_context(|| format!("check certificate {}", self.cert.display())),
            Ok(_) => Ok((begin, FAR)),
        }
    }

    /// Connects from an own address to the daemon called `name` and returns its answer.
    ///
    /// # Errors
    /// It does not answer, or proves another name, or does not accept this side's.
    pub fn ask(&self, from: IpAddr, to: SocketAddr, name: &str, question: &[u8]) -> Result<Vec<u8>> {
        let (config, server) = (self.client()?, server_name(name)?);
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into()).with_context(|| format!("use address {from}"))?;
        socket.connect_timeout(&to.into(), PATIENCE).with_context(|| format!("connect to {to}"))?;
        let mut stream = StreamOwned::new(ClientConnection::new(config, server)?, Timed::new(socket.into())?);
        let answer = write(&mut stream, question).and_then(|()| read(&mut stream));
        answer.map_err(|error| match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                error.context(format!("it closed the connection: is {from} in its list of hosts?"))
            }
            _ => error,
        })
    }

    /// Answers the question of a connection, from a daemon that must be the one called `name`.
    ///
    /// # Errors
    /// It is not, or does not ask.
    pub fn answer(&self, stream: TcpStream, name: &str, reply: impl FnOnce(&[u8]) -> Result<Vec<u8>>) -> Result<()> {
        let mut stream = StreamOwned::new(ServerConnection::new(self.server()?)?, Timed::new(stream)?);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).context("TLS handshake")?;
        }
        let certificate = stream.conn.peer_certificates().and_then(<[_]>::first).context("no certificate")?;
        verify_server_name(&ParsedCertificate::try_from(certificate)?, &server_name(name)?)
            .with_context(|| format!("its certificate is not that of {name}"))?;
        let question = read(&mut stream)?;
        write(&mut stream, &reply(&question)?)?;
        stream.conn.send_close_notify();
        Ok(stream.flush()?)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.with_context(|| format!("read certificates from {}", path.display()))?;
    ensure!(!found.is_empty(), "{} has no certificate", path.display());
    Ok(found)
}

/// PEM without headers, which a node's key of a swarm has.
fn without_headers(pem: &str) -> String {
    pem.split_inclusive('\n').filter(|line| !line.contains(": ")).collect()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn server_name(name: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(name.to_owned())
        .with_context(|| format!("{name} cannot be the name of a certificate: name the host like a DNS name"))
}

/// A connection that ends in time.
struct Timed {
    stream: TcpStream,
    until: Instant,
}

impl Timed {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, until: Instant::now() + PATIENCE })
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A message: its length in four bytes, big endian, and its bytes.
fn write(stream: &mut impl Write, message: &[u8]) -> Result<()> {
    stream.write_all(&[&u32::try_from(message.len())?.to_be_bytes(), message].concat())?;
    Ok(stream.flush()?)
}

fn read(stream: &mut impl Read) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if usize::try_from(length)? > MESSAGE_LIMIT {
        bail!("a message of {length} bytes: at most {MESSAGE_LIMIT} are accepted");
    }
    let mut message = Vec::new();
    stream.take(length.into()).read_to_end(&mut message)?;
    ensure!(message.len() == usize::try_from(length)?, "the message is incomplete");
    Ok(message)
}
