//! The request log: each answer gets an id and its time in headers, a line in the log, and a count in
//! the metrics.

use std::{
    convert::Infallible,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header::ORIGIN},
    response::{IntoResponse, Response},
    routing::Route,
};
use opentelemetry::context::FutureExt;
use store::Decision;
use tower::{Layer, ServiceExt, layer::layer_fn, service_fn};
use tower_http::cors::CorsLayer;
use tracing::{debug, info};

use crate::{
    error::{ClientGone, Error},
    head::{self, Origins},
    headers::{PROCESS_TIME, REQUEST_ID},
    telemetry::{self, ClientAddress, LogContext, RequestSpan},
};

/// Maximum size of a request id of a client, in bytes. Longer ids are replaced.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The status, in log and metrics only, of a request whose client disconnected before the answer; the
/// number that nginx uses.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The message in the log about such a request.
const DISCONNECTED: &str = "the client disconnected";

/// The label of any other method.
const OTHER: &str = "other";

/// The rules for pages in a browser.
#[derive(Debug)]
pub(crate) struct PageRules {
    /// The origins whose pages may call.
    pub(crate) origins: Origins,
    /// The headers with which a browser gives answers to these pages.
    pub(crate) cors: CorsLayer,
}

/// Adds the request log to every route.
pub(crate) fn add_to<S>(router: Router<S>, pages: PageRules) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let pages = Arc::new(pages);
    // One layer does everything, because each layer allocates a future and a service per request.
    router.layer(layer_fn(move |route: Route| {
        let pages = Arc::clone(&pages);
        service_fn(move |request| record(request, route.clone(), Arc::clone(&pages)))
    }))
}

/// Answers a request, with its id and time in headers, and logs and counts it.
fn record(
    request: Request,
    route: Route,
    pages: Arc<PageRules>,
) -> impl Future<Output = Result<Response, Infallible>> {
    let id = request_id(request.headers());
    let method = method_label(request.method());
    // The pattern, not the path: a path can have an identifier.
    let pattern = request.extensions().get::<MatchedPath>().cloned();
    let matched = pattern.as_ref().map(|pattern| without_slash(pattern.as_str()));
    let is_probe = matched.is_some_and(is_probe);
    let trace =
        if is_probe { None } else { RequestSpan::start(request.headers(), method, matched) };
    let client = request.extensions().get::<ClientAddress>().copied();
    let trace_id = trace.as_ref().map(RequestSpan::trace_id);
    let context = LogContext::new(id.clone(), trace_id, client);
    let mut exchange = Exchange::begin(method);
    (exchange.pattern, exchange.is_probe, exchange.trace) = (pattern, is_probe, trace);

    context.attach(async move {
        let answer = catch_panic(answer(request, route, pages));
        let context = exchange.trace.as_ref().map(RequestSpan::context);
        let mut response = match context {
            Some(context) => answer.with_context(context).await,
            None => answer.await,
        };
        let decision = response.extensions().get::<Decision>().copied();
        let time_ms = match response.extensions().get::<ClientGone>() {
            None => exchange.end(response.status(), decision, "answered"),
            Some(ClientGone) => exchange.end_disconnected(),
        };
        if let Ok(time_ms) = HeaderValue::try_from(time_ms.to_string()) {
            response.headers_mut().insert(PROCESS_TIME, time_ms);
        }
        response.headers_mut().insert(REQUEST_ID, id);
        Ok(response)
    })
}

/// A request from its arrival to its end. Its end is logged and counted once, also when the client
/// disconnects.
struct Exchange {
    start: Instant,
    method: &'static str,
    pattern: Option<MatchedPath>,
    is_probe: bool,
    trace: Option<RequestSpan>,
    /// True until the end.
    is_open: bool,
}

impl Exchange {
    /// Returns a request that has no route yet.
    fn begin(method: &'static str) -> Self {
        let (start, pattern) = (Instant::now(), None);
        Self { start, method, pattern, is_probe: false, trace: None, is_open: true }
    }

    /// Logs and counts the end, with the decision if the request was a check. Returns the milliseconds
    /// since the arrival.
    fn end(
        &mut self,
        status: StatusCode,
        decision: Option<Decision>,
        message: &'static str,
    ) -> f64 {
        self.is_open = false;
        let (method, time) = (self.method, self.start.elapsed());
        let (code, time_ms) = (status.as_u16(), millis(time));
        let pattern = self.pattern.as_ref().map(MatchedPath::as_str);
        let route = pattern.map_or("unmatched", without_slash);
        let allowed = decision.map(|decision| decision.allowed);
        let source = decision.map(|decision| decision.source.name());
        if self.is_probe {
            debug!(method, route, status = code, time_ms, "{message}");
        } else {
            info!(method, route, status = code, time_ms, allowed, source, "{message}");
        }
        if let Some(trace) = self.trace.take() {
            trace.end(status);
        }
        telemetry::count_request(route, method, code, time);
        time_ms
    }

    /// Logs and counts the end of a request whose client has disconnected.
    fn end_disconnected(&mut self) -> f64 {
        self.end(client_closed_request(), None, DISCONNECTED)
    }
}

fn client_closed_request() -> StatusCode {
    StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::BAD_REQUEST)
}

impl Drop for Exchange {
    /// Ends a request whose client has closed the connection before the answer. The runtime drops the
    /// handler at the place where it waits. A command that Redis has received is not undone.
    fn drop(&mut self) {
        if self.is_open {
            self.end_disconnected();
        }
    }
}

/// A request from the arrival of its head until its handler starts. If the client closes the
/// connection before, the handler never starts.
pub(crate) struct Arrival {
    method: &'static str,
    client: Option<ClientAddress>,
    has_handler: bool,
}

impl Arrival {
    pub(crate) fn new(method: &Method, client: Option<ClientAddress>) -> Self {
        Self { method: method_label(method), client, has_handler: false }
    }

    /// Leaves the end to the handler, which logs and counts it.
    pub(crate) fn start_handler(mut self) {
        self.has_handler = true;
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if !self.has_handler {
            record_without_route(self.method, self.client, client_closed_request(), DISCONNECTED);
        }
    }
}

/// Logs and counts an answer to bytes that are no request, and returns its id.
pub(crate) fn record_parse_error(status: StatusCode, client: Option<ClientAddress>) -> HeaderValue {
    record_without_route(OTHER, client, status, "no valid request")
}

/// Logs and counts the end of a request that has reached no route, and returns its id.
fn record_without_route(
    method: &'static str,
    client: Option<ClientAddress>,
    status: StatusCode,
    message: &'static str,
) -> HeaderValue {
    let id = request_id(&HeaderMap::new());
    let context = LogContext::new(id.clone(), None, client);
    context.attach_call(|| Exchange::begin(method).end(status, None, message));
    id
}

/// Returns the answer of a route, with CORS headers if a page of another origin can read it.
async fn answer(request: Request, route: Route, pages: Arc<PageRules>) -> Response {
    if let Err(error) = head::check(&request, &pages.origins) {
        return error.into_response();
    }
    // Browsers name the origin of a page in the request. Answers to GET need the headers always,
    // because a shared cache can send them to a browser later. Answers to POST are not cached.
    let is_for_page = request.headers().contains_key(ORIGIN) || request.method() != Method::POST;
    let answer = match is_for_page {
        true => pages.cors.layer(route).oneshot(request).await,
        false => route.oneshot(request).await,
    };
    answer.unwrap_or_else(|never| match never {})
}

/// Returns the answer, or an internal error if the handler panics.
async fn catch_panic(answer: impl Future<Output = Response>) -> Response {
    let mut answer = pin!(answer);
    poll_fn(|context| {
        let poll = AssertUnwindSafe(|| answer.as_mut().poll(context));
        catch_unwind(poll).unwrap_or_else(|_| {
            // The panic hook has already written the message to standard error.
            tracing::error!("a handler panicked");
            Poll::Ready(Error::Internal.into_response())
        })
    })
    .await
}

fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// Returns the pattern of a route without a slash at its end, as the log and the metrics have it.
fn without_slash(pattern: &str) -> &str {
    match pattern.strip_suffix('/') {
        Some("") | None => pattern,
        Some(without) => without,
    }
}

/// Returns true for routes that probes request again and again. In a log and in traces they would be
/// more than all other requests.
fn is_probe(route: &str) -> bool {
    route == "/metrics" || route.starts_with("/health")
}

/// Returns the id of the client if it is short visible ASCII, else a new id.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|id| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
            && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        let digits = format!("{:032x}", fastrand::u128(..));
        HeaderValue::try_from(digits).unwrap_or(HeaderValue::from_static("-"))
    })
}

/// Returns the label of a method, from a short list: clients can send any number of methods.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue};

    use super::{MAX_REQUEST_ID_BYTES, REQUEST_ID, request_id};

    fn given(id: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_bytes(id).unwrap())])
    }

    #[test]
    fn a_short_visible_id_is_kept() {
        let longest = "x".repeat(MAX_REQUEST_ID_BYTES);
        for id in ["1", "3f2a-77:b/c~!", longest.as_str()] {
            assert_eq!(request_id(&given(id.as_bytes())), id);
        }
    }

    #[test]
    fn any_other_id_is_replaced() {
        let too_long = "x".repeat(MAX_REQUEST_ID_BYTES + 1);
        for id in [&b""[..], b"two words", b"caf\xe9", b"tab\t", too_long.as_bytes()] {
            let new = request_id(&given(id));
            assert!(new.len() == 32 && new.as_bytes().iter().all(u8::is_ascii_hexdigit));
        }
    }
}
