//! The decision on one quota in an answer, and the responses to checks.

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use schemars::JsonSchema;
use serde::Serialize;
use store::Decision;

use crate::seconds::Seconds;

/// Returns the response with the JSON of an answer to a check.
pub(super) fn response(status: StatusCode, body: Vec<u8>, headers: HeaderMap) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
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
        (&CheckAnswer::from(decision)).into()
    }
}

impl From<&CheckAnswer> for LimitDecision {
    fn from(answer: &CheckAnswer) -> Self {
        let CheckAnswer { allowed, remaining, reset_in_seconds, retry_after } = *answer;
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
