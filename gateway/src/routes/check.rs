//! Takes units from a quota.

use std::sync::Arc;

use aide::{
    OperationInput,
    generate::GenContext,
    openapi::Operation,
    transform::{TransformOperation, TransformResponse},
};
use axum::{
    Extension, Json,
    extract::{FromRequest, Request, State},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use store::{Check, Decision, Millis, Quota, StoreError};

use super::body;
use crate::{
    error::Error,
    headers, openapi,
    request::field_error::{BrokenRule, Place},
    request::fields::{Defaults, Fields, Invalid},
    request::quota::{COST, QuotaSchema},
    request::value::{self, MAX_IDENTIFIER_BYTES},
    seconds::Seconds,
    state::AppState,
};

/// Who asks for how many units of what.
#[derive(Debug, JsonSchema)]
#[schemars(example = json!({ "identifier": "user_123" }))]
pub(crate) struct CheckRequest {
    /// What is limited: 1 to 256 bytes.
    #[schemars(length(min = 1, max = MAX_IDENTIFIER_BYTES))]
    identifier: String,
    #[schemars(flatten)]
    #[schemars(with = "QuotaSchema")]
    quota: Quota,
    /// Units to take, all or none; at most the capacity. 0 to only look.
    #[schemars(range(min = *COST.start(), max = *COST.end()), default = "one")]
    cost: u32,
}

/// Whether the caller may go on.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CheckAnswer {
    /// Whether the units were taken; with a cost of 0, whether one could be.
    pub(crate) allowed: bool,
    /// Whole units left.
    pub(crate) remaining: u64,
    /// Seconds until the whole quota is back.
    pub(crate) reset_in_seconds: Seconds,
    /// Seconds until the same call would be allowed; null when it was.
    pub(crate) retry_after: Option<Seconds>,
}

/// `POST /rate-limit/check`
pub(crate) async fn check(
    State(state): State<Arc<AppState>>,
    request: CheckRequest,
) -> Result<Response, Error> {
    let check = Check::from(request);
    let decided = state.store.check(&check).await;
    let decision = conclude(&check, decided, vec![Place::Name("body")])?;

    let quota = &check.quota;
    let headers = (headers::of_decision(quota, &decision), headers::of_source(decision.source));
    // The log has the decision in the line about this request.
    let answer = (Extension(decision), Json(CheckAnswer::from(&decision)));
    Ok(if decision.allowed {
        (headers, answer).into_response()
    } else {
        (state.deny_status, headers, headers::of_denial(&decision), answer).into_response()
    })
}

/// Counts the decision on a check, or tells what is wrong with the check that was found at `loc`.
pub(super) fn conclude(
    check: &Check,
    decided: Result<Decision, StoreError>,
    loc: Vec<Place>,
) -> Result<Decision, Error> {
    let Check { quota, cost, .. } = check;
    let decision = decided.map_err(|error| Error::of_store(error, loc, quota, *cost))?;
    // Who only looks leaves everything undecided.
    if *cost > 0 {
        store::count_decision(quota.algorithm, decision.allowed, decision.source);
    }
    Ok(decision)
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

impl From<CheckRequest> for Check {
    fn from(CheckRequest { identifier, quota, cost }: CheckRequest) -> Self {
        Self { identifier, quota, cost }
    }
}

impl CheckRequest {
    /// Reads a check, with defaults for what is left out.
    pub(super) fn read(fields: &mut Fields<'_>, defaults: Defaults) -> Result<Self, Invalid> {
        let identifier = fields.required("identifier", value::identifier);
        let quota = fields.quota(defaults);
        let cost = fields.optional("cost", value::cost);
        let (quota, cost) = (quota?, cost?.unwrap_or(one()));
        let capacity = quota.capacity();
        if cost > capacity {
            return Err(fields.note("cost", above_capacity(capacity)));
        }
        Ok(Self { identifier: identifier?, quota, cost })
    }
}

impl FromRequest<Arc<AppState>> for CheckRequest {
    type Rejection = Error;

    async fn from_request(request: Request, state: &Arc<AppState>) -> Result<Self, Error> {
        let body = body::SINGLE.read(request.into_body()).await?;
        let mut fields = Fields::from_body(&body.bytes)?;
        let request = Self::read(&mut fields, state.defaults);
        fields.finish(request)
    }
}

impl OperationInput for CheckRequest {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Json::<Self>::operation_input(context, operation);
    }
}

/// The cost of a call that names none.
fn one() -> u32 {
    1
}

fn above_capacity(capacity: u32) -> BrokenRule {
    let msg = format!("Input should be less than or equal to the capacity, {capacity}");
    BrokenRule::with_ctx("less_than_equal", msg, json!({ "le": capacity }))
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("check")
        .tag("rate limit")
        .summary("Take units from a quota")
        .description(
            "Takes `cost` units, all or none. A denial is an answer like any other: its status \
             is 200, or 429 where the service runs with DENY_STATUS=429. With a `cost` of 0 it \
             takes and writes nothing, and tells whether one unit could be taken.",
        )
        .response_with::<200, Json<CheckAnswer>, _>(|response| {
            with_headers(response).description("A decision.").example(CheckAnswer {
                allowed: true,
                remaining: 99,
                reset_in_seconds: Seconds(Millis(600)),
                retry_after: None,
            })
        })
        .response_with::<429, Json<CheckAnswer>, _>(|response| {
            with_headers(response).description("A denial, with DENY_STATUS=429.").example(
                CheckAnswer {
                    allowed: false,
                    remaining: 0,
                    reset_in_seconds: Seconds(Millis(60_000)),
                    retry_after: Some(Seconds(Millis(600))),
                },
            )
        });
    openapi::with_body_errors(openapi::with_store_errors(operation), body::SINGLE.max_bytes)
}

/// Adds the headers of every decision, granted or denied.
fn with_headers(
    response: TransformResponse<'_, CheckAnswer>,
) -> TransformResponse<'_, CheckAnswer> {
    openapi::with_headers(response, &headers::DECISION_DOCS).with(|response| {
        openapi::with_headers(response, &[headers::DENIAL_DOCS, headers::SOURCE_DOCS])
    })
}
