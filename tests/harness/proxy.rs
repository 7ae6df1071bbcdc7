//! The network between a gateway and Redis, with errors that the test sets.
//!
//! The network does to a connection only what TCP can do: bytes come late, in order, or the
//! connection ends. A connection that lost bytes therefore never carries bytes again, as if the
//! host at its other end had failed; a connection that is opened after the error works.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use super::server::Server;
use super::wait::eventually;

/// The effect of the network on bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// The bytes arrive at once.
    Sound,
    /// The bytes arrive after this delay, in each direction.
    Delayed(Duration),
    /// Bytes and connections arrive when the network is sound again.
    Paused,
    /// The bytes are lost, in both directions.
    Silent,
    /// The answers of Redis are lost, and the commands to Redis arrive.
    AnswersLost,
    /// A word of commands reaches Redis with `X` as its first letter, so that Redis does not have it, as
    /// an older server or module.
    Unknown(&'static str),
    /// Each connection is reset after this many more bytes of answers have arrived.
    ResetAfter(usize),
}

/// A relay in front of a Redis server.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Notified when the network changes.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    network: Network,
    /// Number of changes of the network.
    changes: u64,
    /// The server that new connections lead to.
    destination: SocketAddr,
    /// `None` while connections are refused.
    listener: Option<Arc<TcpListener>>,
    /// Sockets of each open connection.
    open: Vec<Arc<Connection>>,
    /// Number of connections that were opened so far.
    opened: usize,
}

/// The sockets to the gateway and to Redis.
#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// True if the connection is to end with a reset.
    reset: AtomicBool,
    /// True if all further bytes are lost, in both directions.
    forgotten: AtomicBool,
}

impl Proxy {
    /// Starts a sound network in front of `server`.
    pub(crate) fn to(server: &Server) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let state = State {
            network: Network::Sound,
            changes: 0,
            destination: server.address(),
            listener: None,
            open: vec![],
            opened: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let proxy = Self { port, shared };
        proxy.listen(listener);
        proxy
    }

    /// Returns the URL by which the gateway finds Redis.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Sets the effect of the network on all further bytes.
    pub(crate) fn set(&self, network: Network) {
        let mut state = self.shared.state();
        state.network = network;
        state.changes += 1;
        self.shared.changed.notify_all();
    }

    /// Leads new connections to another server.
    pub(crate) fn lead_to(&self, server: &Server) {
        self.shared.state().destination = server.address();
    }

    /// Resets every open connection.
    pub(crate) fn reset_all(&self) {
        let open = std::mem::take(&mut self.shared.state().open);
        for connection in open {
            connection.reset();
        }
    }

    /// Forgets every open connection, as a firewall does: neither end receives an error, and all
    /// further bytes on these connections are lost.
    pub(crate) fn forget_all(&self) {
        for connection in &self.shared.state().open {
            connection.forgotten.store(true, Ordering::Relaxed);
        }
    }

    /// Refuses new connections; open connections stay open.
    pub(crate) fn refuse(&self) {
        if let Some(listener) = self.shared.state().listener.take() {
            // Wakes the thread that accepts, so that the thread releases the port.
            let _ = rustix::net::shutdown(&*listener, rustix::net::Shutdown::Both);
        }
        eventually("connections are refused", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_err().then_some(())
        });
    }

    /// Accepts connections again.
    pub(crate) fn accept(&self) {
        let bind = || TcpListener::bind(("127.0.0.1", self.port)).ok();
        self.listen(eventually("the port is free again", bind));
    }

    /// Returns the number of connections that were opened so far.
    pub(crate) fn opened(&self) -> usize {
        self.shared.state().opened
    }

    fn listen(&self, listener: TcpListener) {
        let listener = Arc::new(listener);
        self.shared.state().listener = Some(Arc::clone(&listener));
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.serve(client));
            }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(listener) = self.shared.state().listener.take() {
            let _ = rustix::net::shutdown(&*listener, rustix::net::Shutdown::Both);
        }
        self.set(Network::Sound);
        self.reset_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the state")
    }

    /// Returns the effect of the network on bytes that have arrived now, and the number of its
    /// changes. Waits while the network is paused.
    fn network(&self) -> (Network, u64) {
        let is_paused = |state: &mut State| state.network == Network::Paused;
        let state = self.changed.wait_while(self.state(), is_paused).expect("as above");
        (state.network, state.changes)
    }

    fn serve(self: Arc<Self>, client: TcpStream) {
        self.network();
        let destination = self.state().destination;
        let Ok(server) = TcpStream::connect(destination) else {
            // The destination acts as a host that runs and does not listen.
            abort(&client);
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let [reset, forgotten] = [const { AtomicBool::new(false) }; 2];
        let connection = Arc::new(Connection { client, server, reset, forgotten });
        let mut state = self.state();
        state.open.push(Arc::clone(&connection));
        state.opened += 1;
        drop(state);
        let other = (Arc::clone(&self), Arc::clone(&connection));
        let answers = thread::spawn(move || other.0.relay(&other.1, true));
        self.relay(&connection, false);
        let _ = answers.join();
        self.state().open.retain(|open| !Arc::ptr_eq(open, &connection));
    }

    /// Carries bytes from one end to the other end, until either end is closed.
    fn relay(&self, connection: &Connection, answers: bool) {
        let Connection { client, server, reset, forgotten } = connection;
        let (from, to) = if answers { (server, client) } else { (client, server) };
        let late = VecDeque::new();
        let mut direction = Direction { answers, forgotten, lost: false, allowance: None, late };
        match direction.carry(self, from, to) {
            Err(_) => connection.reset(),
            Ok(()) if reset.load(Ordering::Relaxed) => {}
            Ok(()) => direction.end(self, to),
        }
    }
}

impl Connection {
    /// Ends both sockets with a reset, as soon as the threads that read these sockets end.
    fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
        abort(&self.client);
        abort(&self.server);
    }
}

/// Ends a connection with a reset: with this option, `close` sends a reset.
fn abort(socket: &TcpStream) {
    let _ = set_socket_linger(socket, Some(Duration::ZERO));
    // Sends nothing, and wakes the thread that reads.
    let _ = socket.shutdown(Shutdown::Read);
}

/// One direction of a connection.
struct Direction<'a> {
    answers: bool,
    forgotten: &'a AtomicBool,
    /// True if bytes were lost: then all later bytes are lost too.
    lost: bool,
    /// Number of bytes until the reset, and the change of the network that set this number.
    allowance: Option<(usize, u64)>,
    /// Bytes that have arrived and are not due yet.
    late: VecDeque<(Instant, Vec<u8>)>,
}

impl Direction<'_> {
    /// Returns `Ok` when `from` ends, and an error when the connection is to be reset.
    fn carry(&mut self, shared: &Shared, mut from: &TcpStream, to: &TcpStream) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            self.wait_at_most(from)?;
            match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => self.pass(shared, buffer.get(..count).unwrap_or_default(), to)?,
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
            self.deliver(to)?;
        }
    }

    /// Sets a timeout, so that a read ends when bytes are due.
    fn wait_at_most(&self, from: &TcpStream) -> io::Result<()> {
        let wait = self.late.front().map(|(due, _)| due.saturating_duration_since(Instant::now()));
        from.set_read_timeout(wait.map(|wait| wait.max(Duration::from_millis(1))))
    }

    fn pass(&mut self, shared: &Shared, bytes: &[u8], mut to: &TcpStream) -> io::Result<()> {
        let (network, change) = shared.network();
        if self.is_lost(network) {
            return Ok(());
        }
        match network {
            Network::Delayed(delay) => {
                self.late.push_back((Instant::now() + delay, bytes.to_owned()));
                return Ok(());
            }
            Network::ResetAfter(count) if self.answers => {
                let left = self.allowance.filter(|&(_, since)| since == change);
                let left = left.map_or(count, |(left, _)| left);
                to.write_all(bytes.get(..left).unwrap_or(bytes))?;
                self.allowance = Some((left.saturating_sub(bytes.len()), change));
                return if left > bytes.len() { Ok(()) } else { Err(io::ErrorKind::Other.into()) };
            }
            Network::Unknown(word) if !self.answers => {
                return to.write_all(&changed(bytes, word.as_bytes()));
            }
            _ => {}
        }
        if self.late.is_empty() {
            return to.write_all(bytes);
        }
        // Keeps the order of bytes, although the network is no longer slow.
        self.late.push_back((Instant::now(), bytes.to_owned()));
        Ok(())
    }

    /// Returns whether bytes that arrive now are lost, because the network is silent or was.
    fn is_lost(&mut self, network: Network) -> bool {
        self.lost |= match network {
            Network::Silent => true,
            Network::AnswersLost => self.answers,
            _ => self.forgotten.load(Ordering::Relaxed),
        };
        self.lost
    }

    /// Closes the other end after all earlier bytes.
    fn end(&mut self, shared: &Shared, mut to: &TcpStream) {
        for (due, bytes) in self.late.drain(..) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let _ = to.write_all(&bytes);
        }
        if !self.is_lost(shared.network().0) {
            let _ = to.shutdown(Shutdown::Write);
        }
    }

    /// Writes the bytes that are due.
    fn deliver(&mut self, mut to: &TcpStream) -> io::Result<()> {
        while let Some((_, bytes)) = self.late.pop_front_if(|(due, _)| *due <= Instant::now()) {
            to.write_all(&bytes)?;
        }
        Ok(())
    }
}

/// Returns bytes in which each occurrence of a word begins with `X`.
fn changed(bytes: &[u8], word: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for place in 0..bytes.len() {
        if bytes[place..].starts_with(word) {
            changed[place] = b'X';
        }
    }
    changed
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
