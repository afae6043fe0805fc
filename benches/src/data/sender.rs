// SPDX-License-Identifier: Apache-2.0
//! What goes over the wire: a stream, a word back and forth, datagrams. Both ends are threads of this process, with
//! sockets of the namespace that they are to be in.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::scope;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use ciao_tests::world::Place;

use crate::numbers::Latencies;

/// One write.
const CHUNK: usize = 128 << 10;
/// How long to wait for what may have been lost.
const PATIENCE: Duration = Duration::from_millis(200);
const CONNECT: Duration = Duration::from_secs(5);

/// From where to where, and by which address.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    pub(super) from: &'a Place,
    pub(super) to: &'a Place,
    /// The port that the other end listens on.
    pub(super) port: u16,
    /// What the near end speaks to: the other's own address, or a published port.
    pub(super) target: SocketAddr,
}

impl Path<'_> {
    /// Bytes a second of one TCP connection.
    pub(super) fn stream(&self, time: Duration) -> Result<f64> {
        let (mut near, mut far) = self.connect()?;
        scope(|scope| {
            let receiver = scope.spawn(move || receive(&mut far));
            let chunk = vec![0_u8; CHUNK];
            let start = Instant::now();
            while start.elapsed() < time {
                near.write_all(&chunk).context("send")?;
            }
            drop(near);
            let received = receiver.join().map_err(|_| anyhow!("a thread panicked"))??;
            Ok(received as f64 / start.elapsed().as_secs_f64())
        })
    }

    /// How long a byte takes to the other end and back.
    pub(super) fn ping_pong(&self, time: Duration) -> Result<Latencies> {
        let (mut near, mut far) = self.connect()?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        scope(|scope| {
            scope.spawn(move || {
                let mut byte = [0];
                while far.read_exact(&mut byte).and_then(|()| far.write_all(&byte)).is_ok() {}
            });
            let mut latencies = Latencies::default();
            let mut byte = [0];
            let start = Instant::now();
            while start.elapsed() < time {
                let sent = Instant::now();
                near.write_all(&byte)?;
                near.read_exact(&mut byte)?;
                latencies.add(sent.elapsed());
            }
            // Or the other end would wait for another byte.
            drop(near);
            Ok(latencies)
        })
    }

    /// Datagrams of so many bytes that arrive in a second, sent as fast as the sender can.
    pub(super) fn datagrams(&self, bytes: usize, time: Duration) -> Result<f64> {
        let far = self.to.within(|| UdpSocket::bind(any(self.port))).context("listen")?;
        far.set_read_timeout(Some(PATIENCE))?;
        let near = self.from.within(|| UdpSocket::bind(any(0))).context("open a socket")?;
        near.connect(self.target).context("connect")?;
        scope(|scope| {
            let receiver = scope.spawn(move || {
                let mut datagram = vec![0; bytes];
                let mut count = 0_u64;
                while far.recv(&mut datagram).is_ok() {
                    count += 1;
                }
                count
            });
            let datagram = vec![0; bytes];
            let start = Instant::now();
            while start.elapsed() < time {
                match near.send(&datagram) {
                    Ok(_) => {}
                    // The sender's queue is full.
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::OutOfMemory) => {}
                    Err(error) => return Err(error).context("send a datagram"),
                }
            }
            let elapsed = start.elapsed();
            let received = receiver.join().map_err(|_| anyhow!("a thread panicked"))?;
            Ok(received as f64 / elapsed.as_secs_f64())
        })
    }

    fn connect(&self) -> Result<(TcpStream, TcpStream)> {
        let listener = self.to.within(|| TcpListener::bind(any(self.port))).context("listen")?;
        let near = self.from.within(|| TcpStream::connect_timeout(&self.target, CONNECT));
        let near = near.with_context(|| format!("connect to {}", self.target))?;
        let (far, _) = listener.accept()?;
        Ok((near, far))
    }
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

fn receive(stream: &mut TcpStream) -> Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut received = 0;
    loop {
        match stream.read(&mut chunk).context("receive")? {
            0 => return Ok(received),
            read => received += read as u64,
        }
    }
}
