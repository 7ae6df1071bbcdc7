//! The host by which a proxy selects a service is the host that the policies judge.

use super::example::{Proxy, Site};
use crate::harness::Response;

/// A policy for one host, whose units do not return while a test runs.
const POLICIES: &str = "
version: 1
policies:
  - {name: host, match: {host: special.example}, by: [], limits: [{name: rate, limit: 2, per: 365d}]}
  - {name: site, by: [], limits: [{name: rate, limit: 1000000, per: 365d}]}
";

/// Returns a configuration that serves special.example only.
fn for_one_host(proxy: Proxy, text: &str) -> String {
    match proxy {
        Proxy::Nginx => text.replace(
            "    server {\n        listen 127.0.0.1:8080;",
            "    server { listen 127.0.0.1:8080 default_server; return 404; }\n    server {\n        \
             listen 127.0.0.1:8080; server_name special.example;",
        ),
        // As a rule for a backend, which looks at each part of a list.
        Proxy::Haproxy => text.replace(
            "    http-request lua.ratelimit",
            "    http-request deny deny_status 404 unless { hdr(host),field(1,:) -i special.example }\n    \
             http-request lua.ratelimit",
        ),
        Proxy::Caddy => text.replace("http://:8080", "http://special.example:8080"),
        // The test waits for an answer to another host.
        Proxy::Traefik => {
            text.replace("PathPrefix(`/`)", "Host(`special.example`) || Host(`localhost`)")
        }
    }
}

fn get(site: &Site, client: u8, host: &str, headers: &[(&str, &str)]) -> Response {
    let lines: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n");
    site.send_from(client, request.as_bytes())
}

#[test]
#[ignore = "make test-proxies"]
fn no_spelling_of_a_host_that_the_proxy_serves_escapes_its_policy() {
    for proxy in Proxy::ALL {
        let edit = |text: String| for_one_host(proxy, &text);
        let site = Site::with(proxy, Some(POLICIES), "127.0.0.1", &edit);
        let first = [(); 3].map(|()| get(&site, 2, "special.example", &[]).status);
        assert_eq!(first, [200, 200, 429], "{proxy:?}\n{}", site.log());
        for host in [
            "SPECIAL.Example",
            "special.example.",
            "special.example:80",
            "special.example:",
            "special.example:99999",
            "special.example.:443",
            "special.example:x",
            "special.example:1a",
            "special.example:00x",
            "special.example:80:80",
            "special.example:x:80",
            "special.example,x",
            "x,special.example",
            "special.example, x",
            "[special.example]",
            "[special.example]:80",
            "[special.example]:x",
            "[special.example",
            "special.example]",
            "x@special.example",
            "special.example@x",
            "special.example/x",
            "special.example?x",
            "special.example#x",
            "special.example%00",
            "%73pecial.example",
            "special.example;x",
        ] {
            let answer = get(&site, 2, host, &[]);
            // Caddy answers itself, with 200, to a host that it does not serve.
            let served = site.upstream.requests();
            assert_eq!(served, 2, "{proxy:?} {host}: {answer:?}\n{}", site.log());
        }
    }
}

#[test]
#[ignore = "make test-proxies"]
fn headers_that_a_load_balancer_passes_on_describe_no_other_request() {
    /// A load balancer with the address 127.0.0.9, which appends the address of its client.
    const BALANCER: u8 = 9;
    for proxy in Proxy::ALL {
        let edit = |text: String| proxy.behind_balancer(&text);
        let site = Site::with(proxy, Some(POLICIES), "127.0.0.1, 127.0.0.9", &edit);
        let list = ("X-Forwarded-For", "203.0.113.7");
        let first = [(); 3].map(|()| get(&site, BALANCER, "special.example", &[list]).status);
        assert_eq!(first, [200, 200, 429], "{proxy:?}\n{}", site.log());
        for name in [
            "X-Forwarded-Host",
            "X-Forwarded-Uri",
            "X-Forwarded-Method",
            "X-Forwarded-Proto",
            "X-Forwarded-Port",
            "X-Forwarded-Server",
            "X-Original-Host",
            "X-Original-URI",
            "X-Original-URL",
            "X-Original-Method",
            "X-Rewrite-URL",
            "X-Host",
            "Forwarded",
            "X-Envoy-Original-Path",
            "X-RateLimit-Key",
            "Connection",
        ] {
            for value in
                ["other", "/other", "POST", "http://other/", "host=other", "X-Forwarded-Host"]
            {
                let answer = get(&site, BALANCER, "special.example", &[list, (name, value)]);
                assert_ne!(answer.status, 200, "{proxy:?} {name}: {value}: {answer:?}");
            }
        }
        assert_eq!(site.upstream.requests(), 2, "{proxy:?}");
    }
}
