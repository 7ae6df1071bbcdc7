//! The decision on one quota in an answer, and the responses to checks.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use schemars::JsonSchema;
use serde::Serialize;
use store::Decision;

use crate::seconds::Seconds;

/// The most headers of an answer to a check, with those that the server adds.
const MOST_HEADERS: usize = 12;

/// Returns the response with the JSON of an answer to a check. A response of the framework would grow its
/// map of headers several times.
pub(super) fn response(
    status: StatusCode,
    body: Vec<u8>,
    headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let mut map = HeaderMap::with_capacity(MOST_HEADERS);
    map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    map.extend(headers);
    *response.headers_mut() = map;
    response
}

/// The decision on a check.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CheckAnswer {
    /// True when the units were taken; with a cost of 0, when one unit could be taken. With `force`
    /// false means that 4,294,967,295 units are used now: the rest of the cost was dropped.
    pub(crate) allowed: bool,
    /// Whole units that could be taken now.
    pub(crate) remaining: u64,
    /// Seconds until nothing is used.
    pub(crate) reset_in_seconds: Seconds,
    /// Seconds until the same check would be allowed; null when it was.
    pub(crate) retry_after: Option<Seconds>,
}

/// The decision on one of several limits.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub(super) struct LimitDecision {
    /// True when this limit alone would allow the cost.
    pub(super) allowed: bool,
    /// Whole units that could be taken now.
    pub(super) remaining: u64,
    /// Seconds until nothing is used.
    pub(super) reset_in_seconds: Seconds,
    /// Seconds until this limit would allow the cost; null when it does.
    pub(super) retry_after: Option<Seconds>,
}

impl From<&Decision> for LimitDecision {
    fn from(decision: &Decision) -> Self {
        let CheckAnswer { allowed, remaining, reset_in_seconds, retry_after } = decision.into();
        Self { allowed, remaining, reset_in_seconds, retry_after }
    }
}

impl From<&Decision> for CheckAnswer {
    fn from(decision: &Decision) -> Self {
        Self {
            allowed: decision.allowed,
            remaining: decision.remaining,
            reset_in_seconds: Seconds(decision.reset_after),
            retry_after: (!decision.allowed).then_some(Seconds(decision.retry_after)),
        }
    }
}
