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

use super::{
    body::{self, RequestBytes},
    completion::complete,
    explain::{PolicySchema, require_policy_or_attributes},
    policies::with_malformed_attributes,
    policy_states::{self, PolicyRefundAnswer},
};
use crate::{
    error::Error,
    headers, openapi,
    request::{
        fields::{Fields, Invalid},
        policy::CheckForm,
        quota::{AlgorithmName, DEFAULT_UNITS, UNITS, default_algorithm, default_units},
        value::{self, MAX_IDENTIFIER_BYTES},
    },
    state::AppState,
};

/// The refund in a body.
#[derive(Debug)]
pub(crate) enum RefundRequest {
    /// Units of an identifier.
    Inline(Refund),
    /// The units that the check with this body has taken, or this amount of each limit.
    Policy(RequestBytes, Option<Units>),
}

/// The schema of a refund.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes the fields; their values are read into a RefundRequest")]
#[schemars(rename = "AnyRefundRequest")]
#[serde(untagged)]
enum AnyRefundSchema {
    /// Units of an identifier.
    Inline(RefundSchema),
    /// The body of a check by policy: what it has taken is given back.
    Policy(PolicyRefundSchema),
}

/// The schema of a check by policy that has a policy or attributes.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes the fields; their values are read into a RefundRequest")]
#[schemars(inline, transform = require_policy_or_attributes)]
struct PolicyRefundSchema {
    #[serde(flatten)]
    check: PolicySchema,
    /// Units to return at most to each limit; what the check has taken when this is left out.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()))]
    amount: Option<u32>,
}

/// The units that were returned.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AnyRefundAnswer")]
#[expect(dead_code, reason = "describes both answers; each is serialized alone")]
#[serde(untagged)]
enum AnyRefundAnswer {
    /// Those of an identifier.
    Inline(RefundAnswer),
    /// Those of the limits of a policy.
    Policy(PolicyRefundAnswer),
}

/// The schema of a refund.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes the fields; their values are read into a Refund")]
#[schemars(rename = "RefundRequest", example = json!({ "identifier": "user_123", "amount": 5 }))]
struct RefundSchema {
    /// The identifier of the object that is limited: 1 to 256 bytes.
    #[schemars(length(min = 1, max = MAX_IDENTIFIER_BYTES))]
    identifier: String,
    /// The algorithm.
    #[schemars(with = "Option<AlgorithmName>", default = "default_algorithm")]
    algorithm: Option<Algorithm>,
    /// Units to return at most.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()), default = "default_units")]
    amount: Option<u32>,
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
    request: RefundRequest,
) -> Result<Response, Error> {
    let refund = match request {
        RefundRequest::Inline(refund) => refund,
        RefundRequest::Policy(body, amount) => {
            return policy_states::refund(state, &body.bytes, amount).await;
        }
    };
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
    if !fields.has("amount") {
        fields.refuse(&["cost"], "the units of a refund are amount")?;
    }
    Ok(Refund {
        identifier: identifier?,
        algorithm: algorithm?.unwrap_or(default_algorithm()),
        amount: amount?.unwrap_or(DEFAULT_UNITS),
    })
}

impl FromRequest<Arc<AppState>> for RefundRequest {
    type Rejection = Error;

    async fn from_request(request: Request, state: &Arc<AppState>) -> Result<Self, Error> {
        let body = body::SINGLE.read(request.into_body()).await?;
        let mut fields = Fields::from_body(&body.bytes)?;
        match fields.check_form(state.policies.is_some()) {
            Err(Invalid) => fields.finish(Err(Invalid)),
            Ok(CheckForm::Policy) => {
                let amount = fields.optional("amount", value::units);
                let amount = fields.finish(amount)?;
                Ok(Self::Policy(body, amount))
            }
            Ok(CheckForm::Inline | CheckForm::Neither) => {
                let refund = read(&mut fields);
                fields.finish(refund).map(Self::Inline)
            }
        }
    }
}

impl OperationInput for RefundRequest {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Json::<AnyRefundSchema>::operation_input(context, operation);
    }
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("refund")
        .tag("rate limit")
        .summary("Return units")
        .description(
            "Returns units that were taken and not used: at most those that still count, of a \
             sliding window the newest first. With `policy` or `attributes` the body is that of a \
             check by policy, and what that check has taken is given back.",
        )
        .response_with::<200, Json<AnyRefundAnswer>, _>(|response| {
            openapi::with_headers(response, &[headers::SOURCE_DOCS])
                .description("The units that were returned; 0 when nothing counts.")
                .example(AnyRefundAnswer::Inline(RefundAnswer { refunded: 5 }))
        });
    let operation = with_malformed_attributes(operation);
    openapi::with_body_errors(openapi::with_store_errors(operation), body::SINGLE.max_bytes)
}
