//! Decides many checks in one call.

use std::{ops::RangeInclusive, sync::Arc};

use aide::{
    OperationInput, generate::GenContext, openapi::Operation, transform::TransformOperation,
};
use axum::{
    Json,
    extract::{FromRequest, Request, State},
    http::{HeaderName, HeaderValue, StatusCode},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    admission::Admitted,
    body,
    check::{self, CheckAnswer, CheckRequest},
};
use crate::{
    AppState,
    config::Defaults,
    error::{Error, ErrorBody, FaultsBody},
    fault::Place,
    fields::Fields,
    headers,
    millis::Millis,
    openapi,
    quota::Check,
    store::Decision,
};

/// How many checks a batch may have.
const CHECKS: RangeInclusive<usize> = 1..=1_000;

/// Checks, or for each what is wrong with it.
#[derive(Debug)]
pub(crate) struct Batch(Vec<Result<Check, Error>>);

/// Checks that are decided in their order, each as if alone.
#[derive(Debug, JsonSchema)]
#[schemars(example = json!({
    "checks": [{ "identifier": "user_123" }, { "identifier": "tenant_7", "limit": 5000 }]
}))]
struct BatchRequest {
    /// The checks.
    #[expect(dead_code, reason = "describes the body; its values are read into a Batch")]
    #[schemars(length(min = *CHECKS.start(), max = *CHECKS.end()))]
    checks: Vec<BatchItem>,
}

/// One check of a batch.
#[derive(Debug, JsonSchema)]
#[schemars(inline)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the body; its values are read into a Batch")]
enum BatchItem {
    /// A check as it could be sent alone.
    Check(CheckRequest),
    /// Anything else is answered with a result whose status is 422.
    Other(Value),
}

/// What each check of a batch is answered.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BatchAnswer {
    /// As many as there were checks, and in their order.
    results: Vec<BatchResult>,
}

/// What one check of a batch is answered.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
#[serde(untagged)]
enum BatchResult {
    Decided(DecidedResult),
    Invalid(InvalidResult),
    Failed(FailedResult),
}

/// A decision.
#[derive(Debug, Serialize, JsonSchema)]
struct DecidedResult {
    /// The status that the check alone would have got.
    #[schemars(extend("enum" = [200, 429]))]
    status: u16,
    /// Who decided, as in the header `X-RateLimit-Source`, and `redis`.
    #[schemars(extend("enum" = ["redis", "local", "cache", "open"]))]
    source: &'static str,
    #[serde(flatten)]
    answer: CheckAnswer,
}

/// What is wrong with a check.
#[derive(Debug, Serialize, JsonSchema)]
struct InvalidResult {
    /// The status that the check alone would have got.
    #[schemars(extend("const" = 422))]
    status: u16,
    #[serde(flatten)]
    body: FaultsBody,
}

/// Why there is no decision.
#[derive(Debug, Serialize, JsonSchema)]
struct FailedResult {
    /// The status that the check alone would have got.
    #[schemars(extend("const" = 503))]
    status: u16,
    #[serde(flatten)]
    body: ErrorBody,
}

/// `POST /rate-limit/check/batch`
pub(crate) async fn check_all(
    State(state): State<Arc<AppState>>,
    Batch(items): Batch,
) -> ([(HeaderName, HeaderValue); 1], Json<BatchAnswer>) {
    let mut checks = Vec::with_capacity(items.len());
    let items: Vec<Result<(), Error>> =
        items.into_iter().map(|item| item.map(|check| checks.push(check))).collect();
    let mut decided = checks.iter().zip(state.store.check_all(&checks).await);
    let results = items.into_iter().enumerate().map(|(position, item)| {
        let decision = item.and_then(|()| match decided.next() {
            Some((check, decided)) => check::conclude(check, decided, place(position)),
            None => Err(Error::Internal),
        });
        BatchResult::new(decision, state.deny_status)
    });
    (headers::NO_STORE, Json(BatchAnswer { results: results.collect() }))
}

impl BatchResult {
    fn new(decision: Result<Decision, Error>, deny_status: StatusCode) -> Self {
        match decision {
            Ok(decision) => {
                let status = if decision.allowed { StatusCode::OK } else { deny_status };
                Self::Decided(DecidedResult {
                    status: status.as_u16(),
                    source: decision.source.name(),
                    answer: CheckAnswer::from(&decision),
                })
            }
            Err(error) => {
                let status = error.status().as_u16();
                match error {
                    Error::Invalid(detail) => {
                        Self::Invalid(InvalidResult { status, body: FaultsBody { detail } })
                    }
                    _ => Self::Failed(FailedResult { status, body: error.body() }),
                }
            }
        }
    }
}

/// Where the check at a position of the list is.
fn place(position: usize) -> Vec<Place> {
    vec![Place::Name("body"), Place::Name("checks"), Place::Position(position)]
}

fn read_check(value: Value, position: usize, defaults: Defaults) -> Result<Check, Error> {
    let mut fields = Fields::from_value(value, place(position))?;
    let request = CheckRequest::read(&mut fields, defaults);
    fields.finish(request).map(Check::from)
}

impl FromRequest<Arc<AppState>> for Batch {
    type Rejection = Error;

    async fn from_request(request: Request, state: &Arc<AppState>) -> Result<Self, Error> {
        let (mut parts, body) = request.into_parts();
        let caller = parts.extensions.remove::<Admitted>();
        let body = body::read(body, body::MAX_BATCH_BYTES).await?;
        let mut fields = Fields::from_body(&body)?;
        let most = caller.as_ref().map_or(usize::MAX, Admitted::most_requests);
        let values = fields.list("checks", &(*CHECKS.start()..=most.min(*CHECKS.end())));
        let values = fields.finish(values)?;
        if let Some(caller) = caller {
            caller.count_as(values.len()).await?;
        }
        let values = values.into_iter().enumerate();
        let read = |(position, value)| read_check(value, position, state.defaults);
        Ok(Self(values.map(read).collect()))
    }
}

impl OperationInput for Batch {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Json::<BatchRequest>::operation_input(context, operation);
    }
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("check_batch")
        .tag("rate limit")
        .summary("Take units from many quotas")
        .description(
            "Decides up to 1,000 checks in one call, each as if it had come alone, in their \
             order. One that is denied, invalid or not decided leaves the others as they are, so \
             the answer as a whole has status 200, and each result a status of its own.",
        )
        .response_with::<200, Json<BatchAnswer>, _>(|response| {
            openapi::with_headers(response, &headers::NO_STORE_DOCS)
                .description("What each check is answered.")
                .example(BatchAnswer { results: example() })
        });
    openapi::with_body_errors(openapi::with_faults(operation), body::MAX_BATCH_BYTES)
}

fn example() -> Vec<BatchResult> {
    let answer = |allowed, remaining, retry_after| CheckAnswer {
        allowed,
        remaining,
        reset_in_seconds: Millis(60_000),
        retry_after,
    };
    [answer(true, 99, None), answer(false, 0, Some(Millis(600)))]
        .map(|answer| BatchResult::Decided(DecidedResult { status: 200, source: "redis", answer }))
        .into()
}
