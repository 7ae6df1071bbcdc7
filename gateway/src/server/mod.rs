//! Connections: accepted, bounded in number and in time, and drained at the end.

mod connection;
mod descriptors;
mod listener;
pub mod options;
mod parse_error;
pub mod stopping;
mod timed_stream;
pub mod tls;
mod turns;
mod unread_body;

use std::{convert::Infallible, future::pending};

use axum::Router;
use rustls::ServerConfig;
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{sleep, timeout},
};

use self::{
    connection::Connector,
    listener::Listener,
    options::{AdminOptions, ListenOptions, ShutdownOptions},
    stopping::{Signal, Signals, Stopping},
};
use crate::{telemetry, watched_files::WatchedFiles};

/// Most open connections of probes and operators, where they have a port of their own.
const MAX_ADMIN_CONNECTIONS: usize = 64;

/// Most TLS handshakes of probes and operators that are worked on at once. They have no share in those
/// of clients, whose flood must not keep them out.
const MAX_ADMIN_HANDSHAKES: usize = 1;

/// The sockets that listen, and how those who connect are served.
#[derive(Debug)]
pub struct Server {
    clients: Listener,
    /// For probes and operators, if they are not to connect where clients do.
    admin: Option<Listener>,
    stopping: Stopping,
    /// Has connections end after the request that is running. Each of them has a receiver.
    drain: watch::Sender<()>,
}

/// The router of each listener.
#[derive(Debug, Clone)]
pub struct Apps {
    /// The router for clients.
    pub clients: Router,
    /// The router for probes and operators, where they have a separate listener.
    pub admin: Router,
    /// The router for a connection above the maximum number.
    pub refusal: Router,
}

impl Server {
    /// Listens; clients wait until the server runs. With `tls` it speaks HTTPS, else plain HTTP.
    ///
    /// # Errors
    ///
    /// When an address cannot be listened on: one line that names it.
    pub async fn bind(
        options: &ListenOptions,
        tls: Option<WatchedFiles<ServerConfig>>,
        stopping: Stopping,
    ) -> Result<Self, String> {
        let ListenOptions { host, port, admin, .. } = options;
        let fault = |error| format!("cannot listen on HOST {host} PORT {port}: {error}");
        let socket = listener::listen(host, *port).await.map_err(fault)?;
        let admin_socket = match admin {
            None => None,
            Some(AdminOptions { host, port }) => {
                let fault = |error| {
                    format!("cannot listen on ADMIN_HOST {host} ADMIN_PORT {port}: {error}")
                };
                Some(listener::listen(host, *port).await.map_err(fault)?)
            }
        };
        let connector =
            |handshakes| Connector::new(options, tls.clone(), handshakes, stopping.clone());
        let workers = Handle::current().metrics().num_workers();
        let max_connections =
            descriptors::make_room(options.max_connections, options.max_connections_is_default);
        let count = || Some(telemetry::http_connection());
        let clients = Listener::new(socket, max_connections, connector(workers), count);
        let admin = admin_socket.map(|socket| {
            let connector = connector(MAX_ADMIN_HANDSHAKES);
            Listener::new(socket, MAX_ADMIN_CONNECTIONS, connector, || None)
        });
        Ok(Self { clients, admin, stopping, drain: watch::Sender::new(()) })
    }

    /// Most connections of clients that are open at once.
    #[must_use]
    pub const fn max_connections(&self) -> usize {
        self.clients.max_connections()
    }

    /// Serves until a signal, and ends as `options` say: after SIGTERM not before its delay has
    /// passed, and in any case when running requests have finished or had their time. A second
    /// signal ends it at once. Answers whether all requests have finished.
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
