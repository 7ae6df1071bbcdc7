//! Connections: accepted, bounded in number and in time, and drained at the end.

mod connection;
mod descriptors;
mod stopping;
mod timed_stream;
pub mod tls;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::Router;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

use self::connection::Connector;
pub use self::stopping::{Signal, Signals, Stopping};
use crate::{
    config::{ListenOptions, ShutdownOptions},
    telemetry,
    watched_files::WatchedFiles,
};

/// Pause after a failed accept: when file descriptors have run out, trying again at once would
/// only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Most clients that are told at once that they are one too many. Others are just hung up on.
const MAX_REFUSALS: usize = 128;

/// A socket that listens, and how clients are served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    connector: Arc<Connector>,
    /// A permit for each connection that there may be.
    room: Arc<Semaphore>,
    max_connections: usize,
    /// A permit for each client that may be told that there is no room.
    refusals: Arc<Semaphore>,
    stopping: Stopping,
    /// Tells connections to end after the request that is running. Each of them has a receiver.
    drain: watch::Sender<()>,
}

impl Server {
    /// Listens; clients wait until the server runs. With `tls` it speaks HTTPS, else plain HTTP.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on.
    pub async fn bind(
        options: &ListenOptions,
        tls: Option<WatchedFiles<ServerConfig>>,
        stopping: Stopping,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((options.host.as_str(), options.port)).await?;
        let connector = Connector::new(tls, options.header_timeout, stopping.clone());
        let max_connections = descriptors::make_room(options.max_connections);
        Ok(Self {
            listener,
            connector: Arc::new(connector),
            room: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
            stopping,
            drain: watch::Sender::new(()),
        })
    }

    /// Most connections that are open at once.
    #[must_use]
    pub const fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Serves until a signal, and ends as `options` say: after SIGTERM not before its delay has
    /// passed, and in any case when running requests have finished or had their time. A second
    /// signal ends it at once. Answers whether all requests have finished.
    pub async fn run(self, app: Router, options: ShutdownOptions, mut signals: Signals) -> bool {
        let signal = tokio::select! {
            never = self.accept_all(&app) => match never {},
            signal = signals.next() => signal,
        };
        tracing::info!("stopping");
        self.stopping.begin();
        if signal == Signal::Terminate {
            tokio::select! {
                never = self.accept_all(&app) => match never {},
                () = sleep(options.delay) => {}
                _ = signals.next() => return false,
            }
        }
        drop(self.listener);
        self.drain.send_replace(());
        tokio::select! {
            finished = timeout(options.timeout, self.drain.closed()) => finished.is_ok(),
            _ = signals.next() => false,
        }
    }

    async fn accept_all(&self, app: &Router) -> Infallible {
        loop {
            let stream = self.accept().await;
            let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
                self.refuse(stream);
                continue;
            };
            let (connector, drain) = (Arc::clone(&self.connector), self.drain.subscribe());
            let app = app.clone();
            tokio::spawn(async move {
                connector.serve(stream, app, drain).await;
                drop(room);
            });
        }
    }

    fn refuse(&self, stream: TcpStream) {
        telemetry::count_refused_connection();
        if let Ok(refusal) = Arc::clone(&self.refusals).try_acquire_owned() {
            let connector = Arc::clone(&self.connector);
            tokio::spawn(async move {
                connector.refuse(stream).await;
                drop(refusal);
            });
        }
    }

    async fn accept(&self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    // Answers are small and sent whole; waiting to fill packets only delays them.
                    let _ = stream.set_nodelay(true);
                    return stream;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
