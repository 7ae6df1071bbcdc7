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
    body::{Bytes, HttpBody},
    extract::{FromRequest, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use store::{Check, Decision, Millis, StoreError};

use super::{
    authorize::AuthorizedCaller,
    body,
    check_answer::{CheckAnswer, response},
    check_reader::{CheckReader, CheckRequest},
    explain::{PolicySchema, require_policy_or_attributes},
    limits_answer::{self, CheckReply, LimitsAnswer},
};
use crate::{
    error::{Error, ErrorBody},
    headers::{self, DecisionHeaders},
    openapi,
    policy_file::judge::Verdict,
    request::{
        field_error::Place,
        fields::Fields,
        limits::MAX_NAME_BYTES,
        quota::{COST, QuotaSchema, UNITS, default_units},
        quota_fields::LIMITS,
        value::MAX_IDENTIFIER_BYTES,
    },
    seconds::Seconds,
    state::AppState,
};

/// The check in a body.
#[derive(Debug)]
pub(crate) struct CheckBody(CheckRequest);

/// The schema of a check.
#[derive(Debug, JsonSchema)]
#[schemars(inline)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the fields; their values are read into a CheckRequest")]
pub(super) enum CheckSchema {
    /// A check of one quota.
    One(OneSchema),
    /// A check of several limits.
    Limits(LimitsSchema),
    /// A check by policy.
    Policy(PolicyCheckSchema),
}

/// The schema of a check of one quota.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes the fields; their values are read into a Check")]
#[schemars(rename = "CheckRequest", example = json!({ "identifier": "user_123" }))]
pub(super) struct OneSchema {
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

/// The schema of a check of several limits of one identifier.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes the fields; their values are read into NamedLimits")]
#[schemars(rename = "LimitsCheckRequest", example = json!({ "identifier": "user_123", "limits": [
    { "name": "rate", "limit": 20, "window_seconds": 1 },
    { "name": "day", "algorithm": "fixed_window", "limit": 1000, "period": "day" },
] }))]
pub(super) struct LimitsSchema {
    /// The identifier of the object that is limited: 1 to 256 bytes.
    #[schemars(length(min = 1, max = MAX_IDENTIFIER_BYTES))]
    identifier: String,
    /// The limits, which take their costs all together, or nothing. Limits with equal names and
    /// numbers are one limit with the sum of the costs.
    #[schemars(length(min = *LIMITS.start(), max = *LIMITS.end()))]
    limits: Vec<LimitSchema>,
    /// The cost of each limit that has none of its own. With 0 no limit takes anything.
    #[schemars(range(min = *COST.start(), max = *COST.end()), default = "default_units")]
    cost: Option<u32>,
}

/// One of the limits of a check.
#[derive(Debug, JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "describes the fields; their values are read into a LimitCheck")]
struct LimitSchema {
    /// The name, which answers and headers have.
    #[schemars(length(min = 1, max = MAX_NAME_BYTES), regex(pattern = r"^[a-z0-9][a-z0-9_.-]*$"))]
    name: String,
    #[schemars(flatten)]
    quota: QuotaSchema,
    /// Units to take, at most the capacity; the cost of the check when left out.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()), default = "default_units")]
    cost: Option<u32>,
}

/// The schema of a check by policy.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes the fields; their values are read into a PolicyCheck")]
#[schemars(rename = "PolicyCheckRequest", transform = require_policy_or_attributes,
    example = json!({ "attributes": { "method": "POST", "path": "/login", "client.ip": "192.0.2.7" } }))]
pub(super) struct PolicyCheckSchema {
    #[schemars(flatten)]
    policy: PolicySchema,
}

/// The answer to a check of one quota, or of several.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CheckResult")]
#[serde(untagged)]
pub(crate) enum AnyAnswer {
    /// The decision on one quota.
    One(CheckAnswer),
    /// The decision on several limits.
    Limits(Box<LimitsAnswer>),
}

/// `POST /rate-limit/check`
pub(crate) async fn check(
    State(state): State<Arc<AppState>>,
    check: CheckBody,
) -> Result<Response, Error> {
    let (response, decision) = decide(&state, check).await?;
    // The request log has the decision in the line about this request.
    Ok((decision.map(Extension), response).into_response())
}

/// Decides a check, and returns its answer with the decision, if limits have decided.
pub(super) async fn decide(
    state: &Arc<AppState>,
    CheckBody(check): CheckBody,
) -> Result<(Response, Option<Decision>), Error> {
    if let CheckRequest::One(check) = &check {
        return decide_one(state, check).await;
    }
    // The future of nearly all checks stays small.
    Box::pin(decide_limits(state, check)).await
}

/// Decides a check of several limits or by policy.
async fn decide_limits(
    state: &Arc<AppState>,
    check: CheckRequest,
) -> Result<(Response, Option<Decision>), Error> {
    let reply = match check {
        CheckRequest::One(check) => return decide_one(state, &check).await,
        CheckRequest::Unmatched(check, judged) => {
            let (response, decision) = decide_one(state, &check).await?;
            let allowed = decision.is_some_and(|decision| decision.allowed);
            limits_answer::count_unmatched(state, *judged, allowed);
            return Ok((response, decision));
        }
        CheckRequest::Limits(limits) => {
            let decided = limits_answer::take(state, &limits.check).await?;
            CheckReply::of_limits(state, limits, decided, vec![Place::Name("body")])?
        }
        CheckRequest::Policy(judged) => {
            let decided = match judged.verdict {
                Verdict::Limits => Some(limits_answer::take(state, &judged.limits.check).await?),
                _ => None,
            };
            if let Some(Err(_)) = &decided {
                judged.names.clone().log(&[]);
            }
            CheckReply::of_policy(state, *judged, decided)?
        }
    };
    reply.into_response(state.deny_status)
}

async fn decide_one(
    state: &AppState,
    check: &Check,
) -> Result<(Response, Option<Decision>), Error> {
    let decided = state.store.check(check).await;
    let decision = conclude(check, decided, || vec![Place::Name("body")])?;

    let status = if decision.allowed { StatusCode::OK } else { state.deny_status };
    let wait = (!decision.allowed).then_some(decision.retry_after);
    let headers = DecisionHeaders::of_check(&check.quota, check.cost, &decision);
    let headers = headers.into_map(Some(decision.source), wait);
    let body = CheckAnswer::from(&decision).to_json();
    Ok((response(status, body, headers), Some(decision)))
}

/// Counts the decision on a check, or returns the error of the check, which `loc` locates.
pub(super) fn conclude(
    check: &Check,
    decided: Result<Decision, StoreError>,
    loc: impl FnOnce() -> Vec<Place>,
) -> Result<Decision, Error> {
    let Check { quota, cost, .. } = check;
    let decision = decided.map_err(|error| Error::of_store(error, loc(), quota, *cost))?;
    // A check without a cost takes nothing, so it is no decision to count.
    if *cost > 0 {
        store::count_decision(quota.algorithm(), decision.allowed, decision.source);
    }
    Ok(decision)
}

impl FromRequest<Arc<AppState>> for CheckBody {
    type Rejection = Error;

    async fn from_request(request: Request, state: &Arc<AppState>) -> Result<Self, Error> {
        let (parts, body) = request.into_parts();
        let Self(check) = Self::read(body, state).await?;
        let caller = parts.extensions.get::<AuthorizedCaller>();
        let check = check.authorize(caller)?;
        if let Some(caller) = caller {
            caller.count_limits(check.limit_count()).await?;
        }
        Ok(Self(check))
    }
}

impl CheckBody {
    /// Reads the check in a body, of a client that needs no authorization.
    pub(super) async fn read<B>(body: B, state: &AppState) -> Result<Self, Error>
    where
        B: HttpBody<Data = Bytes, Error: std::error::Error + 'static> + Unpin,
    {
        let body = body::SINGLE.read(body).await?;
        CheckReader::new(state).read(Fields::from_body(&body.bytes)?).map(Self)
    }
}

impl OperationInput for CheckBody {
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
             with `force` gets status 503. A check has a quota of its own, or several `limits`, or \
             `policy` or `attributes`. A check with none of them is one by policy where the service \
             runs with POLICIES_FILE, and gets the default limit where no policy matches.",
        )
        .response_with::<200, Json<AnyAnswer>, _>(|response| {
            with_headers(response)
                .description("A decision.")
                .example(AnyAnswer::Limits(Box::new(LimitsAnswer::example())))
        })
        .response_with::<429, Json<AnyAnswer>, _>(|response| {
            with_headers(response).description("A denial, with DENY_STATUS=429.").example(
                AnyAnswer::One(CheckAnswer {
                    allowed: false,
                    remaining: 0,
                    reset_in_seconds: Seconds(Millis(60_000)),
                    retry_after: Some(Seconds(Millis(600))),
                }),
            )
        })
        .response_with::<400, Json<ErrorBody>, _>(|response| {
            let error = Error::AttributeMalformed("`client.ip` must be an address".to_owned());
            response.description("A value of an attribute is malformed.").example(error.body())
        });
    openapi::with_body_errors(openapi::with_store_errors(operation), body::SINGLE.max_bytes)
}

/// Adds the headers of every decision, granted or denied.
fn with_headers(response: TransformResponse<'_, AnyAnswer>) -> TransformResponse<'_, AnyAnswer> {
    openapi::with_headers(response, &headers::DECISION_DOCS).with(|response| {
        openapi::with_headers(response, &[headers::DENIAL_DOCS, headers::SOURCE_DOCS])
    })
}
