//! Resets the quotas of an identifier, and ends its leases.

use std::sync::Arc;

use aide::{
    OperationInput, generate::GenContext, openapi::Operation, transform::TransformOperation,
};
use axum::{
    Json,
    extract::{FromRequestParts, Query, State},
    http::request::Parts,
};
use limiter::Algorithm;
use schemars::JsonSchema;
use serde::Serialize;
use store::{LimitKind, Store, StoreError};

use super::{completion::complete, path};
use crate::{
    error::{Error, ErrorBody},
    openapi,
    request::{quota::LimitKindName, value},
    state::AppState,
};

/// The quotas to reset.
#[derive(Debug)]
pub(crate) struct ResetRequest {
    identifier: String,
    target: Option<LimitKind>,
}

/// The query of a reset.
#[derive(JsonSchema)]
#[schemars(inline)]
struct ResetQuery {
    /// The algorithm whose quota is reset, or `concurrency` for the leases; all when left out.
    #[expect(dead_code, reason = "describes the parameter; its value is read into Fields")]
    #[schemars(with = "Option<LimitKindName>")]
    algorithm: Option<LimitKind>,
}

/// The answer to a reset.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ResetAnswer {
    /// A message for people.
    pub(crate) message: String,
}

/// `DELETE /rate-limit/reset/{identifier}`
pub(crate) async fn reset(
    State(state): State<Arc<AppState>>,
    ResetRequest { identifier, target }: ResetRequest,
) -> Result<Json<ResetAnswer>, Error> {
    let reset = ResetRequest { identifier: identifier.clone(), target };
    let done = complete(async move { reset.run(&state.store).await }).await?;
    let was_stored = done.map_err(|error| Error::without_answer(&error))?;
    if target.is_some() && !was_stored {
        return Err(Error::NothingStored(identifier));
    }
    Ok(Json(ResetAnswer { message: format!("Rate limit reset for {identifier}") }))
}

impl ResetRequest {
    /// Deletes the states. Returns true when there was one.
    async fn run(&self, store: &Store) -> Result<bool, StoreError> {
        match self.target {
            Some(LimitKind::Quota(algorithm)) => {
                return store.reset(&self.identifier, algorithm).await;
            }
            Some(LimitKind::Concurrency) => return store.reset_leases(&self.identifier).await,
            None => {}
        }
        // One command for each key, all at once, because a cluster can refuse one command with several
        // keys. If one fails, the others still run to their end: each resets its own key.
        let [bucket, log, window] = Algorithm::ALL.map(|each| store.reset(&self.identifier, each));
        let leases = store.reset_leases(&self.identifier);
        let (bucket, log, window, leases) = tokio::join!(bucket, log, window, leases);
        Ok(bucket? | log? | window? | leases?)
    }
}

impl FromRequestParts<Arc<AppState>> for ResetRequest {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<AppState>) -> Result<Self, Error> {
        let mut fields = path::fields(parts).await?;
        let identifier = fields.required("identifier", value::identifier);
        fields.continue_with_query(parts.uri.query());
        let target = fields.optional("algorithm", value::limit_kind);
        let request = target.and_then(|target| Ok(Self { identifier: identifier?, target }));
        fields.finish(request)
    }
}

impl OperationInput for ResetRequest {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        path::describe(context, operation);
        Query::<ResetQuery>::operation_input(context, operation);
    }
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation
        .id("reset")
        .tag("rate limit")
        .summary("Reset a quota")
        .description(
            "The whole quota can be taken again at once, and no holder has a lease any more.",
        )
        .response_with::<200, Json<ResetAnswer>, _>(|response| {
            response
                .description("Done.")
                .example(ResetAnswer { message: "Rate limit reset for user_123".to_owned() })
        })
        .response_with::<404, Json<ErrorBody>, _>(|response| {
            response
                .description("An algorithm was named and nothing was stored for it.")
                .example(Error::NothingStored("user_123".to_owned()).body())
        });
    openapi::with_store_errors(operation)
}
