//! Returns units that were taken and not used.

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
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use store::Refund;

use super::{body, completion::complete};
use crate::{
    error::Error,
    headers, openapi,
    request::{
        fields::{Fields, Invalid},
        quota::{AlgorithmName, UNITS},
        value::{self, MAX_IDENTIFIER_BYTES},
    },
    state::AppState,
};

/// The refund in a body.
#[derive(Debug)]
pub(crate) struct RefundRequest(Refund);

/// The schema of a refund.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes the fields; their values are read into a Refund")]
#[schemars(rename = "RefundRequest", example = json!({ "identifier": "user_123", "amount": 5 }))]
struct RefundSchema {
    /// The identifier of the object that is limited: 1 to 256 bytes.
    #[schemars(length(min = 1, max = MAX_IDENTIFIER_BYTES))]
    identifier: String,
    /// The algorithm.
    #[schemars(with = "AlgorithmName", default = "token_bucket")]
    algorithm: Algorithm,
    /// Units to return at most.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()), default = "one")]
    amount: u32,
}

/// The units that were returned.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RefundAnswer {
    /// At most the amount, and at most the units that count now.
    refunded: u32,
}

/// `POST /rate-limit/refund`
pub(crate) async fn refund(
    State(state): State<Arc<AppState>>,
    RefundRequest(refund): RefundRequest,
) -> Result<Response, Error> {
    // The bounds of an amount are those of the module, so the module never refuses it.
    let refunded = complete(async move { state.store.refund(&refund).await }).await?;
    let refunded = refunded.map_err(|error| Error::without_answer(&error))?;
    let answer = Json(RefundAnswer { refunded: refunded.units });
    Ok((headers::of_source(refunded.source), answer).into_response())
}

fn read(fields: &mut Fields<'_>) -> Result<Refund, Invalid> {
    let identifier = fields.required("identifier", value::identifier);
    let algorithm = fields.optional("algorithm", value::algorithm);
    let amount = fields.optional("amount", value::units);
    Ok(Refund {
        identifier: identifier?,
        algorithm: algorithm?.unwrap_or(token_bucket()),
        amount: amount?.unwrap_or(Units::MIN),
    })
}

impl FromRequest<Arc<AppState>> for RefundRequest {
    type Rejection = Error;

    async fn from_request(request: Request, _: &Arc<AppState>) -> Result<Self, Error> {
        let body = body::SINGLE.read(request.into_body()).await?;
        let mut fields = Fields::from_body(&body.bytes)?;
        let refund = read(&mut fields);
        fields.finish(refund).map(Self)
    }
}

impl OperationInput for RefundRequest {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Json::<RefundSchema>::operation_input(context, operation);
    }
}

/// The algorithm of a refund that leaves it out.
fn token_bucket() -> Algorithm {
    Algorithm::TokenBucket
}

/// The amount of a refund that leaves it out.
fn one() -> u32 {
    1
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("refund")
        .tag("rate limit")
        .summary("Return units")
        .description(
            "Returns units that were taken and not used: at most those that still count, of a \
             sliding window the newest first.",
        )
        .response_with::<200, Json<RefundAnswer>, _>(|response| {
            openapi::with_headers(response, &[headers::SOURCE_DOCS])
                .description("The units that were returned; 0 when nothing counts.")
                .example(RefundAnswer { refunded: 5 })
        });
    openapi::with_body_errors(openapi::with_store_errors(operation), body::SINGLE.max_bytes)
}
