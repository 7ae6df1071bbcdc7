//! The request log: each answer gets an id and its time in headers, a line in the log, and a count in
//! the metrics.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{MatchedPath, Request},
    http::{HeaderValue, Method, StatusCode, header::ORIGIN},
    response::{IntoResponse, Response},
    routing::Route,
};
use futures_util::FutureExt as _;
use opentelemetry::context::FutureExt;
use store::Decision;
use tower::{Layer, ServiceExt, layer::layer_fn, service_fn};
use tower_http::cors::CorsLayer;
use tracing::{debug, info};

use crate::{
    error::{ClientGone, Error},
    head::{self, Origins},
    headers::{self, PROCESS_TIME, REQUEST_ID},
    telemetry::{self, ClientAddress, LogContext, RequestId, RequestSpan},
};

/// The status, in log and metrics only, of a request whose client disconnected before the answer; the
/// number that nginx uses.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The message in the log about such a request.
pub(crate) const DISCONNECTED: &str = "the client disconnected";

/// The label of any other method.
pub(crate) const OTHER: &str = "other";

/// The label of a path that no route has.
pub(crate) const UNMATCHED: &str = "unmatched";

/// The rules for pages in a browser.
#[derive(Debug)]
pub(crate) struct PageRules {
    /// The origins whose pages may call.
    pub(crate) origins: Origins,
    /// The headers with which a browser gives answers to these pages.
    pub(crate) cors: CorsLayer,
}

/// Adds the request log to every route.
pub(crate) fn add_to<S>(router: Router<S>, pages: &Arc<PageRules>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let pages = Arc::clone(pages);
    // One layer does everything, because each layer allocates a future and a service per request.
    router.layer(layer_fn(move |route: Route| {
        let pages = Arc::clone(&pages);
        service_fn(move |request: Request| {
            let (route, pages) = (route.clone(), Arc::clone(&pages));
            let pattern = request.extensions().get::<MatchedPath>().cloned();
            let pattern = pattern.map_or(Pattern::None, Pattern::Matched);
            let answer = |request| Box::pin(answer(request, route, pages));
            record(request, pattern, answer).map(Ok::<_, Infallible>)
        })
    }))
}

/// The pattern of the path of a request. A path can have an identifier, and a pattern has none.
#[derive(Debug)]
pub(crate) enum Pattern {
    /// No route has the path.
    None,
    /// The pattern of a route that was found without the router.
    Direct(&'static str),
    /// The pattern that the router has found.
    Matched(MatchedPath),
}

impl Pattern {
    /// Returns the pattern without a slash at its end, as the log and the metrics have it.
    fn name(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Direct(pattern) => Some(pattern),
            Self::Matched(pattern) => Some(without_slash(pattern.as_str())),
        }
    }
}

/// An answer, with the decision if the request was a check.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    decision: Option<Decision>,
    /// True if the answer has the time that it took in a header.
    has_time: bool,
}

impl Answer {
    /// Returns the answer to a check.
    pub(crate) fn to_check(response: Response, decision: Option<Decision>) -> Self {
        Self { response, decision, has_time: true }
    }

    /// Returns the answer to a proxy, which copies the headers of the answer to end users.
    pub(crate) fn to_proxy(response: Response, decision: Option<Decision>) -> Self {
        Self { response, decision, has_time: false }
    }
}

impl From<Response> for Answer {
    /// Takes the decision from the extensions, where handlers put it.
    fn from(mut response: Response) -> Self {
        let decision = response.extensions_mut().remove::<Decision>();
        Self { response, decision, has_time: true }
    }
}

/// Answers a request, with its id and time in headers, and logs and counts it.
///
/// The future has the one of `answer` in itself, and moves until its first poll. A large `answer` is
/// therefore in a box.
pub(crate) fn record<B, F: Future<Output = Answer>>(
    request: Request<B>,
    pattern: Pattern,
    answer: impl FnOnce(Request<B>) -> F,
) -> impl Future<Output = Response> {
    let id = RequestId::of(request.headers().get(REQUEST_ID));
    let method = method_label(request.method());
    let matched = pattern.name();
    let is_probe = matched.is_some_and(is_probe);
    let trace =
        if is_probe { None } else { RequestSpan::start_http(request.headers(), method, matched) };
    let client = request.extensions().get::<ClientAddress>().copied();
    let trace_id = trace.as_ref().map(RequestSpan::trace_id);
    let id_of_answer = id.to_value();
    let context = LogContext::new(id, trace_id, client);
    let mut exchange = Exchange::begin(method);
    (exchange.pattern, exchange.is_probe, exchange.trace) = (pattern, is_probe, trace);

    context.attach(async move {
        let context = exchange.trace.as_ref().map(RequestSpan::context);
        let answer = AssertUnwindSafe(answer(request)).catch_unwind();
        let answer = match context {
            Some(context) => Box::pin(answer.with_context(context)).await,
            None => answer.await,
        };
        let Answer { mut response, decision, has_time } = answer.unwrap_or_else(|_| {
            // The panic hook has already written the message to standard error.
            tracing::error!("a handler panicked");
            Error::Internal.into_response().into()
        });
        let time = match response.extensions().get::<ClientGone>() {
            None => exchange.end(response.status(), decision, "answered"),
            Some(ClientGone) => exchange.end_disconnected(),
        };
        if has_time {
            response.headers_mut().insert(PROCESS_TIME, headers::milliseconds(time));
        }
        response.headers_mut().insert(REQUEST_ID, id_of_answer);
        response
    })
}

/// A request from its arrival to its end. Its end is logged and counted once, also when the client
/// disconnects.
struct Exchange {
    start: Instant,
    method: &'static str,
    pattern: Pattern,
    is_probe: bool,
    trace: Option<RequestSpan>,
    /// True until the end.
    is_open: bool,
}

impl Exchange {
    /// Returns a request that has no route yet.
    fn begin(method: &'static str) -> Self {
        let (start, pattern) = (Instant::now(), Pattern::None);
        Self { start, method, pattern, is_probe: false, trace: None, is_open: true }
    }

    /// Logs and counts the end, with the decision if the request was a check. Returns the time since
    /// the arrival.
    fn end(
        &mut self,
        status: StatusCode,
        decision: Option<Decision>,
        message: &'static str,
    ) -> Duration {
        self.is_open = false;
        let (method, time) = (self.method, self.start.elapsed());
        let (code, time_ms) = (status.as_u16(), millis(time));
        let route = self.pattern.name().unwrap_or(UNMATCHED);
        let allowed = decision.map(|decision| decision.allowed);
        let source = decision.map(|decision| decision.source.name());
        if self.is_probe {
            debug!(method, route, status = code, time_ms, "{message}");
        } else {
            info!(method, route, status = code, time_ms, allowed, source, "{message}");
        }
        if let Some(trace) = self.trace.take() {
            trace.end_http(status);
        }
        telemetry::count_request(route, method, code, time);
        time
    }

    /// Logs and counts the end of a request whose client has disconnected.
    fn end_disconnected(&mut self) -> Duration {
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
    let id = RequestId::new();
    let id_of_answer = id.to_value();
    let context = LogContext::new(id, None, client);
    context.attach_call(|| Exchange::begin(method).end(status, None, message));
    id_of_answer
}

/// Returns the answer of a route, with CORS headers if a page of another origin can read it.
async fn answer(request: Request, route: Route, pages: Arc<PageRules>) -> Answer {
    if let Err(error) = head::check(&request, &pages.origins) {
        return error.into_response().into();
    }
    let answer = match is_for_page(&request) {
        true => pages.cors.layer(route).oneshot(request).await,
        false => route.oneshot(request).await,
    };
    answer.unwrap_or_else(|never| match never {}).into()
}

/// Returns true when the answer needs the headers for pages of other origins.
///
/// Browsers name the origin of a page in the request. Answers to GET need the headers always, because
/// a shared cache can send them to a browser later. Answers to POST are not cached.
pub(crate) fn is_for_page<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(ORIGIN) || request.method() != Method::POST
}

/// Returns a time in milliseconds, for the log.
pub(crate) fn millis(time: Duration) -> f64 {
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
    use axum::http::{Request, StatusCode};

    use super::{Answer, Pattern, REQUEST_ID, record};

    #[tokio::test]
    async fn a_panic_of_a_handler_is_answered_as_an_internal_error() {
        let request = Request::new(());
        let answer = async |_: Request<()>| -> Answer { panic!("a fault of a handler") };
        let response = record(request, Pattern::None, answer).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.headers().contains_key(REQUEST_ID));
    }
}
