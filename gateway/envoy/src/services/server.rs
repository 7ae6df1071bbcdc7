//! The server of all services.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{
    server::NamedService,
    service::{Routes, RoutesBuilder},
    transport::server::Connected,
};
use tonic_health::server::{HealthReporter, HealthService};
use tower_layer::layer_fn;

use super::{
    authorization::Check,
    health::Health,
    method::{MAX_MESSAGE_BYTES, MethodService},
    rate_limit::ShouldRateLimit,
    recorder::Recorder,
    reflection,
};
use crate::gateway::Gateway;

/// The most calls of one connection at once.
const MAX_STREAMS: u32 = 256;

/// The most bytes of the metadata of a call, which can repeat headers of the end user about traces.
const MAX_METADATA_BYTES: u32 = 64 * 1024;

/// The time without a frame after which the other end must show that it is there.
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// The name of the server as a whole in questions about its health.
const WHOLE: &str = "";

/// The names of the services that have a health of their own.
const NAMES: &[&str] = &[
    WHOLE,
    <MethodService<ShouldRateLimit, ()> as NamedService>::NAME,
    <MethodService<Check, ()> as NamedService>::NAME,
];

/// The server of all services.
#[derive(Debug)]
pub struct Server {
    routes: Routes,
    health: Health,
}

impl Server {
    /// Returns the services of a gateway. Where callers need credentials, there is no reflection.
    pub fn new<G: Gateway>(gateway: &Arc<G>) -> Self {
        let reporter = HealthReporter::new();
        let health = HealthService::from_health_reporter(reporter.clone());
        let health = tonic_health::pb::health_server::HealthServer::new(health)
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut routes = RoutesBuilder::default();
        routes
            .add_service(health)
            .add_service(MethodService::<ShouldRateLimit, G>::new(gateway))
            .add_service(MethodService::<Check, G>::new(gateway));
        if !gateway.needs_credentials()
            && let (Some(new), Some(old)) = (reflection::service(), reflection::older_service())
        {
            routes
                .add_service(new.max_decoding_message_size(MAX_MESSAGE_BYTES))
                .add_service(old.max_decoding_message_size(MAX_MESSAGE_BYTES));
        }
        Self { routes: routes.routes(), health: Health::new(reporter, NAMES) }
    }

    /// Serves connections until `drain` ends, and returns after the last call of the last connection.
    pub async fn run<G, S>(
        self,
        gateway: Arc<G>,
        connections: mpsc::Receiver<S>,
        drain: impl Future<Output = ()>,
    ) -> Result<(), tonic::transport::Error>
    where
        G: Gateway,
        S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let Self { routes, health } = self;
        let recorded = Arc::clone(&gateway);
        let record = layer_fn(move |routes: Routes| Recorder::new(routes, Arc::clone(&recorded)));
        let server = tonic::transport::Server::builder()
            .layer(record)
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_header_list_size(MAX_METADATA_BYTES)
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .add_routes(routes);
        let connections = ReceiverStream::new(connections).map(Ok::<_, Infallible>);
        let end = async {
            tokio::select! {
                never = health.report(&*gateway) => match never {},
                () = drain => {}
            }
            health.end_streams().await;
        };
        server.serve_with_incoming_shutdown(connections, end).await
    }
}
