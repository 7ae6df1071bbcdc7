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
    body::{Body, Bytes, HttpBody},
    extract::{FromRequest, Request, State},
    http::{HeaderMap, HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use store::{Check, Decision, Millis, StoreError};

use super::{authorize::AuthorizedCaller, body};
use crate::{
    callers::scope::Scope,
    error::Error,
    headers, openapi,
    request::{
        field_error::Place,
        fields::{Defaults, Fields, Invalid},
        quota::{COST, DEFAULT_UNITS, QuotaSchema, default_units},
        value::{self, MAX_IDENTIFIER_BYTES},
    },
    seconds::Seconds,
    state::AppState,
};

/// The check in a body.
#[derive(Debug)]
pub(crate) struct CheckRequest(Check);

/// The schema of a check.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes the fields; their values are read into a Check")]
#[schemars(rename = "CheckRequest", example = json!({ "identifier": "user_123" }))]
pub(super) struct CheckSchema {
    /// The identifier of the object that is limited: 1 to 256 bytes.
    #[schemars(length(min = 1, max = MAX_IDENTIFIER_BYTES))]
    identifier: String,
    #[schemars(flatten)]
    quota: QuotaSchema,
    /// Units to take, all or none; at most the capacity, unless `force` is true. 0 takes nothing.
    #[schemars(range(min = *COST.start(), max = *COST.end()), default = "default_units")]
    cost: Option<u32>,
    /// True takes the cost also where fewer units are left, for a cost that is known only afterwards.
    /// Later checks are denied until the debt is gone. Callers need the scope `force`.
    #[schemars(default)]
    force: Option<bool>,
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

/// `POST /rate-limit/check`
pub(crate) async fn check(
    State(state): State<Arc<AppState>>,
    check: CheckRequest,
) -> Result<Response, Error> {
    let (response, decision) = decide(&state, &check).await?;
    // The request log has the decision in the line about this request.
    Ok((Extension(decision), response).into_response())
}

/// Decides a check, and returns its answer with the decision.
pub(super) async fn decide(
    state: &AppState,
    CheckRequest(check): &CheckRequest,
) -> Result<(Response, Decision), Error> {
    let decided = state.store.check(check).await;
    let decision = conclude(check, decided, vec![Place::Name("body")])?;

    let body = serde_json::to_vec(&CheckAnswer::from(&decision)).map_err(|_| Error::Internal)?;
    let mut response = Response::new(Body::from(body));
    let mut headers = HeaderMap::with_capacity(MOST_HEADERS);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.extend(headers::of_decision(&check.quota, check.cost, &decision));
    headers.extend(headers::of_source(decision.source).into_iter().flatten());
    if !decision.allowed {
        *response.status_mut() = state.deny_status;
        headers.extend(headers::of_denial(&decision));
    }
    *response.headers_mut() = headers;
    Ok((response, decision))
}

/// The most headers of an answer to a check, with those that the server adds.
const MOST_HEADERS: usize = 12;

/// Counts the decision on a check, or returns the error of the check, which is located at `loc`.
pub(super) fn conclude(
    check: &Check,
    decided: Result<Decision, StoreError>,
    loc: Vec<Place>,
) -> Result<Decision, Error> {
    let Check { quota, cost, .. } = check;
    let decision = decided.map_err(|error| Error::of_store(error, loc, quota, *cost))?;
    // A check without a cost takes nothing, so it is no decision to count.
    if *cost > 0 {
        store::count_decision(quota.algorithm(), decision.allowed, decision.source);
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

/// Reads a check, with defaults for fields that are left out.
pub(super) fn read(fields: &mut Fields<'_>, defaults: Defaults) -> Result<Check, Invalid> {
    let identifier = fields.required("identifier", value::identifier);
    let quota = fields.quota(defaults);
    let cost = fields.optional("cost", value::cost);
    let force = fields.optional("force", value::boolean);
    let (quota, cost, force) =
        (quota?, cost?.unwrap_or(DEFAULT_UNITS.get()), force?.unwrap_or(false));
    let capacity = quota.capacity().get();
    if cost > capacity && !force {
        return Err(fields.add_error("cost", value::above_capacity(capacity)));
    }
    Ok(Check { identifier: identifier?, quota, cost, force })
}

/// Returns the check, or an error if it is forced and its caller lacks the scope.
pub(super) fn authorize(check: Check, caller: Option<&AuthorizedCaller>) -> Result<Check, Error> {
    if let Some(caller) = caller
        && check.force
    {
        caller.require(Scope::Force)?;
    }
    Ok(check)
}

impl FromRequest<Arc<AppState>> for CheckRequest {
    type Rejection = Error;

    async fn from_request(request: Request, state: &Arc<AppState>) -> Result<Self, Error> {
        let (parts, body) = request.into_parts();
        Self::read(body, state, parts.extensions.get()).await
    }
}

impl CheckRequest {
    /// Reads the check in a body, and authorizes it if it has a caller.
    pub(super) async fn read<B>(
        body: B,
        state: &AppState,
        caller: Option<&AuthorizedCaller>,
    ) -> Result<Self, Error>
    where
        B: HttpBody<Data = Bytes, Error: std::error::Error + 'static> + Unpin,
    {
        let body = body::SINGLE.read(body).await?;
        let mut fields = Fields::from_body(&body.bytes)?;
        let check = read(&mut fields, state.defaults);
        authorize(fields.finish(check)?, caller).map(Self)
    }
}

impl OperationInput for CheckRequest {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Json::<CheckSchema>::operation_input(context, operation);
    }
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("check")
        .tag("rate limit")
        .summary("Take units from a quota")
        .description(
            "Takes `cost` units, all or none. The status of a denial is 200, or 429 where the \
             service runs with DENY_STATUS=429. A `cost` of 0 takes and writes nothing, and \
             answers if one unit could be taken. `resolution_seconds` is for `sliding_window`, \
             `burst` for `token_bucket`, and `period` with `timezone` and `starts` for \
             `fixed_window`, in place of `window_seconds`. While Redis does not answer, a check \
             with `force` gets status 503.",
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
