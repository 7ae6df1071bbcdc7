//! Lists the leases of an identifier.

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
use schemars::JsonSchema;
use serde::Serialize;
use store::{HeldLease, ListedLease, Millis};

use super::path;
use crate::{
    error::Error,
    headers, openapi,
    request::{
        lease::{self, FENCE, LIST_COUNT},
        value,
    },
    seconds::Seconds,
    state::AppState,
};

/// The leases to list.
#[derive(Debug)]
pub(crate) struct ListRequest {
    identifier: String,
    count: u32,
}

/// The query of a list.
#[derive(JsonSchema)]
#[schemars(inline)]
struct ListQuery {
    /// Maximum number of leases.
    #[expect(dead_code, reason = "describes the parameter; its value is read into Fields")]
    #[schemars(range(min = *LIST_COUNT.start(), max = *LIST_COUNT.end()), default = "hundred")]
    count: u32,
}

/// The live leases of an identifier.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LeaseListAnswer {
    /// The identifier.
    identifier: String,
    /// The leases, the first to expire first.
    leases: Vec<LeaseEntry>,
    /// The number of leases in this answer.
    count: usize,
    /// True when there are more leases than this answer has.
    truncated: bool,
}

/// A lease in a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct LeaseEntry {
    /// The name of the lease.
    lease: String,
    /// Units that the lease takes.
    cost: u32,
    /// The fence of the lease.
    #[schemars(range(min = *FENCE.start(), max = *FENCE.end()))]
    fence: u64,
    /// Seconds until the lease expires, rounded down.
    expires_in_seconds: Seconds,
}

/// `GET /rate-limit/leases/{identifier}`
pub(crate) async fn list(
    State(state): State<Arc<AppState>>,
    ListRequest { identifier, count }: ListRequest,
) -> Result<Response, Error> {
    // One more than are listed shows that there are more.
    let list = state.store.leases(&identifier, count + 1).await;
    let list = list.map_err(|error| Error::without_answer(&error))?;
    let truncated = list.leases.len() > count as usize;
    let leases: Vec<_> =
        list.leases.into_iter().take(count as usize).map(LeaseEntry::from).collect();
    let count = leases.len();
    let answer = Json(LeaseListAnswer { identifier, leases, count, truncated });
    Ok((headers::of_source(list.source), headers::NO_STORE, answer).into_response())
}

impl From<ListedLease> for LeaseEntry {
    fn from(entry: ListedLease) -> Self {
        let ListedLease { holder, cost, lease: HeldLease { fence, ends_in } } = entry;
        // Only other clients of Redis have holders that are no text.
        let lease = String::from_utf8_lossy(&holder).into_owned();
        Self { lease, cost, fence, expires_in_seconds: Seconds(ends_in) }
    }
}

impl FromRequestParts<Arc<AppState>> for ListRequest {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<AppState>) -> Result<Self, Error> {
        let mut fields = path::fields(parts).await?;
        let identifier = fields.required("identifier", value::identifier);
        fields.continue_with_query(parts.uri.query());
        let count = fields.optional("count", lease::list_count);
        let request = identifier
            .and_then(|identifier| Ok(Self { identifier, count: count?.unwrap_or_else(hundred) }));
        fields.finish(request)
    }
}

impl OperationInput for ListRequest {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        path::describe(context, operation);
        Query::<ListQuery>::operation_input(context, operation);
    }
}

/// The count of a request that leaves it out.
fn hundred() -> u32 {
    100
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("list_leases")
        .tag("leases")
        .summary("List the leases of an identifier")
        .description("The live leases, the first to expire first. Takes and writes nothing.")
        .response_with::<200, Json<LeaseListAnswer>, _>(|response| {
            let entry = LeaseEntry {
                lease: "job-42".to_owned(),
                cost: 1,
                fence: 1_800_014_400_000_000,
                expires_in_seconds: Seconds(Millis(12_500)),
            };
            openapi::with_headers(response, &headers::NO_STORE_DOCS)
                .with(|response| openapi::with_headers(response, &[headers::SOURCE_DOCS]))
                .description("The leases.")
                .example(LeaseListAnswer {
                    identifier: "tenant_7".to_owned(),
                    leases: vec![entry],
                    count: 1,
                    truncated: false,
                })
        });
    openapi::with_store_errors(operation)
}
