//! Reads, resets and gives back the limits that the policies choose for a request.

use std::sync::Arc;

use aide::{
    OperationInput, generate::GenContext, openapi::Operation, transform::TransformOperation,
};
use axum::{
    Json,
    extract::{FromRequest, Request, State},
    response::{IntoResponse, Response},
};
use limiter::{Algorithm, Units};
use policies::{
    Kind, Policies,
    identity_keys::IdentityKeys,
    judgement::{JudgedLimit, Judgement, merge},
    overrides::OverrideInfo,
};
use schemars::JsonSchema;
use serde::Serialize;
use store::{Decision, LimitKind, LimitRefund, Millis, RefundOutcome};

use super::{
    body::{self, RequestBytes},
    completion::complete,
    explain::PolicySchema,
    policies::{with_malformed_attributes, with_no_policies},
    reset::ResetAnswer,
};
use crate::{
    error::Error,
    headers, openapi,
    policy_file::{
        PolicyFile,
        end_users::RequestClaims,
        load::now,
        states::{self, states},
    },
    request::{fields::Fields, policy::PolicyCheck},
    seconds::Seconds,
    state::AppState,
};

/// The body of a request about the limits of a check by policy.
#[derive(Debug)]
pub(crate) struct PolicyRequest(RequestBytes);

/// The states of the limits of a request.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PolicyStatusAnswer<'p> {
    /// The policy that applies; null without one.
    policy: Option<&'p str>,
    /// The plan that applies.
    plan: Option<&'p str>,
    /// The override that applies.
    r#override: Option<OverrideInfo<'p>>,
    /// True if the request would be allowed now.
    allowed: bool,
    /// The limits that are enforced.
    limits: Vec<LimitStatus<'p>>,
}

/// The state of a limit.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct LimitStatus<'p> {
    /// The name.
    name: &'p str,
    /// The algorithm, or `concurrency`.
    algorithm: &'static str,
    /// Used units; with the remaining units they add up to `limit`.
    requests_used: u64,
    /// The capacity: the most units that can be taken at once.
    limit: u64,
    /// The length of the window in seconds; that of the present window if windows differ in length, and
    /// null for `concurrency`.
    window_seconds: Option<Seconds>,
    /// Seconds until nothing is used.
    reset_in_seconds: Seconds,
}

/// The units that were given back.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PolicyRefundAnswer {
    /// The policy that applies; null without one.
    policy: Option<String>,
    /// The plan that applies.
    plan: Option<String>,
    /// The limits, each with the units that were given back.
    limits: Vec<LimitRefunded>,
}

/// The units that were given back to a limit.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct LimitRefunded {
    /// The name.
    name: String,
    /// At most the cost, and at most the units that count now.
    refunded: u32,
}

/// `POST /rate-limit/status`
pub(crate) async fn status(
    State(state): State<Arc<AppState>>,
    PolicyRequest(body): PolicyRequest,
) -> Result<Response, Error> {
    let file = state.policies.as_ref().ok_or(Error::NoPolicies)?;
    let policies = file.current();
    let judgement = judge(file, &policies, &body.bytes)?;
    let answer = states(&state.store, &judgement.limits).await;
    let answer = answer.map_err(|error| Error::without_answer(&error))?;
    let limits = judgement.limits.iter().zip(&answer.limits);
    let allowed = judgement.can_be_allowed()
        && limits.clone().all(|(limit, state)| states::would_allow(limit, Some(state)));
    let answer_body = PolicyStatusAnswer {
        policy: judgement.policy.map(|policy| &*policy.name),
        plan: judgement.plan,
        r#override: judgement.r#override.map(|entry| entry.info()),
        allowed,
        limits: limits.map(|(limit, state)| limit_status(limit, state)).collect(),
    };
    Ok((headers::of_source(answer.source), Json(answer_body)).into_response())
}

/// `POST /rate-limit/reset`
pub(crate) async fn reset(
    State(state): State<Arc<AppState>>,
    PolicyRequest(body): PolicyRequest,
) -> Result<Json<ResetAnswer>, Error> {
    let file = state.policies.as_ref().ok_or(Error::NoPolicies)?;
    let policies = file.current();
    let Some(keys) = identity_keys(file, &policies, &body.bytes)? else {
        return Ok(Json(ResetAnswer { message: "No policy applies".to_owned() }));
    };
    let policy = &keys.policy.name;
    let message = match keys.missing {
        None => format!("Rate limit reset for the policy {policy}"),
        // The policy skips or denies requests without an attribute of its identity.
        Some(missing) if keys.keys.is_empty() => {
            let message = format!(
                "Nothing reset: `{missing}` is missing, and all limits of the policy {policy} need it"
            );
            return Ok(Json(ResetAnswer { message }));
        }
        Some(missing) => format!(
            "Rate limit reset for the policy {policy}, without limits that need `{missing}`, which \
             is missing"
        ),
    };
    let keys = keys
        .keys
        .into_iter()
        .map(|key| (key.key, algorithm(key.kind).map_or(LimitKind::Concurrency, LimitKind::Quota)));
    let keys: Vec<_> = keys.collect();
    let done = complete(async move {
        let keys: Vec<_> = keys.iter().map(|(key, kind)| (key.as_str(), *kind)).collect();
        state.store.reset_limits(&keys).await
    });
    done.await?.map_err(|error| Error::without_answer(&error))?;
    Ok(Json(ResetAnswer { message }))
}

/// Gives back what the check with the same body has taken, or this amount of each limit.
pub(super) async fn refund(
    state: Arc<AppState>,
    body: &[u8],
    amount: Option<Units>,
) -> Result<Response, Error> {
    let file = state.policies.as_ref().ok_or(Error::NoPolicies)?;
    let policies = file.current();
    let judgement = judge(file, &policies, body)?;
    let refund = |limit: &JudgedLimit<'_>| {
        let amount = amount.or_else(|| Units::new(limit.cost.into()))?;
        Some(LimitRefund { key: limit.key.clone(), algorithm: algorithm(limit.kind)?, amount })
    };
    let enforced = judgement.limits.iter().filter_map(|limit| Some((limit.name, refund(limit)?)));
    let (names, mut refunds): (Vec<_>, Vec<_>) = enforced.unzip();
    // The check has taken from its trials, too.
    let trials = judgement.shadows.iter().flat_map(|shadow| &shadow.limits);
    refunds.extend(merge(trials.cloned()).iter().filter_map(refund));
    let answer = |outcomes: &[RefundOutcome]| PolicyRefundAnswer {
        policy: judgement.policy.map(|policy| policy.name.to_string()),
        plan: judgement.plan.map(str::to_owned),
        limits: (names.iter().zip(outcomes))
            .map(|(name, outcome)| LimitRefunded {
                name: (*name).to_owned(),
                refunded: outcome.units,
            })
            .collect(),
    };
    let store = Arc::clone(&state.store);
    let refunded = complete(async move { store.refund_limits(&refunds).await }).await?;
    let refunded: Result<Vec<_>, _> = refunded.into_iter().collect();
    let refunded = refunded.map_err(|error| Error::without_answer(&error))?;
    let source = refunded.first().map(|outcome| headers::of_source(outcome.source));
    Ok((source, Json(answer(&refunded))).into_response())
}

/// Returns the state of a limit.
fn limit_status<'p>(limit: &JudgedLimit<'p>, state: &Decision) -> LimitStatus<'p> {
    LimitStatus {
        name: limit.name,
        algorithm: limit.kind.name(),
        requests_used: state.capacity.saturating_sub(state.remaining),
        limit: state.capacity,
        window_seconds: state.window.map(Seconds),
        reset_in_seconds: Seconds(state.reset_after),
    }
}

/// Reads a check by policy from a body.
fn read(body: &[u8]) -> Result<PolicyCheck<'_>, Error> {
    let mut fields = Fields::from_body(body)?;
    let check = fields.only_policy_check();
    fields.finish(check)
}

/// Judges the check in a body.
fn judge<'p>(
    file: &PolicyFile,
    policies: &'p Policies,
    body: &[u8],
) -> Result<Judgement<'p>, Error> {
    read(body)?.judge(policies, file.end_users().as_deref(), now())
}

/// Returns the keys of the identity of the check in a body.
fn identity_keys<'p>(
    file: &PolicyFile,
    policies: &'p Policies,
    body: &[u8],
) -> Result<Option<IdentityKeys<'p>>, Error> {
    let check = read(body)?;
    let end_users = file.end_users();
    let claims = RequestClaims::new(end_users.as_deref(), check.token());
    let attributes = check.attributes(policies.path_form(), &claims, false)?;
    policies.identity_keys(&attributes, now()).map_err(|error| check.error(&error))
}

/// Returns the algorithm of a kind, or `None` for limits of what happens at the same time.
const fn algorithm(kind: Kind) -> Option<Algorithm> {
    match kind {
        Kind::TokenBucket => Some(Algorithm::TokenBucket),
        Kind::SlidingWindow => Some(Algorithm::SlidingWindow),
        Kind::FixedWindow => Some(Algorithm::FixedWindow),
        Kind::Concurrency => None,
    }
}

impl FromRequest<Arc<AppState>> for PolicyRequest {
    type Rejection = Error;

    async fn from_request(request: Request, _: &Arc<AppState>) -> Result<Self, Error> {
        body::SINGLE.read(request.into_body()).await.map(Self)
    }
}

impl OperationInput for PolicyRequest {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Json::<PolicySchema>::operation_input(context, operation);
    }
}

pub(crate) fn status_docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("policy_status")
        .tag("policies")
        .summary("Read the limits of a request")
        .description("Takes the body of a check by policy, and takes and writes nothing.")
        .response_with::<200, Json<PolicyStatusAnswer<'static>>, _>(|response| {
            openapi::with_headers(response, &[headers::SOURCE_DOCS])
                .description("The limits that apply, and their states.")
                .example(PolicyStatusAnswer {
                    policy: Some("api"),
                    plan: Some("free"),
                    r#override: None,
                    allowed: true,
                    limits: vec![LimitStatus {
                        name: "rate",
                        algorithm: Algorithm::TokenBucket.name(),
                        requests_used: 55,
                        limit: 100,
                        window_seconds: Some(Seconds(Millis(60_000))),
                        reset_in_seconds: Seconds(Millis(32_800)),
                    }],
                })
        });
    with_errors(operation)
}

pub(crate) fn reset_docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("policy_reset")
        .tag("policies")
        .summary("Reset the limits of a request")
        .description(
            "Takes the body of a check by policy, and resets the limits of its identity: those of \
             all plans and overrides of the policy. Leases end.",
        )
        .response_with::<200, Json<ResetAnswer>, _>(|response| {
            let message = "Rate limit reset for the policy api".to_owned();
            response.description("Done.").example(ResetAnswer { message })
        });
    with_errors(operation)
}

/// Adds the errors of a route about the limits of a check by policy.
fn with_errors(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = with_malformed_attributes(with_no_policies(operation));
    openapi::with_body_errors(openapi::with_store_errors(operation), body::SINGLE.max_bytes)
}
