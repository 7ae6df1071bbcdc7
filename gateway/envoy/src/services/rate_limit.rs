//! `envoy.service.ratelimit.v3.RateLimitService`

use std::time::Duration;

use envoy_types::pb::{
    envoy::{
        config::core::v3::HeaderValue,
        service::ratelimit::v3::{
            RateLimitResponse,
            rate_limit_response::{Code, DescriptorStatus, RateLimit},
        },
    },
    google::protobuf,
};
use tonic::server::NamedService;

use super::{
    method::{Method, MethodService},
    rate_limit_request::RateLimitRequest,
};
use crate::{
    answer::{DescriptorAnswer, RateLimitAnswer},
    call::RateLimitCall,
    gateway::{Caller, Fault, Gateway},
    status,
};

/// The method `ShouldRateLimit`.
pub(super) struct ShouldRateLimit;

impl<G> NamedService for MethodService<ShouldRateLimit, G> {
    const NAME: &'static str = "envoy.service.ratelimit.v3.RateLimitService";
}

impl Method for ShouldRateLimit {
    const PATH: &'static str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    type Request = RateLimitRequest;
    type Response = RateLimitResponse;

    async fn answer<G: Gateway>(
        gateway: &G,
        caller: Caller,
        request: RateLimitRequest,
        max_wait: Option<Duration>,
    ) -> Result<RateLimitResponse, Fault> {
        let call = RateLimitCall { max_wait, ..RateLimitCall::from(request) };
        if call.domain.is_empty() {
            return Err(Fault::Invalid("the domain must not be empty".to_owned()));
        }
        if call.descriptors.is_empty() {
            return Err(Fault::Invalid("there must be a descriptor".to_owned()));
        }
        Ok(gateway.limit(caller, call).await?.into())
    }

    fn allowed(answer: &RateLimitResponse) -> Option<bool> {
        Some(answer.overall_code() == Code::Ok)
    }
}

impl From<RateLimitAnswer> for RateLimitResponse {
    fn from(answer: RateLimitAnswer) -> Self {
        let headers = answer.headers.into_iter().map(|(name, value)| HeaderValue {
            key: name.as_str().to_owned(),
            value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
            raw_value: Vec::new(),
        });
        Self {
            overall_code: code(answer.allowed).into(),
            statuses: answer
                .descriptors
                .iter()
                .map(DescriptorAnswer::status)
                .map(DescriptorStatus::from)
                .collect(),
            response_headers_to_add: headers.collect(),
            ..Default::default()
        }
    }
}

impl From<status::DescriptorStatus> for DescriptorStatus {
    fn from(status: status::DescriptorStatus) -> Self {
        let limit = status.limit.map(|limit| RateLimit {
            name: limit.name,
            requests_per_unit: limit.limit,
            // The numbers of the units are the same.
            unit: limit.unit as i32,
        });
        let seconds = i64::try_from(status.seconds_until_reset).unwrap_or(i64::MAX);
        Self {
            code: code(status.allowed).into(),
            current_limit: limit,
            limit_remaining: status.remaining,
            duration_until_reset: Some(protobuf::Duration { seconds, nanos: 0 }),
            quota: None,
        }
    }
}

const fn code(allowed: bool) -> Code {
    if allowed { Code::Ok } else { Code::OverLimit }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::{
        service::ratelimit::v3::rate_limit_response::rate_limit, r#type::v3::RateLimitUnit,
    };

    use crate::time_unit::TimeUnit;

    #[test]
    fn the_units_have_the_numbers_of_envoy() {
        for (unit, name) in [
            (TimeUnit::Unknown, "UNKNOWN"),
            (TimeUnit::Second, "SECOND"),
            (TimeUnit::Minute, "MINUTE"),
            (TimeUnit::Hour, "HOUR"),
            (TimeUnit::Day, "DAY"),
            (TimeUnit::Week, "WEEK"),
            (TimeUnit::Month, "MONTH"),
            (TimeUnit::Year, "YEAR"),
        ] {
            let of_status = rate_limit::Unit::try_from(unit as i32).unwrap();
            assert_eq!(of_status.as_str_name(), name);
            // An override has no weeks.
            let of_override = RateLimitUnit::try_from(unit as i32).ok();
            let expected = (unit != TimeUnit::Week).then_some(name);
            assert_eq!(of_override.map(|unit| unit.as_str_name()), expected);
        }
    }
}
