//! Returns the state of a quota, and takes nothing.

use std::sync::Arc;

use aide::{
    OperationInput, generate::GenContext, openapi::Operation, transform::TransformOperation,
};
use axum::{
    Json,
    extract::{FromRequestParts, Query, State},
    http::request::Parts,
    response::{IntoResponse, Response},
};
use limiter::Algorithm;
use schemars::JsonSchema;
use serde::Serialize;
use store::{Millis, QuotaRule};

use super::path;
use crate::{
    error::Error,
    headers, openapi,
    request::{
        field_error::Place,
        quota::{AlgorithmName, QuotaSchema},
        value,
    },
    seconds::Seconds,
    state::AppState,
};

/// The quota to read.
#[derive(Debug)]
pub(crate) struct StatusRequest {
    identifier: String,
    quota: QuotaRule,
}

/// The state of a quota.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StatusAnswer {
    /// The identifier.
    pub(crate) identifier: String,
    /// Used units; with the remaining units they add up to `limit`.
    pub(crate) requests_used: u64,
    /// The capacity: the most units that can be taken at once.
    pub(crate) limit: u64,
    /// The length of the window in seconds; that of the present window if windows differ in length.
    pub(crate) window_seconds: Seconds,
    /// The algorithm.
    #[serde(serialize_with = "AlgorithmName::serialize")]
    #[schemars(with = "AlgorithmName")]
    pub(crate) algorithm: Algorithm,
    /// Seconds until nothing is used.
    pub(crate) reset_in_seconds: Seconds,
}

/// `GET /rate-limit/status/{identifier}`
pub(crate) async fn status(
    State(state): State<Arc<AppState>>,
    StatusRequest { identifier, quota }: StatusRequest,
) -> Result<Response, Error> {
    let decision = state.store.peek(&identifier, &quota).await;
    let loc = vec![Place::Name("query")];
    let decision = decision.map_err(|error| Error::of_store(error, loc, &quota, 1))?;
    let source = headers::of_source(decision.source);
    let headers = (headers::of_decision(&quota, 1, &decision), source);
    let answer = Json(StatusAnswer {
        identifier,
        requests_used: decision.capacity.saturating_sub(decision.remaining),
        limit: decision.capacity,
        window_seconds: Seconds(decision.window.ok_or(Error::Internal)?),
        algorithm: quota.algorithm(),
        reset_in_seconds: Seconds(decision.reset_after),
    });
    Ok((headers, answer).into_response())
}

impl FromRequestParts<Arc<AppState>> for StatusRequest {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Error> {
        let mut fields = path::fields(parts).await?;
        let identifier = fields.required("identifier", value::identifier);
        fields.continue_with_query(parts.uri.query());
        let quota = fields.quota(state.defaults);
        let request = quota.and_then(|quota| Ok(Self { identifier: identifier?, quota }));
        fields.finish(request)
    }
}

impl OperationInput for StatusRequest {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        path::describe(context, operation);
        Query::<QuotaSchema>::operation_input(context, operation);
    }
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("status")
        .tag("rate limit")
        .summary("Read a quota")
        .description("Takes nothing and writes nothing. Give the same quota as for the checks.")
        .response_with::<200, Json<StatusAnswer>, _>(|response| {
            openapi::with_headers(response, &headers::DECISION_DOCS)
                .with(|response| openapi::with_headers(response, &[headers::SOURCE_DOCS]))
                .description("The state of the quota.")
                .example(StatusAnswer {
                    identifier: "user_123".to_owned(),
                    requests_used: 55,
                    limit: 100,
                    window_seconds: Seconds(Millis(60_000)),
                    algorithm: Algorithm::TokenBucket,
                    reset_in_seconds: Seconds(Millis(32_800)),
                })
        });
    openapi::with_store_errors(operation)
}
