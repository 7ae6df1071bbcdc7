//! The same requests get the same decisions through the gRPC services as through checks.

use std::collections::HashMap;

use envoy::services::client::{
    envoy_types::pb::envoy::{
        config::core::v3::{Address, HeaderValueOption, SocketAddress, address},
        extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
        service::{
            auth::v3::{
                AttributeContext, CheckRequest, CheckResponse,
                attribute_context::{HttpRequest, Peer, Request},
                authorization_client::AuthorizationClient,
                check_response::HttpResponse,
            },
            ratelimit::v3::{
                RateLimitRequest, RateLimitResponse,
                rate_limit_service_client::RateLimitServiceClient,
            },
        },
    },
    tonic::transport::Channel,
};
use tokio::runtime::{Builder, Runtime};

use crate::gateway::same_decisions::{DOMAIN, Decision, EndUserRequest, Site, assert_same};
use crate::harness::{Random, Server, free_port};

const OK: i32 = 1;

/// A gateway that serves gRPC, and a client.
struct Services {
    runtime: Runtime,
    channel: Channel,
    #[expect(dead_code, reason = "the client needs it")]
    site: Site,
}

impl Services {
    fn start(server: &Server, prefix: &str, has_domain: bool) -> Self {
        let port = free_port();
        let site = Site::start(server, prefix, has_domain, |settings| {
            settings.env("GRPC_PORT", &port.to_string())
        });
        // A thread of its own reads what the gateway sends between two calls.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let channel = Channel::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
        let channel = runtime.block_on(channel.connect()).unwrap();
        Self { runtime, channel, site }
    }

    fn authorize(&self, request: &EndUserRequest) -> Decision {
        let mut client = AuthorizationClient::new(self.channel.clone());
        let answer = self.runtime.block_on(client.check(check_request(request))).unwrap();
        let CheckResponse { status, http_response, .. } = answer.into_inner();
        let allowed = status.unwrap().code == 0;
        let headers = match http_response {
            Some(HttpResponse::OkResponse(response)) => response.response_headers_to_add,
            Some(HttpResponse::DeniedResponse(response)) => {
                assert_eq!(response.status.unwrap().code, 429, "{request:?}");
                response.headers
            }
            other => panic!("{request:?}: {other:?}"),
        };
        let header = |option: HeaderValueOption| {
            option.header.filter(|header| header.key == "ratelimit").map(|header| header.value)
        };
        let state = headers.into_iter().find_map(header);
        Decision::of_headers(allowed, state.as_deref())
    }

    fn limit(&self, request: &EndUserRequest) -> Decision {
        let mut client = RateLimitServiceClient::new(self.channel.clone());
        let answer = self.runtime.block_on(client.should_rate_limit(limit_request(request)));
        let RateLimitResponse { overall_code, response_headers_to_add, .. } =
            answer.unwrap().into_inner();
        let mut headers = response_headers_to_add.iter();
        let state = headers.find(|header| header.key == "ratelimit");
        Decision::of_headers(overall_code == OK, state.map(|header| header.value.as_str()))
    }
}

fn check_request(request: &EndUserRequest) -> CheckRequest {
    let headers = request.headers().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let http = HttpRequest {
        method: request.method.to_owned(),
        path: request.target(),
        host: request.host.to_owned(),
        headers: headers.collect::<HashMap<_, _>>(),
        ..Default::default()
    };
    let socket = SocketAddress { address: request.address.to_owned(), ..Default::default() };
    let address = Address { address: Some(address::Address::SocketAddress(socket)) };
    let attributes = AttributeContext {
        source: Some(Peer { address: Some(address), ..Default::default() }),
        request: Some(Request { http: Some(http), ..Default::default() }),
        ..Default::default()
    };
    CheckRequest { attributes: Some(attributes) }
}

fn limit_request(request: &EndUserRequest) -> RateLimitRequest {
    let entry = |(key, value): (&str, &str)| Entry { key: key.to_owned(), value: value.to_owned() };
    let entries = request.attributes().into_iter().map(entry).collect();
    RateLimitRequest {
        domain: DOMAIN.to_owned(),
        descriptors: vec![RateLimitDescriptor { entries, ..Default::default() }],
        hits_addend: 0,
    }
}

#[test]
#[ignore = "make test-proxies"]
fn the_services_decide_as_checks_do() {
    let server = Server::start();
    let requests = EndUserRequest::several(&mut Random::new());
    let checks = Site::start(&server, "checks:", false, |settings| settings).checks(&requests);
    let services = Services::start(&server, "authz:", false);
    let authorized: Vec<_> = requests.iter().map(|request| services.authorize(request)).collect();
    assert_same("Check", &requests, &authorized, &checks);
    let services = Services::start(&server, "rls:", true);
    let limited: Vec<_> = requests.iter().map(|request| services.limit(request)).collect();
    assert_same("ShouldRateLimit", &requests, &limited, &checks);
}
