//! Decisions as clients see them through each proxy.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use super::example::{Proxy, Site};
use crate::harness::{json_of, kept_request};

/// Units that do not return while a test runs.
const FEW: &str = "
version: 1
policies:
  - {name: site, by: [client.ip], missing: deny, limits: [{name: rate, limit: 3, per: 365d}]}
";

const MANY: &str = "
version: 1
policies:
  - {name: site, by: [], limits: [{name: rate, limit: 5000, per: 365d}]}
";

#[test]
#[ignore = "make test-proxies"]
fn clients_see_grants_and_denials() {
    for proxy in Proxy::ALL {
        let site = Site::with(proxy, Some(FEW), "127.0.0.1", &|text| text);
        for (remaining, method, body) in
            [("2", "GET", ""), ("1", "POST", "a body"), ("0", "PUT", "b")]
        {
            let answer = site.request_from(2, method, "/a%2Fb?c=d", &[], body);
            assert_eq!(answer.status, 200, "{proxy:?}: {answer:?}\n{}", site.log());
            let echo = json_of(&answer);
            assert_eq!(echo["method"], method, "{proxy:?}");
            assert_eq!((&echo["target"], &echo["body"]), (&json!("/a%2Fb?c=d"), &json!(body)));
            let state = answer.header("RateLimit");
            if proxy.passes_headers_of_grants() {
                assert!(
                    state.is_some_and(|state| state.contains(&format!("r={remaining}"))),
                    "{proxy:?}: {answer:?}"
                );
                assert_eq!(answer.header("RateLimit-Policy"), Some(r#""rate";q=3;w=31536000"#));
            } else {
                assert_eq!(state, None);
            }
        }
        for (method, body) in [("GET", ""), ("HEAD", ""), ("POST", "a body"), ("OPTIONS", "")] {
            let answer = site.request_from(2, method, "/", &[], body);
            assert_eq!(answer.status, 429, "{proxy:?} {method}: {answer:?}");
            assert!(answer.header("Retry-After").is_some(), "{proxy:?} {method}: {answer:?}");
            assert!(answer.header("RateLimit").is_some(), "{proxy:?} {method}: {answer:?}");
        }
        assert_eq!(site.upstream.requests(), 3, "{proxy:?}");
        // HEAD takes a unit as any other method does.
        let statuses = [(); 4].map(|()| site.request_from(3, "HEAD", "/", &[], "").status);
        assert_eq!(statuses, [200, 200, 200, 429], "{proxy:?}");
    }
}

#[test]
#[ignore = "make test-proxies"]
fn the_policies_of_an_example_decide_on_their_first_requests() {
    for proxy in Proxy::ALL {
        let site = Site::start(proxy);
        let logins = [(); 6].map(|()| site.request_from(2, "POST", "/%6Cogin/", &[], "x").status);
        assert_eq!(logins, [200, 200, 200, 200, 200, 429], "{proxy:?}");
        assert_eq!(site.get(2, "/").status, 200, "{proxy:?}");
        // Twenty at once, and ten more each second.
        let burst = (0..60).filter(|_| site.get(3, "/").status == 200).count();
        assert!((20..60).contains(&burst), "{proxy:?}: {burst}");
    }
}

#[test]
#[ignore = "make test-proxies"]
fn a_connection_carries_many_requests_and_http_2_is_served() {
    for proxy in Proxy::ALL {
        let with_http_2 = |text: String| match proxy {
            Proxy::Nginx => text.replace("listen 127.0.0.1:8080;", "listen 127.0.0.1:8080 http2;"),
            Proxy::Caddy => text.replace(
                "{\n\tadmin off",
                "{\n\tservers {\n\t\tprotocols h1 h2c\n\t}\n\tadmin off",
            ),
            Proxy::Haproxy | Proxy::Traefik => text,
        };
        let site = Site::with(proxy, Some(FEW), "127.0.0.1", &|text| text);
        let mut connection = site.connect(2).unwrap();
        let request = kept_request("GET", "/", &[], "");
        let statuses = [(); 4].map(|()| connection.exchange(&request).unwrap().status);
        assert_eq!(statuses, [200, 200, 200, 429], "{proxy:?}");

        let site = Site::with(proxy, Some(FEW), "127.0.0.1", &with_http_2);
        let url = format!("http://{}/", site.address());
        // The curl of Debian 12 cannot use a connection of HTTP/2 without TLS twice.
        let statuses = [(); 4].map(|()| {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--http2-prior-knowledge", "--max-time", "60"]);
            curl.args(["--output", "/dev/null", "--write-out", "%{http_version} %{http_code}"]);
            let output = curl.arg(&url).output().expect("curl");
            String::from_utf8(output.stdout).expect("text")
        });
        assert_eq!(statuses, ["2 200", "2 200", "2 200", "2 429"], "{proxy:?}\n{}", site.log());
    }
}

#[test]
#[ignore = "make test-proxies"]
fn ten_thousand_requests_at_once_are_answered_and_counted_exactly() {
    const CLIENTS: usize = 20;
    const REQUESTS: usize = 500;
    for proxy in Proxy::ALL {
        let site = Site::with(proxy, Some(MANY), "127.0.0.1", &|text| text);
        let (granted, denied) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut connection = site.connect(2).unwrap();
                    let request = kept_request("GET", "/", &[], "");
                    for _ in 0..REQUESTS {
                        let answer = connection.exchange(&request).or_else(|_| {
                            // A proxy can close a connection after a number of requests.
                            connection = site.connect(2)?;
                            connection.exchange(&request)
                        });
                        match answer.unwrap().status {
                            200 => granted.fetch_add(1, Ordering::Relaxed),
                            429 => denied.fetch_add(1, Ordering::Relaxed),
                            status => panic!("{proxy:?}: {status}\n{}", site.log()),
                        };
                    }
                });
            }
        });
        let counts = (granted.into_inner(), denied.into_inner(), site.upstream.requests());
        assert_eq!(counts, (5_000, 5_000, 5_000), "{proxy:?}");
    }
}
