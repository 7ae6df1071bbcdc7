//! Lists the identifiers with the most recent denials.

use std::sync::Arc;

use aide::{
    OperationInput, generate::GenContext, openapi::Operation, transform::TransformOperation,
};
use axum::{
    Json,
    extract::{FromRequestParts, Query, State},
    http::{HeaderName, HeaderValue, request::Parts},
};
use limiter::Algorithm;
use schemars::JsonSchema;
use serde::Serialize;
use store::{DeniedIdentifier, LimitKind};

use crate::{
    error::Error,
    headers, openapi,
    request::{
        fields::Fields,
        quota::LimitKindName,
        value::{self, TOP_COUNT},
    },
    state::AppState,
};

/// The number of identifiers to list.
#[derive(Debug, JsonSchema)]
pub(crate) struct TopRequest {
    /// Maximum number of identifiers.
    #[schemars(range(min = *TOP_COUNT.start(), max = *TOP_COUNT.end()), default = "ten")]
    count: u32,
}

/// The identifiers that this instance denied most often lately.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TopAnswer {
    /// The most denials first, then by identifier.
    top: Vec<TopEntry>,
}

/// An identifier with its denials.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct TopEntry {
    /// The identifier; of limits and policies the key in Redis.
    identifier: String,
    /// The algorithm, or `concurrency` for leases.
    #[serde(serialize_with = "LimitKindName::serialize")]
    #[schemars(with = "LimitKindName")]
    algorithm: LimitKind,
    /// Recent denials. The number halves at every full minute.
    denied: u64,
}

/// `GET /rate-limit/top`
pub(crate) async fn top(
    State(state): State<Arc<AppState>>,
    TopRequest { count }: TopRequest,
) -> Result<([(HeaderName, HeaderValue); 1], Json<TopAnswer>), Error> {
    let top = state.store.top_denied(count as usize).map_err(|_| Error::Internal)?;
    let top = top.into_iter().map(TopEntry::from).collect();
    Ok((headers::NO_STORE, Json(TopAnswer { top })))
}

impl From<DeniedIdentifier> for TopEntry {
    fn from(entry: DeniedIdentifier) -> Self {
        let DeniedIdentifier { identifier, kind: algorithm, denied } = entry;
        Self { identifier, algorithm, denied }
    }
}

impl FromRequestParts<Arc<AppState>> for TopRequest {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<AppState>) -> Result<Self, Error> {
        let mut fields = Fields::from_query(parts.uri.query());
        let count = fields.optional("count", value::top_count);
        let request = count.map(|count| Self { count: count.unwrap_or_else(ten) });
        fields.finish(request)
    }
}

impl OperationInput for TopRequest {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Query::<Self>::operation_input(context, operation);
    }
}

/// The count of a request that leaves it out.
fn ten() -> u32 {
    10
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("top")
        .tag("rate limit")
        .summary("List the identifiers with the most denials")
        .description(
            "The identifiers that this instance denied most often lately: denials by Redis, by \
             the deny cache and by this process. For all instances, request this of each one and \
             add up. Denials halve at every full minute, and a reset deletes them.",
        )
        .response_with::<200, Json<TopAnswer>, _>(|response| {
            let entry = |identifier: &str, denied| TopEntry {
                identifier: identifier.to_owned(),
                algorithm: LimitKind::Quota(Algorithm::TokenBucket),
                denied,
            };
            openapi::with_headers(response, &headers::NO_STORE_DOCS)
                .description("The identifiers, the most denials first.")
                .example(TopAnswer { top: vec![entry("user_666", 9_995), entry("user_123", 11)] })
        });
    openapi::with_field_errors(operation)
}
