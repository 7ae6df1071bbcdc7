//! The port for gRPC.

use std::{convert::Infallible, error::Error, sync::Arc, time::Duration};

use envoy::services::Server;
use rustls::ServerConfig;
use store::{FailMode, LogThrottle};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{Semaphore, mpsc, watch},
};

use super::{
    connection::{Connection, Stream},
    judged_call,
    services::{ServiceOptions, Services},
};
use crate::{
    server::{
        handshakes::Handshakes,
        listener,
        options::{ListenOptions, MAX_GRPC_CONNECTIONS},
        tls::{self, Protocol},
    },
    state::AppState,
    telemetry,
    watched_files::WatchedFiles,
};

/// The most connections that wait to be served, after their handshakes.
const WAITING: usize = 16;

/// A socket that listens for gRPC.
#[derive(Debug)]
pub struct GrpcListener {
    socket: TcpListener,
    tls: Option<WatchedFiles<ServerConfig>>,
    /// The time for a handshake, and for the first bytes after it.
    time: Duration,
    options: ServiceOptions,
}

impl GrpcListener {
    /// Listens with TLS, or without; returns `None` if no setting asks for gRPC. Clients wait until the
    /// services run. `fail_mode` is that of policies without one. Needs the runtime.
    ///
    /// # Errors
    ///
    /// When the system refuses the address: one line with the address. When the files for TLS cannot
    /// be used.
    pub async fn bind(
        options: &ListenOptions,
        fail_mode: FailMode,
    ) -> Result<Option<Self>, Box<dyn Error>> {
        let ListenOptions { host, grpc_port: Some(port), .. } = options else { return Ok(None) };
        let authorities = options.client_authorities.as_ref();
        let watch = |files| tls::watch(files, authorities, Protocol::Http2);
        let tls = options.tls.as_ref().map(watch).transpose()?;
        let socket = listener::listen(("HOST", host), ("GRPC_PORT", *port)).await?;
        let (time, logs_callers) = (options.header_timeout, options.logs_clients);
        let options = ServiceOptions { fail_mode, logs_callers };
        Ok(Some(Self { socket, tls, time, options }))
    }

    /// Serves in tasks of their own until `drain` changes, and then until the last call ends. Needs the
    /// runtime and the metrics.
    pub fn serve(self, state: &Arc<AppState>, drain: &watch::Receiver<()>) {
        telemetry::start_grpc_metrics(&judged_call::IGNORED);
        let services = Arc::new(Services::new(Arc::clone(state), self.options));
        let (sender, connections) = mpsc::channel(WAITING);
        let [mut accepting, mut serving] = [drain.clone(), drain.clone()];
        tokio::spawn(async move {
            tokio::select! {
                never = self.accept_all(sender) => match never {},
                _ = accepting.changed() => {}
            }
        });
        tokio::spawn(async move {
            let server = Server::new(&services);
            let drained = async {
                // An error means that the server of HTTP has ended, which is the same.
                let _ = serving.changed().await;
            };
            if let Err(error) = server.run(services, connections, drained).await {
                tracing::error!(%error, "gRPC ended");
            }
            // The process waits until no receiver is left.
            drop(serving);
        });
    }

    async fn accept_all(self, connections: mpsc::Sender<Connection>) -> Infallible {
        let room = Arc::new(Semaphore::new(MAX_GRPC_CONNECTIONS));
        let workers = Handle::current().metrics().num_workers();
        let handshakes = Arc::new(Handshakes::new(workers, self.time));
        let mut failures = LogThrottle::new();
        loop {
            let stream = listener::accept(&self.socket, &mut failures).await;
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                telemetry::count_refused_grpc_connection();
                continue;
            };
            let open = (telemetry::grpc_connection(), permit);
            let (tls, time, connections) = (self.tls.clone(), self.time, connections.clone());
            let handshakes = Arc::clone(&handshakes);
            tokio::spawn(async move {
                let stream = match tls {
                    None => Some(Stream::Left(stream)),
                    Some(config) => {
                        let stream = handshakes.take(&config, stream).await;
                        stream.map(|stream| Stream::Right(Box::new(stream)))
                    }
                };
                if let Some(stream) = stream {
                    // Without a receiver the server has ended.
                    let _ = connections.send(Connection::new(stream, time, open)).await;
                }
            });
        }
    }
}
