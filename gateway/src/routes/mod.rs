//! The sitemap.

mod batch;
mod body;
mod check;
mod health;
mod metrics;
mod pages;
mod path;
mod refund;
mod reset;
mod status;

use std::{any::Any, sync::Arc};

use aide::{
    axum::{
        ApiRouter,
        routing::{delete_with, get_with, post_with},
    },
    openapi::OpenApi,
};
use axum::{
    Router,
    http::Method,
    middleware,
    response::{IntoResponse, Response},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, Any as AnyHeader, CorsLayer},
};

use crate::{AppState, access, config::Origins, error::Error, headers, openapi};

/// Every route, and what surrounds them all.
pub(crate) fn router(state: Arc<AppState>) -> Router {
    let mut document = openapi::start();
    operations()
        .finish_api(&mut document)
        .merge(pages::router(&document))
        .fallback(async || Error::NotFound)
        .method_not_allowed_fallback(async || Error::MethodNotAllowed)
        .layer(cors(&state.allowed_origins))
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(middleware::from_fn(access::record))
        .with_state(state)
}

/// What a client gets that is one too many, whatever it asks for.
pub(crate) fn refusal() -> Router {
    Router::new()
        .fallback(async || Error::TooManyConnections)
        .layer(middleware::from_fn(access::record))
}

/// The description of every operation.
pub(crate) fn document() -> OpenApi {
    let mut document = openapi::start();
    let _: Router<Arc<AppState>> = operations().finish_api(&mut document);
    document
}

/// What programs use, each described.
fn operations() -> ApiRouter<Arc<AppState>> {
    ApiRouter::new()
        .api_route("/rate-limit/check", post_with(check::check, check::docs))
        .api_route("/rate-limit/check/batch", post_with(batch::check_all, batch::docs))
        .api_route("/rate-limit/refund", post_with(refund::refund, refund::docs))
        .api_route("/rate-limit/status/{identifier}", get_with(status::status, status::docs))
        .api_route("/rate-limit/reset/{identifier}", delete_with(reset::reset, reset::docs))
        .api_route("/health", get_with(health::health, health::docs))
        .api_route("/health/live", get_with(health::live, health::live_docs))
        .api_route("/health/ready", get_with(health::ready, health::ready_docs))
        .api_route("/metrics", get_with(metrics::metrics, metrics::docs))
}

fn cors(origins: &Origins) -> CorsLayer {
    let origins = match origins {
        Origins::Any => AllowOrigin::any(),
        Origins::Only(origins) => AllowOrigin::list(origins.iter().cloned()),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(AnyHeader)
        .expose_headers(headers::EXPOSED)
}

/// The panic hook has written the message to standard error already.
fn answer_panic(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a handler panicked");
    Error::Internal.into_response()
}
