//! Connections: accepted, bounded in time, and drained at the end.

mod connection;
mod stopping;
pub mod tls;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::Router;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};

use self::connection::Connector;
pub use self::stopping::{Signal, Signals, Stopping};
use crate::{
    config::{ListenOptions, ShutdownOptions},
    watched_files::WatchedFiles,
};

/// Pause after a failed accept: when file descriptors have run out, trying again at once would
/// only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens, and how clients are served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    connector: Arc<Connector>,
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
        Ok(Self {
            listener,
            connector: Arc::new(connector),
            stopping,
            drain: watch::Sender::new(()),
        })
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
            let (connector, drain) = (Arc::clone(&self.connector), self.drain.subscribe());
            let app = app.clone();
            tokio::spawn(async move { connector.serve(stream, app, drain).await });
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
