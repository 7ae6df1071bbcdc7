//! Connections: their number, their timeouts, and the shutdown.

mod connection;
mod descriptors;
pub(crate) mod listener;
pub mod options;
mod parse_error;
pub mod stopping;
mod timed_stream;
pub mod tls;
pub(crate) mod turns;
mod unread_body;

use std::{convert::Infallible, future::pending};

use rustls::ServerConfig;
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{sleep, timeout},
};

use self::{
    connection::Connector,
    listener::Listener,
    options::{AdminOptions, ListenOptions, MAX_GRPC_CONNECTIONS, ShutdownOptions},
    stopping::{Signal, Signals, Stopping},
};
use crate::{routes::App, telemetry, watched_files::WatchedFiles};

/// Maximum number of open connections of the admin listener.
const MAX_ADMIN_CONNECTIONS: usize = 64;

/// Maximum number of TLS handshakes of the admin listener that run at once. They are separate from the
/// handshakes of clients, so that a flood of clients does not delay operators.
const MAX_ADMIN_HANDSHAKES: usize = 1;

/// The listeners of the service.
#[derive(Debug)]
pub struct Server {
    clients: Listener,
    /// The listener for probes and operators, if they have a separate one.
    admin: Option<Listener>,
    stopping: Stopping,
    /// A change lets each connection end after its running request. Each connection has a receiver.
    drain: watch::Sender<()>,
}

/// The routes of each listener.
#[derive(Debug, Clone)]
pub struct Apps {
    /// The routes for clients.
    pub clients: App,
    /// The routes for probes and operators, where they have a separate listener.
    pub admin: App,
    /// The routes for a connection above the maximum number.
    pub refusal: App,
}

impl Server {
    /// Listens, for HTTPS with `tls`, else for plain HTTP. Clients wait until the server runs.
    ///
    /// # Errors
    ///
    /// When the server cannot listen on an address: one line with the address.
    pub async fn bind(
        options: &ListenOptions,
        tls: Option<WatchedFiles<ServerConfig>>,
        stopping: Stopping,
    ) -> Result<Self, String> {
        let ListenOptions { host, port, admin, .. } = options;
        let listen_error = |error| format!("cannot listen on HOST {host} PORT {port}: {error}");
        let socket = listener::listen(host, *port).await.map_err(listen_error)?;
        let admin_socket = match admin {
            None => None,
            Some(AdminOptions { host, port }) => {
                let listen_error = |error| {
                    format!("cannot listen on ADMIN_HOST {host} ADMIN_PORT {port}: {error}")
                };
                Some(listener::listen(host, *port).await.map_err(listen_error)?)
            }
        };
        let connector =
            |handshakes| Connector::new(options, tls.clone(), handshakes, stopping.clone());
        let workers = Handle::current().metrics().num_workers();
        let others = options.grpc_port.map_or(0, |_| MAX_GRPC_CONNECTIONS);
        let max_connections = descriptors::make_room(
            options.max_connections,
            options.max_connections_is_default,
            others,
        );
        let count = || Some(telemetry::http_connection());
        let clients = Listener::new(socket, max_connections, connector(workers), count);
        let admin = admin_socket.map(|socket| {
            let connector = connector(MAX_ADMIN_HANDSHAKES);
            Listener::new(socket, MAX_ADMIN_CONNECTIONS, connector, || None)
        });
        Ok(Self { clients, admin, stopping, drain: watch::Sender::new(()) })
    }

    /// Returns a receiver that changes when connections must end after their running requests. The
    /// server ends when all receivers are dropped.
    #[must_use]
    pub fn drain(&self) -> watch::Receiver<()> {
        self.drain.subscribe()
    }

    /// Returns the maximum number of open connections of clients.
    #[must_use]
    pub const fn max_connections(&self) -> usize {
        self.clients.max_connections()
    }

    /// Serves until a signal. After SIGTERM it still serves for the delay of `options`. Then running
    /// requests have the timeout of `options` to end. A second signal ends the server at once. Returns
    /// true when all requests have ended.
    pub async fn run(self, apps: Apps, options: ShutdownOptions, mut signals: Signals) -> bool {
        let signal = tokio::select! {
            never = self.accept_all(&apps) => match never {},
            signal = signals.next() => signal,
        };
        tracing::info!("stopping");
        self.stopping.begin();
        if signal == Signal::Terminate {
            tokio::select! {
                never = self.accept_all(&apps) => match never {},
                () = sleep(options.delay) => {}
                _ = signals.next() => return false,
            }
        }
        drop((self.clients, self.admin));
        self.drain.send_replace(());
        tokio::select! {
            finished = timeout(options.timeout, self.drain.closed()) => finished.is_ok(),
            _ = signals.next() => false,
        }
    }

    async fn accept_all(&self, apps: &Apps) -> Infallible {
        let admin = async {
            match &self.admin {
                Some(admin) => admin.accept_all(&apps.admin, &apps.refusal, &self.drain).await,
                None => pending().await,
            }
        };
        tokio::select! {
            never = self.clients.accept_all(&apps.clients, &apps.refusal, &self.drain) => never,
            never = admin => never,
        }
    }
}
