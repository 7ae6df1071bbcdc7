//! Connections: their number, their timeouts, and the shutdown.

mod connection;
mod descriptors;
pub(crate) mod handshakes;
pub(crate) mod listener;
pub mod options;
mod parse_error;
pub mod stopping;
mod timed_stream;
pub mod tls;
mod turns;
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
    /// The listener for proxies, if they have a separate one.
    authz: Option<Listener>,
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
    /// Forward authentication, where proxies have a separate listener.
    pub authz: App,
    /// The same for a connection above the maximum number.
    pub authz_refusal: App,
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
        let ListenOptions { host, port, admin, authz_port, .. } = options;
        let socket = listener::listen(("HOST", host), ("PORT", *port)).await?;
        let admin_socket = match admin {
            None => None,
            Some(AdminOptions { host, port }) => {
                Some(listener::listen(("ADMIN_HOST", host), ("ADMIN_PORT", *port)).await?)
            }
        };
        let authz_socket = match authz_port {
            None => None,
            Some(port) => Some(listener::listen(("HOST", host), ("AUTHZ_PORT", *port)).await?),
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
        let authz = authz_socket.map(|socket| clients.beside(socket, connector(workers)));
        Ok(Self { clients, admin, authz, stopping, drain: watch::Sender::new(()) })
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
        drop((self.clients, self.admin, self.authz));
        self.drain.send_replace(());
        tokio::select! {
            finished = timeout(options.timeout, self.drain.closed()) => finished.is_ok(),
            _ = signals.next() => false,
        }
    }

    async fn accept_all(&self, apps: &Apps) -> Infallible {
        let Apps { clients, admin, authz, authz_refusal, refusal } = apps;
        let accept = async |listener: &Option<Listener>, app: &App, refusal: &App| match listener {
            Some(listener) => listener.accept_all(app, refusal, &self.drain).await,
            None => pending().await,
        };
        tokio::select! {
            never = self.clients.accept_all(clients, refusal, &self.drain) => never,
            never = accept(&self.admin, admin, refusal) => never,
            never = accept(&self.authz, authz, authz_refusal) => never,
        }
    }
}
