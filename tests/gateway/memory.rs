//! The gateway without Redis: its answers are those of a gateway with Redis.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Gateway, NOON, Random, Response, Server, eventually, health};

/// Starts a gateway that stores states itself, and a gateway that stores states in Redis. Neither
/// has a deny cache, because `remaining` in a cached denial would be older than `remaining` in an
/// answer of Redis.
fn both() -> (Server, [Gateway; 2]) {
    let server = Server::start();
    let redis = Gateway::builder().redis(&server);
    let gateways = [memory(), redis.env("DENY_CACHE_SIZE", "0").start()];
    (server, gateways)
}

/// Starts both gateways with one clock, which stands still: fixed windows of both are the same.
fn both_at_noon() -> (Server, [Gateway; 2]) {
    let server = Server::at(NOON);
    let builder = || Gateway::builder().clock(server.clock());
    let redis = builder().redis(&server).env("DENY_CACHE_SIZE", "0");
    let gateways = [builder().env("REDIS_URL", "memory://").start(), redis.start()];
    (server, gateways)
}

fn memory() -> Gateway {
    Gateway::builder().env("REDIS_URL", "memory://").start()
}

fn check(gateway: &Gateway, check: &Value) -> Value {
    let response = gateway.post("/rate-limit/check", &check.to_string());
    assert_eq!(response.status, 200, "{check}: {}", response.body);
    serde_json::from_str(&response.body).unwrap()
}

#[test]
fn health_reports_that_there_is_no_redis() {
    let gateway = memory();
    let healthy = health("healthy", false, "memory");
    for path in ["/health", "/health/ready"] {
        let response = gateway.get(path);
        assert_eq!((response.status, &response.body), (200, &healthy));
    }
}

#[test]
fn decisions_are_marked_as_local() {
    let gateway = memory();
    let body = r#"{"identifier": "user", "limit": 1, "window_seconds": 3600}"#;
    for _ in 0..3 {
        let response = gateway.post("/rate-limit/check", body);
        assert_eq!(response.header("X-RateLimit-Source"), Some("local"));
    }
    let metrics = gateway.get("/metrics").body;
    for counted in [
        r#"{algorithm="token_bucket",outcome="allowed",source="local"} 1"#,
        r#"{algorithm="token_bucket",outcome="denied",source="local"} 2"#,
    ] {
        assert!(metrics.contains(counted), "{metrics}");
    }
}

#[test]
fn the_share_of_an_instance_is_for_outages_only() {
    let settings = Gateway::builder().env("REDIS_URL", "memory://").env("FAIL_MODE", "local");
    let gateway = settings.env("LOCAL_SHARE", "0.1").start();
    let response = gateway.post("/rate-limit/check", r#"{"identifier": "user"}"#);
    assert_eq!(response.header("X-RateLimit-Remaining"), Some("99"));
}

/// Starts a gateway without Redis that stores at most `max_keys` quotas.
fn small(max_keys: &str) -> Gateway {
    let settings = Gateway::builder().env("REDIS_URL", "memory://");
    settings.env("LOCAL_MAX_KEYS", max_keys).start()
}

#[test]
fn no_more_quotas_are_kept_than_the_setting_allows() {
    let gateway = small("10");
    let quota = |number: usize| json!({ "identifier": number.to_string(), "limit": 5, "cost": 2 });
    let quotas: Vec<_> = (0..100).map(quota).collect();
    let allowed = || quotas.iter().filter(|quota| check(&gateway, quota)["allowed"] == true);
    // The third check of a quota would be denied, if the gateway had stored the first two checks.
    for _ in 0..3 {
        assert_eq!(allowed().count(), 100);
    }
}

#[test]
fn quotas_that_deny_are_kept_and_leave_no_room_for_new_ones() {
    let gateway = small("10");
    let quota = |number: usize| {
        json!({ "identifier": number.to_string(), "limit": 1,
        "window_seconds": 3600 })
    };
    let quotas: Vec<_> = (0..100).map(quota).collect();
    let allowed: Vec<_> =
        quotas.iter().map(|quota| check(&gateway, quota)["allowed"] == true).collect();
    assert_eq!(allowed, (0..100).map(|number| number < 10).collect::<Vec<_>>());
    assert!(quotas.iter().all(|quota| check(&gateway, quota)["allowed"] == false));

    let metrics = gateway.get("/metrics").body;
    assert!(metrics.contains("\nratelimit_local_no_room_total 180\n"), "{metrics}");
    let log = gateway.log_with("raise LOCAL_MAX_KEYS");
    let lines = log.lines().filter(|line| line.contains("no room for another quota")).count();
    assert!((1..30).contains(&lines), "{lines} lines for 180 checks");
}

#[test]
fn a_log_that_is_larger_than_the_room_is_limited() {
    let gateway = small("3");
    let check = json!({ "identifier": "user", "algorithm": "sliding_window", "limit": 2_000,
        "window_seconds": 3600 });
    let batch = json!({ "checks": vec![check; 1_000] }).to_string();
    let allowed = (0..5).map(|_| {
        let answer = gateway.post("/rate-limit/check/batch", &batch);
        assert_eq!(answer.status, 200);
        answer.body.matches(r#""allowed":true"#).count()
    });
    assert_eq!(allowed.collect::<Vec<_>>(), [1_000, 1_000, 0, 0, 0]);
}

#[test]
fn a_restart_removes_all_states() {
    let quota = json!({ "identifier": "user", "limit": 1, "window_seconds": 3600 });
    for _ in 0..2 {
        let gateway = memory();
        assert_eq!([(); 2].map(|()| check(&gateway, &quota)["allowed"] == true), [true, false]);
    }
}

#[test]
fn two_hundred_callers_at_once_get_exactly_the_limit() {
    let (_server, gateways) = both();
    for gateway in &gateways {
        for algorithm in ALGORITHMS {
            let quota = json!({ "identifier": "user", "algorithm": algorithm, "limit": 70,
                "window_seconds": 31_622_400 });
            let allowed = thread::scope(|scope| {
                let callers: Vec<_> =
                    (0..200).map(|_| scope.spawn(|| check(gateway, &quota))).collect();
                let answers = callers.into_iter().map(|caller| caller.join().unwrap());
                answers.filter(|answer| answer["allowed"] == true).count()
            });
            assert_eq!(allowed, 70, "{algorithm}");
        }
    }
}

#[test]
fn a_quota_that_comes_back_comes_back_the_same() {
    let (_server, gateways) = both();
    for gateway in &gateways {
        for algorithm in ["token_bucket", "sliding_window"] {
            let quota = json!({ "identifier": "user", "algorithm": algorithm, "limit": 1,
                "window_seconds": 0.2 });
            assert_eq!(check(gateway, &quota)["allowed"], true);
            // The wait ends when the quota is whole: then Redis and the gateway remove its state.
            let path =
                format!("/rate-limit/status/user?algorithm={algorithm}&limit=1&window_seconds=0.2");
            eventually("the whole quota is back", || {
                gateway.get(&path).body.contains(r#""requests_used":0,"#).then_some(())
            });
            // The state stays until the next full millisecond.
            thread::sleep(Duration::from_millis(2));
            let reset = gateway.delete(&format!("/rate-limit/reset/user?algorithm={algorithm}"));
            assert_eq!(reset.status, 404, "{algorithm}");
            assert_eq!(check(gateway, &quota)["allowed"], true);
        }
    }
}

/// A call whose answer depends on time in its time fields only: no quota gets a unit back within
/// weeks.
struct Call {
    method: &'static str,
    path: String,
    body: String,
}

const WINDOWS: [&str; 3] = ["31622400", "\"30000000.0\"", "25000000.5"];
const ALGORITHMS: [&str; 3] = ["token_bucket", "sliding_window", "fixed_window"];

/// Windows of the calendar, some of which are not valid.
const PERIODS: [&str; 6] = [
    r#""period":"day""#,
    r#""period":"week","starts":"sunday""#,
    r#""period":"month","timezone":"Asia/Kolkata""#,
    r#""period":"month","starts":31,"timezone":"America/New_York""#,
    r#""period":"year","starts":"04-01","timezone":"Europe/London""#,
    r#""period":"month","starts":32"#,
];

impl Call {
    fn any(random: &mut Random) -> Self {
        let identifier = random.pick(&["a", "b", "c/d", "}{"]);
        let encoded = identifier.replace('/', "%2F").replace('}', "%7D").replace('{', "%7B");
        let algorithm = random.pick(&ALGORITHMS);
        let post = |path: &str, body: String| Self { method: "POST", path: path.to_owned(), body };
        match random.below(20) {
            0 => Self {
                method: "DELETE",
                path: format!("/rate-limit/reset/{encoded}"),
                body: String::new(),
            },
            1 => Self {
                method: "DELETE",
                path: format!("/rate-limit/reset/{encoded}?algorithm={algorithm}"),
                body: String::new(),
            },
            2..5 => {
                let (limit, window) = (random.below(12) + 1, random.pick(&WINDOWS));
                let window = window.replace('"', "");
                Self {
                    method: "GET",
                    path: format!(
                        "/rate-limit/status/{encoded}?algorithm={algorithm}&limit={limit}&window_seconds={window}"
                    ),
                    body: String::new(),
                }
            }
            5..8 => {
                let amount = random.below(6);
                post(
                    "/rate-limit/refund",
                    format!(
                        r#"{{"identifier":"{identifier}","algorithm":"{algorithm}","amount":{amount}}}"#
                    ),
                )
            }
            8..10 => {
                let checks: Vec<_> =
                    (0..random.below(5)).map(|_| Self::check(random, identifier)).collect();
                post("/rate-limit/check/batch", format!(r#"{{"checks":[{}]}}"#, checks.join(",")))
            }
            _ => post("/rate-limit/check", Self::check(random, identifier)),
        }
    }

    /// Returns the body of a check, which is valid or not.
    fn check(random: &mut Random, identifier: &str) -> String {
        let (algorithm, window) = (random.pick(&ALGORITHMS), random.pick(&WINDOWS));
        let too_long = algorithm == "sliding_window" && random.once_in(15);
        let limit = if too_long { 1_000_001 } else { random.below(13) };
        let cost = random.below(5);
        let option = match random.below(8) {
            0 => format!(r#""burst":{},"#, random.below(13)),
            1 => format!(r#""resolution_seconds":{},"#, random.pick(&["60", "86400", "30000000"])),
            2 => format!(r#""force":{},"#, random.pick(&["true", "false", "1"])),
            _ => String::new(),
        };
        let window = match algorithm {
            "fixed_window" if random.once_in(2) => random.pick(&PERIODS).to_owned(),
            _ => format!(r#""window_seconds":{window}"#),
        };
        format!(
            r#"{{"identifier":"{identifier}","algorithm":"{algorithm}","limit":{limit},{option}{window},"cost":{cost}}}"#
        )
    }

    fn send(&self, gateway: &Gateway) -> Response {
        gateway.request(self.method, &self.path, &[], &self.body)
    }
}

/// Returns whether two JSON values are equal, except for `source` and for the time that a busy
/// machine may take between the calls to two gateways; this time has a greater effect when the next
/// call has a slower quota.
fn agree(a: &Value, b: &Value, name: &str) -> bool {
    const SECONDS: f64 = 3600.0;
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| agree(a, b, name)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agree(a, b, name))
        }
        (Value::Number(x), Value::Number(y))
            if ["reset_in_seconds", "retry_after"].contains(&name) =>
        {
            let [x, y] = [x, y].map(|number| number.as_f64().unwrap());
            (x == 0.0) == (y == 0.0) && (x - y).abs() < SECONDS
        }
        _ => a == b || name == "source",
    }
}

#[test]
fn random_calls_are_answered_as_with_redis() {
    let (_server, gateways) = both_at_noon();
    let mut random = Random::new();
    let mut allowed = [0; 2];
    for number in 0..3_000 {
        let call = Call::any(&mut random);
        let [memory, redis] = gateways.each_ref().map(|gateway| call.send(gateway));
        let context = || {
            let Call { method, path, body } = &call;
            format!("{number}: {method} {path} {body}\nmemory: {memory:?}\nredis: {redis:?}")
        };
        assert_eq!(memory.status, redis.status, "{}", context());
        let bodies = [&memory, &redis].map(|answer| -> Value {
            serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{}", context()))
        });
        assert!(agree(&bodies[0], &bodies[1], ""), "{}", context());
        for name in ["RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining"] {
            assert_eq!(memory.header(name), redis.header(name), "{}", context());
        }
        if let Some(answer) = bodies[0]["allowed"].as_bool() {
            allowed[usize::from(answer)] += 1;
        }
    }
    // Both answers are frequent enough for their agreement to prove something.
    assert!(allowed.iter().all(|&count| count > 100), "{allowed:?}");
}
