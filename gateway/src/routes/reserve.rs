//! Reserves units of several quotas, to be settled once.

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
use limiter::Algorithm;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use store::{Argument, Check, Decision, Millis, ReserveDecision, ReserveRequest, StoreError};

use super::{authorize::AuthorizedCaller, body, check_answer::LimitDecision, completion::complete};
use crate::{
    error::{Error, ErrorBody},
    headers, openapi,
    request::{
        field_error::{BrokenRule, Place},
        fields::{Defaults, Fields, Invalid},
        quota::{AlgorithmName, QuotaSchema, UNITS, default_units},
        quota_fields::LIMITS,
        reservation::{self, MAX_RESERVATION_BYTES},
        value::{self, MAX_IDENTIFIER_BYTES},
    },
    seconds::Seconds,
    state::AppState,
};

/// The reservation in a body.
#[derive(Debug)]
pub(crate) struct ReserveBody(ReserveRequest);

/// The schema of a request for a reservation.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes the fields; their values are read into a ReserveRequest")]
#[schemars(rename = "ReserveRequest", example = json!({
    "reservation": "request-42", "ttl_seconds": 600, "identifier": "tenant_7", "limits": [
        { "algorithm": "token_bucket", "limit": 100_000, "window_seconds": 60, "cost": 2000 },
        { "algorithm": "fixed_window", "limit": 5_000_000, "window_seconds": 86_400, "cost": 2000 },
    ]
}))]
struct ReserveSchema {
    /// The name of the reservation: 1 to 64 visible ASCII characters without braces. When this is
    /// left out, the service chooses a name, and a request that is repeated after a lost answer
    /// makes a second reservation.
    #[schemars(length(min = 1, max = MAX_RESERVATION_BYTES), regex(pattern = r"^[!-z|~]+$"))]
    reservation: Option<String>,
    /// Seconds after which the reservation cannot be settled, with at most three decimals.
    #[schemars(rename = "ttl_seconds", range(min = 0.001, max = 31_622_400))]
    ttl: Seconds,
    /// The identifier of limits that leave it out: 1 to 256 bytes.
    #[schemars(length(min = 1, max = MAX_IDENTIFIER_BYTES))]
    identifier: Option<String>,
    /// The limits, of different identifiers or algorithms. In a cluster of Redis all of them are in
    /// one slot, as those of one identifier are.
    #[schemars(length(min = *LIMITS.start(), max = *LIMITS.end()))]
    limits: Vec<ReserveLimitSchema>,
}

/// One limit of a reservation.
#[derive(Debug, JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "describes the fields; their values are read into a Check")]
struct ReserveLimitSchema {
    /// The identifier of the object that is limited; that of the whole request when left out.
    #[schemars(length(min = 1, max = MAX_IDENTIFIER_BYTES))]
    identifier: Option<String>,
    #[schemars(flatten)]
    quota: QuotaSchema,
    /// The estimated units; at most the capacity.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()), default = "default_units")]
    cost: Option<u32>,
}

/// The decision on a reservation.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReserveAnswer {
    /// True when every limit has taken its cost; otherwise none has taken anything.
    allowed: bool,
    /// The name of the reservation.
    reservation: String,
    /// Seconds for which the reservation can be settled at least; null when it was denied.
    expires_in_seconds: Option<Seconds>,
    /// The smallest number of units that remain of a limit.
    remaining: u64,
    /// Seconds until nothing is used of any limit.
    reset_in_seconds: Seconds,
    /// Seconds until the same request would be allowed; null when it was.
    retry_after: Option<Seconds>,
    /// The decision on each limit, in their order.
    limits: Vec<ReserveLimit>,
}

/// The decision on one limit.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct ReserveLimit {
    /// The identifier.
    identifier: String,
    /// The algorithm.
    #[serde(serialize_with = "AlgorithmName::serialize")]
    #[schemars(with = "AlgorithmName")]
    algorithm: Algorithm,
    #[serde(flatten)]
    decision: LimitDecision,
}

/// `POST /rate-limit/reserve`
pub(crate) async fn reserve(
    State(state): State<Arc<AppState>>,
    ReserveBody(request): ReserveBody,
) -> Result<Response, Error> {
    let deny_status = state.deny_status;
    let (request, decided) = complete(async move {
        let decided = state.store.reserve(&request).await;
        (request, decided)
    })
    .await?;
    let decision = decided.map_err(|error| invalid(error, &request))?;
    for limit in &request.limits {
        let algorithm = limit.quota.algorithm();
        store::count_decision(algorithm, decision.allowed, decision.source);
    }
    let summary = summary(&decision).ok_or(Error::Internal)?;
    let headers = headers::of_limits(&request.limits, &decision.limits, &summary);
    let headers = (headers, headers::of_source(decision.source));
    let answer = (Extension(summary), Json(answer(request, &decision, &summary)));
    Ok(if decision.allowed {
        (headers, answer).into_response()
    } else {
        (deny_status, headers, headers::of_denial(&summary), answer).into_response()
    })
}

/// Returns the limit that decides when to try again: that with the longest wait, or after a grant the
/// one with the fewest remaining units.
fn summary(decision: &ReserveDecision) -> Option<Decision> {
    let limits = decision.limits.iter();
    let binding = if decision.allowed {
        limits.min_by_key(|limit| limit.remaining)?
    } else {
        limits.max_by_key(|limit| limit.retry_after)?
    };
    let reset_after = decision.limits.iter().map(|limit| limit.reset_after).max()?;
    let remaining = decision.limits.iter().map(|limit| limit.remaining).min()?;
    Some(Decision { allowed: decision.allowed, remaining, reset_after, ..*binding })
}

fn answer(
    request: ReserveRequest,
    decision: &ReserveDecision,
    summary: &Decision,
) -> ReserveAnswer {
    let limit = |(check, decision): (Check, &Decision)| ReserveLimit {
        algorithm: check.quota.algorithm(),
        identifier: check.identifier,
        decision: decision.into(),
    };
    ReserveAnswer {
        allowed: decision.allowed,
        reservation: request.reservation,
        expires_in_seconds: decision.allowed.then_some(Seconds(request.ttl.into())),
        remaining: summary.remaining,
        reset_in_seconds: Seconds(summary.reset_after),
        retry_after: (!summary.allowed).then_some(Seconds(summary.retry_after)),
        limits: request.limits.into_iter().zip(&decision.limits).map(limit).collect(),
    }
}

/// Returns the error when the store has no decision on a reservation.
fn invalid(error: StoreError, request: &ReserveRequest) -> Error {
    let StoreError::Refused { argument, rule } = error else {
        return Error::without_answer(&error);
    };
    let (name, input) = match argument {
        Argument::Reservation => return Error::ReservationDiffers,
        // A reservation has no such argument.
        Argument::Leases => return Error::Internal,
        Argument::Identifiers => ("limits", identifiers(&request.limits)),
        // The store does not say which of the limits breaks a rule of its own.
        Argument::Limit | Argument::Window | Argument::Capacity | Argument::Cost => {
            let limits = request.limits.iter().map(|limit| limit.quota.limit().get());
            ("limits", json!(limits.collect::<Vec<_>>()))
        }
    };
    invalid_field(name, &rule, input)
}

fn identifiers(limits: &[Check]) -> serde_json::Value {
    json!(limits.iter().map(|limit| limit.identifier.as_str()).collect::<Vec<_>>())
}

/// Returns the error of a field that breaks a rule of the store.
pub(super) fn invalid_field(name: &'static str, rule: &str, input: serde_json::Value) -> Error {
    let rule = BrokenRule::new("value_error", format!("Value error, {rule}"));
    Error::Invalid(vec![rule.at(vec![Place::Name("body"), Place::Name(name)], input)])
}

fn read(fields: &mut Fields<'_>, defaults: Defaults) -> Result<ReserveRequest, Invalid> {
    let reservation = fields.optional("reservation", reservation::reservation);
    let ttl = fields.required("ttl_seconds", value::window);
    let limits = reservation::estimated_limits(fields, defaults);
    let reservation = reservation?.unwrap_or_else(new_reservation);
    Ok(ReserveRequest { reservation, ttl: ttl?, limits: limits? })
}

/// Returns a name that no other reservation has.
fn new_reservation() -> String {
    format!("{:032x}", fastrand::u128(..))
}

impl FromRequest<Arc<AppState>> for ReserveBody {
    type Rejection = Error;

    async fn from_request(request: Request, state: &Arc<AppState>) -> Result<Self, Error> {
        state.require_inline_limits()?;
        let (mut parts, body) = request.into_parts();
        let caller = parts.extensions.remove::<AuthorizedCaller>();
        let read = |fields: &mut Fields<'_>| read(fields, state.defaults);
        let reservation = body::SINGLE.read_fields(body, read).await?;
        if let Some(caller) = caller {
            caller.count_limits(reservation.limits.len()).await?;
        }
        Ok(Self(reservation))
    }
}

impl OperationInput for ReserveBody {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Json::<ReserveSchema>::operation_input(context, operation);
    }
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("reserve")
        .tag("reservations")
        .summary("Reserve units of several quotas")
        .description(
            "Takes the estimated `cost` of every limit, or nothing, and stores the reservation, \
             with which a settlement corrects the estimates once. A live reservation that is \
             requested again takes nothing, and ends `ttl_seconds` from now if that is later. \
             Estimates that are not settled stay taken.",
        )
        .response_with::<200, Json<ReserveAnswer>, _>(|response| {
            with_headers(response).description("A decision.").example(example(true))
        })
        .response_with::<429, Json<ReserveAnswer>, _>(|response| {
            let meaning = "A denial, with DENY_STATUS=429.";
            with_headers(response).description(meaning).example(example(false))
        })
        .response_with::<409, Json<ErrorBody>, _>(|response| {
            response
                .description("The reservation exists with other limits.")
                .example(Error::ReservationDiffers.body())
        });
    openapi::with_body_errors(openapi::with_store_errors(operation), body::SINGLE.max_bytes)
}

/// Adds the headers of every decision, granted or denied.
fn with_headers(
    response: TransformResponse<'_, ReserveAnswer>,
) -> TransformResponse<'_, ReserveAnswer> {
    openapi::with_headers(response, &headers::DECISION_DOCS).with(|response| {
        openapi::with_headers(response, &[headers::DENIAL_DOCS, headers::SOURCE_DOCS])
    })
}

fn example(allowed: bool) -> ReserveAnswer {
    let (remaining, reset_in_seconds) =
        (if allowed { 98_000 } else { 500 }, Seconds(Millis(1_200)));
    let retry_after = (!allowed).then_some(Seconds(Millis(900)));
    ReserveAnswer {
        allowed,
        reservation: "request-42".to_owned(),
        expires_in_seconds: allowed.then_some(Seconds(Millis(600_000))),
        remaining,
        reset_in_seconds,
        retry_after,
        limits: vec![ReserveLimit {
            identifier: "tenant_7".to_owned(),
            algorithm: Algorithm::TokenBucket,
            decision: LimitDecision { allowed, remaining, reset_in_seconds, retry_after },
        }],
    }
}
