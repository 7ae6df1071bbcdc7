//! Whether the service lives, and whether it can decide.

use std::sync::Arc;

use aide::transform::TransformOperation;
use axum::{Json, extract::State, http::StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use store::{LastFailure, StoreError};

use crate::state::AppState;

/// The service's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A failure of Redis.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Failure {
    /// Its kind, as in the log and in `ratelimit_redis_errors_total`.
    #[schemars(extend("enum" = store::error_kinds().collect::<Vec<_>>()))]
    pub(crate) kind: &'static str,
    /// Whole seconds since then.
    pub(crate) seconds_ago: u64,
}

/// Whether the service can decide.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct HealthAnswer {
    /// `healthy` when Redis answers and has the module, or is not needed; else `unhealthy`.
    /// `/health/ready` alone also says `degraded` when FAIL_MODE decides instead of Redis, and
    /// `stopping` when the process is about to end.
    #[schemars(extend("enum" = ["healthy", "unhealthy", "degraded", "stopping"]))]
    pub(crate) status: &'static str,
    /// Whether Redis answers.
    pub(crate) redis_connected: bool,
    /// The service's version.
    pub(crate) version: &'static str,
    /// Where states are kept: `redis`, or `memory` with `REDIS_URL=memory://`.
    #[schemars(extend("enum" = ["redis", "memory"]))]
    pub(crate) store: &'static str,
    /// The last failure of Redis, also when it is over; null when there was none since the start.
    pub(crate) last_failure: Option<Failure>,
}

/// That the process runs.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LiveAnswer {
    /// Always `alive`.
    pub(crate) status: &'static str,
}

/// `GET /health`
pub(crate) async fn health(State(state): State<Arc<AppState>>) -> (StatusCode, Json<HealthAnswer>) {
    probe(&state).await
}

/// `GET /health/ready`
///
/// Where FAIL_MODE decides without Redis, an instance that cannot reach it is as ready as any: if
/// all of them said otherwise, load balancers would leave nobody to decide.
pub(crate) async fn ready(State(state): State<Arc<AppState>>) -> (StatusCode, Json<HealthAnswer>) {
    let (code, Json(answer)) = probe(&state).await;
    if state.stopping.has_begun() {
        let stopping = HealthAnswer { status: "stopping", ..answer };
        return (StatusCode::SERVICE_UNAVAILABLE, Json(stopping));
    }
    if code != StatusCode::OK && state.store.decides_without_redis() {
        return (StatusCode::OK, Json(HealthAnswer { status: "degraded", ..answer }));
    }
    (code, Json(answer))
}

async fn probe(state: &AppState) -> (StatusCode, Json<HealthAnswer>) {
    let is_redis = state.store.is_redis();
    let store = if is_redis { "redis" } else { "memory" };
    let (code, status, redis_connected) = match state.store.probe().await {
        Ok(()) => (StatusCode::OK, "healthy", is_redis),
        Err(StoreError::Unavailable { connected }) => {
            (StatusCode::SERVICE_UNAVAILABLE, "unhealthy", connected)
        }
        Err(StoreError::Overloaded | StoreError::Refused { .. }) => {
            (StatusCode::SERVICE_UNAVAILABLE, "unhealthy", true)
        }
    };
    // After the probe, which can be the last failure itself.
    let last_failure = state
        .store
        .last_failure()
        .map(|LastFailure { kind, age }| Failure { kind, seconds_ago: age.as_secs() });
    (code, Json(HealthAnswer { status, redis_connected, version: VERSION, store, last_failure }))
}

/// `GET /health/live`
pub(crate) async fn live() -> Json<LiveAnswer> {
    Json(LiveAnswer { status: "alive" })
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    with_answers(operation.id("health").summary("Whether the service can decide"))
}

pub(crate) fn ready_docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    with_answers(operation.id("ready").summary("Whether to send requests here"))
}

pub(crate) fn live_docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation.id("live").tag("health").summary("Whether the process runs");
    operation.response_with::<200, Json<LiveAnswer>, _>(|response| {
        response.description("It does.").example(LiveAnswer { status: "alive" })
    })
}

fn with_answers(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let answer = |status, redis_connected, last_failure| HealthAnswer {
        status,
        redis_connected,
        version: VERSION,
        store: "redis",
        last_failure,
    };
    let failure = Failure { kind: "disconnected", seconds_ago: 0 };
    operation
        .tag("health")
        .response_with::<200, Json<HealthAnswer>, _>(|response| {
            response
                .description("Redis answers and has the module, or is not needed.")
                .example(answer("healthy", true, None))
        })
        .response_with::<503, Json<HealthAnswer>, _>(|response| {
            response
                .description("Redis does not answer or does not have the module.")
                .example(answer("unhealthy", false, Some(failure)))
        })
}
