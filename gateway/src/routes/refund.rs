//! Gives back units that were taken and not used after all.

use std::sync::Arc;

use aide::{
    OperationInput, generate::GenContext, openapi::Operation, transform::TransformOperation,
};
use axum::{
    Json,
    extract::{FromRequest, Request, State},
    response::{IntoResponse, Response},
};
use limiter::Algorithm;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use store::Refund;

use super::{body, completion::complete};
use crate::{
    error::Error,
    headers, openapi,
    request::fields::{Fields, Invalid},
    request::quota::{AlgorithmName, UNITS},
    request::value::{self, MAX_IDENTIFIER_BYTES},
    state::AppState,
};

/// What to give back to whom.
#[derive(Debug, JsonSchema)]
#[schemars(example = json!({ "identifier": "user_123", "amount": 5 }))]
pub(crate) struct RefundRequest {
    /// What is limited: 1 to 256 bytes.
    #[schemars(length(min = 1, max = MAX_IDENTIFIER_BYTES))]
    identifier: String,
    /// How its grants are counted.
    #[schemars(with = "AlgorithmName", default = "token_bucket")]
    algorithm: Algorithm,
    /// Most units to give back.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()), default = "one")]
    amount: u32,
}

/// What was given back.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RefundAnswer {
    /// Units: at most the amount, and at most those that count now.
    refunded: u32,
}

/// `POST /rate-limit/refund`
pub(crate) async fn refund(
    State(state): State<Arc<AppState>>,
    RefundRequest { identifier, algorithm, amount }: RefundRequest,
) -> Result<Response, Error> {
    let refund = Refund { identifier, algorithm, amount };
    // The module's rules for an amount are those of this service: it refuses none.
    let refunded = complete(async move { state.store.refund(&refund).await }).await?;
    let refunded = refunded.map_err(|error| Error::without_answer(&error))?;
    let answer = Json(RefundAnswer { refunded: refunded.units });
    Ok((headers::of_source(refunded.source), answer).into_response())
}

impl RefundRequest {
    fn read(fields: &mut Fields<'_>) -> Result<Self, Invalid> {
        let identifier = fields.required("identifier", value::identifier);
        let algorithm = fields.optional("algorithm", value::algorithm);
        let amount = fields.optional("amount", value::units);
        Ok(Self {
            identifier: identifier?,
            algorithm: algorithm?.unwrap_or(token_bucket()),
            amount: amount?.unwrap_or(one()),
        })
    }
}

impl FromRequest<Arc<AppState>> for RefundRequest {
    type Rejection = Error;

    async fn from_request(request: Request, _: &Arc<AppState>) -> Result<Self, Error> {
        let body = body::SINGLE.read(request.into_body()).await?;
        let mut fields = Fields::from_body(&body.bytes)?;
        let request = Self::read(&mut fields);
        fields.finish(request)
    }
}

impl OperationInput for RefundRequest {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Json::<Self>::operation_input(context, operation);
    }
}

/// The algorithm of a call that names none.
fn token_bucket() -> Algorithm {
    Algorithm::TokenBucket
}

/// The amount of a call that names none.
fn one() -> u32 {
    1
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("refund")
        .tag("rate limit")
        .summary("Give units back")
        .description(
            "Gives back units that were taken and not used after all: at most those that still \
             count, of a sliding window the newest first.",
        )
        .response_with::<200, Json<RefundAnswer>, _>(|response| {
            openapi::with_headers(response, &[headers::SOURCE_DOCS])
                .description("What was given back; 0 when nothing counts.")
                .example(RefundAnswer { refunded: 5 })
        });
    openapi::with_body_errors(openapi::with_store_errors(operation), body::SINGLE.max_bytes)
}
