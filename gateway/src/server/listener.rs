//! A socket that listens, and the room for the connections that it accepts.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, lookup_host},
    sync::{Semaphore, watch},
    time::sleep,
};

use super::connection::Connector;
use store::{LogThrottle, Sums};

use crate::telemetry::{self, GaugeGuard};

/// Most connections that wait to be accepted. The system takes less for its own bound
/// (net.core.somaxconn) where that is smaller.
const BACKLOG: u32 = 4096;

/// Pause after a failed accept: when file descriptors have run out, trying again at once would
/// only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Most clients that get an answer that they are one too many at once. The connections of others
/// are closed without one.
const MAX_REFUSALS: usize = 128;

/// A socket that listens, and how those who connect to it are served.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    connector: Arc<Connector>,
    /// A permit for each connection that there may be.
    room: Arc<Semaphore>,
    max_connections: usize,
    /// Counts an open connection, where there is a metric of them.
    count: fn() -> Option<GaugeGuard>,
    /// A permit for each client that may get an answer that there is no room.
    refusals: Arc<Semaphore>,
}

impl Listener {
    /// Room for so many connections, each with a value of `count` for as long as it is open.
    pub(super) fn new(
        socket: TcpListener,
        max_connections: usize,
        connector: Connector,
        count: fn() -> Option<GaugeGuard>,
    ) -> Self {
        Self {
            socket,
            connector: Arc::new(connector),
            room: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            count,
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
        }
    }

    /// Most connections that are open at once.
    pub(super) const fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Accepts connections and serves `app` on them, each until `drain` changes. Serves `refusal` on
    /// connections above the maximum number.
    pub(super) async fn accept_all(
        &self,
        app: &Router,
        refusal: &Router,
        drain: &watch::Sender<()>,
    ) -> Infallible {
        let mut failures = LogThrottle::new();
        loop {
            let stream = self.accept(&mut failures).await;
            let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
                self.refuse(stream, refusal);
                continue;
            };
            let (connector, drain) = (Arc::clone(&self.connector), drain.subscribe());
            let (app, open) = (app.clone(), (self.count)());
            tokio::spawn(async move {
                connector.serve(stream, app, drain).await;
                drop((open, room));
            });
        }
    }

    fn refuse(&self, stream: TcpStream, refusal: &Router) {
        telemetry::count_refused_connection();
        if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
            let (connector, refusal) = (Arc::clone(&self.connector), refusal.clone());
            tokio::spawn(async move {
                connector.refuse(stream, refusal).await;
                drop(permit);
            });
        }
    }

    async fn accept(&self, failures: &mut LogThrottle) -> TcpStream {
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    if failures.is_quiet(Instant::now())
                        && let Some(Sums { count, seconds }) = failures.end()
                    {
                        tracing::info!(attempts = count, seconds, "connections are accepted again");
                    }
                    // Answers are small and sent whole; waiting to fill packets only delays them.
                    let _ = stream.set_nodelay(true);
                    return stream;
                }
                Err(error) => {
                    if let Some(Sums { count, seconds }) = failures.record(Instant::now()) {
                        let attempts = count;
                        tracing::warn!(%error, attempts, seconds, "cannot accept a connection");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Listens on the first address of a host that can be listened on. Those who connect wait until
/// connections are accepted.
pub(super) async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut last_error = io::Error::other("the host has no address");
    for address in lookup_host((host, port)).await? {
        match listen_at(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart does not wait for the connections of the process before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
