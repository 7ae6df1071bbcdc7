//! A socket that listens, and the bound for its connections.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use store::{LogThrottle, Sums};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, lookup_host},
    sync::{Semaphore, watch},
    time::sleep,
};

use super::connection::Connector;
use crate::{
    routes::App,
    telemetry::{self, GaugeGuard},
};

/// Maximum number of connections that wait to be accepted. The system lowers the number to its own
/// maximum (net.core.somaxconn).
const BACKLOG: u32 = 4096;

/// Pause after a failed accept. Without it, a lack of file descriptors would use the whole processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Maximum number of connections that are refused with an answer at once. Other connections are closed
/// without one.
const MAX_REFUSALS: usize = 128;

/// A socket that listens, with the connector for its connections.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    connector: Arc<Connector>,
    /// A permit for each connection.
    room: Arc<Semaphore>,
    max_connections: usize,
    /// Counts an open connection, if this listener has a metric.
    count: fn() -> Option<GaugeGuard>,
    /// A permit for each connection that is refused with an answer.
    refusals: Arc<Semaphore>,
}

impl Listener {
    /// Returns a listener for at most `max_connections`. Each open connection has a value of `count`.
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

    /// Returns a listener whose connections count against the maximum of this one.
    pub(super) fn beside(&self, socket: TcpListener, connector: Connector) -> Self {
        Self {
            socket,
            connector: Arc::new(connector),
            room: Arc::clone(&self.room),
            max_connections: self.max_connections,
            count: self.count,
            refusals: Arc::clone(&self.refusals),
        }
    }

    /// Returns the maximum number of open connections.
    pub(super) const fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Accepts connections and serves `app` on them, each until `drain` changes. Serves `refusal` on
    /// connections above the maximum number.
    pub(super) async fn accept_all(
        &self,
        app: &App,
        refusal: &App,
        drain: &watch::Sender<()>,
    ) -> Infallible {
        let mut failures = LogThrottle::new();
        loop {
            let stream = accept(&self.socket, &mut failures).await;
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

    fn refuse(&self, stream: TcpStream, refusal: &App) {
        telemetry::count_refused_connection();
        if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
            let (connector, refusal) = (Arc::clone(&self.connector), refusal.clone());
            tokio::spawn(async move {
                connector.refuse(stream, refusal).await;
                drop(permit);
            });
        }
    }
}

/// Returns the next connection. Failures before it are logged as one line now and then.
pub(crate) async fn accept(socket: &TcpListener, failures: &mut LogThrottle) -> TcpStream {
    loop {
        match socket.accept().await {
            Ok((stream, _)) => {
                if failures.is_quiet(Instant::now())
                    && let Some(Sums { count, seconds }) = failures.end()
                {
                    tracing::info!(attempts = count, seconds, "connections are accepted again");
                }
                // Answers are small and sent whole, so a wait for full packets only delays them.
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

/// Listens on the first usable address of a host. Clients wait until their connections are accepted. The
/// host and the port have the names of their settings.
///
/// # Errors
///
/// When the system refuses the address: one line with the address.
pub(crate) async fn listen(
    (host_setting, host): (&str, &str),
    (port_setting, port): (&str, u16),
) -> Result<TcpListener, String> {
    listen_on_first(host, port).await.map_err(|error| {
        format!("cannot listen on {host_setting} {host} {port_setting} {port}: {error}")
    })
}

async fn listen_on_first(host: &str, port: u16) -> io::Result<TcpListener> {
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
    // A restart does not wait until the connections of the former process have ended.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
