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
    http::{HeaderMap, HeaderValue, Method, header::ORIGIN},
    response::{IntoResponse, Response},
    routing::Route,
};
use opentelemetry::context::FutureExt;
use tower::{Layer, ServiceExt, layer::layer_fn, service_fn};
use tower_http::cors::CorsLayer;
use tracing::{debug, info};

use crate::{
    config::Origins,
    error::Error,
    head,
    headers::{PROCESS_TIME, REQUEST_ID},
    store::Decision,
    telemetry::{self, RequestSpan, Scope},
};

/// Longest request id of a caller that is kept, in bytes.
const MAX_REQUEST_ID_BYTES: usize = 128;

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
    let start = Instant::now();
    let id = request_id(request.headers());
    let method = method_label(request.method());
    // The pattern, not the path: a path can hold an identifier.
    let pattern = request.extensions().get::<MatchedPath>().cloned();
    let matched = pattern.as_ref().map(MatchedPath::as_str);
    let is_probe = matched.is_some_and(is_probe);
    let trace =
        if is_probe { None } else { RequestSpan::start(request.headers(), method, matched) };
    let scope = Scope::request(id.clone(), trace.as_ref().map(RequestSpan::trace_id));

    scope.around(async move {
        let answer = unless_it_panics(answer(request, route, pages));
        let mut response = match &trace {
            Some(trace) => answer.with_context(trace.context()).await,
            None => answer.await,
        };
        let time = start.elapsed();
        let status = response.status().as_u16();
        let time_ms = millis(time);
        let route = pattern.as_ref().map_or("unmatched", MatchedPath::as_str);
        // Of a check.
        let decision = response.extensions().get::<Decision>();
        let allowed = decision.map(|decision| decision.allowed);
        let source = decision.map(|decision| decision.source.name());
        match is_probe {
            true => debug!(method, route, status, time_ms, "answered"),
            false => info!(method, route, status, time_ms, allowed, source, "answered"),
        }
        if let Some(trace) = trace {
            trace.end(response.status());
        }
        telemetry::count_request(route, method, status, time);
        if let Ok(time_ms) = HeaderValue::try_from(time_ms.to_string()) {
            response.headers_mut().insert(PROCESS_TIME, time_ms);
        }
        response.headers_mut().insert(REQUEST_ID, id);
        Ok(response)
    })
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
        _ => "other",
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
