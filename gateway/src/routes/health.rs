//! The health of the service, for probes.

use std::sync::Arc;

use aide::transform::TransformOperation;
use axum::{Json, extract::State, http::StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use store::{LastFailure, StoreError};

use crate::{policy_file::state::FileState, state::AppState};

/// The version of the service.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A failure of Redis.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Failure {
    /// The kind of the error, as in the log and in `ratelimit_redis_errors_total`.
    #[schemars(extend("enum" = store::error_kinds().collect::<Vec<_>>()))]
    pub(crate) kind: &'static str,
    /// Whole seconds since the failure.
    pub(crate) seconds_ago: u64,
}

/// The health of the service.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct HealthAnswer {
    /// `healthy` when Redis answers and has the module, or when Redis is not needed; else
    /// `unhealthy`. Only `/health/ready` has `degraded`, when FAIL_MODE decides instead of Redis, and
    /// `stopping`, when the process is about to end.
    #[schemars(extend("enum" = ["healthy", "unhealthy", "degraded", "stopping"]))]
    pub(crate) status: &'static str,
    /// True when Redis answers.
    pub(crate) redis_connected: bool,
    /// The version of the service.
    pub(crate) version: &'static str,
    /// The place of states: `redis`, or `memory` with `REDIS_URL=memory://`.
    #[schemars(extend("enum" = ["redis", "memory"]))]
    pub(crate) store: &'static str,
    /// The last failure of Redis since the start, also when Redis has recovered; null without one.
    pub(crate) last_failure: Option<Failure>,
    /// The file of policies; null without POLICIES_FILE. No fault of the file changes `status`.
    pub(crate) policies: Option<PoliciesHealth>,
}

/// The file of policies.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct PoliciesHealth {
    /// The version in force: 12 hexadecimal digits of the SHA-256 of the file.
    pub(crate) version: String,
    /// True if the present content of the file has an error and is not in force, and if Redis refuses a
    /// limit in force. `GET /policies` has the error.
    pub(crate) fault: bool,
}

/// The answer of a process that runs.
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
/// Where FAIL_MODE decides without Redis, an instance that cannot reach Redis is ready. If all
/// instances were not ready, load balancers would send requests to none of them.
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
        Err(StoreError::Overloaded | StoreError::Internal | StoreError::Refused { .. }) => {
            (StatusCode::SERVICE_UNAVAILABLE, "unhealthy", true)
        }
    };
    // Read after the probe, because the probe can be the last failure.
    let last_failure = state
        .store
        .last_failure()
        .map(|LastFailure { kind, age }| Failure { kind, seconds_ago: age.as_secs() });
    let policies = state.policies.as_ref().map(|file| {
        let FileState { policies, fault, .. } = file.state();
        PoliciesHealth { version: policies.version().to_owned(), fault: fault.is_some() }
    });
    let version = VERSION;
    let answer = HealthAnswer { status, redis_connected, version, store, last_failure, policies };
    (code, Json(answer))
}

/// `GET /health/live`
pub(crate) async fn live() -> Json<LiveAnswer> {
    Json(LiveAnswer { status: "alive" })
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    with_answers(operation.id("health").summary("Test if the service can decide"))
}

pub(crate) fn ready_docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    with_answers(operation.id("ready").summary("Test if load balancers should send requests"))
}

pub(crate) fn live_docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation.id("live").tag("health").summary("Test if the process runs");
    operation.response_with::<200, Json<LiveAnswer>, _>(|response| {
        response.description("The process runs.").example(LiveAnswer { status: "alive" })
    })
}

fn with_answers(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let answer = |status, redis_connected, last_failure| HealthAnswer {
        status,
        redis_connected,
        version: VERSION,
        store: "redis",
        last_failure,
        policies: None,
    };
    let failure = Failure { kind: "disconnected", seconds_ago: 0 };
    operation
        .tag("health")
        .response_with::<200, Json<HealthAnswer>, _>(|response| {
            response
                .description("Redis answers and has the module, or Redis is not needed.")
                .example(answer("healthy", true, None))
        })
        .response_with::<503, Json<HealthAnswer>, _>(|response| {
            response
                .description("Redis does not answer or does not have the module.")
                .example(answer("unhealthy", false, Some(failure)))
        })
}
