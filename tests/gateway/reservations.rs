//! Reservations: estimates that are taken from several limits, and corrected once.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    ApiKey, Gateway, NOON, Place, Random, Response, Server, UNAVAILABLE, json_of,
};

/// Returns a reservation of units per minute and per day of a tenant, which do not return while a
/// test runs.
fn estimate(reservation: &str, cost: u32) -> Value {
    json!({ "reservation": reservation, "identifier": "tenant", "ttl_seconds": 600, "limits": [
        { "algorithm": "sliding_window", "limit": 10, "window_seconds": 3_600, "cost": cost },
        { "algorithm": "token_bucket", "limit": 20, "window_seconds": 31_622_400, "cost": cost },
    ] })
}

fn actual(reservation: &str, actual: [Value; 2]) -> Value {
    let [first, second] = actual;
    json!({ "reservation": reservation, "identifier": "tenant", "limits": [
        { "algorithm": "sliding_window", "actual": first },
        { "algorithm": "token_bucket", "actual": second },
    ] })
}

fn reserve(gateway: &Gateway, body: &Value) -> Value {
    let response = gateway.post("/rate-limit/reserve", &body.to_string());
    assert_eq!(response.status, 200, "{body}: {}", response.body);
    json_of(&response)
}

fn settle(gateway: &Gateway, body: &Value) -> Response {
    gateway.post("/rate-limit/settle", &body.to_string())
}

fn corrections(response: &Response) -> Vec<i64> {
    assert_eq!(response.status, 200, "{}", response.body);
    let limits = json_of(response)["limits"].clone();
    let limits = limits.as_array().unwrap().clone();
    limits.iter().map(|limit| limit["correction"].as_i64().unwrap()).collect()
}

/// Returns what remains of both limits.
fn remaining(gateway: &Gateway) -> [u64; 2] {
    ["sliding_window&limit=10&window_seconds=3600", "token_bucket&limit=20&window_seconds=31622400"]
        .map(|quota| {
            let path = format!("/rate-limit/status/tenant?algorithm={quota}");
            let status = json_of(&gateway.get(&path));
            let number = |name: &str| status[name].as_u64().unwrap();
            number("limit") - number("requests_used")
        })
}

#[test]
fn an_estimate_is_taken_from_all_limits_or_from_none_and_settled_once() {
    for Place { name, gateway, .. } in &Place::both() {
        let answer = reserve(gateway, &estimate("first", 6));
        assert_eq!(
            (&answer["allowed"], &answer["reservation"], &answer["expires_in_seconds"]),
            (&json!(true), &json!("first"), &json!(600)),
            "{name}"
        );
        assert_eq!((&answer["remaining"], &answer["retry_after"]), (&json!(4), &Value::Null));
        assert_eq!(remaining(gateway), [4, 14], "{name}");
        // The log has no room for the second estimate, so that the bucket keeps its units too.
        let denied = reserve(gateway, &estimate("second", 5));
        assert_eq!(
            (&denied["allowed"], &denied["expires_in_seconds"]),
            (&json!(false), &json!(null))
        );
        let allowed = [0, 1].map(|place| denied["limits"][place]["allowed"].as_bool().unwrap());
        assert_eq!((allowed, remaining(gateway)), ([false, true], [4, 14]), "{name}");
        assert!(denied["retry_after"].as_f64().unwrap() > 3_500.0, "{denied}");

        let body = actual("first", [json!(2), json!(9)]);
        assert_eq!(corrections(&settle(gateway, &body)), [-4, 3], "{name}");
        assert_eq!(remaining(gateway), [8, 11], "{name}");
        let unknown = settle(gateway, &body);
        let detail = r#"{"detail":"There is no such reservation","error_code":"NO_RESERVATION"}"#;
        assert_eq!((unknown.status, unknown.body.as_str()), (404, detail), "{name}");
        assert_eq!(remaining(gateway), [8, 11], "{name}");
    }
}

#[test]
fn a_settlement_takes_what_was_used_beyond_the_limit() {
    for Place { name, gateway, .. } in &Place::both() {
        reserve(gateway, &estimate("stream", 1));
        let body = actual("stream", [json!(50), json!("1")]);
        assert_eq!(corrections(&settle(gateway, &body)), [49, 0], "{name}");
        assert_eq!(remaining(gateway), [0, 19], "{name}");
        assert_eq!(reserve(gateway, &estimate("next", 1))["allowed"], false, "{name}");
    }
}

#[test]
fn an_estimate_without_actual_units_stands() {
    for Place { name, gateway, .. } in &Place::both() {
        reserve(gateway, &estimate("stands", 6));
        let body = actual("stands", [Value::Null, Value::Null]);
        assert_eq!(corrections(&settle(gateway, &body)), [0, 0], "{name}");
        assert_eq!(remaining(gateway), [4, 14], "{name}");
        assert_eq!(settle(gateway, &body).status, 404, "{name}");
    }
}

#[test]
fn a_repeated_reservation_takes_nothing_and_other_limits_are_a_conflict() {
    for Place { name, gateway, .. } in &Place::both() {
        for _ in 0..3 {
            let answer = reserve(gateway, &estimate("same", 6));
            assert_eq!((&answer["allowed"], &answer["remaining"]), (&json!(true), &json!(4)));
        }
        assert_eq!(remaining(gateway), [4, 14], "{name}");
        let other = gateway.post("/rate-limit/reserve", &estimate("same", 5).to_string());
        let error =
            r#"{"detail":"The reservation has other limits","error_code":"RESERVATION_DIFFERS"}"#;
        assert_eq!((other.status, other.body.as_str()), (409, error), "{name}");
        let fewer = json!({ "reservation": "same", "identifier": "tenant",
            "limits": [{ "algorithm": "sliding_window", "actual": 1 }] });
        assert_eq!(settle(gateway, &fewer).status, 409, "{name}");
        assert_eq!(remaining(gateway), [4, 14], "{name}");
    }
}

#[test]
fn a_reservation_ends_after_its_ttl_and_keeps_its_estimate() {
    let server = Server::at(NOON);
    let gateway = Gateway::start(&server);
    reserve(&gateway, &estimate("slow", 6));
    server.clock().advance(Duration::from_secs(400));
    // A stream that lasts longer renews its reservation.
    reserve(&gateway, &estimate("slow", 6));
    server.clock().advance(Duration::from_micros(599_999_999));
    reserve(&gateway, &estimate("other", 1));
    server.clock().advance(Duration::from_micros(1));
    let late = settle(&gateway, &actual("slow", [json!(0), json!(0)]));
    assert_eq!(late.status, 404);
    assert_eq!(remaining(&gateway), [3, 13]);
    assert_eq!(corrections(&settle(&gateway, &actual("other", [json!(0), json!(0)]))), [-1, -1]);
}

#[test]
fn a_decision_has_the_headers_of_each_limit_and_the_status_of_a_check() {
    let server = Server::at(NOON);
    let gateway = Gateway::builder().redis(&server).env("DENY_STATUS", "429").start();
    let body = |cost: u32| {
        json!({ "reservation": "r", "ttl_seconds": 60, "limits": [
            { "identifier": "a", "limit": 100, "window_seconds": 60, "cost": cost },
            { "identifier": "b", "algorithm": "sliding_window", "limit": 10,
                "window_seconds": 30, "cost": 6 },
        ] })
    };
    let granted = gateway.post("/rate-limit/reserve", &body(30).to_string());
    let expected = r#"{"allowed":true,"reservation":"r","expires_in_seconds":60,"remaining":4,"reset_in_seconds":30,"retry_after":null,"limits":[{"identifier":"a","algorithm":"token_bucket","allowed":true,"remaining":70,"reset_in_seconds":18,"retry_after":null},{"identifier":"b","algorithm":"sliding_window","allowed":true,"remaining":4,"reset_in_seconds":30,"retry_after":null}]}"#;
    assert_eq!((granted.status, granted.body.as_str()), (200, expected));
    assert_eq!(granted.header("RateLimit-Policy"), Some(r#""0";q=100;w=60, "1";q=10;w=30"#));
    assert_eq!(granted.header("RateLimit"), Some(r#""0";r=70;t=1, "1";r=4;t=30"#));
    assert_eq!(granted.header("X-RateLimit-Limit"), Some("10"));
    let keys: Vec<String> = server.client().call("KEYS reservation:*");
    assert_eq!(keys, ["reservation:{a}:r"]);

    let mut denied = body(30);
    denied["reservation"] = json!("s");
    let denied = gateway.post("/rate-limit/reserve", &denied.to_string());
    assert_eq!((denied.status, denied.header("Retry-After")), (429, Some("30")));
    assert_eq!(json_of(&denied)["limits"][0]["retry_after"], Value::Null);
    for (algorithm, outcome) in [("token_bucket", "allowed"), ("sliding_window", "denied")] {
        let labels = format!(r#"algorithm="{algorithm}",outcome="{outcome}",source="redis""#);
        assert_eq!(gateway.metric(&format!("ratelimit_decisions_total{{{labels}}}")), 1.0);
    }
}

#[test]
fn a_settlement_is_seen_by_the_next_check() {
    let server = Server::at(NOON);
    let gateway = Gateway::builder().redis(&server).env("DENY_CACHE_MAX_MS", "3600000").start();
    reserve(&gateway, &estimate("r", 10));
    let check = r#"{"identifier": "tenant", "algorithm": "sliding_window", "limit": 10,
        "window_seconds": 3600}"#;
    for _ in 0..2 {
        let denied = gateway.post("/rate-limit/check", check);
        assert!(denied.body.contains(r#""allowed":false"#), "{}", denied.body);
    }
    corrections(&settle(&gateway, &actual("r", [json!(1), json!(1)])));
    let allowed = gateway.post("/rate-limit/check", check);
    assert!(allowed.body.contains(r#""allowed":true,"remaining":8"#), "{}", allowed.body);
}

#[test]
fn invalid_fields_are_all_listed() {
    let gateway = Place::memory();
    let places = |path: &str, body: &Value| {
        let answer = gateway.post(path, &body.to_string());
        assert_eq!(answer.status, 422, "{body}: {}", answer.body);
        let faults = json_of(&answer)["detail"].as_array().unwrap().clone();
        let place = |fault: &Value| fault["loc"].as_array().unwrap()[1..].to_vec();
        json!(faults.iter().map(place).collect::<Vec<_>>())
    };
    let body = json!({ "reservation": "a{b", "ttl_seconds": 0, "limits": [
        { "limit": 0, "cost": 0 }, { "identifier": "a", "cost": 101 }, 7,
        { "identifier": "b" }, { "identifier": "b", "limit": 7 },
    ] });
    let expected = json!([
        ["reservation"],
        ["ttl_seconds"],
        ["limits", 0, "identifier"],
        ["limits", 0, "limit"],
        ["limits", 0, "cost"],
        ["limits", 1, "cost"],
        ["limits", 2],
        ["limits", 4, "algorithm"]
    ]);
    assert_eq!(places("/rate-limit/reserve", &body), expected);
    let expected = json!([["ttl_seconds"], ["limits"]]);
    assert_eq!(places("/rate-limit/reserve", &json!({})), expected);
    // Null is an identifier that is left out.
    let without = json!({ "ttl_seconds": 1, "limits": [{ "identifier": null }] });
    let answer = gateway.post("/rate-limit/reserve", &without.to_string());
    assert!(answer.body.contains(r#""msg":"Field required""#), "{}", answer.body);
    assert_eq!(places("/rate-limit/reserve", &without), json!([["limits", 0, "identifier"]]));
    let many = json!({ "ttl_seconds": 1, "identifier": "a", "limits": vec![json!({}); 17] });
    assert_eq!(places("/rate-limit/reserve", &many), json!([["limits"]]));

    let body = json!({ "reservation": "é", "identifier": "a", "limits": [
        { "actual": -1 }, { "algorithm": "leaky", "actual": 1 },
    ] });
    let expected = json!([["reservation"], ["limits", 0, "actual"], ["limits", 1, "algorithm"]]);
    assert_eq!(places("/rate-limit/settle", &body), expected);
    let body = actual("r", [json!(1), Value::Null]);
    assert_eq!(places("/rate-limit/settle", &body), json!([["limits"]]));
}

#[test]
fn a_field_of_another_request_that_would_change_the_meaning_is_refused() {
    let gateway = Place::memory();
    let refusal = |path: &str, body: &Value| {
        let answer = gateway.post(path, &body.to_string());
        assert_eq!(answer.status, 422, "{body}: {}", answer.body);
        let faults = json_of(&answer)["detail"].clone();
        assert_eq!(faults.as_array().unwrap().len(), 1, "{faults}");
        (faults[0]["loc"].clone(), faults[0]["msg"].as_str().unwrap().to_owned())
    };
    let reserve_of = |name: &str, value: Value| {
        let mut body = estimate("r", 1);
        body["limits"][0][name] = value;
        body
    };
    let (loc, msg) = refusal("/rate-limit/reserve", &reserve_of("force", json!(true)));
    assert_eq!(loc, json!(["body", "limits", 0, "force"]));
    assert!(msg.starts_with("Value error, force is for checks only: a reservation"), "{msg}");
    for name in ["actual", "amount"] {
        let (_, msg) = refusal("/rate-limit/reserve", &reserve_of(name, json!(5)));
        assert!(msg.ends_with("does not belong here: the estimated units are cost"), "{msg}");
    }
    assert_eq!(reserve(&gateway, &reserve_of("force", json!(false)))["allowed"], true);

    let used = json!({ "reservation": "r", "identifier": "tenant", "limits": [
        { "algorithm": "sliding_window", "cost": 1 }, { "algorithm": "token_bucket" } ] });
    let (loc, msg) = refusal("/rate-limit/settle", &used);
    assert_eq!(loc, json!(["body", "limits", 0, "cost"]));
    assert_eq!(msg, "Value error, cost does not belong here: the units that were used are actual");
    for (path, mut body, name) in [
        ("/rate-limit/reserve", estimate("s", 1), "cost"),
        ("/rate-limit/reserve", estimate("s", 1), "window_seconds"),
        ("/rate-limit/settle", actual("r", [json!(1), json!(1)]), "actual"),
    ] {
        body[name] = json!(7);
        let (loc, msg) = refusal(path, &body);
        assert_eq!(loc, json!(["body", name]));
        assert!(msg.ends_with("does not belong here: each of the limits has its own"), "{msg}");
    }
    let rule = "does not belong here: a reservation has limits of its own";
    for (path, body) in [
        ("/rate-limit/reserve", estimate("s", 1)),
        ("/rate-limit/settle", actual("r", [json!(1), json!(1)])),
    ] {
        for name in ["policy", "attributes"] {
            let mut whole = body.clone();
            whole[name] = json!("api");
            let (loc, msg) = refusal(path, &whole);
            assert!(loc == json!(["body", name]) && msg.ends_with(rule), "{loc} {msg}");
            let mut of_limit = body.clone();
            of_limit["limits"][0][name] = json!("api");
            let (loc, msg) = refusal(path, &of_limit);
            assert_eq!(loc, json!(["body", "limits", 0, name]));
            assert!(msg.ends_with(rule), "{msg}");
        }
    }
    assert_eq!(corrections(&settle(&gateway, &actual("r", [json!(1), json!(1)]))), [0, 0]);
}

#[test]
fn units_beyond_an_estimate_are_taken_in_the_window_of_the_settlement_if_it_is_known() {
    let server = Server::at(NOON);
    let redis = Gateway::builder().redis(&server).start();
    let memory = Gateway::builder().clock(server.clock()).env("REDIS_URL", "memory://").start();
    let day = Duration::from_secs(86_400);
    for (turn, gateway) in [&redis, &memory].into_iter().enumerate() {
        let zones = [("utc", json!(null)), ("berlin", json!("Europe/Berlin"))];
        let limits = |number: &str, value: u32| {
            let limit = |(identifier, zone): &(&str, Value)| {
                json!({ "identifier": format!("{identifier}{turn}"), "algorithm": "fixed_window",
                    "limit": 10, "period": "day", "timezone": zone, number: value })
            };
            json!({ "reservation": "r", "ttl_seconds": 172_800, "limits": zones.iter().map(limit).collect::<Vec<_>>() })
        };
        reserve(gateway, &limits("cost", 2));
        server.clock().advance(day);
        // Without a state the reservation has the rule of the day in UTC, and not that in Berlin.
        assert_eq!(corrections(&settle(gateway, &limits("actual", 5))), [3, 0]);
        reserve(gateway, &limits("cost", 2));
        server.clock().advance(day);
        for zone in ["UTC", "Europe/Berlin"] {
            let identifier = if zone == "UTC" { "utc" } else { "berlin" };
            let check = json!({ "identifier": format!("{identifier}{turn}"), "limit": 10,
                "algorithm": "fixed_window", "period": "day", "timezone": zone });
            assert_eq!(gateway.post("/rate-limit/check", &check.to_string()).status, 200);
        }
        assert_eq!(corrections(&settle(gateway, &limits("actual", 5))), [3, 3]);
    }
}

#[test]
fn reservations_are_unavailable_without_redis_in_every_fail_mode() {
    for mode in ["closed", "open", "local"] {
        let server = Server::at(NOON);
        let gateway = Gateway::builder().redis(&server).env("FAIL_MODE", mode).start();
        reserve(&gateway, &estimate("r", 1));
        drop(server);
        let answers = [
            gateway.post("/rate-limit/reserve", &estimate("s", 1).to_string()),
            settle(&gateway, &actual("r", [json!(1), json!(1)])),
        ];
        for answer in answers {
            assert_eq!((answer.status, answer.body.as_str()), (503, UNAVAILABLE), "{mode}");
        }
    }
}

#[test]
fn callers_need_the_scope_check_to_reserve_and_force_to_settle() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("keys.json");
    let scopes = ["check", "read", "reset", "force"];
    let keys = scopes.map(|scope| (scope, ApiKey::new(scope, &[scope])));
    ApiKey::write(&path, &keys.each_ref().map(|(_, key)| key));
    let gateway = Gateway::builder().env("REDIS_URL", "memory://");
    let gateway = gateway.env("API_KEYS_FILE", &path.display().to_string()).start();
    for (path, body, scope) in [
        ("/rate-limit/reserve", estimate("r", 1), "check"),
        ("/rate-limit/settle", actual("r", [json!(1), json!(1)]), "force"),
    ] {
        for (other, key) in &keys {
            let body = body.to_string();
            let status = gateway.request("POST", path, &[key.header()], &body).status;
            assert_eq!(status == 403, *other != scope, "{path} {other} {status}");
        }
    }
}

#[test]
fn concurrent_settlements_correct_once() {
    for Place { name, gateway, .. } in &Place::both() {
        reserve(gateway, &estimate("r", 10));
        let settled = thread::scope(|scope| {
            let callers: Vec<_> = (0..50)
                .map(|_| scope.spawn(|| settle(gateway, &actual("r", [json!(4), json!(4)]))))
                .collect();
            let answers = callers.into_iter().map(|caller| caller.join().unwrap().status);
            answers.filter(|status| *status == 200).count()
        });
        assert_eq!((settled, remaining(gateway)), (1, [6, 16]), "{name}");
    }
}

/// Returns an answer that has of each time only whether there is one and whether it is 0: the clocks of
/// the two places differ.
fn timeless(answer: &Response) -> (u16, Value) {
    fn remove_times(value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(remove_times),
            Value::Object(fields) => {
                for (name, value) in fields {
                    if name.contains("seconds") || name == "retry_after" {
                        *value = json!(value.as_f64().map(|seconds| seconds > 0.0));
                    } else {
                        remove_times(value);
                    }
                }
            }
            _ => {}
        }
    }
    let mut body = json_of(answer);
    remove_times(&mut body);
    (answer.status, body)
}

#[test]
fn redis_and_memory_give_the_same_answers() {
    let places = Place::both();
    let mut random = Random::new();
    // Two calls never share an entry of a log: the monotonic clock, which decides in memory://,
    // cannot be set.
    let apart = Duration::from_millis(2);
    for _ in 0..500 {
        places.iter().filter_map(|place| place.server.as_ref()).for_each(|server| {
            server.clock().advance(apart);
        });
        thread::sleep(apart);
        let reservation = random.pick(&["p", "q", "r", "s"]);
        let algorithms = ["token_bucket", "sliding_window", "fixed_window"];
        let first = random.below(3);
        let chosen = [algorithms[first], algorithms[(first + 1) % 3]];
        let chosen = &chosen[..random.below(2) + 1];
        let (cost, used) = (random.below(4) + 1, random.below(8));
        let identifier = random.pick(&["a", "b"]);
        let limit = |algorithm: &&str| {
            json!({ "algorithm": algorithm, "limit": 12, "window_seconds": 31_622_400,
                "cost": cost, "actual": used })
        };
        let limits: Vec<_> = chosen.iter().map(limit).collect();
        let body = json!({ "reservation": reservation, "identifier": identifier,
            "ttl_seconds": 20_000_000, "limits": limits });
        let algorithm = chosen[0];
        let check = json!({ "identifier": identifier, "algorithm": algorithm, "limit": 12,
            "window_seconds": 31_622_400, "cost": cost, "amount": cost });
        let choice = random.below(10);
        let answers = places.each_ref().map(|Place { gateway, .. }| match choice {
            0..4 => gateway.post("/rate-limit/reserve", &body.to_string()),
            4..7 => settle(gateway, &body),
            7 => gateway.post("/rate-limit/check", &check.to_string()),
            8 => gateway.post("/rate-limit/refund", &check.to_string()),
            _ => gateway.delete(&format!("/rate-limit/reset/{identifier}?algorithm={algorithm}")),
        });
        assert_eq!(timeless(&answers[0]), timeless(&answers[1]), "{choice} {body}");
    }
    assert!(places.iter().all(|place| place.server.is_some() == (place.name == "redis")));
}
