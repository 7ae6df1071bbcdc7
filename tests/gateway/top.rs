//! The identifiers with the most denied checks, and their lines in the log.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{ApiKey, Gateway, Server};

fn memory() -> Gateway {
    Gateway::builder().env("REDIS_URL", "memory://").start()
}

/// Returns a check of a quota of one unit per hour.
fn check(identifier: &str) -> Value {
    json!({ "identifier": identifier, "limit": 1, "window_seconds": 3600 })
}

fn post(gateway: &Gateway, path: &str, body: &Value) -> Value {
    let response = gateway.post(path, &body.to_string());
    assert_eq!(response.status, 200, "{}", response.body);
    serde_json::from_str(&response.body).unwrap()
}

/// Sends checks of an identifier, one after the other, until `times` of these checks are denied.
fn deny(gateway: &Gateway, identifier: &str, times: usize) {
    let allowed = |_| post(gateway, "/rate-limit/check", &check(identifier))["allowed"] == true;
    assert_eq!((0..=times).filter(|number| allowed(*number)).count(), 1);
}

fn top(gateway: &Gateway, query: &str) -> Vec<(String, String, u64)> {
    let response = gateway.get(&format!("/rate-limit/top{query}"));
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    let answer: Value = serde_json::from_str(&response.body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let entries = answer["top"].as_array().unwrap().iter().map(|entry| {
        let denied = entry["denied"].as_u64().unwrap();
        (text(&entry["identifier"]), text(&entry["algorithm"]), denied)
    });
    entries.collect()
}

/// Returns the result of the first run of `work` within one minute, because denials halve at the
/// end of a minute.
fn within_a_minute<T>(work: impl Fn() -> T) -> T {
    let minute = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 60;
    loop {
        let (before, result) = (minute(), work());
        if minute() == before {
            return result;
        }
    }
}

#[test]
fn a_flood_that_the_deny_cache_keeps_from_redis_is_listed() {
    let server = Server::start();
    let known_to_redis = || {
        let keys: Vec<(String, u64)> = server.client().call("RATELIMIT.TOP");
        keys.iter().find(|(key, _)| key.contains("{flood}")).map(|(_, denials)| *denials)
    };
    let listed = within_a_minute(|| {
        server.client().call::<()>("FLUSHALL");
        let builder = Gateway::builder().redis(&server);
        let gateway = builder.env("DENY_CACHE_MAX_MS", "3600000").start();
        deny(&gateway, "flood", 200);
        deny(&gateway, "other", 11);
        top(&gateway, "")
    });
    let entry =
        |identifier: &str, denied| (identifier.to_owned(), "token_bucket".to_owned(), denied);
    assert_eq!(listed, [entry("flood", 200), entry("other", 11)]);
    assert!(known_to_redis() < Some(20), "{:?}", known_to_redis());
}

#[test]
fn batches_and_decisions_of_the_process_itself_count_and_peeks_do_not() {
    let (listed, first, after_reset) = within_a_minute(|| {
        let gateway = memory();
        let log = json!({ "identifier": "a", "algorithm": "sliding_window", "limit": 1,
            "window_seconds": 3600 });
        let mut checks = vec![check("a"); 4];
        checks.extend(vec![log; 6]);
        checks.push(json!({ "identifier": "a", "cost": 0, "limit": 1, "window_seconds": 3600 }));
        checks.push(json!({ "identifier": "a", "limit": "x" }));
        post(&gateway, "/rate-limit/check/batch", &json!({ "checks": checks }));
        let (listed, first) = (top(&gateway, ""), top(&gateway, "?count=1"));
        gateway.delete("/rate-limit/reset/a?algorithm=sliding_window");
        (listed, first, top(&gateway, ""))
    });
    let entry = |algorithm: &str, denied| ("a".to_owned(), algorithm.to_owned(), denied);
    let (log, bucket) = (entry("sliding_window", 5), entry("token_bucket", 3));
    assert_eq!(listed, [log.clone(), bucket.clone()]);
    assert_eq!(first, [log]);
    assert_eq!(after_reset, [bucket]);
}

#[test]
fn ten_are_listed_unless_another_count_is_asked_for() {
    let (ten, all) = within_a_minute(|| {
        let gateway = memory();
        let checks: Vec<_> =
            (0..30).flat_map(|number| vec![check(&number.to_string()); 2]).collect();
        post(&gateway, "/rate-limit/check/batch", &json!({ "checks": checks }));
        (top(&gateway, "").len(), top(&gateway, "?count=1000").len())
    });
    assert_eq!((ten, all), (10, 30));
}

#[test]
fn a_count_out_of_its_range_is_refused() {
    let gateway = memory();
    for count in ["0", "1001", "x", ""] {
        let response = gateway.get(&format!("/rate-limit/top?count={count}"));
        assert_eq!(response.status, 422, "{count}: {}", response.body);
        let answer: Value = serde_json::from_str(&response.body).unwrap();
        assert_eq!(answer["detail"][0]["loc"], json!(["query", "count"]));
    }
}

#[test]
fn callers_need_the_scope_to_read() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("keys.json");
    let (reader, checker) = (ApiKey::new("reader", &["read"]), ApiKey::new("checker", &["check"]));
    ApiKey::write(&path, &[&reader, &checker]);
    let builder = Gateway::builder().env("REDIS_URL", "memory://");
    let gateway = builder.env("API_KEYS_FILE", &path.display().to_string()).start();
    let status =
        |headers: &[(&str, &str)]| gateway.request("GET", "/rate-limit/top", headers, "").status;
    assert_eq!(status(&[]), 401);
    assert_eq!(status(&[checker.header()]), 403);
    assert_eq!(status(&[reader.header()]), 200);
}

/// Returns the fields of the lines with a message.
fn lines(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

#[test]
fn the_line_of_a_check_has_the_decision_and_at_debug_a_line_has_the_identifier() {
    for level in ["INFO", "DEBUG"] {
        let builder = Gateway::builder().env("REDIS_URL", "memory://");
        let gateway = builder.env("LOG_LEVEL", level).start();
        deny(&gateway, "some\"one", 1);
        post(&gateway, "/rate-limit/check/batch", &json!({ "checks": [check("another")] }));
        gateway.get("/rate-limit/status/status-of-one");
        gateway.post("/rate-limit/refund", r#"{"identifier": "refund-of-one"}"#);
        gateway.delete("/rate-limit/reset/reset-of-one");
        let (_, log) = gateway.terminate();

        let answered = lines(&log, "answered");
        let of_checks = answered.iter().filter(|line| line["route"] == "/rate-limit/check");
        let decisions = of_checks.map(|line| [&line["allowed"], &line["source"]]);
        let local = json!("local");
        let expected = [[&json!(true), &local], [&json!(false), &local]];
        assert_eq!(decisions.collect::<Vec<_>>(), expected, "{log}");
        let others = answered.iter().filter(|line| line["route"] != "/rate-limit/check");
        assert!(others.into_iter().all(|line| line["allowed"] == Value::Null), "{log}");

        let decided: Vec<_> = lines(&log, "decided")
            .iter()
            .map(|line| json!([line["identifier"], line["allowed"], line["cost"]]))
            .collect();
        let names = ["another", "status-of-one", "refund-of-one", "reset-of-one"];
        match level {
            "DEBUG" => {
                let expected = [
                    json!(["some\"one", true, 1]),
                    json!(["some\"one", false, 1]),
                    json!(["another", true, 1]),
                ];
                assert_eq!(decided, expected, "{log}");
                assert!(names.iter().all(|name| log.contains(name)), "{log}");
            }
            _ => assert!(names.iter().all(|name| !log.contains(name)), "{log}"),
        }
    }
}

#[test]
fn denials_of_leases_and_reservations_count() {
    let lease = |name: &str| json!({ "identifier": "jobs", "lease": name, "limit": 1, "ttl_seconds": 3600 });
    let estimate = |reservation: &str| {
        json!({ "reservation": reservation, "identifier": "tokens", "ttl_seconds": 3600, "limits": [
            { "limit": 1, "window_seconds": 3600 },
            { "algorithm": "fixed_window", "limit": 9, "period": "year" } ] })
    };
    let (listed, after_reset) = within_a_minute(|| {
        let gateway = memory();
        for name in ["a", "b", "c"] {
            post(&gateway, "/rate-limit/leases", &lease(name));
        }
        for reservation in ["r", "s"] {
            post(&gateway, "/rate-limit/reserve", &estimate(reservation));
        }
        let listed = top(&gateway, "");
        gateway.delete("/rate-limit/reset/jobs?algorithm=concurrency");
        (listed, top(&gateway, ""))
    });
    let entry = |identifier: &str, algorithm: &str, denied| {
        (identifier.to_owned(), algorithm.to_owned(), denied)
    };
    let reserved = entry("tokens", "token_bucket", 1);
    assert_eq!(listed, [entry("jobs", "concurrency", 2), reserved.clone()]);
    assert_eq!(after_reset, [reserved]);
}
