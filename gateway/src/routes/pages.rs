//! Pages for people, and the description that two of them show.

use aide::{openapi::OpenApi, redoc::Redoc, swagger::Swagger};
use axum::{
    Router,
    body::Bytes,
    http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    response::IntoResponse,
    routing::{MethodRouter, get},
};

const TITLE: &str = "Rate limiter";

/// Where the pages find the description: beside themselves, also behind a proxy with a prefix.
const DESCRIPTION: &str = "openapi.json";

/// What the pages may load: their own parts and the description, nothing from other hosts.
const SELF_CONTAINED: &str = "default-src 'none'; script-src 'unsafe-inline'; \
    style-src 'unsafe-inline'; img-src 'self' data:; font-src data:; connect-src 'self'; \
    worker-src blob:";

/// The service to which Swagger UI would send the description, for a badge.
const SWAGGER_VALIDATOR: &str = "\"https://validator.swagger.io/validator\"";

/// The image that ReDoc would load for its footer.
const REDOC_LOGO: &str = "https://cdn.redoc.ly/redoc/logo-mini.svg";

/// Routes of pages that never change while the service runs.
pub(super) fn router<S: Clone + Send + Sync + 'static>(document: &OpenApi) -> Router<S> {
    let swagger = Swagger::new(DESCRIPTION).with_title(TITLE).html();
    let redoc = Redoc::new(DESCRIPTION).with_title(TITLE).html();
    let description = serde_json::to_vec(document).unwrap_or_default();
    Router::new()
        .route("/", page(include_str!("landing.html").to_owned()))
        .route("/docs", page(swagger.replace(SWAGGER_VALIDATOR, "null")))
        .route("/redoc", page(redoc.replace(REDOC_LOGO, "data:,")))
        .route("/openapi.json", fixed("application/json", description))
}

fn page<S: Clone + Send + Sync + 'static>(html: String) -> MethodRouter<S> {
    fixed("text/html; charset=utf-8", html.into_bytes())
}

fn fixed<S: Clone + Send + Sync + 'static>(
    media_type: &'static str,
    content: Vec<u8>,
) -> MethodRouter<S> {
    let content = Bytes::from(content);
    get(async move || {
        let headers = [(CONTENT_TYPE, media_type), (CONTENT_SECURITY_POLICY, SELF_CONTAINED)];
        (headers, content.clone()).into_response()
    })
}
