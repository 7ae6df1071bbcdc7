//! What clients of the real Envoy can write: addresses, hosts, and heads at the bounds of Envoy.

use serde_json::json;

use super::envoy::{Envoy, Limits, example, failing_open};
use crate::harness::{http_request, json_of};

/// The configurations of the examples.
const FILES: [&str; 3] = ["rate-limit.yaml", "ext-authz-grpc.yaml", "ext-authz-http.yaml"];

#[test]
#[ignore = "make test-proxies"]
fn the_service_sees_the_address_of_the_connection_only() {
    for file in FILES {
        let limits = Limits::of_examples(&[]);
        let envoy = Envoy::start(&example(file), &limits);
        let forged = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "7.7.7.7, 8.8.8.8")];
        let echo = json_of(&envoy.request("GET", "/", &forged));
        let lists = echo["headers"].as_array().unwrap().iter();
        let lists: Vec<_> = lists.filter(|header| header[0] == "x-forwarded-for").collect();
        assert_eq!(lists, [&json!(["x-forwarded-for", "127.0.0.2"])], "{file}");
    }
}

#[test]
#[ignore = "make test-proxies"]
fn each_client_of_a_load_balancer_has_its_own_units() {
    /// A load balancer with the address 127.0.0.9, which appends the address of its client.
    const BALANCER: u8 = 9;
    for file in FILES {
        let limits = Limits::of_examples(&[("TRUSTED_PROXIES", "127.0.0.1, 127.0.0.9")]);
        let text = example(file);
        let begin = text.find("                early_header_mutation_extensions").unwrap();
        let end = text.find("                use_remote_address").unwrap();
        let text =
            format!("{}                xff_num_trusted_hops: 1\n{}", &text[..begin], &text[end..]);
        let envoy = Envoy::start(&text, &limits);
        let through = |list: &str| {
            let request = http_request("GET", "/", &[("X-Forwarded-For", list)], "");
            envoy.send_from(BALANCER, &request).status
        };
        for forged in 0..10 {
            assert_eq!(through(&format!("6.6.6.{forged}, 203.0.113.7")), 200, "{file}");
        }
        assert_eq!((through("203.0.113.7"), through("6.6.6.6, 203.0.113.7")), (429, 429), "{file}");
        assert_eq!(through("203.0.113.8"), 200, "{file}");
    }
}

#[test]
#[ignore = "make test-proxies"]
fn no_head_of_a_client_is_a_way_around_the_limit() {
    for file in FILES {
        let limits = Limits::of_examples(&[]);
        // An error of the gateway would let the request pass.
        let envoy = Envoy::start(&failing_open(&example(file)), &limits);
        for _ in 0..10 {
            assert_eq!(envoy.get("/").status, 200, "{file}");
        }
        let names: Vec<_> = (0..110).map(|number| format!("X-A{number}")).collect();
        for count in 85..=105 {
            let own: Vec<_> = names.iter().take(count).map(|name| (name.as_str(), "x")).collect();
            for headers in [own, vec![("X-A", "x"); count]] {
                let status = envoy.request("GET", "/", &headers).status;
                assert!(matches!(status, 429 | 431), "{file} {count} headers: {status}");
            }
        }
        for size in (1_000..59_000).step_by(2_000) {
            let long = "x".repeat(size);
            for (target, value) in [("/", &*long), (&*format!("/?{long}"), "")] {
                let status = envoy.request("GET", target, &[("X-A", value)]).status;
                assert!(matches!(status, 429 | 431), "{file} {size} bytes: {status}");
            }
        }
        assert_eq!(envoy.upstream.requests(), 10, "{file}");
    }
}

#[test]
#[ignore = "make test-proxies"]
fn a_malformed_host_is_a_denial_by_external_authorization() {
    for file in ["ext-authz-grpc.yaml", "ext-authz-http.yaml"] {
        let limits = Limits::of_examples(&[]);
        let envoy = Envoy::start(&failing_open(&example(file)), &limits);
        let status = |host: &str| {
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            envoy.send(request.as_bytes()).status
        };
        for host in ["shop.example", "shop.example:80", "[::1]:80"] {
            assert_eq!(status(host), 200, "{file} {host}");
        }
        for host in ["shop.example:x", "shop.example:1:2", "[shop.example]", "::1", "a,b"] {
            assert_eq!(status(host), 400, "{file} {host}");
        }
    }
}
