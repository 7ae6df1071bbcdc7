//! Concurrency limits of policies: checks take leases, and tokens release them.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Cluster, Gateway, GatewayBuilder, NOON, Response, Server, eventually, json_of,
};

use super::policy_checks::{check, count, send, settings};

/// Policies whose units do not return while a test runs.
const POLICIES: &str = r#"
version: 1
policies:
  - name: trial
    match: {path: /jobs}
    entry: [check]
    by: [identifier]
    missing: deny
    limits:
      - {name: flight, limit: 1, ttl: 30s, algorithm: concurrency}
      - {name: tries, limit: 100, per: 365d}
    shadow: true
  - name: jobs
    match: {path: /jobs}
    entry: [check]
    by: [identifier]
    missing: deny
    limits:
      - {name: flight, limit: 2, ttl: 30s, algorithm: concurrency, cost: 1}
      - {name: year, limit: 4, per: 365d}
    overrides:
      - {by: mallory, block: true, reason: abuse}
  - name: pure
    match: {path: /pure}
    entry: [check]
    by: [identifier]
    missing: deny
    on_error: open
    limits: [{name: flight, limit: 3, ttl: 1m, algorithm: concurrency}]
  - name: pair
    match: {path: /pair}
    entry: [check]
    by: [identifier]
    missing: deny
    limits:
      - {name: own, limit: 5, ttl: 60s, algorithm: concurrency}
      - {name: all, limit: 2, ttl: 30s, algorithm: concurrency, by: []}
      - {name: year, limit: 9, per: 365d, by: [tenant]}
  - {name: plain, match: {path: /plain}, by: [], limits: [{name: year, limit: 9, per: 365d}]}
"#;

/// A gateway, and its Redis if it has one.
struct Site {
    gateway: Gateway,
    server: Option<Server>,
    _directory: TempDir,
}

impl Site {
    /// Starts a gateway that decides itself, and one with Redis at noon.
    fn both() -> [Self; 2] {
        [None, Some(Server::at(NOON))].map(|server| {
            let directory = TempDir::new().expect("a directory");
            let settings = settings(&directory, POLICIES).env("DENY_CACHE_MAX_MS", "3600000");
            let gateway = match &server {
                None => memory(settings),
                Some(server) => settings.redis(server).start(),
            };
            Self { gateway, server, _directory: directory }
        })
    }

    /// Moves the clock of Redis forwards. Returns false for a gateway that decides by its own clock.
    fn advance(&self, seconds: u64) -> bool {
        let clock = self.server.as_ref().map(Server::clock);
        clock.inspect(|clock| clock.advance(Duration::from_secs(seconds))).is_some()
    }

    fn name(&self) -> &'static str {
        if self.server.is_some() { "redis" } else { "memory" }
    }
}

fn memory(settings: GatewayBuilder) -> Gateway {
    settings.env("REDIS_URL", "memory://").start()
}

fn body(path: &str, identifier: &str, holder: &str) -> Value {
    json!({ "identifier": identifier, "attributes": { "path": path, "tenant": "t" },
        "lease": holder })
}

fn jobs(holder: &str) -> Value {
    body("/jobs", "u", holder)
}

/// Returns whether the check was allowed, its violated limits, and what remains of each limit.
fn short(answer: &Value) -> Value {
    let limits = answer["limits"].as_array().unwrap().iter();
    let remaining: Vec<_> =
        limits.map(|limit| json!([limit["name"], limit["remaining"]])).collect();
    json!([answer["allowed"], answer["violated"], remaining])
}

/// Returns what remains of each limit, without taking anything.
fn look(gateway: &Gateway, path: &str, identifier: &str) -> Value {
    let mut body = body(path, identifier, "looks");
    body["cost"] = json!(0);
    let answer = check(gateway, &body);
    assert_eq!((&answer["leases"], &answer["release"]), (&Value::Null, &Value::Null));
    short(&answer)[2].clone()
}

/// Asserts that a lease ends after this time, or shortly before.
fn assert_ends(lease: &Value, seconds: f64) {
    let end = lease["expires_in_seconds"].as_f64().unwrap();
    assert!((seconds - 10.0..=seconds).contains(&end), "{lease}");
}

fn token(answer: &Value) -> Value {
    assert_eq!(answer["allowed"], true, "{answer}");
    json!({ "release": answer["release"].as_str().expect("a token") })
}

fn with_token(gateway: &Gateway, method: &str, body: &Value) -> Response {
    let headers = [("Content-Type", "application/json")];
    gateway.request(method, "/rate-limit/leases", &headers, &body.to_string())
}

fn release(gateway: &Gateway, token: &Value) -> Value {
    let response = with_token(gateway, "DELETE", token);
    assert_eq!(response.status, 200, "{}", response.body);
    json_of(&response)["released"].clone()
}

#[test]
fn a_check_takes_a_lease_and_its_token_releases_it() {
    for site in Site::both() {
        let (gateway, name) = (&site.gateway, site.name());
        let first = send(gateway, &jobs("a"));
        let answer = json_of(&first);
        let limits = json!([["year", 3], ["flight", 1]]);
        assert_eq!(short(&answer), json!([true, [], limits]), "{name}");
        assert_eq!(answer["limits"][1]["algorithm"], "concurrency");
        let lease = &answer["leases"][0];
        assert_eq!((&lease["limit"], &lease["identifier"]), (&json!("flight"), &json!("u")));
        assert_ends(lease, 30.0);
        assert!(lease["fence"].as_u64().is_some_and(|fence| fence > 1_700_000_000_000_000));
        let policy = r#""year";q=4;w=31536000, "flight";q=2;qu="concurrent-requests""#;
        assert_eq!(first.header("RateLimit-Policy"), Some(policy));
        let state = first.header("RateLimit").unwrap();
        assert!(state.starts_with(r#""year";r=3;t=7884000, "flight";r=1;t="#), "{state}");

        let second = check(gateway, &jobs("b"));
        let denied = send(gateway, &jobs("c"));
        let limits = json!([["year", 2], ["flight", 0]]);
        assert_eq!(short(&json_of(&denied)), json!([false, ["flight"], limits]), "{name}");
        assert!(denied.header("Retry-After").is_some());
        assert_eq!(json_of(&denied)["leases"], Value::Null);
        if let Some(server) = &site.server {
            // A trial takes no lease.
            let keys: Vec<String> = server.client().call("KEYS policy:flight:*");
            assert_eq!(keys, ["policy:flight:lease:{jobs|u}"]);
        }

        assert_eq!(release(gateway, &token(&second)), true, "{name}");
        assert_eq!(release(gateway, &token(&second)), false, "{name}");
        assert_eq!(with_token(gateway, "PUT", &token(&second)).status, 409, "{name}");
        // No cache repeats the denial of a lease.
        assert_eq!(check(gateway, &jobs("c"))["allowed"], true, "{name}");
        let labels = r#"algorithm="concurrency",outcome="allowed""#;
        let source = if name == "redis" { "redis" } else { "local" };
        let metric = format!("ratelimit_decisions_total{{{labels},source=\"{source}\"}}");
        assert_eq!(gateway.metric(&metric), 3.0);
        assert_eq!(count(gateway, "jobs", "", "flight", "allowed"), 3.0, "{name}");
        assert_eq!(count(gateway, "jobs", "", "flight", "denied"), 1.0, "{name}");
    }
}

#[test]
fn a_repeated_check_keeps_its_lease_and_is_charged_again() {
    for site in Site::both() {
        let (gateway, name) = (&site.gateway, site.name());
        let first = check(gateway, &jobs("a"));
        for year in [2, 1, 0] {
            site.advance(10);
            let again = check(gateway, &jobs("a"));
            let limits = json!([["year", year], ["flight", 1]]);
            assert_eq!(short(&again), json!([true, [], limits]), "{name}");
            assert_eq!(again["leases"][0]["fence"], first["leases"][0]["fence"], "{name}");
        }
        // The denial of a repeated check leaves the lease to its holder, also a second time, when the
        // deny cache answers.
        for _ in 0..2 {
            assert_eq!(check(gateway, &jobs("a"))["violated"], json!(["year"]), "{name}");
        }
        assert_eq!(look(gateway, "/jobs", "u"), json!([["year", 0], ["flight", 1]]), "{name}");
        assert_eq!(release(gateway, &token(&first)), true, "{name}");
    }
}

#[test]
fn a_later_limit_that_denies_keeps_no_slot() {
    for site in Site::both() {
        let (gateway, name) = (&site.gateway, site.name());
        for _ in 0..4 {
            check(gateway, &jobs("a"));
        }
        for holder in ["b", "c", "d"] {
            let answer = check(gateway, &jobs(holder));
            assert_eq!(
                (&answer["allowed"], &answer["violated"]),
                (&json!(false), &json!(["year"]))
            );
            assert_eq!((&answer["leases"], &answer["release"]), (&Value::Null, &Value::Null));
            let mut other = jobs(holder);
            // Another cost, which is in no cache.
            other["cost"] = json!(2);
            let answer = check(gateway, &other);
            assert_eq!(
                short(&answer),
                json!([false, ["year"], [["year", 0], ["flight", 1]]]),
                "{name}"
            );
        }
        assert_eq!(look(gateway, "/jobs", "u"), json!([["year", 0], ["flight", 1]]), "{name}");
    }
}

#[test]
fn a_worker_that_dies_loses_its_slot_and_a_renewal_keeps_it() {
    let [_, site] = Site::both();
    let gateway = &site.gateway;
    let [dies, lives] = ["dies", "lives"].map(|holder| token(&check(gateway, &jobs(holder))));
    site.advance(20);
    let renewed = with_token(gateway, "PUT", &lives);
    assert_eq!(renewed.status, 200, "{}", renewed.body);
    let lease = json_of(&renewed)["leases"][0].clone();
    assert_eq!((&lease["limit"], &lease["expires_in_seconds"]), (&json!("flight"), &json!(30)));
    let denied = check(gateway, &jobs("waits"));
    assert_eq!((&denied["violated"], &denied["retry_after"]), (&json!(["flight"]), &json!(10)));
    site.advance(10);
    assert_eq!(check(gateway, &jobs("waits"))["allowed"], true);
    assert_eq!(check(gateway, &jobs("more"))["violated"], json!(["flight"]));
    let lost = with_token(gateway, "PUT", &dies);
    let body = r#"{"detail":"The lease is lost","error_code":"LEASE_LOST"}"#;
    assert_eq!((lost.status, lost.body.as_str()), (409, body));
    assert_eq!(release(gateway, &dies), false);
    assert_eq!(release(gateway, &lives), true);
}

#[test]
fn several_leases_are_taken_and_released_together() {
    for site in Site::both() {
        let (gateway, name) = (&site.gateway, site.name());
        let pair =
            |identifier: &str, holder: &str| check(gateway, &body("/pair", identifier, holder));
        let first = pair("a", "1");
        assert_eq!(
            short(&first),
            json!([true, [], [["year", 8], ["own", 4], ["all", 1]]]),
            "{name}"
        );
        let leases = first["leases"].as_array().unwrap().iter();
        let places: Vec<_> = leases.map(|it| json!([it["limit"], it["identifier"]])).collect();
        assert_eq!(places, [json!(["own", "a"]), json!(["all", ""])], "{name}");
        let second = pair("b", "2");
        // The lease of its own is given back.
        let denied = pair("b", "3");
        assert_eq!(
            short(&denied),
            json!([false, ["all"], [["year", 7], ["own", 4], ["all", 0]]]),
            "{name}"
        );
        let left = json!([["year", 7], ["own", 4], ["all", 0]]);
        assert_eq!(look(gateway, "/pair", "b"), left, "{name}");
        let renewed = json_of(&with_token(gateway, "PUT", &token(&first)));
        assert_ends(&renewed["leases"][0], 60.0);
        assert_ends(&renewed["leases"][1], 30.0);
        for answer in [&first, &second] {
            assert_eq!(release(gateway, &token(answer)), true, "{name}");
        }
        let free = json!([["year", 7], ["own", 5], ["all", 2]]);
        assert_eq!(look(gateway, "/pair", "b"), free, "{name}");
        // One of the leases is lost: the other one is renewed.
        let third = pair("a", "3");
        if site.advance(40) {
            assert_eq!(with_token(gateway, "PUT", &token(&third)).status, 409);
            site.advance(40);
            let left = json!([["year", 6], ["own", 4], ["all", 2]]);
            assert_eq!(look(gateway, "/pair", "a"), left);
        }
    }
}

#[test]
fn a_check_without_a_holder_is_refused_where_a_limit_needs_one() {
    let directory = TempDir::new().expect("a directory");
    let gateway = memory(settings(&directory, POLICIES));
    let mut without = jobs("a");
    without.as_object_mut().unwrap().remove("lease");
    let refused = send(&gateway, &without);
    let detail = &json_of(&refused)["detail"][0];
    assert_eq!((refused.status, &detail["loc"]), (422, &json!(["body", "lease"])));
    let rule = "Value error, the limit `flight` needs a lease: the name of its holder";
    assert_eq!(detail["msg"], rule);
    for holder in ["", "fenced", "x".repeat(65).as_str()] {
        assert_eq!(send(&gateway, &jobs(holder)).status, 422, "{holder}");
    }
    // Nothing needs a lease here, and none is taken.
    let mut blocked = without.clone();
    blocked["identifier"] = json!("mallory");
    assert_eq!(check(&gateway, &blocked)["violated"], json!(["override"]));
    let plain = check(&gateway, &body("/plain", "u", "a"));
    assert_eq!((&plain["allowed"], &plain["release"]), (&json!(true), &Value::Null));
    // A status and an explanation have the limit, and need no holder.
    check(&gateway, &jobs("a"));
    let status = json_of(&gateway.post("/rate-limit/status", &without.to_string()));
    let limit = &status["limits"][0];
    assert_eq!((&limit["name"], &limit["algorithm"]), (&json!("flight"), &json!("concurrency")));
    assert_eq!((&limit["requests_used"], &limit["limit"]), (&json!(1), &json!(2)));
    let explained = json_of(&gateway.post("/policies/explain", &without.to_string()));
    assert_eq!(explained["limits"][0]["state"]["remaining"], 1);
    // A reset ends the leases.
    assert_eq!(gateway.post("/rate-limit/reset", &without.to_string()).status, 200);
    assert_eq!(look(&gateway, "/jobs", "u"), json!([["year", 4], ["flight", 2]]));
}

#[test]
fn a_batch_takes_leases_as_single_checks_do() {
    for site in Site::both() {
        let (gateway, name) = (&site.gateway, site.name());
        let mut without = jobs("a");
        without.as_object_mut().unwrap().remove("lease");
        let mut costly = jobs("d");
        costly["cost"] = json!(4);
        let checks = json!([
            jobs("a"), body("/jobs", "v", "a"), costly, body("/plain", "u", "a"), jobs("b"), without,
            jobs("b"), jobs("c"), body("/pure", "u", "a"), { "identifier": "x" },
        ]);
        let batch = json!({ "checks": checks }).to_string();
        let results = json_of(&gateway.post("/rate-limit/check/batch", &batch))["results"].clone();
        let results = results.as_array().unwrap();
        let field =
            |name: &str| json!(results.iter().map(|result| &result[name]).collect::<Vec<_>>());
        let statuses = json!([200, 200, 200, 200, 200, 422, 200, 200, 200, 200]);
        assert_eq!(field("status"), statuses, "{name}");
        let allowed = json!([true, true, false, true, true, null, true, false, true, true]);
        assert_eq!(field("allowed"), allowed, "{name} {results:?}");
        // The slot of the check that costs too much is free for the next one.
        assert_eq!(results[2]["violated"], json!(["year"]), "{name}");
        assert_eq!(results[7]["violated"], json!(["flight"]), "{name}");
        assert_eq!(results[4]["leases"][0]["fence"], results[6]["leases"][0]["fence"], "{name}");
        assert_eq!(release(gateway, &token(&results[8])), true, "{name}");
        assert_eq!(look(gateway, "/jobs", "u"), json!([["year", 1], ["flight", 0]]), "{name}");
    }
}

#[test]
fn a_token_leads_to_no_other_lease() {
    let directory = TempDir::new().expect("a directory");
    let sealed =
        settings(&directory, POLICIES).env("IDENTITY_HASH_KEY", "a secret of all gateways");
    for (gateway, has_seal) in
        [(memory(sealed), true), (memory(settings(&directory, POLICIES)), false)]
    {
        let text = token(&check(&gateway, &jobs("a")))["release"].as_str().unwrap().to_owned();
        let victim = token(&check(&gateway, &body("/jobs", "v", "a")));
        let status = |method: &str, text: &str| {
            with_token(&gateway, method, &json!({ "release": text })).status
        };
        let (longer, other_key) = (format!("{text},x"), text.replace("flight", "f:tb"));
        for method in ["PUT", "DELETE"] {
            let none = with_token(&gateway, method, &json!({}));
            assert_eq!(json_of(&none)["detail"][0]["type"], "missing");
            for wrong in ["x", &text[1..], longer.as_str(), other_key.as_str()] {
                assert_eq!(status(method, wrong), 422, "{method} {wrong}");
            }
            let other = json!({ "release": text, "identifier": "v" });
            assert_eq!(with_token(&gateway, method, &other).status, 422);
            let path = "/rate-limit/leases?fence=1";
            let body = json!({ "release": text }).to_string();
            assert_eq!(gateway.request(method, path, &[], &body).status, 422);
        }
        // The lease of another identity has another fence. With a secret, the token cannot even name
        // the identity.
        let forged = text.replacen(",u", ",v", 1);
        assert_ne!(forged, text);
        let expected = if has_seal { 422 } else { 200 };
        assert_eq!(status("DELETE", &forged), expected);
        assert_eq!(release(&gateway, &victim), true);
    }
    let none = Gateway::builder().env("REDIS_URL", "memory://").start();
    assert_eq!(with_token(&none, "DELETE", &json!({ "release": "x" })).status, 404);
}

#[test]
fn a_check_that_needs_a_lease_is_not_decided_without_redis() {
    for mode in ["closed", "open", "local"] {
        let mut server = Server::start();
        let directory = TempDir::new().expect("a directory");
        let gateway = settings(&directory, POLICIES).redis(&server).env("FAIL_MODE", mode).start();
        let held = token(&check(&gateway, &jobs("a")));
        server.kill();
        for path in ["/jobs", "/pure", "/pair"] {
            let answer = send(&gateway, &body(path, "u", "a"));
            assert_eq!(answer.status, 503, "{mode} {path}: {}", answer.body);
            assert!(answer.body.contains("REDIS_ERROR"), "{}", answer.body);
        }
        for method in ["PUT", "DELETE"] {
            assert_eq!(with_token(&gateway, method, &held).status, 503, "{mode} {method}");
        }
        let plain = send(&gateway, &body("/plain", "u", "a")).status;
        assert_eq!(plain, if mode == "closed" { 503 } else { 200 }, "{mode}");
    }
}

#[test]
fn fifty_clients_at_once_exceed_no_limit_and_leave_no_slot() {
    for site in Site::both() {
        let (gateway, name) = (&site.gateway, site.name());
        let answers: Vec<_> = thread::scope(|scope| {
            let client = |number: u32| {
                let body = body("/pair", &format!("u{number}"), &format!("h{number}"));
                move || check(gateway, &body)
            };
            let clients: Vec<_> = (0..50).map(|number| scope.spawn(client(number))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let granted: Vec<_> = answers.iter().filter(|answer| answer["allowed"] == true).collect();
        assert_eq!(granted.len(), 2, "{name}");
        let left = json!([["year", 7], ["own", 5], ["all", 0]]);
        assert_eq!(look(gateway, "/pair", "other"), left, "{name}");
        for answer in granted {
            assert_eq!(release(gateway, &token(answer)), true, "{name}");
        }
        for number in 0..50 {
            let left = look(gateway, "/pair", &format!("u{number}"));
            assert_eq!((&left[1], &left[2]), (&json!(["own", 5]), &json!(["all", 2])), "{name}");
        }
    }
}

#[test]
fn leases_of_several_slots_are_taken_and_given_back_in_a_cluster() {
    let cluster = Cluster::start();
    let directory = TempDir::new().expect("a directory");
    let settings = settings(&directory, POLICIES).env("REDIS_URL", &cluster.url());
    let gateway = settings.env("REDIS_TIMEOUT_MS", "5000").env("LOG_LEVEL", "DEBUG").start();
    eventually("every primary is connected", || {
        (gateway.log().matches("connected to Redis").count() == 12).then_some(())
    });
    let held = ["a", "b"].map(|user| token(&check(&gateway, &body("/pair", user, user))));
    for user in ["c", "d", "e"] {
        let denied = check(&gateway, &body("/pair", user, user));
        assert_eq!(denied["violated"], json!(["all"]), "{user}");
        let left = json!([["year", 7], ["own", 5], ["all", 0]]);
        assert_eq!(look(&gateway, "/pair", user), left, "{user}");
    }
    assert_eq!(with_token(&gateway, "PUT", &held[0]).status, 200);
    for token in &held {
        assert_eq!(release(&gateway, token), true);
    }
    for user in ["a", "b"] {
        let left = json!([["year", 7], ["own", 5], ["all", 2]]);
        assert_eq!(look(&gateway, "/pair", user), left, "{user}");
    }
}
