//! Takes leases: units that are used until they are released or expire.

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
use limiter::Holder;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use store::{Argument, HeldLease, LeaseDecision, LeaseKey, LeaseRequest, Millis, StoreError};

use super::body;
use crate::{
    error::{Error, ErrorBody},
    headers, openapi,
    request::{
        field_error::{BrokenRule, Place},
        fields::{Fields, Invalid},
        lease::{self, FENCE, MAX_LEASE_BYTES},
        policy::POLICY_FIELDS,
        quota::{DEFAULT_UNITS, UNITS, default_units},
        value::{self, MAX_IDENTIFIER_BYTES},
    },
    seconds::Seconds,
    state::AppState,
};

/// The lease in a body.
#[derive(Debug)]
pub(crate) struct AcquireRequest(LeaseRequest);

/// The schema of a request for a lease.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes the fields; their values are read into a LeaseRequest")]
#[schemars(rename = "LeaseRequest", example = json!({
    "identifier": "tenant_7", "lease": "job-42", "limit": 5, "ttl_seconds": 30
}))]
struct LeaseSchema {
    /// The identifier of the object that is limited: 1 to 256 bytes.
    #[schemars(length(min = 1, max = MAX_IDENTIFIER_BYTES))]
    identifier: String,
    /// The name of the lease: 1 to 64 bytes, for one attempt only. When this is left out, the service
    /// chooses a name, and a request that is repeated after a lost answer takes a second lease.
    #[schemars(length(min = 1, max = MAX_LEASE_BYTES))]
    lease: Option<String>,
    /// Units that all leases of the identifier may take at the same time.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()))]
    limit: u32,
    /// Seconds after which the lease expires, with at most three decimals.
    #[schemars(rename = "ttl_seconds", range(min = 0.001, max = 31_622_400))]
    ttl: Seconds,
    /// Units that the lease takes.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()), default = "default_units")]
    cost: Option<u32>,
}

/// The decision on a lease.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LeaseAnswer {
    /// True when the holder has the lease, with the cost of the request.
    allowed: bool,
    /// The name of the lease.
    lease: String,
    /// A number that is greater than that of every earlier lease; null without a lease.
    #[schemars(range(min = *FENCE.start(), max = *FENCE.end()))]
    fence: Option<u64>,
    /// Seconds until the lease expires, rounded down; null without a lease.
    expires_in_seconds: Option<Seconds>,
    /// Whole units that another lease could take now.
    remaining: u64,
    /// Seconds until the last lease of the identifier ends.
    reset_in_seconds: Seconds,
    /// Seconds until the same request would be granted, if no lease is released or renewed; null when
    /// it was granted.
    retry_after: Option<Seconds>,
}

/// `POST /rate-limit/leases`
pub(crate) async fn acquire(
    State(state): State<Arc<AppState>>,
    AcquireRequest(request): AcquireRequest,
) -> Result<Response, Error> {
    let decided = state.store.acquire(&request).await;
    let LeaseDecision { decision, lease } = decided.map_err(|error| invalid(error, &request))?;
    store::count_lease_decision(decision.allowed, decision.source);
    let answer = LeaseAnswer {
        allowed: decision.allowed,
        lease: name(&request.holder),
        fence: lease.map(|lease| lease.fence),
        expires_in_seconds: lease.map(|HeldLease { ends_in, .. }| Seconds(ends_in)),
        remaining: decision.remaining,
        reset_in_seconds: Seconds(decision.reset_after),
        retry_after: (!decision.allowed).then_some(Seconds(decision.retry_after)),
    };
    let headers = (headers::of_lease(&decision), headers::of_source(decision.source));
    let answer = (Extension(decision), Json(answer));
    Ok(if decision.allowed {
        (headers, answer).into_response()
    } else {
        (state.deny_status, headers, headers::of_denial(&decision), answer).into_response()
    })
}

/// Returns the text of a holder. Only other clients of Redis have holders that are no text.
pub(super) fn name(holder: &Holder) -> String {
    String::from_utf8_lossy(holder.as_bytes()).into_owned()
}

/// Returns the error when the store has no decision on a lease.
fn invalid(error: StoreError, request: &LeaseRequest) -> Error {
    let StoreError::Refused { argument, rule } = error else {
        return Error::without_answer(&error);
    };
    let (name, input) = match argument {
        Argument::Limit => ("limit", json!(request.limit.get())),
        Argument::Cost => ("cost", json!(request.cost.get())),
        Argument::Leases => return Error::TooManyLeases,
        // A lease has no such argument.
        Argument::Window | Argument::Capacity | Argument::Reservation | Argument::Identifiers => {
            return Error::Internal;
        }
    };
    let rule = BrokenRule::new("value_error", format!("Value error, {rule}"));
    Error::Invalid(vec![rule.at(vec![Place::Name("body"), Place::Name(name)], input)])
}

/// The fields of a limit that counts units in a window of time, as a lease does not.
const OF_QUOTAS: [&str; 8] = [
    "force",
    "burst",
    "algorithm",
    "window_seconds",
    "resolution_seconds",
    "period",
    "timezone",
    "starts",
];

fn read(fields: &mut Fields<'_>) -> Result<LeaseRequest, Invalid> {
    let by_policy = fields.refuse(&POLICY_FIELDS, "the leases of a policy are taken by a check");
    let identifier = fields.required("identifier", value::identifier);
    let holder = fields.optional("lease", lease::lease);
    let limit = fields.required("limit", value::units);
    let ttl = fields.required("ttl_seconds", value::window);
    let cost = fields.optional("cost", value::units);
    fields.refuse(&OF_QUOTAS, "all leases together take at most limit")?;
    fields.refuse(&["fence"], "the answer has the fence of the lease")?;
    by_policy?;
    let holder = match holder? {
        Some(holder) => holder,
        None => new_holder().ok_or(Invalid)?,
    };
    let cost = cost?.unwrap_or(DEFAULT_UNITS);
    let key = LeaseKey::Identifier(identifier?);
    Ok(LeaseRequest { key, holder, limit: limit?, cost, ttl: ttl? })
}

/// Returns a name that no other lease has.
fn new_holder() -> Option<Holder> {
    Holder::new(format!("{:032x}", fastrand::u128(..)))
}

impl FromRequest<Arc<AppState>> for AcquireRequest {
    type Rejection = Error;

    async fn from_request(request: Request, state: &Arc<AppState>) -> Result<Self, Error> {
        state.require_inline_limits()?;
        body::SINGLE.read_fields(request.into_body(), read).await.map(Self)
    }
}

impl OperationInput for AcquireRequest {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Json::<LeaseSchema>::operation_input(context, operation);
    }
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let answer = |allowed, remaining, held: Option<u64>, wait| LeaseAnswer {
        allowed,
        lease: "job-42".to_owned(),
        fence: held,
        expires_in_seconds: held.map(|_| Seconds(Millis(30_000))),
        remaining,
        reset_in_seconds: Seconds(Millis(30_000)),
        retry_after: wait,
    };
    let denial = answer(false, 0, None, Some(Seconds(Millis(12_500))));
    let operation = operation
        .id("acquire_lease")
        .tag("leases")
        .summary("Take a lease")
        .description(
            "Takes `cost` units until they are released or the lease expires, if the leases of \
             the identifier then take at most `limit` units. The holder of a live lease gets it \
             again, with the same fence: a request whose answer was lost can be repeated. The \
             status of a denial is 200, or 429 where the service runs with DENY_STATUS=429.",
        )
        .response_with::<200, Json<LeaseAnswer>, _>(|response| {
            with_headers(response).description("A decision.").example(answer(
                true,
                4,
                Some(1_800_014_400_000_000),
                None,
            ))
        })
        .response_with::<429, Json<LeaseAnswer>, _>(|response| {
            with_headers(response).description("A denial, with DENY_STATUS=429.").example(denial)
        })
        .response_with::<409, Json<ErrorBody>, _>(|response| {
            response
                .description(
                    "The limit allows one more lease, and the identifier has as many live leases \
                     as the setting ratelimit.leases-max of Redis allows.",
                )
                .example(Error::TooManyLeases.body())
        });
    openapi::with_body_errors(openapi::with_store_errors(operation), body::SINGLE.max_bytes)
}

/// Adds the headers of every decision, granted or denied.
fn with_headers(
    response: TransformResponse<'_, LeaseAnswer>,
) -> TransformResponse<'_, LeaseAnswer> {
    openapi::with_headers(response, &headers::DECISION_DOCS).with(|response| {
        openapi::with_headers(response, &[headers::DENIAL_DOCS, headers::SOURCE_DOCS])
    })
}
