//! The least work of a service like the gateway, for comparison: axum parses a check and answers
//! it. With the URL of a Redis server, each request also sends one `INCR`, over one connection that
//! all requests share.
//!
//! usage: `ratelimit-baseline PORT [REDIS_URL]`

#![forbid(unsafe_code)]

use std::{env, error::Error, net::Ipv4Addr};

use axum::{
    Json, Router, extract::State, http::StatusCode, routing::post, serve, serve::ListenerExt,
};
use redis::{AsyncCommands, AsyncConnectionConfig, Client, aio::MultiplexedConnection};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

#[derive(Deserialize)]
#[expect(dead_code, reason = "the whole body is parsed, as by a service")]
struct Check {
    identifier: String,
    algorithm: String,
    limit: u64,
    window_seconds: u64,
}

#[derive(Serialize)]
struct Answer {
    allowed: bool,
    remaining: u64,
    reset_in_seconds: f64,
    retry_after: Option<f64>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = env::args().skip(1);
    let port = words.next().ok_or("usage: ratelimit-baseline PORT [REDIS_URL]")?.parse()?;
    let check = match words.next() {
        None => post(answer),
        Some(url) => {
            // A timeout would fail requests when the machine stalls for a moment.
            let config = AsyncConnectionConfig::new().set_response_timeout(None);
            let client = Client::open(url)?;
            let redis = client.get_multiplexed_async_connection_with_config(&config).await?;
            post(count_and_answer).with_state(redis)
        }
    };
    let app = Router::new().route("/rate-limit/check", check);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    serve(listener, app).await?;
    Ok(())
}

async fn answer(Json(check): Json<Check>) -> Json<Answer> {
    Json(Answer::after(check.limit, 1))
}

async fn count_and_answer(
    State(mut redis): State<MultiplexedConnection>,
    Json(check): Json<Check>,
) -> Result<Json<Answer>, StatusCode> {
    let used = redis.incr(check.identifier, 1).await.or(Err(StatusCode::SERVICE_UNAVAILABLE))?;
    Ok(Json(Answer::after(check.limit, used)))
}

impl Answer {
    fn after(limit: u64, used: u64) -> Self {
        Self {
            allowed: used <= limit,
            remaining: limit.saturating_sub(used),
            reset_in_seconds: 0.6,
            retry_after: None,
        }
    }
}
