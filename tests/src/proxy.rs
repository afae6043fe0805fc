// SPDX-License-Identifier: Apache-2.0
//! [`Proxy`], a wire between dockerd and a plugin that fails once, where a test asks for it. Everything that a crash, a
//! full socket or a killed process can do to one call is done to it here, at a moment that a test can name.
//!
//! It is plain threads and no HTTP library: a message is passed on byte by byte as it came, and so is what is wrong
//! with it.

mod message;

use std::io::{self, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use self::message::Message;

/// How long the plugin may take to come back between two calls: a test kills it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is done to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection closes, and the plugin never sees the request. The engine asks again.
    LoseRequest,
    /// The plugin carries the call out; the connection closes without its reply. The engine asks again.
    LoseReply,
    /// The plugin carries the call out; half of its answer arrives. The engine takes the call for failed.
    CutReply,
    /// The plugin carries the call out; its answer arrives so much later.
    DelayReply(Duration),
    /// The plugin carries the call out twice, one after the other; its second answer arrives.
    Duplicate,
    /// The plugin is killed.
    Kill {
        /// Its process id.
        pid: i32,
        /// When.
        at: Moment,
    },
}

/// A moment of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long after the plugin got the request.
    AfterRequest(Duration),
    /// When its whole answer is there, and before the engine gets it.
    AtReply,
}

/// A call that passed: the method, and the status that the engine saw, if it saw one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Such as `NetworkDriver.Join`.
    pub method: String,
    /// HTTP's.
    pub status: Option<u16>,
}

#[derive(Default)]
struct State {
    armed: Option<(String, Fault)>,
    calls: Vec<Call>,
}

struct Shared {
    plugin: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    closing: AtomicBool,
}

/// A running proxy. Dropping it closes the socket.
pub struct Proxy {
    listen: PathBuf,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on one socket and passes what comes on to another.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(listen: &Path, plugin: &Path) -> Result<Self> {
        let listener = UnixListener::bind(listen).with_context(|| format!("listen on {}", listen.display()))?;
        let shared = Arc::new(Shared {
            plugin: plugin.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
            closing: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { listen: listen.to_owned(), shared })
    }

    /// The next call of `method` (such as `IpamDriver.RequestPool`) meets a fault; those after it meet none.
    pub fn arm(&self, method: &str, fault: Fault) {
        let mut state = self.shared.state();
        state.armed = Some((method.to_owned(), fault));
        state.calls.clear();
    }

    /// Waits until the armed call came. `false`: it did not come in time, and will meet no fault any more.
    pub fn has_fired(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut state = self.shared.state();
        while state.armed.is_some() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.armed = None;
                return false;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// What passed since the fault was armed.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        // Wakes the thread that accepts; when the listener is closed there is none.
        drop(UnixStream::connect(&self.listen));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that a call of `method` meets; it is used up.
    fn take(&self, method: &str) -> Option<Fault> {
        let mut state = self.state();
        let (_, fault) = state.armed.take_if(|(armed, _)| armed == method)?;
        Some(fault)
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.closing.load(Ordering::Acquire) {
            return;
        }
        let Ok(client) = client else { return };
        let shared = Arc::clone(shared);
        // A connection that fails is closed, which its other end notices.
        thread::spawn(move || drop(serve(client, &shared)));
    }
}

/// One connection of the engine: call after call, until it closes or a fault closes it.
fn serve(client: UnixStream, shared: &Shared) -> io::Result<()> {
    let mut requests = BufReader::new(client.try_clone()?);
    while let Some(request) = Message::read(&mut requests)? {
        let method = request.method();
        let fault = shared.take(&method);
        let reply = pass(&request, fault, &shared.plugin);
        let status = reply.as_ref().ok().and_then(Option::as_ref).and_then(Message::status);
        let seen = status.filter(|_| fault != Some(Fault::CutReply));
        shared.state().calls.push(Call { method, status: seen });
        shared.changed.notify_all();
        let Some(reply) = reply? else { return Ok(()) };
        if fault == Some(Fault::CutReply) {
            return (&client).write_all(reply.half());
        }
        (&client).write_all(&reply.bytes)?;
    }
    Ok(())
}

/// Hands a request to the plugin as the fault prescribes. `None`: the engine gets no reply.
fn pass(request: &Message, fault: Option<Fault>, plugin: &Path) -> io::Result<Option<Message>> {
    let passed = || ask(request, plugin, |_| ());
    match fault {
        None | Some(Fault::CutReply) => passed(),
        Some(Fault::LoseRequest) => Ok(None),
        Some(Fault::LoseReply) => passed().map(|_| None),
        Some(Fault::DelayReply(late)) => {
            let reply = passed();
            thread::sleep(late);
            reply
        }
        Some(Fault::Duplicate) => passed().and_then(|_| passed()),
        Some(Fault::Kill { pid, at: Moment::AtReply }) => {
            let reply = passed();
            end(pid);
            reply
        }
        Some(Fault::Kill { pid, at: Moment::AfterRequest(after) }) => ask(request, plugin, |stream| {
            thread::sleep(after);
            end(pid);
            // Until the kernel has closed its end, so that what it answered before is read.
            drop(stream.set_read_timeout(Some(PATIENCE)));
        }),
    }
}

/// One that has ended by itself is as dead.
fn end(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

fn ask(request: &Message, plugin: &Path, asked: impl FnOnce(&UnixStream)) -> io::Result<Option<Message>> {
    let mut stream = UnixStream::connect(plugin)?;
    stream.write_all(&request.bytes)?;
    asked(&stream);
    Message::read(&mut BufReader::new(stream))
}

/// Calls a plugin's method without a proxy and returns the status and the body, as dockerd would see them.
///
/// # Errors
/// Nobody listens, or the connection closes without an answer.
pub fn call(plugin: &Path, method: &str, body: &str) -> io::Result<(u16, String)> {
    let request = Message::request(method, body);
    let reply = ask(&request, plugin, |_| ())?.ok_or(ErrorKind::UnexpectedEof)?;
    let status = reply.status().ok_or(ErrorKind::InvalidData)?;
    Ok((status, reply.body()))
}
