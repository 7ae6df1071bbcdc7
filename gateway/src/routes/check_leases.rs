//! Renews and releases the leases of a check by policy.

use std::sync::Arc;

use aide::{
    OperationInput, generate::GenContext, openapi::Operation, transform::TransformOperation,
};
use axum::{
    Json,
    extract::{FromRequest, Request, State},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use store::{LeaseKey, LeaseName};

use super::{body, held_leases::LeaseOfLimit, lease::ReleaseAnswer, policies::with_no_policies};
use crate::{
    error::{Error, ErrorBody},
    headers, openapi,
    release_token::{MAX_TOKEN_BYTES, ReleaseToken, TokenLease},
    request::{field_error::BrokenRule, fields::Fields, value},
    state::AppState,
};

/// The leases that a body names by a token.
#[derive(Debug)]
pub(crate) struct NamedLeases(ReleaseToken);

/// The schema of a body with a token.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "describes the field; its value is read into a ReleaseToken")]
#[schemars(rename = "CheckLeasesRequest", example = json!({
    "release": "1,job%2D42,api,flight,30000,1800014400000000,tenant_7"
}))]
struct TokenSchema {
    /// The token in the answer to the check.
    #[schemars(length(min = 1, max = MAX_TOKEN_BYTES))]
    release: String,
}

/// The renewed leases of a check.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RenewAllAnswer {
    /// The leases.
    leases: Vec<LeaseOfLimit>,
}

/// `PUT /rate-limit/leases`
pub(crate) async fn renew(
    State(state): State<Arc<AppState>>,
    NamedLeases(token): NamedLeases,
) -> Result<Response, Error> {
    let policies = state.policies.as_ref().ok_or(Error::NoPolicies)?.current();
    let mut leases = Vec::with_capacity(token.leases.len());
    for lease in &token.leases {
        let ttl = policies.lease_ttl(&lease.key, lease.ttl).ok_or(Error::LeaseLost)?;
        leases.push((name(&token, lease), ttl));
    }
    let renewals = state.store.renew_all(&leases).await;
    let renewals = renewals.map_err(|error| Error::without_answer(&error))?;
    let source = renewals.first().map(|renewal| headers::of_source(renewal.source));
    let renewed = token.leases.iter().zip(&renewals);
    let renewed =
        renewed.map(|(lease, renewal)| Some(LeaseOfLimit::new(&lease.key, renewal.lease?)));
    let leases = renewed.collect::<Option<_>>().ok_or(Error::LeaseLost)?;
    Ok((source, headers::NO_STORE, Json(RenewAllAnswer { leases })).into_response())
}

/// `DELETE /rate-limit/leases`
pub(crate) async fn release(
    State(state): State<Arc<AppState>>,
    NamedLeases(token): NamedLeases,
) -> Result<Response, Error> {
    let names: Vec<_> = token.leases.iter().map(|lease| name(&token, lease)).collect();
    let releases = state.store.release_all(&names).await;
    let releases = releases.map_err(|error| Error::without_answer(&error))?;
    let source = releases.first().map(|release| headers::of_source(release.source));
    let released = releases.iter().any(|release| release.is_released);
    Ok((source, headers::NO_STORE, Json(ReleaseAnswer { released })).into_response())
}

/// Returns the name of a lease in the store.
fn name(token: &ReleaseToken, lease: &TokenLease) -> LeaseName {
    let key = LeaseKey::Limit(lease.key.text());
    LeaseName { key, holder: token.holder, fence: Some(lease.fence) }
}

/// The fields of other requests, which would change the meaning of this one.
const OF_OTHER_REQUESTS: [&str; 8] =
    ["identifier", "lease", "limit", "cost", "ttl_seconds", "fence", "policy", "attributes"];

impl FromRequest<Arc<AppState>> for NamedLeases {
    type Rejection = Error;

    async fn from_request(request: Request, state: &Arc<AppState>) -> Result<Self, Error> {
        let policies = state.policies.as_ref().ok_or(Error::NoPolicies)?.current();
        let (parts, body) = request.into_parts();
        let body = body::SINGLE.read(body).await?;
        let mut fields = Fields::from_body(&body.bytes)?;
        let text = fields.required("release", |value| value::text(value, MAX_TOKEN_BYTES));
        let query = fields.refuse_other_parameters(parts.uri.query(), &[]);
        let other = fields.refuse(&OF_OTHER_REQUESTS, "the token names the leases");
        let token = text.and_then(|text| {
            query.and(other)?;
            ReleaseToken::read(&text, policies.hash_key())
                .ok_or_else(|| fields.add_error("release", no_token()))
        });
        fields.finish(token).map(Self)
    }
}

fn no_token() -> BrokenRule {
    let rule = "Value error, release must be the token of a check, of gateways with the same \
                IDENTITY_HASH_KEY";
    BrokenRule::new("value_error", rule)
}

impl OperationInput for NamedLeases {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        Json::<TokenSchema>::operation_input(context, operation);
    }
}

pub(crate) fn renew_docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("renew_leases")
        .tag("leases")
        .summary("Renew all leases of a check")
        .description(
            "Moves the end of each lease to the `ttl` of its limit from now, never back. Where a \
             lease is lost the others are renewed, and the answer has status 409.",
        )
        .response_with::<200, Json<RenewAllAnswer>, _>(|response| {
            openapi::with_headers(response, &headers::NO_STORE_DOCS)
                .with(|response| openapi::with_headers(response, &[headers::SOURCE_DOCS]))
                .description("The leases.")
                .example(RenewAllAnswer { leases: vec![LeaseOfLimit::example()] })
        })
        .response_with::<409, Json<ErrorBody>, _>(|response| {
            response
                .description("A lease has expired or was released, or its limit is in no policy.")
                .example(Error::LeaseLost.body())
        });
    let operation = with_no_policies(openapi::with_store_errors(operation));
    openapi::with_body_errors(operation, body::SINGLE.max_bytes)
}

pub(crate) fn release_docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("release_leases")
        .tag("leases")
        .summary("Release all leases of a check")
        .description("Their units can be taken again at once. Can be repeated.")
        .response_with::<200, Json<ReleaseAnswer>, _>(|response| {
            openapi::with_headers(response, &headers::NO_STORE_DOCS)
                .with(|response| openapi::with_headers(response, &[headers::SOURCE_DOCS]))
                .description("The leases do not exist any more.")
                .example(ReleaseAnswer { released: true })
        });
    let operation = with_no_policies(openapi::with_store_errors(operation));
    openapi::with_body_errors(operation, body::SINGLE.max_bytes)
}
