//! Forward authentication: the contracts for proxies, as a proxy and its end users use them.

use std::fs;
use std::io::Write;
use std::thread;
use std::time::Duration;

use ratelimit_test_tokens::Algorithm;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Gateway, GatewayBuilder, Issuer, Response, eventually, kept_request};

/// Policies whose units do not return while a test runs.
const POLICIES: &str = r#"
version: 1
policies:
  - name: login-strict
    match: {path: /login}
    by: [client.ip]
    missing: deny
    limits: [{name: attempts, limit: 1, per: 365d}]
    shadow: true
  - name: login
    match: {path: /login}
    by: [client.ip]
    missing: deny
    limits: [{name: attempts, limit: 2, per: 365d}]
  - name: tenants
    match: {path: "/tenants/**"}
    by: [header.x-tenant, query.tenant]
    missing: share
    limits: [{name: rate, limit: 2, per: 365d}]
  - name: quiet
    match: {path: /quiet}
    by: []
    limits: [{name: rate, limit: 1, per: 365d}]
    headers: false
  - name: blocked
    match: {path: /blocked}
    by: [method]
    missing: share
    limits: [{name: rate, limit: 1, per: 365d}]
    overrides:
      - {by: GET, block: true, reason: a secret reason}
      - {by: POST, unlimited: true, reason: a secret reason}
  - name: hosts
    match: {host: "*.shop.example"}
    by: [host]
    missing: deny
    limits: [{name: rate, limit: 1, per: 365d}]
  - name: strict
    match: named
    by: []
    limits: [{name: rate, limit: 1, per: 365d}]
  - name: checks
    match: named
    entry: [check]
    by: []
    limits: [{name: rate, limit: 1, per: 365d}]
"#;

/// A policy that reads a claim.
const TOKENS: &str = r#"
version: 1
policies:
  - name: tokens
    match: {path: "/tokens/**"}
    by: [jwt.sub]
    missing: deny
    limits: [{name: rate, limit: 2, per: 365d}]
"#;

/// A gateway that decides itself, behind proxies on the loopback address.
struct Site {
    gateway: Gateway,
    _directory: TempDir,
}

fn settings(directory: &TempDir) -> GatewayBuilder {
    let file = directory.path().join("policies.yaml");
    fs::write(&file, POLICIES).expect("the file is written");
    Gateway::builder()
        .env("POLICIES_FILE", &file.display().to_string())
        .env("REDIS_URL", "memory://")
}

impl Site {
    fn start() -> Self {
        Self::with(|builder| builder.env("TRUSTED_PROXIES", "127.0.0.1"))
    }

    fn with(configure: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> Self {
        let directory = TempDir::new().expect("a directory");
        Self { gateway: configure(settings(&directory)).start(), _directory: directory }
    }

    /// Returns the answer of the contract of nginx.
    fn auth_request(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        let own = [("X-Original-Method", "GET"), ("X-Original-URI", target)];
        self.gateway.request("GET", "/authz/auth-request", &[&own, headers].concat(), "")
    }

    /// Returns the answer of the contract of Traefik and Caddy.
    fn forward_auth(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        let own = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", target)];
        self.gateway.request("GET", "/authz/forward-auth", &[&own, headers].concat(), "")
    }

    /// Returns the answer of the contract of Envoy.
    fn ext_authz(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.gateway.request("GET", &format!("/authz/ext-authz{target}"), headers, "")
    }

    /// Returns the value of a counter of decisions.
    fn count(&self, policy: &str, limit: &str, outcome: &str) -> f64 {
        let labels = format!(r#"policy="{policy}",plan="",limit="{limit}",outcome="{outcome}""#);
        self.gateway.metric(&format!("ratelimit_policy_decisions_total{{{labels}}}"))
    }
}

fn from(address: &str) -> (&'static str, &str) {
    ("X-Forwarded-For", address)
}

fn names(answer: &Response) -> Vec<&str> {
    let mut names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn each_contract_grants_and_denies_with_its_own_statuses_and_only_named_headers() {
    // The HTTP library adds the last three.
    const GRANT: [&str; 10] = [
        "cache-control",
        "connection",
        "content-length",
        "date",
        "ratelimit",
        "ratelimit-policy",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-request-id",
    ];
    type Ask = fn(&Site, &str, &[(&str, &str)]) -> Response;
    let contracts: [(Ask, u16, Option<&str>); 3] = [
        (Site::auth_request, 403, Some("429")),
        (Site::forward_auth, 429, None),
        (Site::ext_authz, 429, None),
    ];
    for (ask, denied, status) in contracts {
        let site = Site::start();
        for remaining in ["1", "0"] {
            let answer = ask(&site, "/login", &[from("203.0.113.7"), ("X-Request-Id", "id-7")]);
            assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{answer:?}");
            assert_eq!(answer.header("X-RateLimit-Remaining"), Some(remaining));
            assert_eq!(answer.header("Cache-Control"), Some("no-store"));
            assert_eq!(answer.header("X-Request-Id"), Some("id-7"));
            // A trial beside the policy changes nothing, and the source is this process.
            let mut expected = GRANT.to_vec();
            expected.extend(answer.header("X-RateLimit-Source").map(|_| "x-ratelimit-source"));
            expected.sort_unstable();
            assert_eq!(names(&answer), expected);
        }
        let answer = ask(&site, "/login", &[from("203.0.113.7")]);
        assert_eq!((answer.status, answer.body.as_str()), (denied, ""), "{answer:?}");
        assert!(answer.header("Retry-After").is_some(), "{answer:?}");
        assert_eq!(answer.header("X-RateLimit-Status"), status);
        assert_eq!(ask(&site, "/login", &[from("203.0.113.8")]).status, 200);
        assert_eq!(site.count("login", "attempts", "denied"), 1.0);
        assert_eq!(site.count("login-strict", "attempts", "shadow_denied"), 1.0);
    }
}

#[test]
fn words_of_the_end_user_select_no_policy_and_no_status() {
    let site = Site::start();
    let user = from("203.0.113.7");
    assert_eq!([site.ext_authz("/login", &[user]).status, 200], [200; 2]);
    assert_eq!(site.ext_authz("/login?policy=strict", &[user]).status, 200);
    for target in [
        "/login?deny_status=200",
        "/login?deny=200",
        "/login?;deny=200",
        "/login?policy=strict",
        "//login?;policy=strict",
        "/login?#;policy=strict",
    ] {
        assert_eq!(site.ext_authz(target, &[user]).status, 429, "{target}");
        for header in ["X-RateLimit-Policy", "RateLimit-Policy", "X-RateLimit-Status"] {
            let answer = site.ext_authz(target, &[user, (header, "strict")]);
            assert_eq!(answer.status, 429, "{target}");
        }
    }
    // The parameters of a segment make another path, for which no policy is.
    assert_eq!(site.ext_authz("/login;deny=200", &[user]).header("RateLimit"), None);
    for query in ["?deny=200", "?policy=strict"] {
        let headers = [("X-Original-Method", "GET"), ("X-Original-URI", "/login"), user];
        let path = format!("/authz/auth-request{query}");
        assert_eq!(site.gateway.request("GET", &path, &headers, "").status, 403, "{query}");
    }
    assert_eq!(site.count("login", "attempts", "allowed"), 2.0);
}

#[test]
fn the_configuration_of_the_proxy_selects_policy_and_status() {
    let site = Site::start();
    let strict = |status| site.ext_authz(&format!(";policy=strict;deny={status}/login"), &[]);
    assert_eq!([strict(403).status, strict(403).status, strict(499).status], [200, 403, 499]);
    assert_eq!(strict(403).header("X-RateLimit-Status"), Some("429"));
    assert_eq!(strict(429).header("X-RateLimit-Status"), None);
    for (path, fault) in [
        (";policy=unknown/", "policy_unknown"),
        // A policy for checks alone, as one with leases must be.
        (";policy=checks/", "policy_unknown"),
        (";deny=200/", "options_malformed"),
        (";deny=401/", "options_malformed"),
        (";other=1/", "options_malformed"),
    ] {
        let answer = site.ext_authz(path, &[]);
        assert_eq!((answer.status, answer.body.as_str()), (500, ""), "{path}");
        site.gateway.log_with(&format!("\"refusal\":\"{fault}\""));
    }
    site.gateway.log_with("there is no policy `unknown`");
    site.gateway.log_with("deny takes 400 to 499 without 401");
    for path in ["/authz", "/authz/", "/authz/other", "/authz/auth-request/", "/authz/ext-authzx"] {
        let answer = site.gateway.get(path);
        assert_eq!((answer.status, answer.body.as_str()), (404, ""), "{path}");
    }
}

#[test]
fn every_spelling_of_a_path_is_that_path() {
    let site = Site::start();
    let user = from("203.0.113.7");
    for spelling in [
        "/%6Cogin",
        "//x/../login",
        "/login/",
        "/./login?a",
        "/x/%2e%2E/login",
        "http://a.example/login",
    ] {
        site.auth_request(spelling, &[user]);
    }
    assert_eq!(site.count("login", "attempts", "allowed"), 2.0);
    assert_eq!(site.count("login", "attempts", "denied"), 4.0);
    for spelling in ["/%6Cogin", "//x/../login", "/login/", "/x/%2e%2E/login"] {
        assert_eq!(site.ext_authz(spelling, &[user]).status, 429, "{spelling}");
        assert_eq!(site.forward_auth(spelling, &[user]).status, 429, "{spelling}");
    }
    for malformed in ["/%zz", "/a%00", "/login%0a", &format!("/{}", "a".repeat(9_000))] {
        assert_eq!(site.forward_auth(malformed, &[user]).status, 400);
        assert_eq!(site.ext_authz(malformed, &[user]).status, 400);
    }
}

#[test]
fn headers_that_decide_come_once_and_under_their_exact_names() {
    let site = Site::start();
    let user = from("203.0.113.7");
    let method = |name: &'static str| {
        site.gateway.request(
            "GET",
            "/authz/auth-request",
            &[(name, "GET"), ("X-Original-URI", "/login"), user],
            "",
        )
    };
    assert_eq!(method("X-Original-Method").status, 200);
    for name in ["X-Forwarded-Method", "X-HTTP-Method-Override", "X_Original_Method"] {
        assert_eq!(method(name).status, 400, "{name}");
    }
    let answer =
        site.gateway.request("GET", "/authz/forward-auth", &[("X-Forwarded-Uri", "/"), user], "");
    assert_eq!(answer.status, 400);
    for (name, value) in [("X-Original-URI", "/"), ("X-Original-Method", "GET")] {
        assert_eq!(site.auth_request("/login", &[user, (name, value)]).status, 400, "{name}");
    }
    // The headers of another contract, and other names of the own ones, decide nothing.
    let others = [
        ("X-Forwarded-Uri", "/"),
        ("X-Forwarded-Uri", "/other"),
        ("X_Original_Uri", "/"),
        ("X.Original.Uri", "/"),
        ("X-Original-URL", "http://a.example/"),
        user,
    ];
    assert_eq!([200, 403].map(|_| site.auth_request("/login", &others).status), [200, 403]);
    let others =
        [("X-Original-URI", "/"), ("X_Forwarded_Uri", "/"), ("X.Forwarded.Uri", "/"), user];
    assert_eq!(site.forward_auth("/login", &others).status, 429);
    // A Host header of an end user can move the begin of the path in a URL.
    let url = |url: &str| {
        let headers = [("X-Original-Method", "GET"), ("X-Original-URL", url), user];
        site.gateway.request("GET", "/authz/auth-request", &headers, "").status
    };
    assert_eq!(url("http://a.example/login"), 403);
    for forged in ["http://a.example?/login", "http://a.example#/login", "http://x@y/login"] {
        assert_eq!(url(forged), 400, "{forged}");
    }
}

#[test]
fn every_method_reaches_the_decision_and_takes_alike() {
    let site = Site::with(|builder| {
        builder
            .env("TRUSTED_PROXIES", "127.0.0.1")
            .env("CORS_ALLOW_ORIGINS", "https://shop.example")
    });
    let page = [
        ("Origin", "https://other.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "x-secret"),
    ];
    for (place, method) in
        ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "QUERY"]
            .into_iter()
            .enumerate()
    {
        let address = format!("203.0.113.{place}");
        let headers = [&page[..], &[from(&address)]].concat();
        let ask = || site.gateway.request(method, "/authz/ext-authz/login", &headers, "");
        let answers = [(); 3].map(|()| ask());
        assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 200, 429], "{method}");
        for answer in &answers {
            let is_cors = |name: &&str| name.starts_with("access-control") || **name == *"vary";
            assert_eq!(names(answer).into_iter().find(is_cors), None, "{answer:?}");
            assert_eq!(answer.body, "");
        }
    }
    let mut methods: Vec<_> = ["auth-request", "forward-auth"]
        .map(|contract| {
            let headers = [
                ("X-Original-Method", "OPTIONS"),
                ("X-Original-URI", "/login"),
                ("X-Forwarded-Method", "OPTIONS"),
                ("X-Forwarded-Uri", "/login"),
                from("203.0.113.9"),
            ];
            site.gateway.request("OPTIONS", &format!("/authz/{contract}"), &headers, "").status
        })
        .to_vec();
    methods.sort_unstable();
    assert_eq!(methods, [403, 429]);
}

#[test]
fn no_other_part_of_the_service_answers_below_the_contracts() {
    let preflight = [("Origin", "https://shop.example"), ("Access-Control-Request-Method", "POST")];
    let options = |gateway: &Gateway| {
        let answer = gateway.request("OPTIONS", "/authz/ext-authz/login", &preflight, "");
        assert_eq!(answer.body, "");
        answer.status
    };
    let without = Gateway::builder().env("REDIS_URL", "memory://").start();
    assert_eq!(options(&without), 404);
    assert_eq!(without.get("/authz/ext-authz/login").status, 404);

    // Above MAX_CONNECTIONS.
    let site = Site::with(|builder| builder.env("MAX_CONNECTIONS", "1"));
    let live = kept_request("GET", "/health/live", &[], "");
    let only = eventually("the only connection", || {
        let mut connection = site.gateway.connect();
        let answer = connection.exchange(&live).ok()?;
        (answer.status == 200).then_some(connection)
    });
    let answer = site.gateway.request("OPTIONS", "/authz/ext-authz/login", &preflight, "");
    assert_eq!((answer.status, answer.body.as_str()), (503, ""));
    assert!(answer.header("Retry-After").is_some());
    drop(only);
}

#[test]
fn the_listener_of_operators_has_no_contracts() {
    let directory = TempDir::new().unwrap();
    let gateway = settings(&directory).admin().start();
    assert_eq!(gateway.get("/authz/ext-authz/").status, 200);
    let answer = gateway.get_as_operator("/authz/ext-authz/");
    assert_eq!((answer.status, answer.body.as_str()), (404, ""));
}

#[test]
fn an_attribute_that_comes_twice_is_refused_only_if_the_tried_policy_reads_it() {
    let site = Site::start();
    let tenant = ("X-Tenant", "a");
    assert_eq!(site.forward_auth("/tenants/x?tenant=b", &[tenant]).status, 200);
    for (target, headers) in [
        ("/tenants/x?tenant=b&tenant=c", &[tenant][..]),
        ("/tenants/x?tenant=b&%74enant=c", &[tenant]),
        ("/tenants/x", &[tenant, ("x-tenant", "b")]),
    ] {
        let answer = site.forward_auth(target, headers);
        assert_eq!((answer.status, answer.body.as_str()), (400, ""), "{target} {headers:?}");
        let elsewhere = target.replace("/tenants/", "/other/");
        assert_eq!(site.forward_auth(&elsewhere, headers).status, 200, "{elsewhere}");
    }
}

#[test]
fn nothing_that_an_end_user_sends_turns_a_denial_into_an_error() {
    let site = Site::start();
    let user = from("203.0.113.7");
    let long = "x".repeat(40_000);
    let spent =
        [site.ext_authz("/login", &[user]).status, site.ext_authz("/login", &[user]).status];
    assert_eq!(spent, [200, 200]);
    for (name, value) in [
        ("User-Agent", long.as_str()),
        ("X-Tenant", &long),
        ("Cookie", "\u{e9}\u{1f980}"),
        ("Authorization", "Bearer a.b.c"),
        ("Origin", "null"),
        ("X-API-Key", "unknown"),
        ("X-RateLimit-Key", "unknown"),
        ("Expect", "100-continue"),
        ("Content-Type", "text/plain"),
        ("Traceparent", "x"),
        ("X-Request-Id", &long),
    ] {
        let answer = site.ext_authz("/login", &[user, (name, value)]);
        assert_eq!(answer.status, 429, "{name}");
    }
    let many: Vec<String> = (0..480).map(|number| format!("X-Header-{number}")).collect();
    let lines = many.iter().map(|name| (name.as_str(), "a value of an end user"));
    let lines: Vec<_> = lines.chain([user]).collect();
    assert_eq!(site.ext_authz("/login", &lines).status, 429);
    let query = format!("/login?{long}");
    assert_eq!(site.forward_auth(&query, &[user]).status, 429);
    assert_eq!(site.auth_request(&query, &[user]).status, 403);
    // Identities of any form are decided: long, empty, with braces, of any bytes.
    for tenant in [long.as_str(), "", "}", "{}", "%00", "\u{1f980}", "a b|c"] {
        let statuses =
            [(); 3].map(|()| site.forward_auth("/tenants/x", &[("X-Tenant", tenant)]).status);
        assert_eq!(statuses, [200, 200, 429], "{tenant:.20}");
    }
    // Beyond all bounds the end user gets a fault of its own.
    let huge = "x".repeat(96 * 1024);
    assert_eq!(site.ext_authz("/login", &[user, ("X", &huge)]).status, 431);
    // Other paths have the usual bounds.
    let check = site.gateway.request("GET", "/health/live", &[("X", &long)], "");
    assert_eq!(
        (check.status, check.body.as_str()),
        (431, r#"{"detail":"Request Header Fields Too Large"}"#)
    );
    assert_eq!(site.gateway.request("GET", "/health/live", &lines, "").status, 431);
}

#[test]
fn a_large_head_is_answered_in_its_order_on_a_connection_of_others() {
    let site = Site::start();
    let names: Vec<String> = (0..480).map(|number| format!("X-Header-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "a value")).collect();
    let long = "x".repeat(64 * 1024);
    let large = [&many[..], &[("X-Long", &long), from("203.0.113.7")]].concat();
    let health = kept_request("GET", "/health/live", &[], "");
    let login = kept_request("GET", "/authz/ext-authz/login", &large, "");
    let unknown = kept_request("GET", "/unknown", &large, "");
    let mut connection = site.gateway.connect();
    // At once, and in pieces.
    let all = [&health[..], &login, &health, &login, &health].concat();
    connection.stream().write_all(&all).unwrap();
    let statuses = [(); 5].map(|()| connection.receive().unwrap().status);
    assert_eq!(statuses, [200; 5]);
    let mut connection = site.gateway.connect();
    for piece in login.chunks(40_000) {
        connection.stream().write_all(piece).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(connection.receive().unwrap().status, 429);
    // Other paths have the usual bounds, and leave the connection open.
    for (request, status) in [(&unknown, 431), (&health, 200), (&login, 429)] {
        assert_eq!(connection.exchange(request).unwrap().status, status);
    }
}

#[test]
fn a_body_is_not_read_and_closes_the_connection() {
    let site = Site::start();
    let mut connection = site.gateway.connect();
    let headers = [("X-Original-Method", "POST"), ("X-Original-URI", "/"), from("203.0.113.7")];
    let empty = [&headers[..], &[("Content-Length", "0")]].concat();
    for headers in [&headers[..], &empty] {
        let answer =
            connection.exchange(&kept_request("GET", "/authz/auth-request", headers, "")).unwrap();
        assert_eq!((answer.status, answer.header("Connection")), (200, None));
    }
    // By default nginx announces the body of the end user, and sends none.
    for announced in [("Content-Length", "10"), ("Transfer-Encoding", "chunked")] {
        let mut connection = site.gateway.connect();
        let headers = [&headers[..], &[announced]].concat();
        let answer =
            connection.exchange(&kept_request("GET", "/authz/auth-request", &headers, "")).unwrap();
        assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
    }
}

#[test]
fn the_address_of_the_end_user_is_that_which_trusted_proxies_have_seen() {
    let site = Site::with(|builder| builder.env("TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8"));
    let login = |lines: &[&str]| {
        let headers: Vec<_> = lines.iter().map(|line| from(line)).collect();
        site.auth_request("/login", &headers).status
    };
    // All of these are one end user, with two units.
    let lists: [&[&str]; 6] = [
        &["203.0.113.7"],
        &["6.6.6.6, 203.0.113.7"],
        &["10.0.0.9, 203.0.113.7:5678, 10.0.0.1"],
        &["6.6.6.6", "203.0.113.7", "10.0.0.1"],
        &["::ffff:203.0.113.7, [::ffff:10.0.0.1]:80"],
        &["64:ff9b::203.0.113.7"],
    ];
    assert_eq!(lists.map(login), [200, 200, 403, 403, 403, 403]);
    // The others have units of their own, and IPv6 clients have them by network.
    assert_eq!(login(&["203.0.113.7, 6.6.6.6"]), 200);
    let network = ["2001:db8::1", "[2001:db8::2]", "[2001:db8:0:0:9::]:80"];
    assert_eq!(network.map(|address| login(&[address])), [200, 200, 403]);
    assert_eq!(login(&["203.0.113.7, unknown"]), 400);
    assert_eq!(login(&["203.0.113.7, unknown, 10.0.0.1"]), 400);
    assert_eq!(login(&["unknown, 203.0.113.9"]), 200);
    // A list that was not sent is a fault of the proxy, where a policy reads the address.
    assert_eq!([login(&[]), login(&[""])], [500, 500]);
    assert_eq!(site.auth_request("/other", &[]).status, 200);
    site.gateway.log_with("\"refusal\":\"client_address_unknown\"");
}

#[test]
fn a_proxy_that_is_not_trusted_fails_at_the_first_request() {
    let site = Site::with(|builder| builder.env("TRUSTED_PROXIES", "10.0.0.1"));
    for answer in [
        site.auth_request("/login", &[from("203.0.113.7")]),
        site.forward_auth("/login", &[from("203.0.113.7")]),
        site.ext_authz("/login", &[from("203.0.113.7")]),
    ] {
        assert_eq!((answer.status, answer.body.as_str()), (500, ""));
    }
    let log = site.gateway.log_with("TRUSTED_PROXIES must list the proxy");
    // One line for the first of them, and no line for each.
    assert_eq!(log.matches("requests of a proxy have status 500").count(), 1, "{log}");
    assert_eq!(site.ext_authz("/other", &[]).status, 200);
}

#[test]
fn a_proxy_that_describes_no_request_is_in_the_log() {
    let site = Site::start();
    let forwarded = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", "/")];
    let wrong = site.gateway.request("GET", "/authz/auth-request", &forwarded, "");
    assert_eq!((wrong.status, wrong.body.as_str()), (400, ""));
    site.gateway.log_with("\"refusal\":\"request_not_described\"");
    let log = site.gateway.log_with("the proxy must send x-original-method");
    assert_eq!(log.matches("requests of a proxy have status 400").count(), 1, "{log}");
}

#[test]
fn claims_are_those_of_the_end_user_and_verified() {
    let (issuer, directory) = (Issuer::new(Algorithm::ES256), TempDir::new().unwrap());
    let builder = settings(&directory);
    fs::write(directory.path().join("policies.yaml"), TOKENS).unwrap();
    let keys = directory.path().join("set.json");
    Issuer::write(&keys, &[&issuer]);
    let builder = builder
        .env("IDENTITY_JWKS_FILE", &keys.display().to_string())
        .env("IDENTITY_AUDIENCE", Issuer::AUDIENCE)
        .env("IDENTITY_ISSUER", Issuer::NAME)
        .env("IDENTITY_COOKIE", "session");
    let site = Site { gateway: builder.start(), _directory: directory };
    let token = |subject: &str| issuer.token_that_says(subject, &json!({}));
    let bearer = |subject: &str| format!("Bearer {}", token(subject));
    let ask = |headers: &[(&str, &str)]| {
        let answer = site.forward_auth("/tokens/x", headers);
        (answer.status, answer.header("X-RateLimit-Remaining").map(str::to_owned))
    };
    let granted = |remaining: &str| (200, Some(remaining.to_owned()));
    let alice = bearer("alice");
    assert_eq!(ask(&[("Authorization", &alice)]), granted("1"));
    let cookie = format!("a=b; session={}", token("alice"));
    assert_eq!(ask(&[("Cookie", &cookie), ("Authorization", "Basic dTpw")]), granted("0"));
    assert_eq!(ask(&[("Authorization", &alice)]).0, 429);
    assert_eq!(ask(&[("Authorization", &bearer("bob"))]), granted("1"));
    // Without a valid token the identity is missing.
    assert_eq!(ask(&[]).0, 429);
    assert_eq!(ask(&[("Authorization", "Bearer a.b.c")]).0, 429);
    // Of two tokens the server may read the other one.
    let two = [("Authorization", alice.as_str()), ("Authorization", "Bearer x")];
    assert_eq!(ask(&two).0, 400);
    assert_eq!(site.forward_auth("/other", &two).status, 200);
}

#[test]
fn end_users_see_no_reason_and_no_hidden_limit() {
    let site = Site::start();
    let statuses = [(); 2].map(|()| site.auth_request("/quiet", &[]));
    assert_eq!(statuses.each_ref().map(|answer| answer.status), [200, 403]);
    let hidden = ["cache-control", "connection", "content-length", "date"];
    let granted: Vec<_> = hidden.into_iter().chain(["x-request-id"]).collect();
    assert_eq!(names(&statuses[0]), granted);
    let denied = hidden.into_iter().chain(["retry-after", "x-ratelimit-status", "x-request-id"]);
    assert_eq!(names(&statuses[1]), denied.collect::<Vec<_>>());

    let blocked = site.forward_auth("/blocked", &[]);
    assert_eq!((blocked.status, blocked.header("Retry-After")), (429, Some("31622400")));
    assert_eq!(blocked.header("RateLimit"), None);
    assert!(!format!("{blocked:?}").contains("reason"), "{blocked:?}");
    let unlimited = [("X-Forwarded-Method", "POST"), ("X-Forwarded-Uri", "/blocked")];
    let unlimited = site.gateway.request("GET", "/authz/forward-auth", &unlimited, "");
    assert_eq!((unlimited.status, unlimited.header("RateLimit")), (200, None));
    site.gateway.log_with("\"policy\":\"blocked\",\"violated\":\"override\"");
}

#[test]
fn the_host_is_that_of_the_end_user() {
    let site = Site::start();
    let host = |name: &str| {
        let headers = [("X-Original-Host", name)];
        site.auth_request("/", &headers).status
    };
    assert_eq!(
        [host("a.shop.example"), host("A.Shop.Example:443"), host("b.shop.example")],
        [200, 403, 200]
    );
    assert_eq!([host("a,b"), host("a b"), host("a?b")], [400; 3]);
    // Some proxies take these for the host whose unit is used up.
    for spelling in
        ["a.shop.example:x", "a.shop.example:1a", "a.shop.example:1:2", "[a.shop.example]"]
    {
        assert_eq!(host(spelling), 400, "{spelling}");
        let headers = [("X-Forwarded-Host", spelling)];
        assert_eq!(site.forward_auth("/", &headers).status, 400, "{spelling}");
        let url = format!("http://{spelling}/");
        let headers = [("X-Original-Method", "GET"), ("X-Original-URL", &url)];
        let answer = site.gateway.request("GET", "/authz/auth-request", &headers, "");
        assert_eq!(answer.status, 400, "{spelling}");
        let request = format!(
            "GET /authz/ext-authz/ HTTP/1.1\r\nHost: {spelling}\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(site.gateway.send(request.as_bytes()).status, 400, "{spelling}");
    }
    let twice = [("X-Original-Host", "a"), ("X-Original-Host", "a")];
    assert_eq!(site.auth_request("/", &twice).status, 400);
    let request =
        b"GET /authz/ext-authz/ HTTP/1.1\r\nHost: c.shop.example\r\nConnection: close\r\n\r\n";
    assert_eq!([site.gateway.send(request).status, site.gateway.send(request).status], [200, 429]);
    // A request of HTTP/1.0, as a proxy sends it to HTTP/1.0 servers, may have no Host.
    let old = b"GET /authz/ext-authz/ HTTP/1.0\r\n\r\n";
    assert_eq!(site.gateway.send(old).status, 200);
    let none = b"GET /authz/ext-authz/ HTTP/1.1\r\nConnection: close\r\n\r\n";
    let answer = site.gateway.send(none);
    assert_eq!((answer.status, answer.body.as_str()), (400, ""));
}
