//! One connection, from its first byte to its last.

use std::{pin::pin, time::Duration};

use axum::{
    Router,
    http::{HeaderValue, Request, header::CONNECTION},
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::Stopping;
use crate::{telemetry, watched_files::WatchedFiles};

/// How long an idle connection is kept. Longer than proxies keep theirs (60 s), so that none sends
/// a request into a connection that is being closed.
const IDLE: Duration = Duration::from_secs(75);

/// How connections are served.
#[derive(Debug)]
pub(super) struct Connector {
    http: http1::Builder,
    tls: Option<WatchedFiles<ServerConfig>>,
    /// Longest handshake.
    handshake: Duration,
    stopping: Stopping,
}

impl Connector {
    pub(super) fn new(
        tls: Option<WatchedFiles<ServerConfig>>,
        handshake: Duration,
        stopping: Stopping,
    ) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(IDLE);
        Self { http, tls, handshake, stopping }
    }

    /// Serves a connection until its end, which comes after the running request once `drain`
    /// changes.
    pub(super) async fn serve(
        &self,
        stream: TcpStream,
        app: Router,
        mut drain: watch::Receiver<()>,
    ) {
        let Some(config) = &self.tls else {
            return self.serve_http(stream, app, drain).await;
        };
        let handshake = TlsAcceptor::from(config.current()).accept(stream);
        let accepted = tokio::select! {
            accepted = timeout(self.handshake, handshake) => accepted,
            _ = drain.changed() => return,
        };
        match accepted {
            Ok(Ok(stream)) => self.serve_http(stream, app, drain).await,
            Ok(Err(error)) => tracing::debug!(%error, "no TLS connection"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn serve_http<S>(&self, stream: S, app: Router, mut drain: watch::Receiver<()>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let _open = telemetry::http_connection();
        let app = TowerToHyperService::new(app);
        let service = service_fn(|request: Request<Incoming>| {
            let answer = app.call(request);
            async {
                let mut response = answer.await?;
                if self.stopping.has_begun() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
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
