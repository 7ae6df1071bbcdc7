//! One connection, from its first byte to its last.

use std::{convert::Infallible, net::IpAddr, pin, time::Duration};

use axum::http::{HeaderValue, Request, header::CONNECTION};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use super::{
    handshakes::Handshakes,
    options::ListenOptions,
    parse_error::ErrorAnswers,
    stopping::Stopping,
    timed_stream::{Phase, TimedStream, Timeouts},
    unread_body,
};
use crate::{
    authz::proxies::Peer, head, request_log::Arrival, routes::App, telemetry::ClientAddress,
    watched_files::WatchedFiles,
};

/// Timeout for a client to read the next part of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Timeout for the whole of a connection that is refused.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum size of the head of a request to forward authentication: the head of an end user, and what
/// proxies add.
const MAX_AUTHZ_HEAD_BYTES: usize = 96 * 1024;

/// Maximum number of headers of such a head.
const MAX_AUTHZ_HEADERS: usize = 500;

/// Maximum size of the buffer of a connection, for received bytes and for bytes to send.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// The same where heads can be larger.
const MAX_AUTHZ_BUFFER_BYTES: usize = 128 * 1024;

/// Serves connections.
#[derive(Debug)]
pub(super) struct Connector {
    http: http1::Builder,
    /// The options for a head that is too large for `http`, if there can be one.
    http_of_large_heads: Option<http1::Builder>,
    tls: Option<WatchedFiles<ServerConfig>>,
    timeouts: Timeouts,
    handshakes: Handshakes,
    /// True when requests get the address of their client, for the log.
    logs_clients: bool,
    stopping: Stopping,
}

impl Connector {
    /// Returns a connector for HTTPS with `tls`, else for plain HTTP. A handshake has the timeout of the
    /// head of a request. At most `handshakes` run at once.
    pub(super) fn new(
        options: &ListenOptions,
        tls: Option<WatchedFiles<ServerConfig>>,
        handshakes: usize,
        stopping: Stopping,
    ) -> Self {
        let mut http = http1::Builder::new();
        // hyper's timeout for a head would include the idle time before. Without a number of headers
        // it has room for 100 of them, which needs no allocation.
        http.header_read_timeout(None);
        http.max_header_size(head::MAX_BYTES).max_buf_size(MAX_BUFFER_BYTES);
        let http_of_large_heads = options.serves_authz.then(|| {
            let mut http = http.clone();
            // The routes have the bounds for other heads.
            http.max_header_size(MAX_AUTHZ_HEAD_BYTES)
                .max_headers(MAX_AUTHZ_HEADERS)
                .max_buf_size(MAX_AUTHZ_BUFFER_BYTES);
            http
        });
        let timeouts = Timeouts {
            idle: options.idle_timeout,
            head: options.header_timeout,
            answer: ANSWER_TIMEOUT,
        };
        let handshakes = Handshakes::new(handshakes, timeouts.head);
        let logs_clients = options.logs_clients;
        Self { http, http_of_large_heads, tls, timeouts, handshakes, logs_clients, stopping }
    }

    /// Serves a connection until its end. When `drain` changes, the connection ends after the running
    /// request.
    pub(super) async fn serve(&self, stream: TcpStream, app: App, mut drain: watch::Receiver<()>) {
        let address = stream.peer_addr().ok().map(|address| address.ip());
        let (client, peer) = (self.client(address), Peer { address, has_certificate: false });
        // `biased`: a request that has already arrived comes before the shutdown.
        match &self.tls {
            None => {
                // A connection gets its buffers and its HTTP state with its first byte.
                let mut first = [0];
                let arrived = tokio::select! {
                    biased;
                    arrived = timeout(self.timeouts.idle, stream.peek(&mut first)) => arrived,
                    _ = drain.changed() => return,
                };
                if let Ok(Ok(1)) = arrived {
                    Box::pin(self.serve_http(stream, client, peer, app, drain)).await;
                }
            }
            Some(config) => {
                let stream = tokio::select! {
                    biased;
                    stream = Box::pin(self.handshakes.take(config, stream)) => stream,
                    _ = drain.changed() => return,
                };
                if let Some(stream) = stream {
                    let chain = stream.get_ref().1.peer_certificates();
                    let has_certificate = chain.is_some_and(|chain| !chain.is_empty());
                    let peer = Peer { has_certificate, ..peer };
                    Box::pin(self.serve_http(stream, client, peer, app, drain)).await;
                }
            }
        }
    }

    /// Returns the address of the client, if the log must have it.
    fn client(&self, address: Option<IpAddr>) -> Option<ClientAddress> {
        address.filter(|_| self.logs_clients).map(ClientAddress)
    }

    /// Answers every request of a connection above the maximum number with an error. With TLS it closes
    /// the connection without an answer, because a handshake costs too much.
    pub(super) async fn refuse(&self, stream: TcpStream, refusal: App) {
        if self.tls.is_some() {
            return;
        }
        let address = stream.peer_addr().ok().map(|address| address.ip());
        let client = self.client(address);
        let service = service_fn(|mut request: Request<Incoming>| {
            if let Some(client) = client {
                request.extensions_mut().insert(client);
            }
            let (request, unread) = unread_body::watch(request);
            let answer = refusal.answer(request, Peer::default());
            async {
                let mut response = answer.await;
                unread.settle(&mut response, &Phase::new());
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = self.http_of_large_heads.as_ref().unwrap_or(&self.http).clone();
        let connection = http
            .keep_alive(false)
            .serve_connection(TokioIo::new(ErrorAnswers::new(stream, client)), service);
        // The outcome does not matter: the connection is closed in any case.
        let _ = timeout(REFUSAL_TIMEOUT, connection).await;
    }

    async fn serve_http<S>(
        &self,
        stream: S,
        client: Option<ClientAddress>,
        peer: Peer,
        app: App,
        mut drain: watch::Receiver<()>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let phase = Phase::new();
        let stream = TimedStream::new(stream, self.timeouts, phase.clone());
        let mut stream = ErrorAnswers::new(stream, client);
        if self.http_of_large_heads.is_some() {
            stream = stream.repeating_large_head();
        }
        let service = service_fn(|mut request: Request<Incoming>| {
            phase.begin_answer();
            if let Some(client) = client {
                request.extensions_mut().insert(client);
            }
            let arrival = Arrival::new(request.method(), client);
            let (request, unread) = unread_body::watch(request);
            let (app, phase) = (&app, &phase);
            async move {
                arrival.start_handler();
                let mut response = app.answer(request, peer).await;
                unread.settle(&mut response, phase);
                if self.stopping.has_begun() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut http = &self.http;
        loop {
            let mut connection = http.serve_connection(TokioIo::new(stream), &service);
            let ended = tokio::select! {
                biased;
                ended = &mut connection => ended,
                _ = drain.changed() => {
                    pin::Pin::new(&mut connection).graceful_shutdown();
                    (&mut connection).await
                }
            };
            let Err(error) = ended else { return };
            let http1::Parts { io, read_buf, .. } = connection.into_parts();
            match (io.into_inner().after_large_head(read_buf), &self.http_of_large_heads) {
                (Some(again), Some(http_of_large_heads)) => {
                    (stream, http) = (again, http_of_large_heads);
                }
                _ => {
                    tracing::debug!(%error, "connection ended");
                    return;
                }
            }
        }
    }
}
