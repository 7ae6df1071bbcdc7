//! The rule of each proxy in docs/proxies.md against escaped slashes.

use super::envoy::{Envoy, Limits, example};
use super::example::{Proxy, Site};

fn with_rule(proxy: Proxy, text: &str) -> String {
    match proxy {
        Proxy::Nginx => text.replace(
            "        location / {",
            "        if ($request_uri ~* \"^[^?]*%2f\") { return 400; }\n        location / {",
        ),
        Proxy::Haproxy => text.replace(
            "    http-request lua.ratelimit",
            "    http-request deny deny_status 400 if { path -m sub -i %2f }\n    \
             http-request lua.ratelimit",
        ),
        Proxy::Caddy => text.replace(
            "\troute {\n",
            "\t@escaped expression `{http.request.orig_uri}.matches(\"(?i)^[^?]*%2f\")`\n\t\
             route {\n\t\trespond @escaped 400\n",
        ),
        Proxy::Traefik => text.replace(
            "    address: 127.0.0.1:8080",
            "    address: 127.0.0.1:8080\n    http:\n      encodedCharacters:\n        \
             allowEncodedSlash: false",
        ),
    }
}

#[test]
#[ignore = "make test-proxies"]
fn a_rule_refuses_escaped_slashes() {
    for proxy in Proxy::ALL {
        let site = Site::with(proxy, None, "127.0.0.1", &|text| with_rule(proxy, &text));
        for (target, expected) in
            [("/v1%2Flogin", 400), ("/v1%2flogin?a=b", 400), ("/v1/login?a=%2F", 200)]
        {
            let status = site.get(2, target).status;
            assert_eq!(status, expected, "{proxy:?} {target}\n{}", site.log());
        }
    }
    for file in ["ext-authz-grpc.yaml", "ext-authz-http.yaml", "rate-limit.yaml"] {
        let text = example(file).replace(
            "                normalize_path: true\n",
            "                normalize_path: true\n                \
             path_with_escaped_slashes_action: REJECT_REQUEST\n",
        );
        let limits = Limits::of_examples(&[]);
        let envoy = Envoy::start(&text, &limits);
        let status = ["/v1%2Flogin", "/v1%2flogin?a=b", "/v1/login?a=%2F"]
            .map(|target| envoy.get(target).status);
        assert_eq!(status, [400, 400, 200], "{file}");
    }
}
