//! Checks of many identifiers in one request: each check has the answer of a single check.

use serde_json::{Value, json};

use crate::harness::{Gateway, NOON, Response, Server};

/// Starts a server, whose clock stands at [`NOON`], and a gateway without a deny cache.
fn start() -> (Server, Gateway) {
    let server = Server::at(NOON);
    let settings = Gateway::builder().redis(&server);
    let gateway = settings.env("DENY_CACHE_SIZE", "0").start();
    (server, gateway)
}

fn post(gateway: &Gateway, checks: &Value) -> Response {
    gateway.post("/rate-limit/check/batch", &json!({ "checks": checks }).to_string())
}

fn results(gateway: &Gateway, checks: &Value) -> Vec<Value> {
    let response = post(gateway, checks);
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    let body: Value = serde_json::from_str(&response.body).unwrap();
    body["results"].as_array().unwrap().clone()
}

/// Returns the number of times that Redis has run a command.
fn calls(server: &Server, command: &str) -> u64 {
    let stats: String = server.client().call("INFO commandstats");
    let prefix = format!("cmdstat_{command}:calls=");
    let count = stats.lines().find_map(|line| line.strip_prefix(&prefix)?.split(',').next());
    count.map_or(0, |count| count.parse().unwrap())
}

#[test]
fn each_check_is_answered_in_its_place_as_if_it_had_come_alone() {
    let (_server, gateway) = start();
    let checks = [
        json!({ "identifier": "a", "limit": 10, "cost": 4 }),
        json!({ "identifier": "a", "limit": 10, "cost": 9 }),
        json!({ "identifier": "b", "algorithm": "sliding_window", "limit": 3, "cost": "2" }),
        json!({ "identifier": "a", "limit": 10, "cost": 0 }),
        json!({ "identifier": "c", "limit": 10, "burst": 25, "cost": 20 }),
    ];
    let together = results(&gateway, &json!(checks));
    for identifier in ["a", "b", "c"] {
        gateway.delete(&format!("/rate-limit/reset/{identifier}"));
    }
    for (check, result) in checks.iter().zip(&together) {
        let alone = gateway.post("/rate-limit/check", &check.to_string());
        let mut expected: Value = serde_json::from_str(&alone.body).unwrap();
        expected["status"] = json!(alone.status);
        expected["source"] = json!("redis");
        assert_eq!(*result, expected, "{check}");
    }
}

#[test]
fn repeats_of_an_identifier_are_decided_in_order() {
    let (_server, gateway) = start();
    let check = json!({ "identifier": "user", "limit": 3 });
    let remaining = |result: &Value| (result["allowed"].clone(), result["remaining"].clone());
    let decided: Vec<_> = results(&gateway, &json!(vec![check; 5])).iter().map(remaining).collect();
    let expected = [(true, 2), (true, 1), (true, 0), (false, 0), (false, 0)];
    assert_eq!(decided, expected.map(|(allowed, left)| (json!(allowed), json!(left))));
}

#[test]
fn a_thousand_checks_are_one_call_and_a_larger_batch_is_refused() {
    let (server, gateway) = start();
    let checks = |count: usize| -> Value {
        (0..count).map(|number| json!({ "identifier": format!("user-{number}") })).collect()
    };
    let decided = results(&gateway, &checks(1_000));
    assert_eq!(decided.len(), 1_000);
    assert!(decided.iter().all(|result| result["remaining"] == 99), "{decided:?}");
    assert_eq!(calls(&server, "ratelimit.tb"), 1_000);

    let response = post(&gateway, &checks(1_001));
    let fault = r#"{"detail":[{"type":"too_long","loc":["body","checks"],"msg":"List should have at most 1000 items after validation, not 1001","input":["#;
    assert_eq!(response.status, 422);
    assert!(response.body.starts_with(fault), "{}", &response.body[..300]);
    assert_eq!(calls(&server, "ratelimit.tb"), 1_000);
}

#[test]
fn a_batch_with_more_than_a_thousand_limits_is_refused_and_takes_nothing() {
    let (server, gateway) = start();
    let limits: Vec<_> = (0..16).map(|number| json!({ "name": format!("l{number}") })).collect();
    let checks = |several: usize, single: usize| {
        let check = |number: usize| match number < several {
            true => json!({ "identifier": format!("u{number}"), "limits": limits }),
            false => json!({ "identifier": format!("u{number}") }),
        };
        json!((0..several + single).map(check).collect::<Vec<_>>())
    };
    let refused = post(&gateway, &checks(62, 9));
    let fault = r#"{"detail":[{"type":"value_error","loc":["body","checks"],"msg":"Value error, all checks together must have at most 1000 limits, not 1001","input":null}]}"#;
    assert_eq!((refused.status, refused.body.as_str()), (422, fault));
    let keys: u64 = server.client().call("DBSIZE");
    assert_eq!(keys, 0);
    let decided = results(&gateway, &checks(62, 8));
    assert!(decided.iter().all(|result| result["allowed"] == true));
    let keys: u64 = server.client().call("DBSIZE");
    assert_eq!(keys, 1_000);
}

#[test]
fn an_invalid_check_has_a_result_of_its_own() {
    let (_server, gateway) = start();
    let decided = results(
        &gateway,
        &json!([
            { "identifier": "user" },
            { "limit": 0 },
            "user",
            { "identifier": "user", "limit": 10, "cost": 11 },
            { "identifier": "user", "algorithm": "sliding_window", "limit": 1_000_001, "window_seconds": 86_400 },
            { "identifier": "user" },
        ]),
    );
    let fault = |kind: &str, loc: Value, msg: &str, input: Value| json!({ "type": kind, "loc": loc, "msg": msg, "input": input });
    let missing = fault(
        "missing",
        json!(["body", "checks", 1, "identifier"]),
        "Field required",
        json!({ "limit": 0 }),
    );
    let mut too_small = fault(
        "greater_than_equal",
        json!(["body", "checks", 1, "limit"]),
        "Input should be greater than or equal to 1",
        json!(0),
    );
    too_small["ctx"] = json!({ "ge": 1 });
    assert_eq!(decided[1], json!({ "status": 422, "detail": [missing, too_small] }));
    let no_object = fault(
        "model_attributes_type",
        json!(["body", "checks", 2]),
        "Input should be a valid dictionary or object to extract fields from",
        json!("user"),
    );
    assert_eq!(decided[2], json!({ "status": 422, "detail": [no_object] }));
    assert_eq!(decided[3]["detail"][0]["loc"], json!(["body", "checks", 3, "cost"]));
    let by_redis = fault(
        "value_error",
        json!(["body", "checks", 4, "limit"]),
        "Value error, limit must be an integer between 1 and 1000000 with this resolution",
        json!(1_000_001),
    );
    assert_eq!(decided[4], json!({ "status": 422, "detail": [by_redis] }));
    let left = |result: &Value| (result["status"].clone(), result["remaining"].clone());
    assert_eq!([&decided[0], &decided[5]].map(left), [99, 98].map(|n| (json!(200), json!(n))));
}

#[test]
fn an_invalid_batch_is_refused_as_a_whole() {
    let (_server, gateway) = start();
    for (body, fault) in [
        ("{}", r#"{"type":"missing","loc":["body","checks"],"msg":"Field required","input":{}}"#),
        (
            r#"{"checks":{"identifier":"user"}}"#,
            r#"{"type":"list_type","loc":["body","checks"],"msg":"Input should be a valid list","input":{"identifier":"user"}}"#,
        ),
        (
            r#"{"checks":[]}"#,
            r#"{"type":"too_short","loc":["body","checks"],"msg":"List should have at least 1 item after validation, not 0","input":[],"ctx":{"actual_length":0,"field_type":"List","min_length":1}}"#,
        ),
        (
            "[]",
            r#"{"type":"model_attributes_type","loc":["body"],"msg":"Input should be a valid dictionary or object to extract fields from","input":[]}"#,
        ),
    ] {
        let response = gateway.post("/rate-limit/check/batch", body);
        let detail = format!(r#"{{"detail":[{fault}]}}"#);
        assert_eq!((response.status, response.body), (422, detail), "{body}");
    }
}

#[test]
fn a_batch_may_be_larger_than_a_check() {
    let (_server, gateway) = start();
    let body = |size: usize| {
        let frame = r#"{"checks":[{"identifier":"x","padding":""}]}"#.len();
        let padding = "-".repeat(size - frame);
        format!(r#"{{"checks":[{{"identifier":"x","padding":"{padding}"}}]}}"#)
    };
    let post = |size| gateway.post("/rate-limit/check/batch", &body(size));
    assert_eq!(post(1024 * 1024).status, 200);
    let response = post(1024 * 1024 + 1);
    let expected = (413, r#"{"detail":"Payload Too Large"}"#);
    assert_eq!((response.status, response.body.as_str()), expected);
}

#[test]
fn results_have_the_status_of_denials() {
    let server = Server::start();
    let settings = Gateway::builder().redis(&server);
    let gateway = settings.env("DENY_STATUS", "429").start();
    let check = json!({ "identifier": "user", "limit": 1, "window_seconds": 3600 });
    let decided = results(&gateway, &json!([check, check]));
    assert_eq!([&decided[0]["status"], &decided[1]["status"]], [200, 429]);
}

#[test]
fn cached_denials_are_left_out_of_the_call() {
    let server = Server::start();
    let settings = Gateway::builder().redis(&server);
    let gateway = settings.env("DENY_CACHE_MAX_MS", "3600000").start();
    let check =
        |identifier: &&str| json!({ "identifier": identifier, "limit": 1, "window_seconds": 3600 });
    let sources = |identifiers: &[&str]| -> Vec<String> {
        let checks = identifiers.iter().map(check).collect();
        let source = |result: &Value| result["source"].as_str().unwrap().to_owned();
        results(&gateway, &checks).iter().map(source).collect()
    };
    assert_eq!(sources(&["a", "a", "b"]), ["redis", "redis", "redis"]);
    assert_eq!(sources(&["a", "b", "a", "c"]), ["cache", "redis", "cache", "redis"]);
    assert_eq!(sources(&["a", "b"]), ["cache", "cache"]);
    assert_eq!(calls(&server, "ratelimit.tb"), 5);
    let metrics = gateway.get("/metrics").body;
    for line in [
        r#"{algorithm="token_bucket",outcome="allowed",source="redis"} 3"#,
        r#"{algorithm="token_bucket",outcome="denied",source="redis"} 2"#,
        r#"{algorithm="token_bucket",outcome="denied",source="cache"} 4"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[test]
fn each_check_has_the_fail_mode_when_redis_is_down() {
    let mut server = Server::start();
    let gateway = |mode| {
        let share = if mode == "local" { "0.5" } else { "" };
        Gateway::builder().redis(&server).env("FAIL_MODE", mode).env("LOCAL_SHARE", share).start()
    };
    let gateways = ["closed", "open", "local"].map(gateway);
    server.kill();
    let check = json!({ "identifier": "user", "limit": 4, "window_seconds": 3600 });
    let checks = json!([check, check, check, { "identifier": "" }]);
    let short = |result: &Value| {
        let or = |name: &str| result.get(name).map(ToString::to_string).unwrap_or_default();
        ["status", "source", "allowed", "remaining", "error_code"].map(or).join(" ")
    };
    let expected = [
        [r#"503    "REDIS_ERROR""#; 3],
        [r#"200 "open" true 3 "#; 3],
        [r#"200 "local" true 1 "#, r#"200 "local" true 0 "#, r#"200 "local" false 0 "#],
    ];
    for (gateway, expected) in gateways.iter().zip(expected) {
        let decided = results(gateway, &checks);
        let decided: Vec<_> = decided.iter().map(short).collect();
        assert_eq!(decided[..3], expected, "{decided:?}");
        assert!(decided[3].starts_with("422 "), "{decided:?}");
    }
}
