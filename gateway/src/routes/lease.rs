//! Renews and releases one lease.

use std::sync::Arc;

use aide::{
    OperationInput, generate::GenContext, openapi::Operation, transform::TransformOperation,
};
use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Query, Request, State},
    http::request::Parts,
    response::{IntoResponse, Response},
};
use limiter::Window;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use store::{HeldLease, LeaseKey, LeaseName, Millis};

use super::{body, leases::name, path};
use crate::{
    error::{Error, ErrorBody},
    headers, openapi,
    request::{
        fields::{Fields, Invalid},
        lease::{self, FENCE},
        value,
    },
    seconds::Seconds,
    state::AppState,
};

/// The renewal in a path and a body.
#[derive(Debug)]
pub(crate) struct RenewRequest {
    name: LeaseName,
    ttl: Window,
}

/// The release in a path and a query.
#[derive(Debug)]
pub(crate) struct ReleaseRequest(LeaseName);

/// The schema of the body of a renewal.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes the fields; their values are read into a RenewRequest")]
#[schemars(rename = "RenewRequest", example = json!({ "ttl_seconds": 30 }))]
struct RenewSchema {
    /// Seconds after which the lease expires, with at most three decimals. A lease that expires later
    /// already stays as it is.
    #[schemars(rename = "ttl_seconds", range(min = 0.001, max = 31_622_400))]
    ttl: Seconds,
    /// The fence of the lease; a lease with another fence counts as lost.
    #[schemars(range(min = *FENCE.start(), max = *FENCE.end()))]
    fence: Option<u64>,
}

/// The query of a release.
#[derive(JsonSchema)]
#[schemars(inline)]
struct ReleaseQuery {
    /// The fence of the lease; a lease with another fence is not released.
    #[expect(dead_code, reason = "describes the parameter; its value is read into Fields")]
    #[schemars(range(min = *FENCE.start(), max = *FENCE.end()))]
    fence: Option<u64>,
}

/// A renewed lease.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RenewAnswer {
    /// The name of the lease.
    lease: String,
    /// The fence of the lease.
    #[schemars(range(min = *FENCE.start(), max = *FENCE.end()))]
    fence: u64,
    /// Seconds until the lease expires, rounded down.
    expires_in_seconds: Seconds,
}

/// The answer to a release.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReleaseAnswer {
    /// True when there was a lease to release; false when it has expired, was released before, or has
    /// another fence.
    pub(super) released: bool,
}

/// `PUT /rate-limit/leases/{identifier}/{lease}`
pub(crate) async fn renew(
    State(state): State<Arc<AppState>>,
    RenewRequest { name: lease_name, ttl }: RenewRequest,
) -> Result<Response, Error> {
    let renewal = state.store.renew(&lease_name, ttl).await;
    let renewal = renewal.map_err(|error| Error::without_answer(&error))?;
    let HeldLease { fence, ends_in } = renewal.lease.ok_or(Error::LeaseLost)?;
    let lease = name(&lease_name.holder);
    let answer = Json(RenewAnswer { lease, fence, expires_in_seconds: Seconds(ends_in) });
    Ok((headers::of_source(renewal.source), headers::NO_STORE, answer).into_response())
}

/// `DELETE /rate-limit/leases/{identifier}/{lease}`
pub(crate) async fn release(
    State(state): State<Arc<AppState>>,
    ReleaseRequest(name): ReleaseRequest,
) -> Result<Response, Error> {
    let release = state.store.release(&name).await;
    let release = release.map_err(|error| Error::without_answer(&error))?;
    let answer = Json(ReleaseAnswer { released: release.is_released });
    Ok((headers::of_source(release.source), headers::NO_STORE, answer).into_response())
}

/// The fields of other requests, which would change the meaning of a renewal. The path has the
/// identifier and the lease.
const OF_OTHER_REQUESTS: [&str; 7] =
    ["identifier", "lease", "limit", "cost", "force", "policy", "attributes"];

/// Reads the name of a lease from a path. The fence is in the rest of the request.
fn read_name(fields: &mut Fields<'_>) -> Result<LeaseName, Invalid> {
    let identifier = fields.required("identifier", value::identifier);
    let holder = fields.required("lease", lease::lease);
    Ok(LeaseName { key: LeaseKey::Identifier(identifier?), holder: holder?, fence: None })
}

impl FromRequest<Arc<AppState>> for RenewRequest {
    type Rejection = Error;

    async fn from_request(request: Request, _: &Arc<AppState>) -> Result<Self, Error> {
        let (mut parts, body) = request.into_parts();
        let mut fields = path::fields(&mut parts).await?;
        let name = read_name(&mut fields);
        let query = fields.refuse_other_parameters(parts.uri.query(), &[]);
        let body = body::SINGLE.read(body).await?;
        fields.continue_with_body(&body.bytes)?;
        let ttl = fields.required("ttl_seconds", value::window);
        let fence = fields.optional("fence", lease::fence);
        let other = fields.refuse(&OF_OTHER_REQUESTS, "a renewal moves the end of a lease");
        let request = name.and_then(|name| {
            query.and(other)?;
            Ok(Self { name: LeaseName { fence: fence?, ..name }, ttl: ttl? })
        });
        fields.finish(request)
    }
}

impl FromRequestParts<Arc<AppState>> for ReleaseRequest {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<AppState>) -> Result<Self, Error> {
        let mut fields = path::fields(parts).await?;
        let name = read_name(&mut fields);
        let query = parts.uri.query();
        fields.continue_with_query(query);
        let fence = fields.optional("fence", lease::fence);
        let other = fields.refuse_other_parameters(query, &["fence"]);
        let request = name.and_then(|name| {
            other?;
            Ok(Self(LeaseName { fence: fence?, ..name }))
        });
        fields.finish(request)
    }
}

impl OperationInput for RenewRequest {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        path::describe_lease(context, operation);
        Json::<RenewSchema>::operation_input(context, operation);
    }
}

impl OperationInput for ReleaseRequest {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        path::describe_lease(context, operation);
        Query::<ReleaseQuery>::operation_input(context, operation);
    }
}

pub(crate) fn renew_docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("renew_lease")
        .tag("leases")
        .summary("Renew a lease")
        .description("Moves the end of a live lease to `ttl_seconds` from now, never back.")
        .response_with::<200, Json<RenewAnswer>, _>(|response| {
            openapi::with_headers(response, &headers::NO_STORE_DOCS)
                .with(|response| openapi::with_headers(response, &[headers::SOURCE_DOCS]))
                .description("The lease.")
                .example(RenewAnswer {
                    lease: "job-42".to_owned(),
                    fence: 1_800_014_400_000_000,
                    expires_in_seconds: Seconds(Millis(30_000)),
                })
        })
        .response_with::<409, Json<ErrorBody>, _>(|response| {
            response
                .description("The lease has expired, was released, or has another fence.")
                .example(Error::LeaseLost.body())
        });
    openapi::with_body_errors(openapi::with_store_errors(operation), body::SINGLE.max_bytes)
}

pub(crate) fn release_docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("release_lease")
        .tag("leases")
        .summary("Release a lease")
        .description("Its units can be taken again at once. Can be repeated.")
        .response_with::<200, Json<ReleaseAnswer>, _>(|response| {
            openapi::with_headers(response, &headers::NO_STORE_DOCS)
                .with(|response| openapi::with_headers(response, &[headers::SOURCE_DOCS]))
                .description("The lease does not exist any more.")
                .example(ReleaseAnswer { released: true })
        });
    openapi::with_store_errors(operation)
}
