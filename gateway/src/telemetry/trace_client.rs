//! The HTTP client that sends traces.

use std::time::Duration;

use async_trait::async_trait;
use axum::{
    body::Bytes,
    http::{Request, Response},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connect, HttpConnector},
    },
    rt::TokioExecutor,
};
use opentelemetry_http::{HttpClient, HttpError};
use rustls::crypto::ring;
use tokio::time::timeout;

/// Timeout for the receiver of a batch of spans.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of an answer, which only names spans that the receiver refused.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// A client for HTTP/1.1, which needs the runtime.
#[derive(Debug)]
pub(super) struct TraceClient<C>(Client<C, Full<Bytes>>);

impl TraceClient<HttpConnector> {
    /// Returns a client without TLS.
    pub(super) fn http() -> Self {
        Self::over(HttpConnector::new())
    }
}

impl TraceClient<HttpsConnector<HttpConnector>> {
    /// Returns a client that trusts the authorities of the system.
    ///
    /// # Errors
    ///
    /// When the system has no authority.
    pub(super) fn https() -> std::io::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(ring::default_provider())?
            .https_only()
            .enable_http1()
            .build();
        Ok(Self::over(connector))
    }
}

impl<C: Connect + Clone> TraceClient<C> {
    fn over(connector: C) -> Self {
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }
}

#[async_trait]
impl<C> HttpClient for TraceClient<C>
where
    C: Connect + Clone + std::fmt::Debug + Send + Sync + 'static,
{
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let exchange = async {
            let (head, body) = self.0.request(request.map(Full::from)).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        timeout(EXPORT_TIMEOUT, exchange).await?
    }
}
