//! What every answer gets, whatever it says: an id, its time, a line in the log, a count.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderValue, Method},
    middleware::Next,
    response::Response,
};
use opentelemetry::context::FutureExt;
use tracing::{Instrument, debug, error_span, field::Empty, info};

use crate::{
    headers::{PROCESS_TIME, REQUEST_ID},
    telemetry::{self, RequestSpan},
};

/// Longest request id of a caller that is kept, in bytes.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Middleware around everything else.
pub(crate) async fn record(request: Request, next: Next) -> Response {
    let start = Instant::now();
    let id = request_id(request.headers());
    let method = method_label(request.method());
    // The pattern, not the path: a path can hold an identifier.
    let pattern = request.extensions().get::<MatchedPath>().cloned();
    let matched = pattern.as_ref().map(MatchedPath::as_str);
    let route = matched.unwrap_or("unmatched");

    let is_probe = is_probe(route);
    let trace =
        if is_probe { None } else { RequestSpan::start(request.headers(), method, matched) };

    // At the highest level, so that every line that is logged at all has the ids. Who calls, or
    // why that is not known, is recorded when it has been found out.
    let span = error_span!(
        "request",
        request_id = id.to_str().unwrap_or_default(),
        trace_id = trace.as_ref().map(RequestSpan::trace_id),
        caller = Empty,
        refusal = Empty,
    );
    let answer = next.run(request).instrument(span.clone());
    let mut response = match &trace {
        Some(trace) => answer.with_context(trace.context()).await,
        None => answer.await,
    };

    let time = start.elapsed();
    let status = response.status().as_u16();
    let time_ms = time.as_micros() as f64 / 1000.0;
    span.in_scope(|| match is_probe {
        true => debug!(method, route, status, time_ms, "answered"),
        false => info!(method, route, status, time_ms, "answered"),
    });
    if let Some(trace) = trace {
        trace.end(response.status());
    }
    telemetry::count_request(route, method, status, time);
    if let Ok(time_ms) = HeaderValue::try_from(time_ms.to_string()) {
        response.headers_mut().insert(PROCESS_TIME, time_ms);
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
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
