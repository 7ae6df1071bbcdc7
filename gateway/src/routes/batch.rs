//! Decides many checks in one call.

use std::{ops::RangeInclusive, sync::Arc, vec};

use aide::{
    OperationInput, generate::GenContext, openapi::Operation, transform::TransformOperation,
};
use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, Request, State},
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use store::{Check, Decision, LimitsDecision, Millis, StoreError};
use tokio::task::yield_now;

use super::{
    authorize::{AuthorizedCaller, too_many_limits},
    body::{self, RequestBytes, Room},
    check::{self, AnyAnswer, CheckSchema},
    check_answer::CheckAnswer,
    check_reader::{CheckReader, CheckRequest},
    limits_answer::{self, CheckReply},
    work::{self, WorkPermit},
};
use crate::{
    error::{Error, ErrorBody, FieldErrorsBody},
    headers, openapi,
    policy_file::judge::Verdict,
    request::{field_error::Place, fields::Fields},
    seconds::Seconds,
    state::AppState,
};

/// The media type of an answer.
const JSON: &str = "application/json";

/// The number of checks in a batch, and of all of their limits.
const CHECKS: RangeInclusive<usize> = 1..=1_000;

/// The number of results between two yields to other requests.
const RESULTS_PER_YIELD: usize = 250;

/// Upper bounds for the bytes of a decision, of its names of policies, of each of its limits, of each of
/// its leases, and of an error of a field, in an answer.
const RESULT_BYTES: usize = 192;
const NAMES_BYTES: usize = 512;
const LIMIT_BYTES: usize = 320;
const LEASE_BYTES: usize = 1024;
const FIELD_ERROR_BYTES: usize = 1024;

/// The checks of a batch, each read or with its error.
#[derive(Debug)]
pub(crate) struct Batch {
    items: Vec<Result<CheckRequest, Error>>,
    /// Memory of the body and of the answer.
    room: Room,
    permit: WorkPermit,
}

/// The JSON of an answer. Its memory stays reserved until all of the answer is sent.
#[derive(Debug)]
struct AnswerBytes {
    json: Vec<u8>,
    _room: Room,
}

impl AsRef<[u8]> for AnswerBytes {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

/// Checks that the service decides in their order, each as if it was alone.
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
    Check(CheckSchema),
    /// Any other value has a result with status 422.
    Other(Value),
}

/// The answer to a batch.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BatchAnswer {
    /// One result for each check, in the order of the checks.
    results: Vec<BatchResult>,
}

/// The result of one check.
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
    /// The status that the check would have alone.
    #[schemars(extend("enum" = [200, 429]))]
    status: u16,
    /// The source of the decision: `redis`, one of the values of `X-RateLimit-Source`, or `policy`
    /// where no limit decides.
    #[schemars(extend("enum" = ["redis", "local", "cache", "open", "policy"]))]
    source: &'static str,
    #[serde(flatten)]
    answer: AnyAnswer,
}

/// The errors of a check.
#[derive(Debug, Serialize, JsonSchema)]
struct InvalidResult {
    /// The status that the check would have alone.
    #[schemars(extend("const" = 422))]
    status: u16,
    #[serde(flatten)]
    body: FieldErrorsBody,
}

/// The reason why there is no decision.
#[derive(Debug, Serialize, JsonSchema)]
struct FailedResult {
    /// The status that the check would have alone.
    #[schemars(extend("enum" = [400, 403, 409, 503]))]
    status: u16,
    #[serde(flatten)]
    body: ErrorBody,
}

/// `POST /rate-limit/check/batch`
pub(crate) async fn check_all(
    State(state): State<Arc<AppState>>,
    Batch { items, mut room, permit }: Batch,
) -> Result<Response, Error> {
    // The answer must have its memory before any check takes units.
    room.grow(items.iter().map(answer_bytes).sum())?;
    let mut checks = Vec::new();
    let mut limits = Vec::new();
    for item in &items {
        match item {
            Ok(CheckRequest::One(check) | CheckRequest::Unmatched(check, _)) => {
                checks.push(check.clone());
            }
            Ok(CheckRequest::Limits(named)) => limits.push(named.check.clone()),
            Ok(CheckRequest::Policy(judged)) if matches!(judged.verdict, Verdict::Limits) => {
                limits.push(judged.limits.check.clone());
            }
            Ok(CheckRequest::Policy(_)) | Err(_) => {}
        }
    }
    let mut decided = BatchDecisions {
        checks: state.store.check_all(&checks).await.into_iter(),
        limits: limits_answer::take_all(&state, limits).await?.into_iter(),
    };
    let mut json = Vec::from(br#"{"results":["#);
    for (position, item) in items.into_iter().enumerate() {
        let result = item.and_then(|item| decided.conclude(&state, item, position));
        let result = result.unwrap_or_else(BatchResult::from);
        if position > 0 {
            json.push(b',');
        }
        serde_json::to_writer(&mut json, &result).map_err(|_| Error::Internal)?;
        if position % RESULTS_PER_YIELD == RESULTS_PER_YIELD - 1 {
            yield_now().await;
        }
    }
    json.extend_from_slice(b"]}");
    drop(permit);
    let headers = (headers::NO_STORE, [(CONTENT_TYPE, HeaderValue::from_static(JSON))]);
    let body = Bytes::from_owner(AnswerBytes { json, _room: room });
    Ok((headers, body).into_response())
}

/// Returns an estimate of the bytes of a result, which is seldom too small.
fn answer_bytes(item: &Result<CheckRequest, Error>) -> usize {
    match item {
        Err(Error::Invalid(errors)) => RESULT_BYTES + errors.len() * FIELD_ERROR_BYTES,
        Ok(CheckRequest::Limits(limits)) => RESULT_BYTES + limits.names.len() * LIMIT_BYTES,
        Ok(CheckRequest::Policy(judged)) => {
            let (limits, leases) = (judged.limits.len(), judged.limits.lease_names.len());
            RESULT_BYTES + NAMES_BYTES + limits * LIMIT_BYTES + leases * LEASE_BYTES
        }
        _ => RESULT_BYTES,
    }
}

/// The decisions on the checks of a batch, in their order.
struct BatchDecisions {
    checks: vec::IntoIter<Result<Decision, StoreError>>,
    limits: vec::IntoIter<Result<LimitsDecision, StoreError>>,
}

impl BatchDecisions {
    /// Returns the result of the next check.
    fn conclude(
        &mut self,
        state: &Arc<AppState>,
        item: CheckRequest,
        position: usize,
    ) -> Result<BatchResult, Error> {
        Ok(match item {
            CheckRequest::One(check) => {
                let decision = self.next_check(&check, position)?;
                BatchResult::of_check(state, &decision)
            }
            CheckRequest::Unmatched(check, judged) => {
                let decision = self.next_check(&check, position)?;
                limits_answer::count_unmatched(state, *judged, decision.allowed);
                BatchResult::of_check(state, &decision)
            }
            CheckRequest::Limits(limits) => {
                let decided = self.limits.next().ok_or(Error::Internal)?;
                let loc = place(position);
                BatchResult::of_limits(state, CheckReply::of_limits(state, limits, decided, loc)?)
            }
            CheckRequest::Policy(judged) => {
                let decided = match judged.verdict {
                    Verdict::Limits => self.limits.next(),
                    _ => None,
                };
                BatchResult::of_limits(state, CheckReply::of_policy(state, *judged, decided)?)
            }
        })
    }

    fn next_check(&mut self, check: &Check, position: usize) -> Result<Decision, Error> {
        let decided = self.checks.next().ok_or(Error::Internal)?;
        check::conclude(check, decided, || place(position))
    }
}

impl BatchResult {
    fn of_check(state: &AppState, decision: &Decision) -> Self {
        let answer = AnyAnswer::One(CheckAnswer::from(decision));
        Self::decided(state, decision.allowed, decision.source.name(), answer)
    }

    fn of_limits(state: &AppState, reply: CheckReply) -> Self {
        let (allowed, source) = (reply.allowed(), reply.source());
        Self::decided(state, allowed, source, AnyAnswer::Limits(Box::new(reply.answer)))
    }

    fn decided(state: &AppState, allowed: bool, source: &'static str, answer: AnyAnswer) -> Self {
        let status = if allowed { StatusCode::OK } else { state.deny_status };
        Self::Decided(DecidedResult { status: status.as_u16(), source, answer })
    }
}

impl From<Error> for BatchResult {
    fn from(error: Error) -> Self {
        let status = error.status().as_u16();
        match error {
            Error::Invalid(detail) => {
                Self::Invalid(InvalidResult { status, body: FieldErrorsBody { detail } })
            }
            _ => Self::Failed(FailedResult { status, body: error.body() }),
        }
    }
}

/// Returns the location of the check at a position of the list.
fn place(position: usize) -> Vec<Place> {
    vec![Place::Name("body"), Place::Name("checks"), Place::Position(position)]
}

/// Reads the checks of a body, at most `most`.
fn read_checks(
    body: &[u8],
    most: usize,
    reader: &CheckReader,
) -> Result<Vec<Result<CheckRequest, Error>>, Error> {
    let mut fields = Fields::from_body(body)?;
    let values = fields.list("checks", &(*CHECKS.start()..=most));
    let values = fields.finish(values)?.into_iter().enumerate();
    Ok(values.map(|(position, value)| read_check(value, position, reader)).collect())
}

fn read_check(
    value: &RawValue,
    position: usize,
    reader: &CheckReader,
) -> Result<CheckRequest, Error> {
    reader.read(Fields::from_json(value, place(position))?)
}

impl FromRequest<Arc<AppState>> for Batch {
    type Rejection = Error;

    async fn from_request(request: Request, state: &Arc<AppState>) -> Result<Self, Error> {
        let (mut parts, body) = request.into_parts();
        let caller = parts.extensions.remove::<AuthorizedCaller>();
        let RequestBytes { bytes, room } = body::BATCH.read(body).await?;
        let permit = work::begin(bytes.len()).await?;
        let most = caller.as_ref().map_or(usize::MAX, AuthorizedCaller::most_limits);
        let (most, reader) = (most.min(*CHECKS.end()), CheckReader::new(state));
        let mut items = work::parse(bytes, move |bytes| read_checks(bytes, most, &reader)).await?;
        // A check with an error counts as one, as a check of one limit does.
        let count =
            |item: &Result<CheckRequest, Error>| item.as_ref().map_or(1, CheckRequest::limit_count);
        let limits = items.iter().map(count).sum();
        if limits > most {
            let loc = vec![Place::Name("body"), Place::Name("checks")];
            return Err(too_many_limits(loc, most, limits));
        }
        if let Some(caller) = caller {
            caller.count_all(limits).await?;
            let authorize = |check: CheckRequest| check.authorize(Some(&caller));
            items = items.into_iter().map(|item| item.and_then(authorize)).collect();
        }
        Ok(Self { items, room, permit })
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
            "Decides up to 1,000 checks, with up to 1,000 limits, in one call, in their order, each as \
             if it was alone. A check that is denied, invalid or not decided does not change the \
             others: the answer has status 200, and each result has its own status.",
        )
        .response_with::<200, Json<BatchAnswer>, _>(|response| {
            openapi::with_headers(response, &headers::NO_STORE_DOCS)
                .description("The result of each check.")
                .example(BatchAnswer { results: example() })
        });
    let operation = openapi::with_overload(openapi::with_field_errors(operation));
    openapi::with_body_errors(operation, body::BATCH.max_bytes)
}

fn example() -> Vec<BatchResult> {
    let answer = |allowed, remaining, retry_after| CheckAnswer {
        allowed,
        remaining,
        reset_in_seconds: Seconds(Millis(60_000)),
        retry_after,
    };
    let result = |answer| {
        let answer = AnyAnswer::One(answer);
        BatchResult::Decided(DecidedResult { status: 200, source: "redis", answer })
    };
    [answer(true, 99, None), answer(false, 0, Some(Seconds(Millis(600))))].map(result).into()
}
