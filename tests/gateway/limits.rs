//! Checks of several limits at once: all of them take their costs, or none.

use std::thread;

use serde_json::{Value, json};

use crate::harness::{
    Cluster, Gateway, NOON, Place, Random, Response, Sentinels, Server, eventually, is_primary,
    json_of,
};

/// Seconds of a window in which no unit returns while a test runs.
const YEAR: u64 = 31_622_400;

fn check(gateway: &Gateway, body: &Value) -> Response {
    let response = gateway.post("/rate-limit/check", &body.to_string());
    assert_eq!(response.status, 200, "{body}: {}", response.body);
    response
}

/// Sends a check in a batch, and returns its result.
fn check_in_batch(gateway: &Gateway, body: &Value) -> Value {
    let batch = json!({ "checks": [body] }).to_string();
    let response = gateway.post("/rate-limit/check/batch", &batch);
    assert_eq!(response.status, 200, "{body}: {}", response.body);
    json_of(&response)["results"][0].clone()
}

/// Returns a check of units of two limits.
fn pair(identifier: &str, cost: u64) -> Value {
    json!({ "identifier": identifier, "cost": cost, "limits": [
        { "name": "rate", "limit": 100, "window_seconds": YEAR },
        { "name": "log", "algorithm": "sliding_window", "limit": 60, "window_seconds": YEAR },
    ] })
}

/// Returns what the answer has apart from times, which also choose the limit that a denial describes.
fn decision(answer: &Value) -> Value {
    let allowed = answer["allowed"] == true;
    let waits = !answer["retry_after"].is_null();
    let limits = answer["limits"].as_array().unwrap().iter();
    let limits: Vec<_> =
        limits.map(|limit| json!([limit["name"], limit["allowed"], limit["remaining"]])).collect();
    json!([allowed, allowed.then(|| &answer["remaining"]), answer["violated"], waits, limits])
}

#[test]
fn an_answer_has_each_limit_and_a_denial_is_that_of_the_longest_wait() {
    let server = Server::at(NOON);
    let gateway = Gateway::builder().redis(&server).env("DENY_STATUS", "429").start();
    let body = |cost: u32| {
        json!({ "identifier": "a {b", "cost": cost, "limits": [
            { "name": "rate", "limit": 10, "window_seconds": 60 },
            { "name": "hour", "algorithm": "sliding_window", "limit": 8, "window_seconds": 3600 },
            { "name": "day", "algorithm": "fixed_window", "limit": 100, "period": "day",
                "cost": 30 },
        ] })
        .to_string()
    };
    let granted = gateway.post("/rate-limit/check", &body(6));
    let expected = r#"{"allowed":true,"remaining":2,"reset_in_seconds":43200,"retry_after":null,"violated":[],"limits":[{"name":"rate","algorithm":"token_bucket","allowed":true,"remaining":4,"reset_in_seconds":36,"retry_after":null},{"name":"hour","algorithm":"sliding_window","allowed":true,"remaining":2,"reset_in_seconds":3600,"retry_after":null},{"name":"day","algorithm":"fixed_window","allowed":true,"remaining":70,"reset_in_seconds":43200,"retry_after":null}]}"#;
    assert_eq!((granted.status, granted.body.as_str()), (200, expected));
    let policy = r#""rate";q=10;w=60, "hour";q=8;w=3600, "day";q=100;w=86400"#;
    assert_eq!(granted.header("RateLimit-Policy"), Some(policy));
    let state = r#""rate";r=4;t=6, "hour";r=2;t=3600, "day";r=70;t=43200"#;
    assert_eq!(granted.header("RateLimit"), Some(state));
    assert_eq!(granted.header("X-RateLimit-Limit"), Some("8"));
    assert_eq!(granted.header("X-RateLimit-Reset"), Some("43200"));
    let mut keys: Vec<String> = server.client().call("KEYS *");
    keys.sort_unstable();
    let id = "{a%20%7Bb}";
    assert_eq!(keys, ["day:fw", "hour:sw", "rate:tb"].map(|key| format!("inline:{key}:{id}")));

    let denied = gateway.post("/rate-limit/check", &body(6));
    assert_eq!((denied.status, denied.header("Retry-After")), (429, Some("3600")));
    assert_eq!(denied.header("X-RateLimit-Remaining"), Some("2"));
    let answer = json_of(&denied);
    assert_eq!(answer["violated"], json!(["rate", "hour"]));
    assert_eq!((&answer["remaining"], &answer["retry_after"]), (&json!(2), &json!(3600)));
    // The day has kept its units.
    assert_eq!(answer["limits"][2]["remaining"], 70);
    for (algorithm, outcome) in [("token_bucket", "allowed"), ("fixed_window", "denied")] {
        let labels = format!(r#"algorithm="{algorithm}",outcome="{outcome}",source="redis""#);
        assert_eq!(gateway.metric(&format!("ratelimit_decisions_total{{{labels}}}")), 1.0);
    }
    let labels = r#"policy="inline",plan="",limit="inline",outcome="denied""#;
    assert_eq!(gateway.metric(&format!("ratelimit_policy_decisions_total{{{labels}}}")), 1.0);
    let top = json_of(&gateway.get("/rate-limit/top"));
    let denied = top["top"].as_array().unwrap().iter().map(|entry| &entry["identifier"]);
    assert_eq!(
        denied.collect::<Vec<_>>(),
        [&format!("inline:hour:sw:{id}"), &format!("inline:rate:tb:{id}")]
    );
}

#[test]
fn one_limit_is_the_command_of_its_algorithm() {
    let server = Server::at(NOON);
    let gateway = Gateway::start(&server);
    check(&gateway, &json!({ "identifier": "u", "limits": [{ "name": "rate" }] }));
    check(&gateway, &pair("u", 1));
    let stats = server.client().call::<String>("INFO commandstats").to_lowercase();
    for command in ["ratelimit.tb", "ratelimit.multi"] {
        assert!(stats.contains(&format!("cmdstat_{command}:calls=1,")), "{stats}");
    }
}

/// Sends checks of two limits from 50 clients at once, alone and in batches.
fn decide_at_once(gateway: &Gateway) -> Vec<(u64, Value)> {
    thread::scope(|scope| {
        let client = |number: u64| {
            move || {
                let costs = (0..4).map(|turn| (number * 7 + turn * 3) % 5 + 1);
                let decide = |cost| match cost % 2 {
                    0 => json_of(&check(gateway, &pair("shared", cost))),
                    _ => check_in_batch(gateway, &pair("shared", cost)),
                };
                costs.map(|cost| (cost, decide(cost))).collect::<Vec<_>>()
            }
        };
        let clients: Vec<_> = (0..50).map(|number| scope.spawn(client(number))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

#[test]
fn fifty_clients_at_once_get_what_a_model_grants() {
    for Place { name, gateway, .. } in &Place::both() {
        let mut answers = decide_at_once(gateway);
        let granted: u64 = answers
            .iter()
            .filter(|(_, answer)| answer["allowed"] == true)
            .map(|(cost, _)| cost)
            .sum();
        let last = json_of(&check(gateway, &pair("shared", 0)));
        let remaining = [0, 1].map(|place| last["limits"][place]["remaining"].as_u64().unwrap());
        // Both limits have taken what was granted, and nothing else.
        assert_eq!(remaining, [100 - granted, 60 - granted], "{name}");
        // One order of the grants explains every answer: what remained of the log fell by each cost.
        answers.retain(|(_, answer)| answer["allowed"] == true);
        answers.sort_by_key(|(_, answer)| {
            std::cmp::Reverse(answer["limits"][1]["remaining"].as_u64())
        });
        let mut model = [100, 60];
        for (cost, answer) in &answers {
            model = model.map(|remaining| remaining - cost);
            let limits = [0, 1].map(|place| answer["limits"][place]["remaining"].as_u64().unwrap());
            assert_eq!(limits, model, "{name}");
        }
        assert!(granted > 55, "{name}: a cost of at most five was denied with {remaining:?} left");
    }
}

#[test]
fn a_check_alone_and_in_a_batch_decides_the_same_in_redis_and_in_memory() {
    let [memory, redis] = Place::both();
    let [other_memory, other_redis] = Place::both();
    let mut random = Random::new();
    for _ in 0..150 {
        let limit = |random: &mut Random| {
            let algorithm = random.pick(&["token_bucket", "sliding_window", "fixed_window"]);
            json!({ "name": algorithm, "algorithm": algorithm, "limit": 12,
                "window_seconds": YEAR, "cost": random.below(4) + 1 })
        };
        let count = random.below(4) + 1;
        let limits: Vec<_> = (0..count).map(|_| limit(&mut random)).collect();
        let mut body = json!({ "identifier": random.pick(&["a", "b", "c"]), "limits": limits });
        if random.once_in(4) {
            body["cost"] = json!(0);
        }
        let alone = [&memory, &redis].map(|place| {
            let response = place.gateway.post("/rate-limit/check", &body.to_string());
            (response.status, json_of(&response))
        });
        let in_batch = [&other_memory, &other_redis].map(|place| {
            let result = check_in_batch(&place.gateway, &body);
            (u16::try_from(result["status"].as_u64().unwrap()).unwrap(), result)
        });
        let decided = alone.iter().chain(&in_batch).map(|(status, answer)| match status {
            200 if answer["allowed"] == true => decision(answer),
            // A denial that is repeated from the cache has the numbers of its arrival, although a
            // check of a lower cost can have been granted since then.
            200 => answer["violated"].clone(),
            // The sum of the costs of equal limits is above the capacity.
            _ => json!(answer["detail"][0]["msg"]),
        });
        let decided: Vec<_> = decided.collect();
        assert!(decided.iter().all(|other| *other == decided[0]), "{body}: {decided:?}");
    }
}

#[test]
fn a_denial_is_repeated_for_exactly_the_same_limits() {
    let server = Server::start();
    let gateway = Gateway::builder().redis(&server).env("DENY_CACHE_MAX_MS", "3600000").start();
    let source = |body: &Value| {
        let response = check(&gateway, body);
        (
            json_of(&response)["allowed"] == true,
            response.header("X-RateLimit-Source").map(str::to_owned),
        )
    };
    let cache = Some("cache".to_owned());
    assert_eq!(source(&pair("u", 58)), (true, None));
    assert_eq!(source(&pair("u", 3)), (false, None));
    assert_eq!(source(&pair("u", 3)), (false, cache.clone()));
    // A smaller cost is granted, and the greater one is still denied.
    assert_eq!(source(&pair("u", 1)), (true, None));
    assert_eq!(source(&pair("u", 3)), (false, cache.clone()));
    let mut alone = pair("u", 3);
    alone["limits"].as_array_mut().unwrap().remove(1);
    assert_eq!(source(&alone), (true, None));
    assert_eq!(source(&pair("other", 3)), (true, None));
    // The numbers of the log are others, so that a grant can make its units return sooner.
    let mut greater = pair("u", 3);
    greater["limits"][1]["limit"] = json!(70);
    assert_eq!(source(&greater), (true, None));
    assert_eq!(source(&pair("u", 3)), (false, None));
    assert_eq!(source(&pair("u", 3)), (false, cache));
}

#[test]
fn limits_of_one_identifier_are_taken_at_once_in_a_cluster() {
    let cluster = Cluster::start();
    let gateway = Gateway::builder().env("REDIS_URL", &cluster.url());
    let gateway = gateway.env("REDIS_TIMEOUT_MS", "5000").env("LOG_LEVEL", "DEBUG").start();
    eventually("every primary is connected", || {
        (gateway.log().matches("connected to Redis").count() == 12).then_some(())
    });
    for identifier in ["a", "b", "}", "long-".repeat(50).as_str()] {
        assert_eq!(json_of(&check(&gateway, &pair(identifier, 30)))["remaining"], 30);
        let answer = check_in_batch(&gateway, &pair(identifier, 31));
        assert_eq!(answer["violated"], json!(["log"]), "{identifier}");
        let last = json_of(&check(&gateway, &pair(identifier, 0)));
        assert_eq!(last["limits"][0]["remaining"], 70, "{identifier}");
    }
}

#[test]
fn several_limits_are_taken_together_at_the_primary_that_sentinels_name() {
    let (primary, replica) = (Server::start(), Server::start());
    replica.follow(&primary);
    let sentinels = Sentinels::watch(&primary, 1);
    let gateway = Gateway::builder().env("REDIS_URL", &sentinels.url());
    let gateway = gateway.env("REDIS_TIMEOUT_MS", "5000").env("DENY_CACHE_SIZE", "0").start();
    let remaining =
        |answer: &Value| [0, 1].map(|place| answer["limits"][place]["remaining"].as_u64().unwrap());
    assert_eq!(remaining(&json_of(&check(&gateway, &pair("a", 30)))), [70, 30]);
    replica.catch_up_with(&primary);
    sentinels.fail_over();
    eventually("the replica is promoted", || is_primary(replica.port()).then_some(()));
    eventually("the gateway has left the former primary", || {
        gateway.log().contains("Sentinels name another primary").then_some(())
    });
    eventually("the new primary decides", || {
        let look = gateway.post("/rate-limit/check", &pair("a", 0).to_string());
        (look.status == 200).then_some(())
    });
    // The denial of one limit takes nothing of the other one.
    assert_eq!(json_of(&check(&gateway, &pair("a", 31)))["violated"], json!(["log"]));
    assert_eq!(remaining(&json_of(&check(&gateway, &pair("a", 0)))), [70, 30]);
    assert_eq!(remaining(&json_of(&check(&gateway, &pair("a", 30)))), [40, 0]);
    let keys: u64 = replica.client().call("DBSIZE");
    assert_eq!(keys, 2);
}

#[test]
fn each_fail_mode_decides_all_limits() {
    for (mode, expected) in [
        ("closed", None),
        ("open", Some(json!([true, 50, [], false, [["rate", true, 90], ["log", true, 50]]]))),
        ("local", Some(json!([true, 5, [], false, [["rate", true, 15], ["log", true, 5]]]))),
    ] {
        let mut server = Server::start();
        let settings = Gateway::builder().redis(&server).env("FAIL_MODE", mode);
        let share = if mode == "local" { "0.25" } else { "" };
        let gateway = settings.env("LOCAL_SHARE", share).start();
        server.kill();
        let response = gateway.post("/rate-limit/check", &pair("u", 10).to_string());
        match &expected {
            None => assert_eq!(response.status, 503),
            Some(expected) => {
                assert_eq!(&decision(&json_of(&response)), expected);
                assert_eq!(response.header("X-RateLimit-Source"), Some(mode));
            }
        }
        if mode == "local" {
            // The log has five units of its share left, and the rate keeps its units.
            let answer = json_of(&check(&gateway, &pair("u", 6)));
            assert_eq!(
                decision(&answer),
                json!([false, null, ["log"], true, [["rate", true, 15], ["log", false, 5]]])
            );
        }
    }
}
