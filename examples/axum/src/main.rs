//! An axum application whose requests are limited by the policies of a gateway.

#![forbid(unsafe_code)]

mod rate_limit;

use std::env;
use std::net::SocketAddr;

use axum::{Json, Router, middleware::from_fn_with_state, routing::get};
use rate_limit::RateLimiter;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = env::var("RATELIMIT_URL").unwrap_or_else(|_| "http://localhost:8000".to_owned());
    let api_key = env::var("RATELIMIT_API_KEY").ok();
    // While the gateway does not decide: true serves every request, and false answers 503.
    let fail_open = env::var("FAIL_OPEN")?.parse()?;
    let limiter = RateLimiter::new(&url, api_key, fail_open);

    let app = Router::new()
        .route("/", get(home))
        .layer(from_fn_with_state(limiter, rate_limit::limit))
        .into_make_service_with_connect_info::<SocketAddr>();
    let port: u16 = env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    axum::serve(TcpListener::bind(("127.0.0.1", port)).await?, app).await?;
    Ok(())
}

async fn home() -> Json<Value> {
    Json(json!({ "hello": "world" }))
}
