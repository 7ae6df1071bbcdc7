//! Checks that the policies of a file decide.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Cluster, Gateway, GatewayBuilder, NOON, Response, Server, eventually, json_of,
};

/// Policies whose units do not return while a test runs.
const POLICIES: &str = r#"
version: 1
plans:
  free: [{name: rate, limit: 5, per: 365d}, {name: log, limit: 4, per: 365d, algorithm: sliding_window}]
  pro: [{name: rate, limit: 50, per: 365d}]
policies:
  - name: trial
    match: {path: /api}
    by: [identifier]
    missing: deny
    limits: [{name: tries, limit: 1, per: 365d}]
    shadow: true
  - name: api
    match: {path: /api}
    by: [identifier]
    missing: deny
    plan: {from: plan, default: free}
    overrides:
      - {by: "vip-*", plan: pro, reason: contract}
      - {by: mallory, block: true, reason: abuse}
      - {by: eve, block: true, until: "2100-01-01", reason: slow abuse}
      - {by: monitor, unlimited: true, reason: probes}
  - name: tokens
    match: named
    by: [identifier]
    missing: deny
    limits: [{name: tokens, limit: 10000, per: 365d, charge: always}]
  - name: counted
    match: {path: /counted}
    by: []
    limits: [{name: all, limit: 1, per: 365d}]
    enforce: false
  - name: quiet
    match: {path: /quiet}
    by: []
    limits: [{name: all, limit: 2, per: 365d}]
    headers: false
"#;

/// A gateway with policies, and its Redis if it has one.
struct Site {
    gateway: Gateway,
    server: Option<Server>,
    _directory: TempDir,
}

pub(super) fn settings(directory: &TempDir, policies: &str) -> GatewayBuilder {
    let file = directory.path().join("policies.yaml");
    fs::write(&file, policies).expect("the file is written");
    Gateway::builder().env("POLICIES_FILE", &file.display().to_string())
}

impl Site {
    /// Starts a gateway that decides itself, and one with Redis at noon.
    fn both(policies: &str) -> [Self; 2] {
        [None, Some(Server::at(NOON))].map(|server| {
            let directory = TempDir::new().expect("a directory");
            let settings = settings(&directory, policies).env("DENY_CACHE_MAX_MS", "3600000");
            let gateway = match &server {
                None => settings.env("REDIS_URL", "memory://").start(),
                Some(server) => settings.redis(server).start(),
            };
            Self { gateway, server, _directory: directory }
        })
    }

    fn name(&self) -> &'static str {
        if self.server.is_some() { "redis" } else { "memory" }
    }
}

pub(super) fn send(gateway: &Gateway, body: &Value) -> Response {
    gateway.post("/rate-limit/check", &body.to_string())
}

pub(super) fn check(gateway: &Gateway, body: &Value) -> Value {
    let response = send(gateway, body);
    assert_eq!(response.status, 200, "{body}: {}", response.body);
    json_of(&response)
}

fn api(identifier: &str) -> Value {
    json!({ "identifier": identifier, "attributes": { "path": "/api" } })
}

/// Returns the parts of an answer that decide.
fn short(answer: &Value) -> Value {
    json!([
        answer["allowed"],
        answer["remaining"],
        answer["policy"],
        answer["plan"],
        answer["violated"]
    ])
}

pub(super) fn count(
    gateway: &Gateway,
    policy: &str,
    plan: &str,
    limit: &str,
    outcome: &str,
) -> f64 {
    let labels = format!(r#"policy="{policy}",plan="{plan}",limit="{limit}",outcome="{outcome}""#);
    gateway.metric(&format!("ratelimit_policy_decisions_total{{{labels}}}"))
}

#[test]
fn the_policy_the_plan_and_the_override_decide() {
    for site in Site::both(POLICIES) {
        let (gateway, name) = (&site.gateway, site.name());
        for remaining in [3, 2, 1, 0] {
            let expected = json!([true, remaining, "api", "free", []]);
            assert_eq!(short(&check(gateway, &api("u"))), expected, "{name}");
        }
        let denied = send(gateway, &api("u"));
        assert_eq!(short(&json_of(&denied)), json!([false, 0, "api", "free", ["log"]]), "{name}");
        // The bucket has kept its unit.
        assert_eq!(json_of(&denied)["limits"][0]["remaining"], 1, "{name}");
        let policy = r#""rate";q=5;w=31536000, "log";q=4;w=31536000"#;
        assert_eq!(denied.header("RateLimit-Policy"), Some(policy));
        assert!(denied.header("Retry-After").is_some());

        let vip = check(gateway, &api("vip-1"));
        assert_eq!(short(&vip), json!([true, 49, "api", "pro", []]), "{name}");
        let applied =
            json!({ "by": ["vip-*"], "reason": "contract", "until": null, "source": "file" });
        assert_eq!(vip["override"], applied);
        // The rate carries over to another plan, and the log is not in it.
        let mut pro = api("u");
        pro["attributes"]["plan"] = json!("pro");
        assert_eq!(short(&check(gateway, &pro)), json!([true, 45, "api", "pro", []]), "{name}");

        let blocked = send(gateway, &api("mallory"));
        let answer = json_of(&blocked);
        assert_eq!(short(&answer), json!([false, 0, "api", null, ["override"]]), "{name}");
        assert_eq!((&answer["retry_after"], &answer["limits"]), (&json!(31_622_400), &json!([])));
        assert_eq!(blocked.header("Retry-After"), Some("31622400"));
        assert_eq!(blocked.header("RateLimit"), None);
        let until = check(gateway, &api("eve"))["retry_after"].as_f64().unwrap();
        assert!(until > 31_622_400.0, "{until}");

        let unlimited = send(gateway, &api("monitor"));
        let expected = json!([true, 1_000_000_000, "api", null, []]);
        assert_eq!(short(&json_of(&unlimited)), expected, "{name}");
        assert_eq!(unlimited.header("RateLimit-Policy"), None);
        assert_eq!(unlimited.header("Cache-Control"), Some("no-store"));

        let missing = check(gateway, &json!({ "attributes": { "path": "/api" } }));
        assert_eq!(
            short(&missing),
            json!([false, 0, "api", null, ["missing:identifier"]]),
            "{name}"
        );

        let other = check(gateway, &json!({ "attributes": { "path": "/other" } }));
        assert_eq!(short(&other), json!([true, 1_000_000_000, null, null, []]), "{name}");
        // A check that names nothing and matches nothing gets the default limit.
        let default = check(gateway, &json!({ "identifier": "u" }));
        assert_eq!(
            (&default["remaining"], &default["policy"]),
            (&json!(99), &Value::Null),
            "{name}"
        );
        assert!(default.get("limits").is_none(), "{name}");

        assert_eq!(count(gateway, "api", "free", "rate", "allowed"), 4.0, "{name}");
        assert_eq!(count(gateway, "api", "free", "log", "denied"), 1.0, "{name}");
        assert_eq!(count(gateway, "api", "", "", "blocked"), 3.0, "{name}");
        assert_eq!(count(gateway, "api", "", "", "unlimited"), 1.0, "{name}");
        assert_eq!(count(gateway, "", "", "", "unmatched"), 2.0, "{name}");
        gateway.log_with(r#""policy":"api","plan":"free","violated":"log""#);
    }
}

#[test]
fn a_cost_above_the_capacity_is_denied_by_the_limits_that_can_never_grant_it() {
    for site in Site::both(POLICIES) {
        let (gateway, name) = (&site.gateway, site.name());
        let limit = |name: &str, algorithm: &str| {
            json!({ "name": name, "algorithm": algorithm, "allowed": false, "remaining": 0,
                "reset_in_seconds": 31_622_400, "retry_after": 31_622_400 })
        };
        let (rate, log) = (limit("rate", "token_bucket"), limit("log", "sliding_window"));
        let mut body = api("u");
        for (cost, violated, limits, policy) in [
            (5, json!(["log"]), json!([log]), r#""log";q=4;w=31536000"#),
            (
                6,
                json!(["rate", "log"]),
                json!([rate, log]),
                r#""rate";q=5;w=31536000, "log";q=4;w=31536000"#,
            ),
        ] {
            body["cost"] = json!(cost);
            let denied = send(gateway, &body);
            let answer = json_of(&denied);
            assert_eq!(short(&answer), json!([false, 0, "api", "free", violated]), "{name}");
            assert_eq!(answer["limits"], limits, "{name}");
            assert_eq!(answer["retry_after"], 31_622_400, "{name}");
            assert_eq!(denied.header("RateLimit-Policy"), Some(policy), "{name}");
            assert_eq!(denied.header("X-RateLimit-Remaining"), Some("0"), "{name}");
            assert_eq!(denied.header("Retry-After"), Some("31622400"), "{name}");
            // No part of the store has decided.
            assert_eq!(denied.header("X-RateLimit-Source"), None, "{name}");
            let batch = json!({ "checks": [body] }).to_string();
            let results =
                json_of(&gateway.post("/rate-limit/check/batch", &batch))["results"].clone();
            assert_eq!(
                (&results[0]["source"], &results[0]["limits"]),
                (&json!("policy"), &limits),
                "{name}"
            );
        }
        assert_eq!(count(gateway, "api", "free", "log", "denied"), 4.0, "{name}");
        // Nothing was taken.
        body["cost"] = json!(4);
        assert_eq!(check(gateway, &body)["allowed"], true, "{name}");
        // A policy that hides its limits has no headers about them.
        let quiet = send(gateway, &json!({ "attributes": { "path": "/quiet" }, "cost": 3 }));
        assert_eq!(json_of(&quiet)["violated"], json!(["all"]), "{name}");
        assert_eq!(
            (quiet.header("RateLimit"), quiet.header("Retry-After").is_some()),
            (None, true)
        );
    }
}

#[test]
fn attributes_that_no_policy_reads_are_counted() {
    for site in Site::both(POLICIES) {
        let (gateway, name) = (&site.gateway, site.name());
        let unread = || gateway.metric("ratelimit_policy_unread_attributes_total");
        // The words with a meaning of their own are none that a caller misspells.
        check(gateway, &api("u"));
        check(gateway, &json!({ "identifier": "u", "attributes": { "host": "a", "domain": "b" } }));
        assert_eq!(unread(), 0.0, "{name}");
        let misspelled = json!({ "attributes": { "pahts": "/api", "plan": "pro", "query.q": 1 } });
        check(gateway, &misspelled);
        assert_eq!(unread(), 2.0, "{name}");
        let batch = json!({ "checks": [misspelled, { "identifier": "u", "limit": 1 }] });
        gateway.post("/rate-limit/check/batch", &batch.to_string());
        assert_eq!(unread(), 4.0, "{name}");
        // An explanation names them.
        let explained = gateway.post("/policies/explain", &misspelled.to_string());
        assert_eq!(json_of(&explained)["unread"], json!(["pahts", "query.q"]), "{name}");
        assert_eq!(unread(), 4.0, "{name}");
        // No name of a caller is in the metrics.
        assert!(!gateway.get("/metrics").body.contains("pahts"), "{name}");
    }
}

#[test]
fn a_trial_is_counted_and_prevents_nothing() {
    for site in Site::both(POLICIES) {
        let (gateway, name) = (&site.gateway, site.name());
        for _ in 0..3 {
            assert_eq!(check(gateway, &api("vip-1"))["allowed"], true, "{name}");
        }
        eventually("the trials are counted", || {
            let page = gateway.get("/metrics").body;
            let of = |outcome: &str, count: u32| {
                format!(r#"policy="trial",plan="",limit="tries",outcome="{outcome}"}} {count}"#)
            };
            (page.contains(&of("allowed", 1)) && page.contains(&of("shadow_denied", 2)))
                .then_some(())
        });
        // A request that is denied takes nothing of a trial.
        assert_eq!(check(gateway, &api("mallory"))["allowed"], false);
        for _ in 0..2 {
            let body = json!({ "attributes": { "path": "/counted" } });
            let expected = json!([true, 1_000_000_000, "counted", null, []]);
            assert_eq!(short(&check(gateway, &body)), expected, "{name}");
        }
        eventually("the limits that are only counted are", || {
            let labels = r#"policy="counted",plan="",limit="all",outcome="shadow_denied"} 1"#;
            gateway.get("/metrics").body.contains(labels).then_some(())
        });
        if let Some(server) = &site.server {
            let keys: Vec<String> = server.client().call("KEYS policy:tries:*");
            assert_eq!(keys, ["policy:tries:tb:{trial|vip-1}"]);
        }
    }
}

#[test]
fn each_policy_that_skips_a_check_is_counted() {
    let policies = r#"
version: 1
policies:
  - {name: trial, by: [identifier], missing: skip, limits: [{name: a, limit: 1, per: 365d}], shadow: true}
  - {name: user, by: [identifier], missing: skip, limits: [{name: a, limit: 9, per: 365d}]}
  - {name: host, match: {host: a.example}, by: [], limits: [{name: a, limit: 9, per: 365d}]}
"#;
    for site in Site::both(policies) {
        let (gateway, name) = (&site.gateway, site.name());
        let skipped = || ["trial", "user"].map(|policy| count(gateway, policy, "", "", "skipped"));
        let host = json!({ "attributes": { "host": "a.example" } });
        assert_eq!(check(gateway, &host)["policy"], "host", "{name}");
        assert_eq!(skipped(), [1.0, 1.0], "{name}");
        // No policy applies; the default limit decides the last one.
        check(gateway, &json!({ "attributes": { "host": "b.example" } }));
        check(gateway, &json!({ "policy": "user" }));
        let batch = json!({ "checks": [host, { "policy": "trial" }, { "limit": 1 }] });
        gateway.post("/rate-limit/check/batch", &batch.to_string());
        assert_eq!(skipped(), [4.0, 4.0], "{name}");
        check(gateway, &json!({ "identifier": "u" }));
        assert_eq!(skipped(), [4.0, 4.0], "{name}");
    }
}

#[test]
fn a_cost_that_is_always_charged_needs_one_unit() {
    for site in Site::both(POLICIES) {
        let (gateway, name) = (&site.gateway, site.name());
        let body = |cost: u32| json!({ "identifier": "u", "policy": "tokens", "cost": cost });
        for (cost, allowed, remaining) in [
            (5_000, true, 5_000),
            (1_000, true, 4_000),
            (0, true, 4_000),
            (20_000, true, 0),
            (5_000, false, 0),
            (0, false, 0),
        ] {
            let answer = check(gateway, &body(cost));
            let expected = json!([allowed, remaining]);
            assert_eq!(json!([answer["allowed"], answer["remaining"]]), expected, "{name} {cost}");
        }
    }
}

#[test]
fn a_cost_above_a_capacity_is_denied_without_end() {
    for site in Site::both(POLICIES) {
        let mut body = api("u");
        body["cost"] = json!(5);
        let answer = check(&site.gateway, &body);
        assert_eq!(short(&answer), json!([false, 0, "api", "free", ["log"]]), "{}", site.name());
        assert_eq!(check(&site.gateway, &api("u"))["limits"][0]["remaining"], 4);
    }
}

#[test]
fn a_reset_by_policy_forgets_a_cached_denial() {
    let [_, site] = Site::both(POLICIES);
    let gateway = &site.gateway;
    let sources = || {
        let response = send(gateway, &api("u"));
        (
            json_of(&response)["allowed"] == true,
            response.header("X-RateLimit-Source") == Some("cache"),
        )
    };
    for path in ["/rate-limit/reset", "/rate-limit/refund"] {
        while sources().0 {}
        assert_eq!(sources(), (false, true), "{path}");
        assert_eq!(gateway.post(path, &api("u").to_string()).status, 200, "{path}");
        assert_eq!(sources(), (true, false), "{path}");
    }
}

#[test]
fn answers_without_headers_keep_the_time_to_wait() {
    let [site, _] = Site::both(POLICIES);
    let body = json!({ "attributes": { "path": "/quiet" } });
    for wait in [false, false, true] {
        let response = send(&site.gateway, &body);
        assert_eq!(json_of(&response)["limits"][0]["name"], "all");
        for name in ["RateLimit", "RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Reset"] {
            assert_eq!(response.header(name), None);
        }
        assert_eq!(response.header("Retry-After").is_some(), wait);
    }
}

#[test]
fn a_batch_decides_as_single_checks_do() {
    for site in Site::both(POLICIES) {
        let (gateway, name) = (&site.gateway, site.name());
        let checks = json!([
            api("u"), { "identifier": "plain", "limit": 2 }, api("mallory"), { "policy": "nowhere" },
            { "identifier": "two", "limits": [{ "name": "a" }, { "name": "b" }] }, { "identifier": "u" },
            { "policy": "api", "limit": 5 }, api("u"), { "attributes": { "path": "/%zz" } },
        ]);
        let response =
            gateway.post("/rate-limit/check/batch", &json!({ "checks": checks }).to_string());
        let results = json_of(&response)["results"].clone();
        let field = |name: &str| {
            json!(
                results.as_array().unwrap().iter().map(|result| &result[name]).collect::<Vec<_>>()
            )
        };
        assert_eq!(field("status"), json!([200, 200, 200, 422, 200, 200, 422, 200, 400]), "{name}");
        let remaining = json!([3, 1, 0, null, 99, 99, null, 2, null]);
        assert_eq!(field("remaining"), remaining, "{name} {results}");
        let source = if name == "redis" { "redis" } else { "local" };
        assert_eq!(
            (&results[0]["source"], &results[2]["source"]),
            (&json!(source), &json!("policy"))
        );
        assert_eq!(results[6]["detail"][0]["loc"], json!(["body", "checks", 6, "policy"]));
    }
}

#[test]
fn a_reset_without_an_identity_says_that_nothing_was_reset() {
    let directory = TempDir::new().expect("a directory");
    let gateway = settings(&directory, POLICIES).env("REDIS_URL", "memory://").start();
    let answer = gateway.post("/rate-limit/reset", r#"{"attributes":{"path":"/api"}}"#);
    let expected =
        "Nothing reset: `identifier` is missing, and all limits of the policy api need it";
    assert_eq!((answer.status, &json_of(&answer)["message"]), (200, &json!(expected)));
}

#[test]
fn errors_do_not_repeat_values_of_end_users() {
    let directory = TempDir::new().expect("a directory");
    let gateway = settings(&directory, POLICIES).env("REDIS_URL", "memory://").start();
    let list = json!({ "attributes": { "header.cookie": "SECRET", "list": [1] } });
    let inline = json!({ "attributes": { "header.cookie": "SECRET" }, "limit": 5, "policy": 1 });
    let missing = json!({ "token": "SECRET", "limit": 5 });
    let nested = json!([{ "token": "SECRET" }]);
    for path in [
        "/rate-limit/check",
        "/rate-limit/check/batch",
        "/rate-limit/status",
        "/rate-limit/reset",
        "/rate-limit/refund",
        "/rate-limit/leases",
        "/rate-limit/reserve",
        "/policies/explain",
    ] {
        for body in [&list, &inline, &missing, &nested] {
            let body = match path.ends_with("batch") {
                true => json!({ "checks": [body, { "identifier": "x" }] }),
                false => body.clone(),
            };
            let answer = gateway.post(path, &body.to_string());
            assert!(answer.body.contains("\"msg\""), "{path} {body}: {answer:?}");
            assert!(!answer.body.contains("SECRET"), "{path} {body}: {answer:?}");
        }
    }
    assert!(!gateway.log().contains("SECRET"));
}

#[test]
fn on_error_replaces_the_fail_mode() {
    let policies = |mode: &str| {
        format!(
            "  - {{name: {mode}, match: named, by: [], on_error: {mode}, limits: [\
             {{name: a, limit: 40, per: 365d}}, {{name: b, limit: 80, per: 365d}}]}}\n"
        )
    };
    let file = ["closed", "open", "local"].map(policies).concat();
    let mut server = Server::start();
    let directory = TempDir::new().expect("a directory");
    let settings = settings(&directory, &format!("version: 1\npolicies:\n{file}"));
    let settings = settings.redis(&server).env("FAIL_MODE", "open").env("LOCAL_SHARE", "0.1");
    let gateway = settings.start();
    server.kill();
    for (mode, status, remaining) in
        [("closed", 503, None), ("open", 200, Some(39)), ("local", 200, Some(3))]
    {
        let response = send(&gateway, &json!({ "policy": mode }));
        assert_eq!(response.status, status, "{mode}: {}", response.body);
        let answer = json_of(&response);
        assert_eq!(answer["remaining"].as_u64(), remaining, "{mode}");
        let source = remaining.map(|_| mode);
        assert_eq!(response.header("X-RateLimit-Source"), source);
    }
    let log = gateway.log_with("\"status\":503");
    let line = log.lines().find(|line| line.contains("\"status\":503")).expect("the line");
    assert!(line.contains("\"policy\":\"closed\""), "{line}");
}

#[test]
fn without_inline_limits_only_policies_decide() {
    let directory = TempDir::new().expect("a directory");
    let settings = settings(&directory, POLICIES).env("REDIS_URL", "memory://");
    let gateway = settings.env("INLINE_LIMITS", "false").start();
    let numbers = json!({ "identifier": "u", "limit": 1_000_000 });
    let limits = json!({ "identifier": "u", "limits": [{ "name": "a" }] });
    let forced = json!({ "identifier": "u", "cost": 1_000_000, "force": true });
    let forced_by_policy = json!({ "policy": "api", "identifier": "u", "force": true });
    for body in [&numbers, &limits, &forced, &forced_by_policy] {
        let refused = send(&gateway, body);
        assert_eq!(refused.status, 403, "{body}");
        assert!(refused.body.contains("INLINE_LIMITS"), "{}", refused.body);
    }
    // The cost is the request's own, and has the capacity of the default limit as its bound.
    let costly = |cost: u32| json!({ "identifier": "u", "cost": cost, "force": false });
    assert_eq!(send(&gateway, &costly(101)).status, 422);
    assert_eq!(check(&gateway, &costly(0))["remaining"], 100);
    assert_eq!(check(&gateway, &api("u"))["allowed"], true);
    assert_eq!(check(&gateway, &json!({ "identifier": "u" }))["remaining"], 99);
    let batch = json!({ "checks": [numbers, api("u"), limits, forced, costly(101)] }).to_string();
    let results = json_of(&gateway.post("/rate-limit/check/batch", &batch))["results"].clone();
    let statuses = [0, 1, 2, 3, 4].map(|place| results[place]["status"].as_u64().unwrap());
    assert_eq!(statuses, [403, 200, 403, 403, 422]);
}

#[test]
fn limits_of_several_identities_are_all_taken_or_none_in_a_cluster() {
    let policies = r#"
version: 1
policies:
  - name: api
    by: [identifier]
    missing: deny
    limits:
      - {name: user, limit: 3, per: 365d}
      - {name: tenant, limit: 5, per: 365d, by: [tenant]}
      - {name: all, limit: 100, per: 365d, by: []}
"#;
    let cluster = Cluster::start();
    let directory = TempDir::new().expect("a directory");
    let settings = settings(&directory, policies).env("REDIS_URL", &cluster.url());
    let gateway = settings.env("REDIS_TIMEOUT_MS", "5000").env("LOG_LEVEL", "DEBUG").start();
    eventually("every primary is connected", || {
        (gateway.log().matches("connected to Redis").count() == 12).then_some(())
    });
    let body = |user: &str| json!({ "identifier": user, "attributes": { "tenant": "t" } });
    let remaining = |answer: &Value| {
        [0, 1, 2].map(|place| answer["limits"][place]["remaining"].as_u64().unwrap())
    };
    for (user, expected) in [("a", [2, 4, 99]), ("a", [1, 3, 98]), ("a", [0, 2, 97])] {
        assert_eq!(remaining(&check(&gateway, &body(user))), expected);
    }
    let denied = check(&gateway, &body("a"));
    assert_eq!((&denied["violated"], remaining(&denied)), (&json!(["user"]), [0, 2, 97]));
    for (user, expected) in [("b", [2, 1, 96]), ("c", [2, 0, 95])] {
        assert_eq!(remaining(&check(&gateway, &body(user))), expected);
    }
    assert_eq!(check(&gateway, &body("d"))["violated"], json!(["tenant"]));
    // The denials have written nothing.
    let mut look = body("b");
    look["cost"] = json!(0);
    assert_eq!(remaining(&check(&gateway, &look)), [2, 0, 95]);

    // 20 clients at once, of whom only five can have a unit of their tenant: what others took in
    // between was given back.
    let allowed = std::thread::scope(|scope| {
        let client = |number: u32| {
            let gateway = &gateway;
            move || {
                let body = json!({ "identifier": format!("u{number}"),
                    "attributes": { "tenant": "busy" } });
                check(gateway, &body)["allowed"] == true
            }
        };
        let clients: Vec<_> = (0..20).map(|number| scope.spawn(client(number))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).filter(|allowed| *allowed).count()
    });
    let look = json!({ "identifier": "u", "attributes": { "tenant": "busy" }, "cost": 0 });
    let used = 5 - usize::try_from(remaining(&check(&gateway, &look))[1]).unwrap();
    assert_eq!((allowed, used), (5, 5));
    assert_eq!(remaining(&check(&gateway, &look))[2], 90);
}
