//! The metrics page.

use std::sync::Arc;

use aide::transform::TransformOperation;
use axum::{
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};

use crate::{error::Error, state::AppState};

/// The media type of the Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /metrics`
pub(crate) async fn metrics(State(state): State<Arc<AppState>>) -> Response {
    match state.metrics.page().await {
        Ok(page) => ([(CONTENT_TYPE, PROMETHEUS_TEXT)], page).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            Error::Internal.into_response()
        }
    }
}

pub(crate) fn docs(operation: TransformOperation<'_>) -> TransformOperation<'_> {
    let operation = operation.id("metrics").tag("health").summary("Metrics");
    operation.response_with::<200, String, _>(|response| response.description("Prometheus text."))
}
