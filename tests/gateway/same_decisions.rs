//! The same requests get the same decisions through every entry. The gateway of each entry has keys of
//! its own in the same Redis.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Gateway, GatewayBuilder, Random, Server, json_of};

/// Policies whose units do not return while a test runs. `DOMAIN` is a clause that the rate limit service
/// of Envoy needs, or nothing.
const POLICIES: &str = r#"
version: 1
plans:
  free: [{name: rate, limit: 6, per: 365d}, {name: log, limit: 4, per: 365d, algorithm: sliding_window}]
  pro: [{name: rate, limit: 20, per: 365d}]
policies:
  - name: trial
    match: {DOMAIN path: "/api/**"}
    by: [client.ip]
    missing: skip
    limits: [{name: tries, limit: 1, per: 365d}]
    shadow: true
  - name: login
    match: {DOMAIN method: POST, path: /login}
    by: [client.ip/24/56]
    missing: deny
    limits: [{name: attempts, limit: 3, per: 365d, algorithm: sliding_window}]
  - name: api
    match: {DOMAIN path: "/api/**", header.x-tenant: {exists: true}}
    by: [header.x-tenant, query.page]
    missing: share
    plan: {from: header.x-plan, default: free, trusted: true}
    overrides:
      - {match: {header.x-tenant: mallory}, block: true, reason: abuse}
      - {match: {header.x-tenant: monitor}, unlimited: true, reason: probes}
      - {match: {host: b.example}, limits: [{name: rate, limit: 2, per: 365d}], reason: small}
  - name: pages
    match: {DOMAIN path: "/pages/*"}
    by: [query.page]
    missing: deny
    limits: [{name: all, limit: 5, per: 365d}, {name: each, by: [client.ip], limit: 3, per: 365d}]
  - name: counted
    match: {DOMAIN path: /counted}
    by: []
    limits: [{name: all, limit: 1, per: 365d}]
    enforce: false
  - name: costly
    match: {DOMAIN path: /costly}
    by: [host]
    missing: skip
    limits:
      - {name: units, limit: 30, per: 365d, cost: {from: header.x-cost, trusted: true, default: 2, max: 9}}
      - {name: debt, limit: 20, per: 365d, cost: 7, charge: always}
  - name: site
    match: {DOMAIN host: a.example}
    by: []
    limits: [{name: all, limit: 40, per: 365d, algorithm: sliding_window}]
"#;

/// The domain of requests of Envoy.
pub(crate) const DOMAIN: &str = "shop";

/// A gateway with the policies.
pub(crate) struct Site {
    pub(crate) gateway: Gateway,
    /// True if the policies have a clause on the domain.
    has_domain: bool,
    _directory: TempDir,
}

impl Site {
    pub(crate) fn start(
        server: &Server,
        prefix: &str,
        has_domain: bool,
        configure: impl FnOnce(GatewayBuilder) -> GatewayBuilder,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("policies.yaml");
        let clause = if has_domain { format!("domain: {DOMAIN},") } else { String::new() };
        fs::write(&file, POLICIES.replace("DOMAIN", &clause)).unwrap();
        let settings = Gateway::builder()
            .redis(server)
            .env("KEY_PREFIX", prefix)
            // A repeated denial has the states of its first answer.
            .env("DENY_CACHE_SIZE", "0")
            .env("POLICIES_FILE", &file.display().to_string());
        Self { gateway: configure(settings).start(), has_domain, _directory: directory }
    }

    fn body(&self, request: &EndUserRequest) -> Value {
        let mut attributes: serde_json::Map<_, _> = request
            .attributes()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect();
        if self.has_domain {
            attributes.insert("domain".to_owned(), json!(DOMAIN));
        }
        json!({ "attributes": attributes })
    }

    /// Returns the decisions on requests, each in a check of its own.
    pub(crate) fn checks(&self, requests: &[EndUserRequest]) -> Vec<Decision> {
        let check = |request| {
            let body = self.body(request).to_string();
            let answer = self.gateway.post("/rate-limit/check", &body);
            assert_eq!(answer.status, 200, "{request:?}: {answer:?}");
            let answer = json_of(&answer);
            Decision::of_answer(&answer)
        };
        requests.iter().map(check).collect()
    }

    /// Returns the decisions on requests in batches.
    fn batches(&self, requests: &[EndUserRequest], random: &mut Random) -> Vec<Decision> {
        let (mut decisions, mut rest) = (Vec::new(), requests);
        while !rest.is_empty() {
            let (batch, more) = rest.split_at((1 + random.below(6)).min(rest.len()));
            let checks: Vec<_> = batch.iter().map(|request| self.body(request)).collect();
            let body = json!({ "checks": checks }).to_string();
            let answer = json_of(&self.gateway.post("/rate-limit/check/batch", &body));
            let results = answer["results"].as_array().unwrap();
            decisions.extend(results.iter().map(Decision::of_answer));
            rest = more;
        }
        decisions
    }

    /// Returns the decisions on requests that a proxy describes.
    fn forward_auth(&self, requests: &[EndUserRequest]) -> Vec<Decision> {
        let decide = |request: &EndUserRequest| {
            let target = request.target();
            let mut headers = vec![
                ("X-Forwarded-Method", request.method),
                ("X-Forwarded-Host", request.host),
                ("X-Forwarded-Uri", target.as_str()),
                ("X-Forwarded-For", request.address),
            ];
            headers.extend(request.headers());
            let answer = self.gateway.request("GET", "/authz/forward-auth", &headers, "");
            assert!([200, 429].contains(&answer.status), "{request:?}: {answer:?}");
            Decision::of_headers(answer.status == 200, answer.header("RateLimit"))
        };
        requests.iter().map(decide).collect()
    }
}

/// A request of an end user, as each entry can describe it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndUserRequest {
    pub(crate) method: &'static str,
    pub(crate) host: &'static str,
    path: &'static str,
    page: Option<&'static str>,
    tenant: Option<&'static str>,
    plan: Option<&'static str>,
    cost: Option<&'static str>,
    pub(crate) address: &'static str,
}

impl EndUserRequest {
    /// Returns requests of few identities, so that limits deny some of them.
    pub(crate) fn several(random: &mut Random) -> Vec<Self> {
        (0..400).map(|_| Self::random(random)).collect()
    }

    fn random(random: &mut Random) -> Self {
        Self {
            method: random.pick(&["GET", "POST"]),
            host: random.pick(&["a.example", "A.example:443", "b.example"]),
            path: random.pick(&[
                "/api/1",
                "//api/./1/",
                "/%61pi",
                "/login",
                "/pages/a",
                "/counted",
                "/costly",
                "/other",
            ]),
            page: random.pick(&[None, Some("1"), Some("2")]),
            tenant: random.pick(&[None, Some("t"), Some("}|-%"), Some("mallory"), Some("monitor")]),
            plan: random.pick(&[None, None, Some("pro"), Some("gold")]),
            cost: random.pick(&[None, Some("1"), Some("5"), Some("-3"), Some("99"), Some("x")]),
            address: random.pick(&[
                "192.0.2.1",
                "192.0.2.2",
                "198.51.100.7",
                "2001:db8::1",
                "2001:db8::2",
            ]),
        }
    }

    /// Returns the request target.
    pub(crate) fn target(&self) -> String {
        let query = self.page.map(|page| format!("?page={page}")).unwrap_or_default();
        format!("{}{query}", self.path)
    }

    /// Returns the headers in which policies look for attributes.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let headers = [("x-tenant", self.tenant), ("x-plan", self.plan), ("x-cost", self.cost)];
        headers.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    /// Returns the attributes by their names.
    pub(crate) fn attributes(&self) -> Vec<(&str, &str)> {
        let optional = [
            ("query.page", self.page),
            ("header.x-tenant", self.tenant),
            ("header.x-plan", self.plan),
            ("header.x-cost", self.cost),
        ];
        let mut attributes = vec![
            ("method", self.method),
            ("host", self.host),
            ("path", self.path),
            ("client.ip", self.address),
        ];
        attributes.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
        attributes
    }
}

/// A decision, with the name and the remaining units of each limit that has decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    limits: Vec<(String, u64)>,
}

impl Decision {
    fn of_answer(answer: &Value) -> Self {
        let limit = |limit: &Value| {
            (limit["name"].as_str().unwrap().to_owned(), limit["remaining"].as_u64().unwrap())
        };
        let limits = answer["limits"].as_array().unwrap_or_else(|| panic!("{answer}"));
        Self {
            allowed: answer["allowed"].as_bool().unwrap(),
            limits: limits.iter().map(limit).collect(),
        }
    }

    /// Returns the decision with this header, such as `"rate";r=5;t=9, "log";r=3;t=9`.
    pub(crate) fn of_headers(allowed: bool, header: Option<&str>) -> Self {
        let item = |item: &str| {
            let (name, parameters) = item.strip_prefix('"').unwrap().split_once('"').unwrap();
            let remaining = parameters.split(';').find_map(|each| each.strip_prefix("r="));
            (name.to_owned(), remaining.unwrap().parse().unwrap())
        };
        let items = header.into_iter().flat_map(|header| header.split(", "));
        Self { allowed, limits: items.map(item).collect() }
    }
}

/// Asserts that an entry has decided as checks have.
pub(crate) fn assert_same(
    entry: &str,
    requests: &[EndUserRequest],
    decisions: &[Decision],
    checks: &[Decision],
) {
    assert_eq!(decisions.len(), checks.len(), "{entry}");
    for (place, (decision, check)) in decisions.iter().zip(checks).enumerate() {
        assert_eq!(decision, check, "{entry}, request {place}: {:?}", requests[place]);
    }
}

#[test]
fn checks_batches_and_forward_authentication_decide_alike() {
    let server = Server::start();
    let mut random = Random::new();
    let requests = EndUserRequest::several(&mut random);
    let checks = Site::start(&server, "checks:", false, |settings| settings).checks(&requests);
    let denied = checks.iter().filter(|decision| !decision.allowed);
    assert!(denied.filter(|decision| !decision.limits.is_empty()).count() > 20, "{checks:?}");
    assert!(checks.iter().filter(|decision| decision.allowed).count() > 20, "{checks:?}");

    let batches = Site::start(&server, "batches:", false, |settings| settings);
    assert_same("batches", &requests, &batches.batches(&requests, &mut random), &checks);
    let with_domain = Site::start(&server, "domain:", true, |settings| settings);
    assert_same("a domain", &requests, &with_domain.checks(&requests), &checks);
    let trusted = |settings: GatewayBuilder| settings.env("TRUSTED_PROXIES", "127.0.0.1");
    let proxied = Site::start(&server, "proxied:", false, trusted);
    assert_same("forward-auth", &requests, &proxied.forward_auth(&requests), &checks);
    let alone =
        Site::start(&server, "alone:", false, |settings| settings.env("REDIS_URL", "memory://"));
    assert_same("memory", &requests, &alone.checks(&requests), &checks);
}
