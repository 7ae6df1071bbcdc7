//! What every answer gets, whatever it says: an id, its time, a line in the log, a count.

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
    error::Error,
    head::{self, Origins},
    headers::{PROCESS_TIME, REQUEST_ID},
    telemetry::{self, ClientAddress, RequestSpan, Scope},
};

/// Longest request id of a caller that is kept, in bytes.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The status, in log and metrics only, of a request whose client gave up; the number that nginx
/// uses.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What the log says of it.
const GAVE_UP: &str = "the client gave up";

/// The label of a method that has none of its own.
const OTHER: &str = "other";

/// Which pages may call from a browser.
#[derive(Debug)]
pub(crate) struct Pages {
    /// Their origins.
    pub(crate) origins: Origins,
    /// The headers that let a browser give them the answers.
    pub(crate) cors: CorsLayer,
}

/// Surrounds every route with what every answer gets.
pub(crate) fn surround<S>(router: Router<S>, pages: Pages) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let pages = Arc::new(pages);
    // One layer for all of it, because each is a future and a service on the heap for each request.
    router.layer(layer_fn(move |route: Route| {
        let pages = Arc::clone(&pages);
        service_fn(move |request| record(request, route.clone(), Arc::clone(&pages)))
    }))
}

/// Answers a request, with an id and with its time in a header, in the log and in the metrics.
fn record(
    request: Request,
    route: Route,
    pages: Arc<Pages>,
) -> impl Future<Output = Result<Response, Infallible>> {
    let id = request_id(request.headers());
    let method = method_label(request.method());
    // The pattern, not the path: a path can hold an identifier.
    let pattern = request.extensions().get::<MatchedPath>().cloned();
    let matched = pattern.as_ref().map(|pattern| without_slash(pattern.as_str()));
    let is_probe = matched.is_some_and(is_probe);
    let trace =
        if is_probe { None } else { RequestSpan::start(request.headers(), method, matched) };
    let client = request.extensions().get::<ClientAddress>().copied();
    let scope = Scope::request(id.clone(), trace.as_ref().map(RequestSpan::trace_id), client);
    let mut exchange = Exchange::begin(method);
    (exchange.pattern, exchange.is_probe, exchange.trace) = (pattern, is_probe, trace);

    scope.around(async move {
        let answer = unless_it_panics(answer(request, route, pages));
        let context = exchange.trace.as_ref().map(RequestSpan::context);
        let mut response = match context {
            Some(context) => answer.with_context(context).await,
            None => answer.await,
        };
        let decision = response.extensions().get::<Decision>().copied();
        let time_ms = exchange.end(response.status(), decision, "answered");
        if let Ok(time_ms) = HeaderValue::try_from(time_ms.to_string()) {
            response.headers_mut().insert(PROCESS_TIME, time_ms);
        }
        response.headers_mut().insert(REQUEST_ID, id);
        Ok(response)
    })
}

/// A request from its arrival to its end, which is logged and counted once, however it ends.
struct Exchange {
    start: Instant,
    method: &'static str,
    pattern: Option<MatchedPath>,
    is_probe: bool,
    trace: Option<RequestSpan>,
    /// Whether the end is still to come.
    is_open: bool,
}

impl Exchange {
    /// A request that has no route yet.
    fn begin(method: &'static str) -> Self {
        let (start, pattern) = (Instant::now(), None);
        Self { start, method, pattern, is_probe: false, trace: None, is_open: true }
    }

    /// Logs and counts the end, which can be the decision on a check. Returns the milliseconds since
    /// the arrival.
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
}

impl Drop for Exchange {
    /// Ends a request whose client has closed the connection before the answer. The runtime drops
    /// the work for it at the place where it waits; what Redis has been asked for stays done.
    fn drop(&mut self) {
        if self.is_open
            && let Ok(status) = StatusCode::from_u16(CLIENT_CLOSED_REQUEST)
        {
            self.end(status, None, GAVE_UP);
        }
    }
}

/// A request whose head has arrived, until its work begins. A client can have closed the connection
/// by then, and nothing is done.
pub(crate) struct Arrival {
    method: &'static str,
    client: Option<ClientAddress>,
    has_begun: bool,
}

impl Arrival {
    pub(crate) fn new(method: &Method, client: Option<ClientAddress>) -> Self {
        Self { method: method_label(method), client, has_begun: false }
    }

    /// Leaves it to the work to log and count the end.
    pub(crate) fn begin(mut self) {
        self.has_begun = true;
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if !self.has_begun
            && let Ok(status) = StatusCode::from_u16(CLIENT_CLOSED_REQUEST)
        {
            record_without_route(self.method, self.client, status, GAVE_UP);
        }
    }
}

/// Logs and counts an answer to what could not be read as a request, and returns its id.
pub(crate) fn record_parse_error(status: StatusCode, client: Option<ClientAddress>) -> HeaderValue {
    record_without_route(OTHER, client, status, "no valid request")
}

/// Logs and counts the end of a request that has got to no route, and returns its id.
fn record_without_route(
    method: &'static str,
    client: Option<ClientAddress>,
    status: StatusCode,
    message: &'static str,
) -> HeaderValue {
    let id = request_id(&HeaderMap::new());
    let scope = Scope::request(id.clone(), None, client);
    scope.around_call(|| Exchange::begin(method).end(status, None, message));
    id
}

/// The answer of a route, with the headers for pages of other origins if it can be for one.
async fn answer(request: Request, route: Route, pages: Arc<Pages>) -> Response {
    if let Err(error) = head::check(&request, &pages.origins) {
        return error.into_response();
    }
    // Browsers say which origin it is. What others get may be kept in a cache and shown to a page,
    // except for what answers POST.
    let is_for_page = request.headers().contains_key(ORIGIN) || request.method() != Method::POST;
    let answer = match is_for_page {
        true => pages.cors.layer(route).oneshot(request).await,
        false => route.oneshot(request).await,
    };
    answer.unwrap_or_else(|never| match never {})
}

/// The answer, or what a client gets when there is a bug.
async fn unless_it_panics(answer: impl Future<Output = Response>) -> Response {
    let mut answer = pin!(answer);
    poll_fn(|context| {
        let poll = AssertUnwindSafe(|| answer.as_mut().poll(context));
        catch_unwind(poll).unwrap_or_else(|_| {
            // The panic hook has written the message to standard error already.
            tracing::error!("a handler panicked");
            Poll::Ready(Error::Internal.into_response())
        })
    })
    .await
}

fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// The pattern of a route, which has the same name with and without a slash at its end.
fn without_slash(pattern: &str) -> &str {
    match pattern.strip_suffix('/') {
        Some("") | None => pattern,
        Some(without) => without,
    }
}

/// Whether requests of a route only look at this service, again and again: they would crowd out
/// the others in a log and in traces.
fn is_probe(route: &str) -> bool {
    route == "/metrics" || route.starts_with("/health")
}

/// The caller's id if it is short and visible ASCII, else a new one.
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

/// A name from a short list, because callers can invent methods without end.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
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
    fn keeps_a_sane_id() {
        let longest = "x".repeat(MAX_REQUEST_ID_BYTES);
        for id in ["1", "3f2a-77:b/c~!", longest.as_str()] {
            assert_eq!(request_id(&given(id.as_bytes())), id);
        }
    }

    #[test]
    fn replaces_any_other_id() {
        let too_long = "x".repeat(MAX_REQUEST_ID_BYTES + 1);
        for id in [&b""[..], b"two words", b"caf\xe9", b"tab\t", too_long.as_bytes()] {
            let new = request_id(&given(id));
            assert!(new.len() == 32 && new.as_bytes().iter().all(u8::is_ascii_hexdigit));
        }
    }
}
