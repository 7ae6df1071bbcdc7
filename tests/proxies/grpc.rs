//! The gRPC services of a real gateway, called by a client of gRPC.

use std::fs;

use envoy::services::client::{
    envoy_types::pb::{
        envoy::{
            extensions::common::ratelimit::v3::{
                RateLimitDescriptor,
                rate_limit_descriptor::{Entry, RateLimitOverride},
            },
            service::ratelimit::v3::{
                RateLimitRequest, RateLimitResponse, rate_limit_response::DescriptorStatus,
                rate_limit_service_client::RateLimitServiceClient,
            },
        },
        google::protobuf::UInt64Value,
    },
    tonic::{Code, IntoRequest, Request, Status, transport::Channel},
    tonic_health::pb::{HealthCheckRequest, health_client::HealthClient},
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::harness::{ApiKey, Gateway, GatewayBuilder, Server, eventually, free_port};

pub(super) const POLICIES: &str = r#"
version: 1
policies:
  - name: users
    match: {domain: shop, user: {exists: true}}
    by: [user]
    entry: [rls]
    limits: [{name: rate, limit: 10, per: 1h, algorithm: sliding_window}]
    overrides:
      - {by: eve, block: true, reason: abuse}
      - {by: probe, unlimited: true, reason: probes}
  - name: pairs
    match: {domain: shop, pair: {exists: true}}
    by: [pair]
    entry: [rls]
    limits: [{name: many, limit: 100, per: day, algorithm: fixed_window}, {name: few, limit: 5, per: 15m, algorithm: sliding_window}]
  - name: tokens
    match: {domain: shop, model: {exists: true}}
    by: [model]
    entry: [rls]
    limits: [{name: tokens, limit: 10000, per: 1h, charge: always}]
    headers: false
"#;

const OK: i32 = 1;
const OVER_LIMIT: i32 = 2;

/// A gateway that serves gRPC, and a client.
pub(super) struct Services {
    pub(super) gateway: Gateway,
    pub(super) runtime: Runtime,
    pub(super) channel: Channel,
    #[expect(dead_code, reason = "the gateway needs it")]
    server: Server,
    #[expect(dead_code, reason = "it is deleted when this is dropped")]
    directory: TempDir,
}

impl Services {
    pub(super) fn start(
        policies: &str,
        configure: impl FnOnce(GatewayBuilder) -> GatewayBuilder,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("policies.yaml");
        fs::write(&file, policies).unwrap();
        let (server, port) = (Server::start(), free_port());
        let gateway = Gateway::builder()
            .redis(&server)
            .env("POLICIES_FILE", &file.to_string_lossy())
            .env("GRPC_PORT", &port.to_string());
        let gateway = configure(gateway).start();
        // A thread of its own reads what the gateway sends between two calls.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let channel = Channel::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
        let channel = runtime.block_on(channel.connect()).unwrap();
        Self { gateway, runtime, channel, server, directory }
    }

    pub(super) fn call(
        &self,
        request: impl IntoRequest<RateLimitRequest>,
    ) -> Result<RateLimitResponse, Status> {
        let mut client = RateLimitServiceClient::new(self.channel.clone());
        let answer = self.runtime.block_on(client.should_rate_limit(request));
        answer.map(|answer| answer.into_inner())
    }

    /// Returns the overall code, and the codes and the remaining units of the descriptors.
    fn limit(&self, descriptors: &[RateLimitDescriptor]) -> (i32, Vec<(i32, u32)>) {
        let answer = self.call(request(descriptors)).unwrap();
        let status = |status: &DescriptorStatus| (status.code, status.limit_remaining);
        (answer.overall_code, answer.statuses.iter().map(status).collect())
    }

    pub(super) fn health(&self) -> i32 {
        let mut client = HealthClient::new(self.channel.clone());
        let answer = client.check(HealthCheckRequest { service: String::new() });
        self.runtime.block_on(answer).unwrap().into_inner().status
    }
}

pub(super) fn request(descriptors: &[RateLimitDescriptor]) -> RateLimitRequest {
    RateLimitRequest {
        domain: "shop".to_owned(),
        descriptors: descriptors.to_vec(),
        hits_addend: 0,
    }
}

pub(super) fn descriptor(key: &str, value: &str) -> RateLimitDescriptor {
    let entry = Entry { key: key.to_owned(), value: value.to_owned() };
    RateLimitDescriptor { entries: vec![entry], ..Default::default() }
}

fn with_hits(descriptor: RateLimitDescriptor, hits: u64) -> RateLimitDescriptor {
    RateLimitDescriptor { hits_addend: Some(UInt64Value { value: hits }), ..descriptor }
}

fn refund(descriptor: RateLimitDescriptor, hits: u64) -> RateLimitDescriptor {
    RateLimitDescriptor { is_negative_hits: true, ..with_hits(descriptor, hits) }
}

fn with_limit(descriptor: RateLimitDescriptor, limit: u32, unit: i32) -> RateLimitDescriptor {
    let limit = Some(RateLimitOverride { requests_per_unit: limit, unit });
    RateLimitDescriptor { limit, ..descriptor }
}

#[test]
#[ignore = "make test-proxies"]
fn hits_are_those_of_the_descriptor_or_of_the_request() {
    let services = Services::start(POLICIES, |gateway| gateway);
    let ann = || descriptor("user", "ann");
    assert_eq!(services.limit(&[ann()]), (OK, vec![(OK, 9)]));
    let three = RateLimitRequest { hits_addend: 3, ..request(&[ann()]) };
    assert_eq!(services.call(three).unwrap().statuses[0].limit_remaining, 6);
    assert_eq!(services.limit(&[with_hits(ann(), 4)]), (OK, vec![(OK, 2)]));
    // A look takes nothing, and is denied once nothing is left.
    assert_eq!(services.limit(&[with_hits(ann(), 0)]), (OK, vec![(OK, 2)]));
    assert_eq!(services.limit(&[with_hits(ann(), 3)]), (OVER_LIMIT, vec![(OVER_LIMIT, 2)]));
    // More than the limit can ever grant.
    for hits in [11, 1 << 40, u64::MAX] {
        assert_eq!(services.limit(&[with_hits(ann(), hits)]).0, OVER_LIMIT);
    }
    // The status names the limit.
    let answer = services.call(request(&[with_hits(ann(), 11)])).unwrap();
    let limit = answer.statuses[0].current_limit.as_ref().unwrap();
    assert_eq!((limit.name.as_str(), limit.requests_per_unit), ("rate", 10));
    let headers: Vec<_> =
        answer.response_headers_to_add.iter().map(|header| header.key.as_str()).collect();
    assert_eq!(headers, ["ratelimit-policy", "ratelimit", "retry-after"]);
    assert_eq!(services.limit(&[with_hits(ann(), 2)]), (OK, vec![(OK, 0)]));
    assert_eq!(services.limit(&[with_hits(ann(), 0)]), (OVER_LIMIT, vec![(OVER_LIMIT, 0)]));
    assert_eq!(services.limit(&[refund(ann(), 4)]).0, OK);
    assert_eq!(services.limit(&[with_hits(ann(), 0)]), (OK, vec![(OK, 4)]));
    // A denied look prevents the others from taking.
    let bob = || descriptor("user", "bob");
    assert_eq!(services.limit(&[with_hits(ann(), 4), bob()]).0, OK);
    let (code, statuses) = services.limit(&[bob(), with_hits(ann(), 0)]);
    assert_eq!((code, statuses), (OVER_LIMIT, vec![(OK, 9), (OVER_LIMIT, 0)]));
    assert_eq!(services.limit(&[with_hits(bob(), 0)]), (OK, vec![(OK, 9)]));
    // Usage that is known after the answer is charged beyond the limit.
    let model = |hits| with_hits(descriptor("model", "m"), hits);
    for hits in [0, 5_000, 5_000] {
        assert_eq!(services.limit(&[model(hits)]).0, OK);
    }
    assert_eq!(services.limit(&[model(0)]).0, OVER_LIMIT);
}

#[test]
#[ignore = "make test-proxies"]
fn a_call_is_all_or_nothing_and_its_statuses_describe_it() {
    let services = Services::start(POLICIES, |gateway| gateway);
    let answer = services.call(request(&[descriptor("pair", "p")])).unwrap();
    let status = &answer.statuses[0];
    let limit = status.current_limit.as_ref().unwrap();
    // The limit with the smallest share left; no unit is a quarter of an hour.
    assert_eq!((limit.name.as_str(), limit.requests_per_unit, limit.unit), ("few", 5, 0));
    assert_eq!(status.limit_remaining, 4);
    let headers: Vec<_> = answer.response_headers_to_add.iter().collect();
    let names: Vec<_> = headers.iter().map(|header| header.key.as_str()).collect();
    assert_eq!(names, ["ratelimit-policy", "ratelimit"]);
    assert_eq!(headers[0].value, "\"many\";q=100;w=86400, \"few\";q=5;w=900");

    // Equal keys of one call are one limit with the sum of the costs.
    let p = || with_hits(descriptor("pair", "p"), 3);
    assert_eq!(services.limit(&[p(), p()]).0, OVER_LIMIT);
    let two = || with_hits(descriptor("pair", "p"), 2);
    assert_eq!(services.limit(&[two(), two()]), (OK, vec![(OK, 0), (OK, 0)]));
    // One denial denies all, and nothing is taken.
    let both = [descriptor("user", "ann"), descriptor("pair", "p")];
    let answer = services.call(request(&both)).unwrap();
    assert_eq!(answer.overall_code, OVER_LIMIT);
    assert_eq!((answer.statuses[0].code, answer.statuses[1].code), (OK, OVER_LIMIT));
    let wait = answer.statuses[1].duration_until_reset.as_ref().unwrap().seconds;
    let retry = answer.response_headers_to_add.iter().find(|header| header.key == "retry-after");
    assert_eq!(retry.unwrap().value, wait.to_string());
    let look = with_hits(descriptor("user", "ann"), 0);
    assert_eq!(services.limit(&[look]), (OK, vec![(OK, 10)]));

    // Hidden limits, exemptions and blocks have no limit in their status.
    for (descriptor, code) in [
        (descriptor("model", "m"), OK),
        (descriptor("user", "probe"), OK),
        (descriptor("other", "x"), OK),
        (descriptor("user", "eve"), OVER_LIMIT),
    ] {
        let answer = services.call(request(&[descriptor])).unwrap();
        assert_eq!((answer.overall_code, answer.statuses[0].code), (code, code));
        assert_eq!(answer.statuses[0].current_limit, None);
        let headers = answer.response_headers_to_add.iter().map(|header| header.key.as_str());
        let expected = if code == OK { &[][..] } else { &["retry-after"] };
        assert_eq!(headers.collect::<Vec<_>>(), expected);
    }
}

#[test]
#[ignore = "make test-proxies"]
fn a_descriptor_brings_the_only_limit() {
    let services = Services::start(POLICIES, |gateway| gateway);
    let ann = |limit, unit| with_limit(descriptor("user", "ann"), limit, unit);
    const MINUTE: i32 = 2;
    let answer = services.call(request(&[ann(20, MINUTE)])).unwrap();
    let limit = answer.statuses[0].current_limit.as_ref().unwrap();
    assert_eq!((limit.requests_per_unit, limit.unit), (20, MINUTE));
    assert_eq!(answer.statuses[0].limit_remaining, 19);
    // 0 denies, and costs beyond the own limit are granted by this one.
    assert_eq!(services.limit(&[ann(0, MINUTE)]).0, OVER_LIMIT);
    assert_eq!(services.limit(&[with_hits(ann(20, MINUTE), 15)]).0, OK);
    assert_eq!(services.limit(&[with_hits(ann(5, MINUTE), 6)]).0, OVER_LIMIT);
    // Ignored: an unknown unit, and a policy with several limits.
    let bob = with_limit(descriptor("user", "bob"), 20, 0);
    assert_eq!(services.limit(&[bob]), (OK, vec![(OK, 9)]));
    assert_eq!(services.limit(&[with_limit(descriptor("pair", "p"), 50, 1)]).1, [(OK, 4)]);
    let count = |reason: &str| {
        let name = format!("ratelimit_rls_limits_ignored_total{{reason=\"{reason}\"}}");
        services.gateway.metric(&name)
    };
    assert_eq!((count("unit"), count("not_one_limit"), count("inline_limits")), (1.0, 1.0, 0.0));

    let services = Services::start(POLICIES, |gateway| gateway.env("INLINE_LIMITS", "false"));
    assert_eq!(services.limit(&[ann(20, MINUTE)]), (OK, vec![(OK, 9)]));
    let ignored = "ratelimit_rls_limits_ignored_total{reason=\"inline_limits\"}";
    assert_eq!(services.gateway.metric(ignored), 1.0);
}

#[test]
#[ignore = "make test-proxies"]
fn the_decision_on_the_only_descriptor_of_a_call_is_in_the_log() {
    let services = Services::start(POLICIES, |gateway| gateway.env("LOG_DECISIONS", "true"));
    let (ann, bob) = (|| descriptor("user", "ann"), || descriptor("user", "bob"));
    services.limit(&[with_hits(ann(), 4)]);
    services.limit(&[with_hits(ann(), 11)]);
    services.limit(&[descriptor("user", "eve")]);
    // No replay repeats these: several descriptors, a limit that is in no file, units given back.
    services.limit(&[bob(), bob()]);
    services.limit(&[with_limit(bob(), 20, 2)]);
    services.limit(&[refund(bob(), 1)]);
    services.limit(&[descriptor("user", "last")]);
    services.gateway.log_with("\"user\":\"last\"");
    let log = services.gateway.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("\"entry\":\"rls\"")).collect();
    assert_eq!(lines.len(), 4, "{log}");
    for (line, parts) in lines.iter().zip([
        ["\"user\":\"ann\"", "\"cost\":4", "\"allowed\":true", "\"source\":\"redis\""],
        ["\"user\":\"ann\"", "\"cost\":11", "\"violated\":[\"rate\"]", "\"source\":\"policy\""],
        [
            "\"user\":\"eve\"",
            "\"policy\":\"users\"",
            "\"violated\":[\"override\"]",
            "\"limits\":[]",
        ],
        ["\"user\":\"last\"", "\"domain\":\"shop\"", "\"allowed\":true", "\"limits\":[\"rate\"]"],
    ]) {
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
}

#[test]
#[ignore = "make test-proxies"]
fn unmatched_requests_are_denied_only_as_a_whole() {
    let services = Services::start(&format!("{POLICIES}unmatched: deny\n"), |gateway| gateway);
    let (other, ann) = (descriptor("other", "x"), descriptor("user", "ann"));
    assert_eq!(services.limit(&[other.clone(), other.clone()]).0, OVER_LIMIT);
    assert_eq!(services.limit(&[other, ann]).1[1], (OK, 9));
}

#[test]
#[ignore = "make test-proxies"]
fn callers_need_a_key_and_refunds_another_scope() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys.json");
    let [proxy, admin, reader] =
        [("proxy", &["check"][..]), ("admin", &["check", "reset"]), ("reader", &["read"])]
            .map(|(name, scopes)| ApiKey::new(name, scopes));
    ApiKey::write(&keys, &[&proxy, &admin, &reader]);
    let services =
        Services::start(POLICIES, |gateway| gateway.env("API_KEYS_FILE", &keys.to_string_lossy()));
    let call = |key: Option<&str>, descriptor: RateLimitDescriptor| {
        let mut call = Request::new(request(&[descriptor]));
        if let Some(key) = key {
            call.metadata_mut().insert("x-ratelimit-key", key.parse().unwrap());
            // Credentials of end users are none of the proxy.
            call.metadata_mut().insert("authorization", "Bearer x".parse().unwrap());
        }
        services.call(call).map(|answer| answer.overall_code).map_err(|status| status.code())
    };
    let ann = || descriptor("user", "ann");
    assert_eq!(call(None, ann()), Err(Code::Unauthenticated));
    assert_eq!(call(Some("wrong"), ann()), Err(Code::Unauthenticated));
    assert_eq!(call(Some(&reader.key), ann()), Err(Code::PermissionDenied));
    assert_eq!(call(Some(&proxy.key), ann()), Ok(OK));
    assert_eq!(call(Some(&proxy.key), refund(ann(), 1)), Err(Code::PermissionDenied));
    assert_eq!(call(Some(&admin.key), refund(ann(), 1)), Ok(OK));
    let line = services.gateway.log_with("\"caller\":\"key:proxy\"");
    assert!(line.contains("\"policy\":\"users\""), "{line}");
}

#[test]
#[ignore = "make test-proxies"]
fn the_port_drains_at_the_end() {
    let mut services =
        Services::start(POLICIES, |gateway| gateway.env("SHUTDOWN_DELAY_MS", "1500"));
    assert_eq!(services.health(), 1);
    services.gateway.ask_to_end();
    eventually("the health changes before the end", || (services.health() == 2).then_some(()));
    assert_eq!(services.limit(&[descriptor("user", "ann")]).0, OK);
    eventually("the gateway ends", || (!services.gateway.is_running()).then_some(()));
    // Not "stopped with requests still running".
    assert!(services.gateway.log().contains("\"stopped\""), "{}", services.gateway.log());
}
