//! The least work of a rate limit service for Envoy, for comparison: tonic parses a call and answers
//! it. Each call sends one `INCR`, over one connection that all calls share.
//!
//! usage: `ratelimit-baseline-grpc PORT REDIS_URL`

#![forbid(unsafe_code)]

use std::{env, error::Error, net::Ipv4Addr};

use envoy_types::pb::{
    envoy::service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse,
        rate_limit_response::{Code, DescriptorStatus, RateLimit, rate_limit::Unit},
        rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
    },
    google::protobuf::Duration,
};
use redis::{AsyncCommands, AsyncConnectionConfig, Client, aio::MultiplexedConnection};
use tonic::{Request, Response, Status, async_trait, transport::Server};

const USAGE: &str = "usage: ratelimit-baseline-grpc PORT REDIS_URL";
const LIMIT: u32 = 1_000_000;

struct Counter {
    redis: MultiplexedConnection,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = env::args().skip(1);
    let port = words.next().ok_or(USAGE)?.parse()?;
    // A timeout would fail calls when the machine stalls for a moment.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let client = Client::open(words.next().ok_or(USAGE)?)?;
    let redis = client.get_multiplexed_async_connection_with_config(&config).await?;
    let service = RateLimitServiceServer::new(Counter { redis });
    Server::builder().add_service(service).serve((Ipv4Addr::LOCALHOST, port).into()).await?;
    Ok(())
}

#[async_trait]
impl RateLimitService for Counter {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let descriptor = request.into_inner().descriptors.pop();
        let entry = descriptor.and_then(|mut descriptor| descriptor.entries.pop());
        let key = entry.ok_or_else(|| Status::invalid_argument("there must be an entry"))?.value;
        let used = self.redis.clone().incr(key, 1).await;
        let used = used.map_err(|_| Status::unavailable("Redis does not answer"))?;
        Ok(Response::new(answer(used)))
    }
}

fn answer(used: u32) -> RateLimitResponse {
    let code = if used <= LIMIT { Code::Ok } else { Code::OverLimit };
    let limit =
        RateLimit { name: "rate".to_owned(), requests_per_unit: LIMIT, unit: Unit::Hour.into() };
    let status = DescriptorStatus {
        code: code.into(),
        current_limit: Some(limit),
        limit_remaining: LIMIT.saturating_sub(used),
        duration_until_reset: Some(Duration { seconds: 1, nanos: 0 }),
        quota: None,
    };
    RateLimitResponse {
        overall_code: code.into(),
        statuses: vec![status],
        ..RateLimitResponse::default()
    }
}
