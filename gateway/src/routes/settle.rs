//! Corrects the estimates of a reservation, once.

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
use store::{Argument, SettleRequest, SettledLimit, StoreError};

use super::{body, completion::complete, reserve::invalid_field};
use crate::{
    error::{Error, ErrorBody},
    headers, openapi,
    request::{
        field_error::BrokenRule,
        fields::{Fields, Invalid},
        quota::{AlgorithmName, default_algorithm},
        quota_fields::LIMITS,
        reservation::{self, ACTUAL, MAX_RESERVATION_BYTES},
        value::MAX_IDENTIFIER_BYTES,
    },
    state::AppState,
};

/// The settlement in a body.
#[derive(Debug)]
pub(crate) struct SettleBody(SettleRequest);

/// The schema of a request for a settlement.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes the fields; their values are read into a SettleRequest")]
#[schemars(rename = "SettleRequest", example = json!({
    "reservation": "request-42", "identifier": "tenant_7", "limits": [
        { "algorithm": "token_bucket", "actual": 1234 },
        { "algorithm": "fixed_window", "actual": 1234 },
    ]
}))]
struct SettleSchema {
    /// The name of the reservation.
    #[schemars(length(min = 1, max = MAX_RESERVATION_BYTES), regex(pattern = r"^[!-z|~]+$"))]
    reservation: String,
    /// The identifier of limits that leave it out: 1 to 256 bytes.
    #[schemars(length(min = 1, max = MAX_IDENTIFIER_BYTES))]
    identifier: Option<String>,
    /// The limits of the reservation, in the same order.
    #[schemars(length(min = *LIMITS.start(), max = *LIMITS.end()))]
    limits: Vec<SettleLimitSchema>,
}

/// One limit of a reservation.
#[derive(Debug, JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "describes the fields; their values are read into a SettledLimit")]
struct SettleLimitSchema {
    /// The identifier; that of the whole request when left out.
    #[schemars(length(min = 1, max = MAX_IDENTIFIER_BYTES))]
    identifier: Option<String>,
    /// The algorithm.
    #[schemars(with = "Option<AlgorithmName>", default = "default_algorithm")]
    algorithm: Option<Algorithm>,
    /// The units that were used. Either all limits have it, or none; then the estimates stand.
    #[schemars(range(min = *ACTUAL.start(), max = *ACTUAL.end()))]
    actual: Option<u32>,
}

/// The corrections of a reservation.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SettleAnswer {
    /// The name of the reservation.
    reservation: String,
    /// The correction of each limit, in their order.
    limits: Vec<SettleLimit>,
}

/// The correction of one limit.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct SettleLimit {
    /// The identifier.
    identifier: String,
    /// The algorithm.
    #[serde(serialize_with = "AlgorithmName::serialize")]
    #[schemars(with = "AlgorithmName")]
    algorithm: Algorithm,
    /// Units that were taken; negative for units that were given back.
    correction: i64,
}

/// `POST /rate-limit/settle`
pub(crate) async fn settle(
    State(state): State<Arc<AppState>>,
    SettleBody(request): SettleBody,
) -> Result<Response, Error> {
    let (request, settled) = complete(async move {
        let settled = state.store.settle(&request).await;
        (request, settled)
    })
    .await?;
    let settlement = settled.map_err(|error| invalid(error, &request))?;
    let corrections = settlement.corrections.ok_or(Error::NoReservation)?;
    let SettleRequest { reservation, limits, .. } = request;
    let limit = |(SettledLimit { identifier, algorithm }, correction)| SettleLimit {
        identifier,
        algorithm,
        correction,
    };
    let limits = limits.into_iter().zip(corrections).map(limit).collect();
    let answer = Json(SettleAnswer { reservation, limits });
    Ok((headers::of_source(settlement.source), headers::NO_STORE, answer).into_response())
}

/// Returns the error when the store has not settled a reservation.
fn invalid(error: StoreError, request: &SettleRequest) -> Error {
    let StoreError::Refused { argument, rule } = error else {
        return Error::without_answer(&error);
    };
    match argument {
        Argument::Reservation => Error::ReservationDiffers,
        Argument::Identifiers => {
            let identifiers = request.limits.iter().map(|limit| limit.identifier.as_str());
            invalid_field("limits", &rule, json!(identifiers.collect::<Vec<_>>()))
        }
        // A settlement has no such argument.
        Argument::Limit
        | Argument::Window
        | Argument::Capacity
        | Argument::Cost
        | Argument::Leases => Error::Internal,
    }
}

fn read(fields: &mut Fields<'_>) -> Result<SettleRequest, Invalid> {
    let reservation = fields.required("reservation", reservation::reservation);
    let limits = reservation::settled_limits(fields)?;
    let count = limits.iter().filter(|(_, actual)| actual.is_some()).count();
    if count > 0 && count < limits.len() {
        let rule = "Value error, all limits have actual, or none has";
        return Err(fields.add_error("limits", BrokenRule::new("value_error", rule)));
    }
    let (limits, actual): (_, Vec<_>) = limits.into_iter().unzip();
    // Without any, the collection of some is none.
    let actual = actual.into_iter().collect();
    Ok(SettleRequest { reservation: reservation?, limits, actual })
}

impl FromRequest<Arc<AppState>> for SettleBody {
    type Rejection = Error;

    async fn from_request(request: Request, _: &Arc<AppState>) -> Result<Self, Error> {
        body::SINGLE.read_fields(request.into_body(), read).await.map(Self)
    }
}

impl OperationInput for SettleBody {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Json::<SettleSchema>::operation_input(context, operation);
    }
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("settle")
        .tag("reservations")
        .summary("Settle a reservation")
        .description(
            "Corrects the estimates of a reservation by what was used, once, and deletes the \
             reservation. Units below an estimate are given back where they still count, and \
             units above it are taken also beyond the limit.",
        )
        .response_with::<200, Json<SettleAnswer>, _>(|response| {
            openapi::with_headers(response, &headers::NO_STORE_DOCS)
                .with(|response| openapi::with_headers(response, &[headers::SOURCE_DOCS]))
                .description("The corrections.")
                .example(SettleAnswer {
                    reservation: "request-42".to_owned(),
                    limits: vec![SettleLimit {
                        identifier: "tenant_7".to_owned(),
                        algorithm: Algorithm::TokenBucket,
                        correction: -766,
                    }],
                })
        })
        .response_with::<404, Json<ErrorBody>, _>(|response| {
            response
                .description("No such reservation: settled before, or ended. Both are final.")
                .example(Error::NoReservation.body())
        })
        .response_with::<409, Json<ErrorBody>, _>(|response| {
            response
                .description("The reservation has other limits.")
                .example(Error::ReservationDiffers.body())
        });
    openapi::with_body_errors(openapi::with_store_errors(operation), body::SINGLE.max_bytes)
}
