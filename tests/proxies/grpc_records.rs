//! The spans, the metrics and the log lines of calls over gRPC.

use envoy::services::client::{
    envoy_types::pb::google::protobuf::UInt64Value,
    tonic::{Code, Request, client::Grpc},
    tonic_prost::ProstCodec,
};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::grpc::{POLICIES, Services, descriptor, request};
use crate::harness::{Collector, attributes, has_failed, id_digits};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
const NAME: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const NAMES: [&str; 5] =
    ["rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code", "error.type"];

fn metric(services: &Services, method: &str, code: &str) -> f64 {
    let labels = format!("{{method=\"{method}\",code=\"{code}\"}}");
    services.gateway.metric(&format!("grpc_requests_total{labels}"))
}

#[test]
#[ignore = "make test-proxies"]
fn a_call_and_its_call_to_redis_continue_the_trace_of_the_proxy() {
    let collector = Collector::start();
    let services = Services::start(POLICIES, |gateway| gateway.traces_to(&collector.endpoint()));
    let mut call = Request::new(request(&[descriptor("user", "someone")]));
    let parent = format!("00-{TRACE}-{PARENT}-01");
    for (name, value) in [("traceparent", parent.as_str()), ("tracestate", "vendor=value")] {
        call.metadata_mut().insert(name, value.parse().unwrap());
    }
    services.call(call).unwrap();

    let span = collector.span(NAME);
    let ids = (id_digits(&span.trace_id), id_digits(&span.parent_span_id));
    assert_eq!(ids, (TRACE.to_owned(), PARENT.to_owned()));
    assert_eq!((span.kind(), span.trace_state.as_str()), (SpanKind::Server, "vendor=value"));
    assert_eq!(attributes(&span, NAMES), ["grpc", SERVICE, "ShouldRateLimit", "0", ""]);
    assert!(!has_failed(&span));
    let redis = collector.span("RATELIMIT.SW");
    assert_eq!((&redis.trace_id, &redis.parent_span_id), (&span.trace_id, &span.span_id));
    assert!(span.start_time_unix_nano <= redis.start_time_unix_nano);
    assert!(redis.end_time_unix_nano <= span.end_time_unix_nano);
    let log = services.gateway.log_with(&format!("\"trace_id\":\"{TRACE}\""));
    let line = log.lines().find(|line| line.contains(TRACE)).unwrap();
    for part in [
        format!("\"route\":\"{SERVICE}\""),
        "\"method\":\"ShouldRateLimit\"".to_owned(),
        "\"code\":\"OK\"".to_owned(),
        "\"allowed\":true".to_owned(),
    ] {
        assert!(line.contains(&part), "{part}: {line}");
    }
}

#[test]
#[ignore = "make test-proxies"]
fn a_failure_is_an_error_of_its_span_and_a_denial_is_none() {
    let collector = Collector::start();
    let services = Services::start(POLICIES, |gateway| gateway.traces_to(&collector.endpoint()));
    let eve = request(&[descriptor("user", "eve")]);
    services.call(eve).unwrap();
    let span = collector.span(NAME);
    assert!(!has_failed(&span) && attributes(&span, NAMES)[3..] == ["0", ""]);

    let collector = Collector::start();
    let services = Services::start(POLICIES, |gateway| {
        let gateway = gateway.env("REDIS_URL", "redis://127.0.0.1:1");
        gateway.traces_to(&collector.endpoint())
    });
    let error = services.call(request(&[descriptor("user", "someone")])).unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let span = collector.span(NAME);
    assert!(has_failed(&span));
    assert_eq!(attributes(&span, NAMES)[3..], ["14", "UNAVAILABLE"]);
}

/// Calls any path with a message that is none of the services.
fn call_anything(services: &Services, path: &'static str) -> Code {
    services.runtime.block_on(async {
        let mut client = Grpc::new(services.channel.clone());
        client.ready().await.unwrap();
        let codec = ProstCodec::<UInt64Value, UInt64Value>::default();
        let message = Request::new(UInt64Value { value: 5 });
        let answer = client.unary(message, path.parse().unwrap(), codec).await;
        answer.unwrap_err().code()
    })
}

#[test]
#[ignore = "make test-proxies"]
fn a_call_that_no_method_answers_is_recorded_without_its_text() {
    let collector = Collector::start();
    let services = Services::start(POLICIES, |gateway| gateway.traces_to(&collector.endpoint()));
    assert_eq!(services.health(), 1);
    for (path, code) in [
        ("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit", Code::Internal),
        ("/envoy.service.ratelimit.v3.RateLimitService/Someone", Code::Unimplemented),
        ("/someone.Service/Method", Code::Unimplemented),
    ] {
        assert_eq!(call_anything(&services, path), code, "{path}");
    }
    assert_eq!(metric(&services, &format!("/{NAME}"), "INTERNAL"), 1.0);
    assert_eq!(metric(&services, "other", "UNIMPLEMENTED"), 2.0);
    assert_eq!(metric(&services, "/grpc.health.v1.Health/Check", "OK"), 1.0);
    services.gateway.log_with("\"route\":\"unmatched\"");
    let (_, log) = services.gateway.terminate();
    let everything = collector.everything();
    assert!(!everything.to_lowercase().contains("someone"), "{everything}");
    assert!(!log.to_lowercase().contains("someone"), "{log}");
    let spans = collector.spans();
    let spans = spans.iter().filter(|span| span.kind() == SpanKind::Server);
    let spans: Vec<_> = spans.map(|span| (span.name.as_str(), has_failed(span))).collect();
    // Probes have no span.
    assert_eq!(spans, [(NAME, true), ("gRPC", true), ("gRPC", true)]);
}
