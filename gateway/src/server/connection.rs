//! One connection, from its first byte to its last.

use std::{convert::Infallible, pin::pin, time::Duration};

use axum::{
    Router,
    http::{HeaderValue, Request, header::CONNECTION},
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    options::ListenOptions,
    parse_error::ErrorAnswers,
    stopping::Stopping,
    timed_stream::{Patience, Phase, TimedStream},
    turns::Turns,
    unread_body,
};
use crate::{
    request_log::Arrival,
    telemetry::{self, ClientAddress, SlowPart},
    watched_files::WatchedFiles,
};

/// How long an answer waits for its client to take the next part of it.
const ANSWER: Duration = Duration::from_secs(30);

/// How long a client that is one too many has to hear of it.
const REFUSAL: Duration = Duration::from_secs(1);

/// Most bytes of the head of a request: an identifier in a path, a token and what proxies add take
/// a few thousand. A larger one is answered with status 431, as is one of more than 100 headers.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Most bytes that a connection keeps of what it has received or is about to send.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// How connections are served.
#[derive(Debug)]
pub(super) struct Connector {
    http: http1::Builder,
    tls: Option<WatchedFiles<ServerConfig>>,
    patience: Patience,
    /// For the work of TLS handshakes, of which one takes as long as many requests.
    handshakes: Turns,
    /// Whether requests get the address of their client, for the log.
    logs_clients: bool,
    stopping: Stopping,
}

impl Connector {
    /// With `tls` it speaks HTTPS, else plain HTTP. A handshake may take as long as the head of a
    /// request, and at most so many are worked on at once.
    pub(super) fn new(
        options: &ListenOptions,
        tls: Option<WatchedFiles<ServerConfig>>,
        handshakes: usize,
        stopping: Stopping,
    ) -> Self {
        let mut http = http1::Builder::new();
        // Its own time for a head includes the time before, when a connection is idle.
        http.header_read_timeout(None)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(MAX_BUFFER_BYTES);
        let patience =
            Patience { idle: options.idle_timeout, head: options.header_timeout, answer: ANSWER };
        let (handshakes, logs_clients) = (Turns::new(handshakes), options.logs_clients);
        Self { http, tls, patience, handshakes, logs_clients, stopping }
    }

    /// Serves a connection until its end, which comes after the running request once `drain`
    /// changes.
    pub(super) async fn serve(
        &self,
        stream: TcpStream,
        app: Router,
        mut drain: watch::Receiver<()>,
    ) {
        let client = self.client(&stream);
        // What has arrived already comes before the end.
        match &self.tls {
            None => {
                // Only a connection that is used gets buffers, and a place for what fills them.
                let mut first = [0];
                let arrived = tokio::select! {
                    biased;
                    arrived = timeout(self.patience.idle, stream.peek(&mut first)) => arrived,
                    _ = drain.changed() => return,
                };
                if let Ok(Ok(1)) = arrived {
                    Box::pin(self.serve_http(stream, client, app, drain)).await;
                }
            }
            Some(config) => {
                let stream = tokio::select! {
                    biased;
                    stream = Box::pin(self.shake_hands(config, stream)) => stream,
                    _ = drain.changed() => return,
                };
                if let Some(stream) = stream {
                    Box::pin(self.serve_http(stream, client, app, drain)).await;
                }
            }
        }
    }

    /// The address of the client, if the log is to have it.
    fn client(&self, stream: &TcpStream) -> Option<ClientAddress> {
        let address = if self.logs_clients { stream.peer_addr().ok() } else { None };
        address.map(|address| ClientAddress(address.ip()))
    }

    /// Tells a client that it is one too many, unless it speaks TLS, which would cost too much.
    pub(super) async fn refuse(&self, stream: TcpStream, refusal: Router) {
        if self.tls.is_some() {
            return;
        }
        let client = self.client(&stream);
        let app = TowerToHyperService::new(refusal);
        let service = service_fn(|mut request: Request<Incoming>| {
            if let Some(client) = client {
                request.extensions_mut().insert(client);
            }
            let (request, unread) = unread_body::watch(request);
            let answer = app.call(request);
            async {
                let mut response = answer.await?;
                unread.settle(&mut response, &Phase::new());
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = self.http.clone();
        let connection = http
            .keep_alive(false)
            .serve_connection(TokioIo::new(ErrorAnswers::new(stream, client)), service);
        // Whether the client has heard of it does not matter here.
        let _ = timeout(REFUSAL, connection).await;
    }

    async fn shake_hands(
        &self,
        config: &WatchedFiles<ServerConfig>,
        stream: TcpStream,
    ) -> Option<TlsStream<TcpStream>> {
        let handshake = TlsAcceptor::from(config.current()).accept(stream);
        match timeout(self.patience.head, self.handshakes.take(handshake)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no TLS connection");
                None
            }
            Err(_) => {
                telemetry::count_slow_connection(SlowPart::Handshake);
                None
            }
        }
    }

    async fn serve_http<S>(
        &self,
        stream: S,
        client: Option<ClientAddress>,
        app: Router,
        mut drain: watch::Receiver<()>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let phase = Phase::new();
        let stream = TimedStream::new(stream, self.patience, phase.clone());
        let stream = ErrorAnswers::new(stream, client);
        let app = TowerToHyperService::new(app);
        let service = service_fn(|mut request: Request<Incoming>| {
            phase.begin_answer();
            if let Some(client) = client {
                request.extensions_mut().insert(client);
            }
            let arrival = Arrival::new(request.method(), client);
            let (request, unread) = unread_body::watch(request);
            let answer = app.call(request);
            async {
                arrival.start_handler();
                let mut response = answer.await?;
                unread.settle(&mut response, &phase);
                if self.stopping.has_begun() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            biased;
            ended = &mut connection => ended,
            _ = drain.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}
