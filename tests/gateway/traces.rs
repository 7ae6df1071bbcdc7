//! Traces of the gateway, and a collector that receives them.

use std::net::TcpListener;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::harness::{
    Authority, Collector, Gateway, GatewayBuilder, Server, attributes, eventually, free_port,
    has_failed, id_digits, timed,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traced(server: &Server, endpoint: &str) -> GatewayBuilder {
    Gateway::builder().redis(server).traces_to(endpoint)
}

fn check(gateway: &Gateway, headers: &[(&str, &str)]) -> u16 {
    gateway.request("POST", "/rate-limit/check", headers, r#"{"identifier": "someone"}"#).status
}

#[test]
fn a_request_and_its_call_to_redis_continue_the_trace_of_the_caller() {
    let server = Server::start();
    let collector = Collector::start();
    let gateway = traced(&server, &collector.endpoint()).start();
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let headers = [("traceparent", parent.as_str()), ("tracestate", "vendor=value")];
    assert_eq!(check(&gateway, &headers), 200);

    let request = collector.span("POST /rate-limit/check");
    assert_eq!(
        (id_digits(&request.trace_id), id_digits(&request.parent_span_id)),
        (TRACE.into(), PARENT.into())
    );
    assert_eq!((request.kind(), request.trace_state.as_str()), (SpanKind::Server, "vendor=value"));
    let names = ["http.request.method", "http.route", "http.response.status_code", "url.scheme"];
    assert_eq!(attributes(&request, names), ["POST", "/rate-limit/check", "200", "http"]);
    assert!(!has_failed(&request));

    let call = collector.span("RATELIMIT.TB");
    assert_eq!((&call.trace_id, &call.parent_span_id), (&request.trace_id, &request.span_id));
    assert_eq!(call.kind(), SpanKind::Client);
    let names = ["db.system.name", "db.operation.name", "error.type"];
    assert_eq!(attributes(&call, names), ["redis", "RATELIMIT.TB", ""]);
    assert!(request.start_time_unix_nano <= call.start_time_unix_nano);
    assert!(call.end_time_unix_nano <= request.end_time_unix_nano);

    assert_eq!(collector.services(), ["ratelimit-gateway"]);
    gateway.log_with(&format!(r#""trace_id":"{TRACE}""#));
}

#[test]
fn spans_that_the_caller_does_not_sample_are_not_sent() {
    let server = Server::start();
    let collector = Collector::start();
    let gateway = traced(&server, &collector.endpoint()).env("OTEL_SERVICE_NAME", "mine").start();
    for (flags, id) in [("00", "1".repeat(16)), ("01", "2".repeat(16))] {
        let parent = format!("00-{TRACE}-{id}-{flags}");
        assert_eq!(check(&gateway, &[("traceparent", &parent)]), 200);
    }
    // Without a valid trace of the caller, the gateway begins a new trace.
    for parent in ["", "00-0-0-01", "ff-", "\u{e9}"] {
        check(&gateway, &[("traceparent", parent)]);
    }
    gateway.terminate();
    let spans = collector.spans();
    let requests: Vec<_> = spans.iter().filter(|span| span.kind() == SpanKind::Server).collect();
    let parents = requests.iter().map(|span| id_digits(&span.parent_span_id)).collect::<Vec<_>>();
    assert_eq!(parents, ["2222222222222222", "", "", "", ""]);
    assert!(requests[1..].iter().all(|span| id_digits(&span.trace_id) != TRACE));
    assert!(collector.services().iter().all(|name| name == "mine"));
}

#[test]
fn the_share_of_new_traces_that_are_sampled_can_be_set() {
    let server = Server::start();
    let collector = Collector::start();
    let settings = traced(&server, &collector.endpoint());
    let settings = settings.env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
    let gateway = settings.env("OTEL_TRACES_SAMPLER_ARG", "0").start();
    check(&gateway, &[]);
    check(&gateway, &[("traceparent", &format!("00-{TRACE}-{PARENT}-01"))]);
    gateway.terminate();
    let traces = collector.spans().into_iter().map(|span| id_digits(&span.trace_id));
    assert_eq!(traces.collect::<Vec<_>>(), [TRACE, TRACE]);
}

#[test]
fn traces_can_be_switched_off_and_sent_elsewhere() {
    let server = Server::start();
    let (base, own) = (Collector::start(), Collector::start());
    let elsewhere = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("{}/v1/traces", own.endpoint()));
    for (name, value, spans) in [
        ("OTEL_SDK_DISABLED", "true", [0, 0]),
        ("OTEL_TRACES_EXPORTER", "none", [0, 0]),
        ("OTEL_TRACES_EXPORTER", "otlp", [2, 0]),
        (elsewhere.0, &elsewhere.1, [2, 2]),
    ] {
        let gateway = traced(&server, &base.endpoint()).env(name, value).start();
        assert_eq!(check(&gateway, &[]), 200);
        gateway.terminate();
        assert_eq!([&base, &own].map(|collector| collector.spans().len()), spans, "{name}");
    }
}

#[test]
fn spans_have_no_identifiers_and_probes_have_no_spans() {
    let server = Server::start();
    let collector = Collector::start();
    let gateway = traced(&server, &collector.endpoint()).env("LOG_LEVEL", "DEBUG").start();
    check(&gateway, &[]);
    gateway.get("/rate-limit/status/someone?limit=5");
    gateway.get("/rate-limit/status/someone?limit=someone");
    gateway.delete("/rate-limit/reset/someone?algorithm=token_bucket");
    gateway.post("/rate-limit/check", r#"{"identifier":"someone","limit":"x"}"#);
    gateway.get("/someone?someone");
    gateway.request("SOMEONE", "/rate-limit/check", &[("User-Agent", "someone")], "");
    for probe in ["/health", "/health/live", "/health/ready", "/metrics"] {
        gateway.get(probe);
    }
    gateway.terminate();
    let everything = collector.everything();
    assert!(!everything.to_lowercase().contains("someone"), "{everything}");
    let names = collector.spans().into_iter().map(|span| span.name).collect::<Vec<_>>();
    let expected = [
        "RATELIMIT.TB",
        "POST /rate-limit/check",
        "RATELIMIT.PEEK",
        "GET /rate-limit/status/{identifier}",
        "GET /rate-limit/status/{identifier}",
        "RATELIMIT.RESET",
        "DELETE /rate-limit/reset/{identifier}",
        "POST /rate-limit/check",
        "GET",
        "HTTP /rate-limit/check",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_failure_is_an_error_in_both_spans() {
    let server = Server::start();
    server.client().call::<()>("SET token_bucket:{someone} value");
    let collector = Collector::start();
    let gateway = traced(&server, &collector.endpoint()).start();
    assert_eq!(check(&gateway, &[]), 503);
    let (request, call) =
        (collector.span("POST /rate-limit/check"), collector.span("RATELIMIT.TB"));
    assert!(has_failed(&request) && has_failed(&call));
    assert_eq!(attributes(&request, ["error.type"]), ["503"]);
    assert_eq!(attributes(&call, ["error.type"]), ["WRONGTYPE"]);
}

#[test]
fn traces_can_be_sent_over_tls() {
    let server = Server::start();
    let authority = Authority::new();
    let collector = Collector::with_tls(&authority.server("collector", &["localhost"]));
    let trusted = authority.file();
    let gateway = traced(&server, &collector.endpoint())
        .env("SSL_CERT_FILE", trusted.to_str().unwrap())
        .start();
    check(&gateway, &[]);
    collector.span("POST /rate-limit/check");
}

#[test]
fn a_collector_that_is_down_harms_no_request_and_is_logged_once() {
    let server = Server::start();
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let gateway = traced(&server, &endpoint).start();
    eventually("that is logged", || {
        assert_eq!(check(&gateway, &[]), 200);
        gateway.log().contains("cannot send traces").then_some(())
    });
    for _ in 0..20 {
        assert_eq!(check(&gateway, &[]), 200);
    }
    let (status, log) = gateway.terminate();
    assert!(status.success(), "{log}");
    assert_eq!(log.matches("cannot send traces").count(), 1, "{log}");
}

#[test]
fn a_collector_that_hangs_does_not_delay_the_end() {
    let server = Server::start();
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let gateway = traced(&server, &endpoint).env("SHUTDOWN_DELAY_MS", "0").start();
    assert_eq!(check(&gateway, &[]), 200);
    let ((status, log), time) = timed(|| gateway.terminate());
    assert!(status.success() && time < Duration::from_secs(8), "{time:?}\n{log}");
    assert!(log.contains("the last traces were not sent"), "{log}");
}
