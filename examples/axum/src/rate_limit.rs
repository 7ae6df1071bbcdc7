//! A layer that serves the requests that the gateway allows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header, response};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::timeout;

/// The time for the whole check. A check is never sent again: the gateway may have counted it.
const TIMEOUT: Duration = Duration::from_millis(250);

/// Headers of the gateway's answer that are for the end user.
const HEADERS: [&str; 6] = [
    "ratelimit-policy",
    "ratelimit",
    "retry-after",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
];

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A client of the gateway with one pool of connections. For `https://`, give it a connector of
/// hyper-rustls.
#[derive(Clone, Debug)]
pub(crate) struct RateLimiter {
    client: Client<HttpConnector, Body>,
    url: Arc<str>,
    api_key: Option<Arc<str>>,
    fail_open: bool,
}

impl RateLimiter {
    /// Takes the key of this application, if the gateway asks callers for keys. While the gateway
    /// does not decide, `fail_open` serves every request; otherwise the answer is 503.
    pub(crate) fn new(url: &str, api_key: Option<String>, fail_open: bool) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            url: format!("{}/rate-limit/check", url.trim_end_matches('/')).into(),
            api_key: api_key.map(Arc::from),
            fail_open,
        }
    }

    /// Returns the status that stands for the decision, with the headers for the end user: 200 to
    /// serve the request, 429 for a denial, and 400 for a malformed path or address.
    async fn check(&self, attributes: Value) -> Result<(StatusCode, HeaderMap), Error> {
        let mut request =
            Request::post(&*self.url).header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.api_key {
            request = request.header("X-API-Key", &**key);
        }
        let request = request.body(json!({ "attributes": attributes }).to_string().into())?;
        let (head, body) = timeout(TIMEOUT, self.exchange(request)).await??;
        match head.status {
            // The end user wrote these values, and must not escape the limit by them.
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
                return Ok((StatusCode::BAD_REQUEST, HeaderMap::new()));
            }
            // An answer with status 429 can also be about the limit of this application as a caller.
            StatusCode::OK | StatusCode::TOO_MANY_REQUESTS => {
                let decision: Value = serde_json::from_slice(&body)?;
                match decision["allowed"].as_bool() {
                    Some(true) => return Ok((StatusCode::OK, head.headers)),
                    Some(false) => return Ok((StatusCode::TOO_MANY_REQUESTS, head.headers)),
                    None => {}
                }
            }
            _ => {}
        }
        Err(format!("the gateway answered with status {}", head.status).into())
    }

    async fn exchange(&self, request: Request) -> Result<(response::Parts, Bytes), Error> {
        let (head, body) = self.client.request(request).await?.into_parts();
        Ok((head, to_bytes(Body::new(body), 64 << 10).await?))
    }
}

/// Returns the values by which policies match and identify a request: the address of the socket,
/// never X-Forwarded-For, the method and the path.
fn attributes(peer: SocketAddr, request: &Request) -> Value {
    let (method, path) = (request.method().as_str(), request.uri().path());
    json!({ "client.ip": peer.ip().to_string(), "method": method, "path": path })
}

/// The middleware, for `axum::middleware::from_fn_with_state`.
pub(crate) async fn limit(
    State(limiter): State<RateLimiter>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let (status, headers) = match limiter.check(attributes(peer, &request)).await {
        Ok(verdict) => verdict,
        Err(error) => {
            eprintln!("the rate limit check failed: {error}");
            if !limiter.fail_open {
                return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")])
                    .into_response();
            }
            (StatusCode::OK, HeaderMap::new())
        }
    };
    let mut response = match status {
        StatusCode::OK => next.run(request).await,
        status => status.into_response(),
    };
    for name in HEADERS {
        if let Some(value) = headers.get(name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}
