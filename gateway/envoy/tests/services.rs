//! The services over real connections, in front of a gateway that answers as each test wants.

#![cfg(feature = "services")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use envoy::{
    answer::{DescriptorAnswer, LimitAnswer, RateLimitAnswer},
    call::RateLimitCall,
    gateway::{Caller, Fault, Gateway, Outcome, Record},
    original_request::{Authorization, AuthorizationAnswer, OriginalRequest},
    services::{
        MAX_MESSAGE_BYTES, Server,
        client::{
            envoy_types::pb::{
                envoy::{
                    extensions::common::ratelimit::v3::{
                        RateLimitDescriptor, rate_limit_descriptor::Entry,
                    },
                    service::{
                        auth::v3::{CheckRequest, authorization_client::AuthorizationClient},
                        ratelimit::v3::{
                            RateLimitRequest, RateLimitResponse,
                            rate_limit_service_client::RateLimitServiceClient,
                        },
                    },
                },
                google::protobuf::UInt64Value,
            },
            tonic::{Code, IntoRequest, Request, Status, client::Grpc, transport::Channel},
            tonic_health::pb::{HealthCheckRequest, health_client::HealthClient},
            tonic_prost::ProstCodec,
            tonic_reflection::pb::{
                v1::{
                    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                    server_reflection_request::MessageRequest,
                    server_reflection_response::MessageResponse,
                },
                v1alpha,
            },
        },
    },
    time_unit::TimeUnit,
};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, uri::PathAndQuery};
use store::{Decision, Millis, Source};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

/// A gateway that answers as the test wants.
#[derive(Debug, Default)]
struct Fake {
    needs_credentials: bool,
    fault: Option<Fault>,
    is_stopping: AtomicBool,
    calls: Mutex<Vec<RateLimitCall>>,
    requests: Mutex<Vec<OriginalRequest>>,
    hangs: bool,
    records: Records,
}

/// The paths of methods, and the ends of their calls.
type Records = Arc<Mutex<Vec<(Option<&'static str>, Option<Outcome>)>>>;

/// A record of a call, without an outcome until its end.
struct FakeRecord {
    method: Option<&'static str>,
    outcome: Option<Outcome>,
    records: Records,
}

impl Record for FakeRecord {
    async fn run<T: Send>(mut self, work: impl Future<Output = (T, Outcome)> + Send) -> T {
        let (answer, outcome) = work.await;
        self.outcome = Some(outcome);
        answer
    }
}

impl Drop for FakeRecord {
    fn drop(&mut self) {
        self.records.lock().unwrap().push((self.method, self.outcome.take()));
    }
}

impl Gateway for Fake {
    type Record = FakeRecord;

    fn record(&self, method: Option<&'static str>, _: &HeaderMap, _: &Extensions) -> FakeRecord {
        FakeRecord { method, outcome: None, records: Arc::clone(&self.records) }
    }

    async fn limit(&self, _: Caller, call: RateLimitCall) -> Result<RateLimitAnswer, Fault> {
        self.calls.lock().unwrap().push(call);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        self.fault.clone().map_or_else(|| Ok(denial()), Err)
    }

    async fn authorize(
        &self,
        _: Caller,
        request: OriginalRequest,
    ) -> Result<AuthorizationAnswer, Fault> {
        self.requests.lock().unwrap().push(request);
        Ok(AuthorizationAnswer { decision: Authorization::Denied(429), headers: Vec::new() })
    }

    async fn is_ready(&self) -> bool {
        !self.is_stopping.load(Ordering::Relaxed)
    }

    fn needs_credentials(&self) -> bool {
        self.needs_credentials
    }
}

fn denial() -> RateLimitAnswer {
    let decision = Decision {
        source: Source::Redis,
        allowed: false,
        limit: 5,
        window: Some(Millis(60_000)),
        capacity: 5,
        remaining: 0,
        retry_after: Millis(12_001),
        reset_after: Millis(60_000),
    };
    let limit = LimitAnswer { name: "rate".to_owned(), unit: TimeUnit::Minute, decision };
    let limited = DescriptorAnswer { denied_for: None, limits: vec![limit], is_visible: true };
    let retry = (HeaderName::from_static("retry-after"), HeaderValue::from_static("13"));
    RateLimitAnswer {
        allowed: false,
        descriptors: vec![limited, DescriptorAnswer::default()],
        headers: vec![retry],
    }
}

const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// A running server, which drains when this value is dropped.
struct Running {
    gateway: Arc<Fake>,
    channel: Channel,
    drain: Option<oneshot::Sender<()>>,
    end: tokio::task::JoinHandle<()>,
}

async fn run(gateway: Fake) -> Running {
    let gateway = Arc::new(gateway);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let (sender, connections) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if sender.send(stream).await.is_err() {
                return;
            }
        }
    });
    let (drain, drained) = oneshot::channel::<()>();
    let served = Arc::clone(&gateway);
    let end = tokio::spawn(async move {
        let server = Server::new(&served);
        let drained = async { drop(drained.await) };
        server.run(served, connections, drained).await.unwrap();
    });
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect().await.unwrap();
    Running { gateway, channel, drain: Some(drain), end }
}

/// The end of a call: the method, the name of the code, the decision and the error.
type End = (Option<&'static str>, &'static str, Option<bool>, Option<String>);

/// Returns the ends of all calls.
fn ends(running: &Running) -> Vec<End> {
    let records = running.gateway.records.lock().unwrap().clone();
    let ends = records.into_iter().map(|(method, outcome)| {
        let Outcome { code, allowed, error } = outcome.unwrap();
        (method, code.name(), allowed, error)
    });
    ends.collect()
}

fn request(value: &str) -> RateLimitRequest {
    let entry = Entry { key: "user".to_owned(), value: value.to_owned() };
    let descriptor = RateLimitDescriptor { entries: vec![entry], ..Default::default() };
    RateLimitRequest {
        domain: "shop".to_owned(),
        descriptors: vec![descriptor.clone(), descriptor],
        hits_addend: 0,
    }
}

async fn limit(
    running: &Running,
    request: impl IntoRequest<RateLimitRequest>,
) -> Result<RateLimitResponse, Status> {
    let mut client = RateLimitServiceClient::new(running.channel.clone());
    Ok(client.should_rate_limit(request).await?.into_inner())
}

async fn health(running: &Running, service: &str) -> Result<i32, Code> {
    let mut client = HealthClient::new(running.channel.clone());
    let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await;
    answer.map(|answer| answer.into_inner().status).map_err(|status| status.code())
}

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

#[tokio::test]
async fn a_denial_arrives_with_statuses_and_headers() {
    let running = run(Fake::default()).await;
    let mut call = Request::new(request("ann"));
    call.set_timeout(Duration::from_millis(500));
    let answer = limit(&running, call).await.unwrap();
    assert_eq!(answer.overall_code, 2);
    let [denied, free] = &answer.statuses[..] else { panic!("{answer:?}") };
    let limit_of = denied.current_limit.as_ref().unwrap();
    assert_eq!((limit_of.name.as_str(), limit_of.requests_per_unit, limit_of.unit), ("rate", 5, 2));
    let seconds = denied.duration_until_reset.as_ref().unwrap().seconds;
    assert_eq!((denied.code, denied.limit_remaining, seconds), (2, 0, 13));
    assert_eq!((free.code, free.current_limit.is_none()), (1, true));
    let header = &answer.response_headers_to_add[0];
    assert_eq!((header.key.as_str(), header.value.as_str()), ("retry-after", "13"));

    let calls = running.gateway.calls.lock().unwrap().clone();
    assert_eq!(calls[0].descriptors.len(), 2);
    // The client rounds the timeout to a unit.
    let wait = calls[0].max_wait.unwrap();
    assert!(wait <= Duration::from_millis(400) && wait > Duration::from_millis(300), "{wait:?}");
    assert_eq!(ends(&running), [(Some(SHOULD_RATE_LIMIT), "OK", Some(false), None)]);
}

#[tokio::test]
async fn a_fault_is_an_error_of_grpc() {
    for (fault, code, name) in [
        (Fault::Unavailable, Code::Unavailable, "UNAVAILABLE"),
        (Fault::Unauthenticated, Code::Unauthenticated, "UNAUTHENTICATED"),
        (Fault::Forbidden("reset"), Code::PermissionDenied, "PERMISSION_DENIED"),
        (Fault::Internal, Code::Internal, "INTERNAL"),
    ] {
        let running = run(Fake { fault: Some(fault), ..Fake::default() }).await;
        assert_eq!(limit(&running, request("ann")).await.unwrap_err().code(), code);
        assert_eq!(ends(&running)[0].1, name);
    }
    let running = run(Fake::default()).await;
    for wrong in [
        RateLimitRequest { domain: String::new(), ..request("ann") },
        RateLimitRequest { descriptors: Vec::new(), ..request("ann") },
    ] {
        assert_eq!(limit(&running, wrong).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let mut client = AuthorizationClient::new(running.channel.clone());
    let error = client.check(CheckRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}

/// The largest head that Envoy accepts by default fits into several descriptors.
#[tokio::test]
async fn a_message_has_a_bound_that_no_head_exceeds() {
    let running = run(Fake::default()).await;
    let head = "x".repeat(60 * 1024);
    limit(&running, request(&head)).await.unwrap();
    let error = limit(&running, request(&"x".repeat(MAX_MESSAGE_BYTES))).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange);
    let (method, code, allowed, error) = ends(&running).remove(1);
    assert_eq!((method, code, allowed), (Some(SHOULD_RATE_LIMIT), "OUT_OF_RANGE", None));
    assert!(error.unwrap().contains("too large"));
}

/// Calls any path with a message that is none of the services.
async fn call_anything(running: &Running, path: &'static str) -> Code {
    let mut client = Grpc::new(running.channel.clone());
    client.ready().await.unwrap();
    let codec = ProstCodec::<UInt64Value, UInt64Value>::default();
    let message = Request::new(UInt64Value { value: 5 });
    let answer = client.unary(message, PathAndQuery::from_static(path), codec).await;
    answer.unwrap_err().code()
}

#[tokio::test]
async fn a_call_that_reaches_no_method_is_recorded() {
    let running = run(Fake::default()).await;
    let authorization = "/envoy.service.auth.v3.Authorization/Check";
    for (path, method, code, name) in [
        (SHOULD_RATE_LIMIT, Some(SHOULD_RATE_LIMIT), Code::Internal, "INTERNAL"),
        (authorization, Some(authorization), Code::Internal, "INTERNAL"),
        (
            "/envoy.service.ratelimit.v3.RateLimitService/Other",
            None,
            Code::Unimplemented,
            "UNIMPLEMENTED",
        ),
        ("/other.Service/Method", None, Code::Unimplemented, "UNIMPLEMENTED"),
    ] {
        assert_eq!(call_anything(&running, path).await, code, "{path}");
        let (recorded, end, allowed, _) = ends(&running).pop().unwrap();
        assert_eq!((recorded, end, allowed), (method, name, None), "{path}");
    }
    assert_eq!(health(&running, "").await, Ok(SERVING));
    names(&running).await.unwrap();
    let methods: Vec<_> = ends(&running)[4..].iter().filter_map(|end| end.0).collect();
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    assert_eq!(methods, ["/grpc.health.v1.Health/Check", reflection]);
}

#[tokio::test]
async fn a_call_whose_client_has_gone_has_no_outcome() {
    let running = run(Fake { hangs: true, ..Fake::default() }).await;
    let mut call = Request::new(request("ann"));
    call.set_timeout(Duration::from_millis(20));
    assert!(limit(&running, call).await.is_err());
    // The client can be the first to stop waiting.
    while running.gateway.records.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let records = running.gateway.records.lock().unwrap().clone();
    assert_eq!(records, [(Some(SHOULD_RATE_LIMIT), None)]);
}

#[tokio::test]
async fn the_health_is_that_of_the_gateway() {
    let mut running = run(Fake::default()).await;
    let names =
        ["", "envoy.service.ratelimit.v3.RateLimitService", "envoy.service.auth.v3.Authorization"];
    for name in names {
        assert_eq!(health(&running, name).await, Ok(SERVING), "{name:?}");
    }
    assert_eq!(health(&running, "other").await, Err(Code::NotFound));
    // A client that watches does not keep the server from its end.
    let mut client = HealthClient::new(running.channel.clone());
    let watch = client.watch(HealthCheckRequest { service: String::new() }).await.unwrap();
    let mut watch = watch.into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, SERVING);
    running.gateway.is_stopping.store(true, Ordering::Relaxed);
    assert_eq!(watch.message().await.unwrap().unwrap().status, NOT_SERVING);
    assert_eq!(health(&running, names[1]).await, Ok(NOT_SERVING));
    // Calls are answered until the server drains.
    limit(&running, request("ann")).await.unwrap();
    drop(running.drain.take());
    assert_eq!(watch.message().await.unwrap(), None);
    tokio::time::timeout(Duration::from_secs(10), &mut running.end).await.unwrap().unwrap();
}

/// Returns the names of the services, or the error without reflection.
async fn names(running: &Running) -> Result<Vec<String>, Code> {
    let mut client = ServerReflectionClient::new(running.channel.clone());
    let list = MessageRequest::ListServices(String::new());
    let question = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let answers = client.server_reflection_info(tokio_stream::once(question)).await;
    let mut answers = answers.map_err(|status| status.code())?.into_inner();
    let answer = answers.message().await.map_err(|status| status.code())?.unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    Ok(list.service.into_iter().map(|service| service.name).collect())
}

#[tokio::test]
async fn older_clients_have_reflection() {
    let running = run(Fake::default()).await;
    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(running.channel.clone());
    let symbol = "envoy.service.ratelimit.v3.RateLimitService".to_owned();
    let question = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(symbol),
        ),
    };
    let answers = client.server_reflection_info(tokio_stream::once(question)).await;
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    let response = answer.message_response.unwrap();
    use v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse;
    assert!(matches!(response, FileDescriptorResponse(_)), "{response:?}");
}

#[tokio::test]
async fn there_is_no_reflection_where_callers_need_credentials() {
    let mut open = names(&run(Fake::default()).await).await.unwrap();
    open.sort();
    let expected = [
        "envoy.service.auth.v3.Authorization",
        "envoy.service.ratelimit.v3.RateLimitService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ];
    assert_eq!(open, expected);
    let closed = run(Fake { needs_credentials: true, ..Fake::default() }).await;
    assert_eq!(names(&closed).await, Err(Code::Unimplemented));
}
