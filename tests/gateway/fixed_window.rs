//! Fixed windows over HTTP: of a length, and of the calendar in a time zone, with Redis and without.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Clock, Gateway, NOON, Response, Server, eventually};

/// 2027-01-16T00:00:00 in Berlin.
const MIDNIGHT: u64 = 1_800_054_000_000_000;

const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600 * SECOND;

/// A gateway with Redis and a gateway without, which share one clock.
struct Site {
    server: Server,
    gateways: [Gateway; 2],
}

impl Site {
    /// Starts both with the clock at `micros` since the epoch, and without a deny cache.
    fn at(micros: u64) -> Self {
        let server = Server::at(micros);
        let builder = || Gateway::builder().clock(server.clock()).env("DENY_CACHE_SIZE", "0");
        let redis = builder().redis(&server).start();
        let gateways = [redis, builder().env("REDIS_URL", "memory://").start()];
        Self { server, gateways }
    }

    fn set(&self, micros: u64) {
        self.server.clock().set(micros);
    }

    /// Returns the answer to a check, which is the same from both.
    fn check(&self, check: &Value) -> Response {
        let [redis, memory] = self.gateways.each_ref().map(|gateway| post(gateway, check));
        assert_same(&redis, &memory);
        redis
    }

    /// Returns the answer to a status, which is the same from both.
    fn status(&self, query: &str) -> Value {
        let path = format!("/rate-limit/status/user?algorithm=fixed_window&{query}");
        let [redis, memory] = self.gateways.each_ref().map(|gateway| gateway.get(&path));
        assert_same(&redis, &memory);
        serde_json::from_str(&redis.body).unwrap()
    }
}

fn assert_same(redis: &Response, memory: &Response) {
    assert_eq!((redis.status, &redis.body), (memory.status, &memory.body));
    for name in ["RateLimit-Policy", "RateLimit", "X-RateLimit-Reset", "Retry-After"] {
        assert_eq!(redis.header(name), memory.header(name), "{name}");
    }
}

fn post(gateway: &Gateway, check: &Value) -> Response {
    gateway.post("/rate-limit/check", &check.to_string())
}

/// Returns a check of a fixed window with these fields.
fn check_of(fields: &Value) -> Value {
    let mut check = json!({ "identifier": "user", "algorithm": "fixed_window", "limit": 2 });
    for (name, value) in fields.as_object().unwrap() {
        check[name] = value.clone();
    }
    check
}

fn berlin() -> Value {
    check_of(&json!({ "period": "day", "timezone": "Europe/Berlin" }))
}

fn is_allowed(response: &Response) -> bool {
    assert_eq!(response.status, 200, "{}", response.body);
    response.body.starts_with(r#"{"allowed":true,"#)
}

#[test]
fn a_day_in_berlin_ends_at_midnight_there() {
    let site = Site::at(MIDNIGHT - 90 * SECOND - 500_000);
    let first = site.check(&berlin());
    assert_eq!(
        first.body,
        r#"{"allowed":true,"remaining":1,"reset_in_seconds":90.5,"retry_after":null}"#
    );
    for (name, value) in [
        ("RateLimit-Policy", r#""default";q=2;w=86400"#),
        ("RateLimit", r#""default";r=1;t=91"#),
        ("X-RateLimit-Limit", "2"),
        ("X-RateLimit-Reset", "91"),
    ] {
        assert_eq!(first.header(name), Some(value));
    }
    assert!(is_allowed(&site.check(&berlin())));
    let denied = site.check(&berlin());
    assert_eq!(
        denied.body,
        r#"{"allowed":false,"remaining":0,"reset_in_seconds":90.5,"retry_after":90.5}"#
    );
    assert_eq!(denied.header("Retry-After"), Some("91"));

    site.set(MIDNIGHT - 1_000);
    assert!(!is_allowed(&site.check(&berlin())));
    site.set(MIDNIGHT);
    assert!(is_allowed(&site.check(&berlin())));
}

#[test]
fn days_with_a_clock_change_have_23_and_25_hours() {
    // 2027-03-28 and 2027-10-31 in Berlin.
    for (begin, hours) in [(1_806_188_400_000_000, 23), (1_824_933_600_000_000, 25)] {
        let end = begin + hours * HOUR;
        let site = Site::at(begin);
        let first = site.check(&berlin());
        let policy = format!(r#""default";q=2;w={}"#, hours * 3_600);
        assert_eq!(first.header("RateLimit-Policy"), Some(policy.as_str()));
        assert_eq!(first.header("X-RateLimit-Reset"), Some((hours * 3_600).to_string().as_str()));
        let status = site.status("limit=2&period=day&timezone=Europe%2FBerlin");
        assert_eq!(status["window_seconds"], json!(hours * 3_600));
        assert_eq!(status["requests_used"], 1);

        site.set(end - SECOND);
        assert_eq!([(); 2].map(|()| is_allowed(&site.check(&berlin()))), [true, false]);
        site.set(end);
        assert!(is_allowed(&site.check(&berlin())));
    }
}

#[test]
fn months_with_the_billing_day_31_begin_on_the_last_day_of_shorter_months() {
    let month = check_of(&json!({ "period": "month", "starts": 31 }));
    let site = Site::at(NOON);
    // The last days of December to April in UTC.
    let days = [1_798_675_200, 1_801_353_600, 1_803_772_800, 1_806_451_200, 1_809_043_200];
    for bounds in days.windows(2) {
        let (begin, end) = (bounds[0] * SECOND, bounds[1] * SECOND);
        site.set(begin);
        let length = bounds[1] - bounds[0];
        let policy = format!(r#""default";q=2;w={length}"#);
        assert_eq!(site.check(&month).header("RateLimit-Policy"), Some(policy.as_str()));
        site.set(end - SECOND);
        assert_eq!([(); 2].map(|()| is_allowed(&site.check(&month))), [true, false]);
    }
}

#[test]
fn periods_of_utc_and_lengths_are_those_of_the_command() {
    let site = Site::at(NOON);
    let mut client = site.server.client();
    for (fields, words, length) in [
        (json!({ "window_seconds": 2.5 }), "2.5", 3),
        (json!({ "period": "day" }), "DAY", 86_400),
        (json!({ "period": "week", "starts": "monday" }), "WEEK", 604_800),
        (json!({ "period": "month", "timezone": "UTC" }), "MONTH", 31 * 86_400),
        (json!({ "period": "year", "starts": null }), "YEAR", 365 * 86_400),
    ] {
        let answer = site.check(&check_of(&fields));
        assert!(is_allowed(&answer));
        let policy = format!(r#""default";q=2;w={length}"#);
        assert_eq!(answer.header("RateLimit-Policy"), Some(policy.as_str()));
        let peek = format!("RATELIMIT.PEEK fixed_window:{{user}} FW 2 {words}");
        let [_, _, remaining, _, reset] = client.decide(&peek);
        assert_eq!(remaining, 1, "{words}");
        let reset = format!(r#""reset_in_seconds":{},"#, reset as f64 / 1_000.0);
        assert!(answer.body.contains(&reset), "{} {reset}", answer.body);
        for gateway in &site.gateways {
            let reset = gateway.delete("/rate-limit/reset/user?algorithm=fixed_window");
            assert_eq!(reset.status, 200);
        }
    }
}

/// Starts a server at `micros`, and a gateway whose clock is at `gateway_micros`.
fn apart(micros: u64, gateway_micros: u64) -> (Server, Clock, Gateway) {
    let server = Server::at(micros);
    let clock = Clock::at(gateway_micros);
    let builder = Gateway::builder().redis(&server).clock(&clock);
    let gateway = builder.env("DENY_CACHE_SIZE", "0").start();
    (server, clock, gateway)
}

#[test]
fn a_gateway_whose_clock_differs_at_midnight_counts_in_the_window_of_redis() {
    let (before, after) = (MIDNIGHT - 100_000, MIDNIGHT + 100_000);
    for (server_micros, gateway_micros) in [(before, after), (after, before)] {
        let (server, clock, gateway) = apart(server_micros, gateway_micros);
        let end = if server_micros < MIDNIGHT { MIDNIGHT } else { MIDNIGHT + 24 * HOUR };
        let reset = (end - server_micros) as f64 / 1e6;
        let used = || {
            let path = "/rate-limit/status/user?algorithm=fixed_window&limit=2&period=day\
                        &timezone=Europe%2FBerlin";
            let status: Value = serde_json::from_str(&gateway.get(path).body).unwrap();
            assert_eq!(status["window_seconds"], 86_400);
            (status["requests_used"].clone(), status["reset_in_seconds"].as_f64().unwrap())
        };
        assert_eq!(used(), (json!(0), 0.0));
        assert!(is_allowed(&post(&gateway, &berlin())));
        assert_eq!(used(), (json!(1), reset));

        // A batch is decided in its order, and only the calendar windows are sent again.
        let bucket = json!({ "identifier": "user", "limit": 5 });
        let checks = json!({ "checks": [berlin(), bucket, berlin(), { "identifier": "" }] });
        let answer = gateway.post("/rate-limit/check/batch", &checks.to_string());
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        let results = answer["results"].as_array().unwrap();
        let outcomes = results.iter().map(|result| (&result["status"], &result["allowed"]));
        let expected = [(200, json!(true)), (200, json!(true)), (200, json!(false))];
        let expected = expected.map(|(status, allowed)| (json!(status), allowed));
        let expected: Vec<_> = expected.iter().map(|(status, allowed)| (status, allowed)).collect();
        assert_eq!(outcomes.take(3).collect::<Vec<_>>(), expected, "{answer}");
        assert_eq!(results[3]["status"], 422);
        assert_eq!(used(), (json!(2), reset));

        // The next day of Redis has its own quota, whatever the gateway believes.
        let calls: String = server.client().info("commandstats", "cmdstat_ratelimit.fw");
        assert!(calls.starts_with("calls=6,"), "three checks, each sent twice: {calls}");
        server.clock().set(end);
        assert!(is_allowed(&post(&gateway, &berlin())));
        clock.set(end);
        assert_eq!([(); 2].map(|()| is_allowed(&post(&gateway, &berlin()))), [true, false]);
    }
}

#[test]
fn without_redis_windows_follow_the_clock_of_the_system() {
    let clock = Clock::at(MIDNIGHT - SECOND);
    let gateway = Gateway::builder().clock(&clock).env("REDIS_URL", "memory://").start();
    let allowed = || is_allowed(&post(&gateway, &berlin()));
    assert_eq!([(); 3].map(|()| allowed()), [true, true, false]);
    clock.advance(Duration::from_secs(1));
    assert_eq!([(); 3].map(|()| allowed()), [true, true, false]);
    // A step back into the day before grants nothing.
    clock.step_back(Duration::from_secs(2));
    assert!(!allowed());
}

#[test]
fn a_process_without_redis_grants_its_share_of_a_day() {
    let mut server = Server::at(MIDNIGHT - 30 * SECOND);
    let builder = Gateway::builder().redis(&server).clock(server.clock());
    let gateway = builder.env("FAIL_MODE", "local").env("LOCAL_SHARE", "0.5").start();
    let clock = server.clock().clone();
    server.kill();
    let check = check_of(&json!({ "limit": 4, "period": "day", "timezone": "Europe/Berlin" }));
    for (allowed, remaining) in [(true, 1), (true, 0), (false, 0)] {
        let answer = post(&gateway, &check);
        assert_eq!(is_allowed(&answer), allowed, "{}", answer.body);
        assert_eq!(answer.header("X-RateLimit-Source"), Some("local"));
        assert_eq!(answer.header("RateLimit-Policy"), Some(r#""default";q=2;w=86400"#));
        assert_eq!(answer.header("X-RateLimit-Remaining"), Some(remaining.to_string().as_str()));
        assert_eq!(answer.header("X-RateLimit-Reset"), Some("30"));
    }
    clock.set(MIDNIGHT);
    assert!(is_allowed(&post(&gateway, &check)));
}

#[test]
fn a_denial_is_repeated_until_its_window_ends_at_most() {
    let server = Server::at(MIDNIGHT - 300_000);
    let builder = Gateway::builder().redis(&server).clock(server.clock());
    let gateway = builder.env("DENY_CACHE_MAX_MS", "3600000").start();
    let year = check_of(&json!({ "period": "year", "timezone": "Europe/Berlin" }));
    assert_eq!([(); 3].map(|()| is_allowed(&post(&gateway, &year))), [true, true, false]);
    let again = post(&gateway, &year);
    assert_eq!(again.header("X-RateLimit-Source"), Some("cache"));

    let other = check_of(&json!({ "identifier": "other", "period": "day",
        "timezone": "Europe/Berlin" }));
    assert_eq!([(); 3].map(|()| is_allowed(&post(&gateway, &other))), [true, true, false]);
    server.clock().set(MIDNIGHT);
    eventually("the denial of the day that has ended is dropped", || {
        is_allowed(&post(&gateway, &other)).then_some(())
    });
    assert_eq!(post(&gateway, &year).header("X-RateLimit-Source"), Some("cache"));
}
