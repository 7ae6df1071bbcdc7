//! Leases: units that are taken until they are released or expire.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    ApiKey, Gateway, NOON, Place, Random, Response, Server, UNAVAILABLE, json_of,
};

fn acquire(gateway: &Gateway, body: &Value) -> Value {
    let response = gateway.post("/rate-limit/leases", &body.to_string());
    assert_eq!(response.status, 200, "{body}: {}", response.body);
    json_of(&response)
}

fn renew(gateway: &Gateway, path: &str, body: &Value) -> Response {
    let headers = [("Content-Type", "application/json")];
    gateway.request("PUT", &format!("/rate-limit/leases/{path}"), &headers, &body.to_string())
}

fn release(gateway: &Gateway, path: &str) -> Value {
    let response = gateway.delete(&format!("/rate-limit/leases/{path}"));
    assert_eq!(response.status, 200, "{path}: {}", response.body);
    json_of(&response)["released"].clone()
}

fn lease(identifier: &str, lease: &str, limit: u32) -> Value {
    json!({ "identifier": identifier, "lease": lease, "limit": limit, "ttl_seconds": 3600 })
}

fn holders(gateway: &Gateway, identifier: &str) -> Vec<Value> {
    let answer = json_of(&gateway.get(&format!("/rate-limit/leases/{identifier}")));
    let leases = answer["leases"].as_array().unwrap();
    assert_eq!((&answer["count"], &answer["truncated"]), (&json!(leases.len()), &json!(false)));
    leases.iter().map(|entry| entry["lease"].clone()).collect()
}

#[test]
fn a_lease_takes_a_slot_until_it_is_released() {
    for Place { name, gateway, .. } in &Place::both() {
        let first = acquire(gateway, &lease("tenant", "a", 2));
        assert_eq!((&first["allowed"], &first["lease"]), (&json!(true), &json!("a")), "{name}");
        assert_eq!((&first["remaining"], &first["retry_after"]), (&json!(1), &Value::Null));
        let second = acquire(gateway, &lease("tenant", "b", 2));
        assert!(second["fence"].as_u64() > first["fence"].as_u64(), "{first} {second}");

        // A request that is repeated takes no second slot, and has the same fence.
        let again = acquire(gateway, &lease("tenant", "a", 2));
        assert_eq!((&again["fence"], &again["remaining"]), (&first["fence"], &json!(0)));
        // The lease that was taken again ends last, or at the same time.
        assert_eq!(holders(gateway, "tenant").len(), 2);

        let denied = acquire(gateway, &lease("tenant", "c", 2));
        assert_eq!((&denied["allowed"], &denied["fence"]), (&json!(false), &Value::Null));
        assert_eq!(denied["expires_in_seconds"], Value::Null);
        assert!(denied["retry_after"].as_f64().unwrap() > 3_500.0, "{denied}");
        assert_eq!(release(gateway, "tenant/a"), true);
        assert_eq!(release(gateway, "tenant/a"), false);
        // The deny cache keeps no denial of a lease.
        assert_eq!(acquire(gateway, &lease("tenant", "c", 2))["allowed"], true, "{name}");
        assert_eq!(holders(gateway, "tenant"), ["b", "c"]);
    }
}

#[test]
fn a_decision_has_the_headers_and_the_status_of_a_check() {
    let server = Server::at(NOON);
    let gateway = Gateway::builder().redis(&server).env("DENY_STATUS", "429").start();
    let body = json!({ "identifier": "tenant", "lease": "a", "limit": 5, "cost": 4,
        "ttl_seconds": 12.5 });
    let granted = gateway.post("/rate-limit/leases", &body.to_string());
    let expected = format!(
        r#"{{"allowed":true,"lease":"a","fence":{NOON},"expires_in_seconds":12.5,"remaining":1,"reset_in_seconds":12.5,"retry_after":null}}"#
    );
    assert_eq!((granted.status, granted.body.as_str()), (200, expected.as_str()));
    let body = json!({ "identifier": "tenant", "lease": "b", "limit": 5, "cost": 2,
        "ttl_seconds": 60 });
    let denied = gateway.post("/rate-limit/leases", &body.to_string());
    let expected = r#"{"allowed":false,"lease":"b","fence":null,"expires_in_seconds":null,"remaining":1,"reset_in_seconds":12.5,"retry_after":12.5}"#;
    assert_eq!((denied.status, denied.body.as_str()), (429, expected));
    for (name, value) in [
        ("RateLimit-Policy", r#""default";q=5;qu="concurrent-requests""#),
        ("RateLimit", r#""default";r=1;t=13"#),
        ("X-RateLimit-Limit", "5"),
        ("X-RateLimit-Remaining", "1"),
        ("X-RateLimit-Reset", "13"),
        ("Cache-Control", "no-store"),
    ] {
        for answer in [&granted, &denied] {
            assert_eq!(answer.header(name), Some(value));
        }
    }
    assert_eq!((granted.header("Retry-After"), denied.header("Retry-After")), (None, Some("13")));
    for outcome in ["allowed", "denied"] {
        let labels = format!(r#"algorithm="concurrency",outcome="{outcome}",source="redis""#);
        assert_eq!(gateway.metric(&format!("ratelimit_decisions_total{{{labels}}}")), 1.0);
    }
}

#[test]
fn a_worker_that_dies_loses_its_slot_for_no_longer_than_its_ttl() {
    let server = Server::at(NOON);
    let gateway = Gateway::start(&server);
    let body = |worker: &str| json!({ "identifier": "tenant", "lease": worker, "limit": 1, "ttl_seconds": 30 });
    acquire(&gateway, &body("dies"));
    let clock = server.clock();
    for (seconds, wait) in [(0, 30.0), (20, 10.0), (9, 1.0)] {
        clock.advance(Duration::from_secs(seconds));
        let denied = acquire(&gateway, &body("waits"));
        assert_eq!(denied["retry_after"].as_f64(), Some(wait), "{denied}");
    }
    clock.advance(Duration::from_micros(999_999));
    assert_eq!(acquire(&gateway, &body("waits"))["allowed"], false);
    clock.advance(Duration::from_micros(1));
    let granted = acquire(&gateway, &body("waits"));
    assert_eq!(granted["allowed"], true);

    // The worker that was believed to be dead can do no harm.
    let lost = renew(&gateway, "tenant/dies", &json!({ "ttl_seconds": 30 }));
    let body = r#"{"detail":"The lease is lost","error_code":"LEASE_LOST"}"#;
    assert_eq!((lost.status, lost.body.as_str()), (409, body));
    assert_eq!(release(&gateway, "tenant/dies"), false);
    assert_eq!(holders(&gateway, "tenant"), ["waits"]);
}

#[test]
fn a_renewal_moves_the_end_and_never_back() {
    for Place { name, gateway, server } in &Place::both() {
        let fence = acquire(gateway, &lease("tenant", "a", 2))["fence"].clone();
        let expires = |ttl: u32, fence: &Value| {
            let answer = renew(gateway, "tenant/a", &json!({ "ttl_seconds": ttl, "fence": fence }));
            assert_eq!(answer.status, 200, "{name}: {}", answer.body);
            let answer = json_of(&answer);
            assert_eq!((&answer["lease"], answer["fence"].is_u64()), (&json!("a"), true));
            answer["expires_in_seconds"].as_f64().unwrap()
        };
        assert!(expires(7_200, &fence) > 7_100.0, "{name}");
        assert!(expires(60, &Value::Null) > 7_100.0, "{name}");
        if let Some(server) = server {
            server.clock().advance(Duration::from_secs(7_190));
            assert!((expires(1, &json!(fence.to_string())) - 10.0).abs() < 0.001);
        }
        let other = json!({ "ttl_seconds": 60, "fence": fence.as_u64().unwrap() + 1 });
        assert_eq!(renew(gateway, "tenant/a", &other).status, 409, "{name}");
        let path = format!("tenant/a?fence={}", fence.as_u64().unwrap() + 1);
        assert_eq!(release(gateway, &path), false, "{name}");
        assert_eq!(release(gateway, &format!("tenant/a?fence={fence}")), true, "{name}");
        assert_eq!(renew(gateway, "tenant/a", &json!({ "ttl_seconds": 60 })).status, 409);
    }
}

#[test]
fn names_are_any_text_and_are_chosen_when_left_out() {
    for Place { gateway, server, .. } in &Place::both() {
        let (identifier, name) = ("a/b %}{é", "job/1 %\u{1f980}\"");
        let encoded = "a%2Fb%20%25%7D%7B%C3%A9/job%2F1%20%25%F0%9F%A6%80%22";
        assert_eq!(acquire(gateway, &lease(identifier, name, 2))["lease"], name);
        assert_eq!(renew(gateway, encoded, &json!({ "ttl_seconds": 60 })).status, 200);
        if let Some(server) = server {
            let key: Vec<String> = server.client().call("KEYS *");
            assert_eq!(key, [format!("concurrency:{{{identifier}}}")]);
        }
        assert_eq!(release(gateway, &format!("{encoded}/")), true);

        let body = json!({ "identifier": "tenant", "limit": 2, "ttl_seconds": 60 });
        let chosen =
            [(); 2].map(|()| acquire(gateway, &body)["lease"].as_str().unwrap().to_owned());
        assert_ne!(chosen[0], chosen[1]);
        assert_eq!(holders(gateway, "tenant").len(), 2);
        assert_eq!(release(gateway, &format!("tenant/{}", chosen[0])), true);
    }
}

#[test]
fn a_list_is_bounded_and_shows_that_there_is_more() {
    for Place { name, gateway, .. } in &Place::both() {
        for number in 0..4 {
            let body = json!({ "identifier": "tenant", "lease": format!("job-{number}"),
                "limit": 50, "cost": number + 1, "ttl_seconds": 4_000 - number });
            acquire(gateway, &body);
        }
        let list = json_of(&gateway.get("/rate-limit/leases/tenant?count=3"));
        assert_eq!((&list["identifier"], &list["truncated"]), (&json!("tenant"), &json!(true)));
        let leases = list["leases"].as_array().unwrap();
        let costs: Vec<_> = leases.iter().map(|entry| entry["cost"].as_u64().unwrap()).collect();
        assert_eq!((list["count"].as_u64(), costs), (Some(3), vec![4, 3, 2]), "{name}");
        assert!(leases[0]["expires_in_seconds"].as_f64().unwrap() > 3_900.0, "{list}");
        assert!(leases[0]["fence"].as_u64() > leases[1]["fence"].as_u64(), "{list}");
        assert_eq!(gateway.get("/rate-limit/leases/tenant?count=1001").status, 422);
        assert_eq!(holders(gateway, "nobody"), Vec::<Value>::new());
    }
}

#[test]
fn a_reset_ends_all_leases() {
    for Place { name, gateway, .. } in &Place::both() {
        let reset = |query: &str| gateway.delete(&format!("/rate-limit/reset/tenant{query}"));
        for query in ["", "?algorithm=concurrency"] {
            acquire(gateway, &lease("tenant", "a", 1));
            assert_eq!(reset("?algorithm=token_bucket").status, 404, "{name}");
            assert_eq!(holders(gateway, "tenant"), ["a"]);
            assert_eq!(reset(query).status, 200, "{name}");
            assert_eq!(holders(gateway, "tenant"), Vec::<Value>::new());
        }
        assert_eq!(reset("?algorithm=concurrency").status, 404, "{name}");
        assert_eq!(reset("").status, 200, "{name}");
    }
}

#[test]
fn invalid_fields_are_all_listed() {
    let gateway = Place::memory();
    let body = r#"{"identifier": "", "lease": "", "limit": 0, "ttl_seconds": 0.0001, "cost": 0}"#;
    let answer = gateway.post("/rate-limit/leases", body);
    assert_eq!(answer.status, 422);
    let faults = json_of(&answer);
    let places: Vec<_> = faults["detail"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| {
            (
                fault["loc"][1].as_str().unwrap().to_owned(),
                fault["type"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let expected = [
        ("identifier", "string_too_short"),
        ("lease", "string_too_short"),
        ("limit", "greater_than_equal"),
        ("ttl_seconds", "decimal_max_places"),
        ("cost", "greater_than_equal"),
    ];
    assert_eq!(places, expected.map(|(name, kind)| (name.to_owned(), kind.to_owned())));

    let missing = json_of(&gateway.post("/rate-limit/leases", "{}"));
    assert_eq!(missing["detail"].as_array().unwrap().len(), 3, "{missing}");
    for name in ["x".repeat(65), "fenced".to_owned(), "FENCED".to_owned()] {
        let body = lease("tenant", &name, 1).to_string();
        assert_eq!(gateway.post("/rate-limit/leases", &body).status, 422, "{name}");
    }
    for fence in ["0", "-1", "1.5", "9223372036854775808", "x"] {
        let answer = gateway.delete(&format!("/rate-limit/leases/tenant/a?fence={fence}"));
        assert_eq!(answer.status, 422, "{fence}");
    }
    // A request that loses its fence, or another part of its meaning, would touch another lease.
    for query in ["Fence=1", "fences=1", "fence=1&x", "ttl_seconds=1"] {
        let answer = gateway.delete(&format!("/rate-limit/leases/tenant/a?{query}"));
        assert_eq!(answer.status, 422, "{query}: {}", answer.body);
        assert_eq!(json_of(&answer)["detail"][0]["loc"], json!(["query"]));
    }
    let answer = renew(&gateway, "tenant/a?fence=1", &json!({ "ttl_seconds": 1 }));
    assert_eq!(answer.status, 422, "{}", answer.body);
    for field in ["identifier", "lease", "limit", "cost", "force"] {
        let answer = renew(&gateway, "tenant/a", &json!({ "ttl_seconds": 1, field: 1 }));
        assert_eq!(json_of(&answer)["detail"][0]["loc"], json!(["body", field]));
    }
    for field in ["fence", "algorithm", "window_seconds", "resolution_seconds", "period"] {
        let mut body = lease("tenant", "a", 1);
        body[field] = json!(1);
        let answer = gateway.post("/rate-limit/leases", &body.to_string());
        assert_eq!(answer.status, 422, "{field}");
        assert_eq!(json_of(&answer)["detail"][0]["loc"], json!(["body", field]));
    }
    let answer = renew(&gateway, "tenant/a%ff", &json!({ "ttl_seconds": 1 }));
    let detail = &json_of(&answer)["detail"][0];
    assert_eq!((&detail["loc"], &detail["input"]), (&json!(["path", "lease"]), &json!("a%ff")));
    let answer = renew(&gateway, &format!("tenant/{}", "x".repeat(65)), &json!({}));
    assert_eq!(json_of(&answer)["detail"].as_array().unwrap().len(), 2, "{}", answer.body);
}

#[test]
fn a_cost_above_the_limit_is_refused_like_that_of_a_check() {
    for Place { name, gateway, .. } in &Place::both() {
        let body = json!({ "identifier": "tenant", "lease": "a", "limit": 2, "cost": 3,
            "ttl_seconds": 60 });
        let answer = gateway.post("/rate-limit/leases", &body.to_string());
        let error = r#"{"detail":[{"type":"value_error","loc":["body","cost"],"msg":"Value error, cost must be at most the limit, 2","input":3}]}"#;
        assert_eq!((answer.status, answer.body.as_str()), (422, error), "{name}");
        // A limit that was lowered takes nothing away.
        let higher = json!({ "identifier": "tenant", "lease": "a", "limit": 3, "cost": 3,
            "ttl_seconds": 60 });
        let fence = acquire(gateway, &higher)["fence"].clone();
        assert_eq!(acquire(gateway, &body)["fence"], fence, "{name}");
        // A higher cost that does not fit changes nothing, and the answer has the lease.
        let denied = json!({ "identifier": "tenant", "lease": "a", "limit": 3, "cost": 3,
            "ttl_seconds": 60 });
        acquire(
            gateway,
            &json!({ "identifier": "tenant", "lease": "b", "limit": 5, "cost": 2,
            "ttl_seconds": 60 }),
        );
        assert_eq!(acquire(gateway, &denied)["allowed"], true, "{name}");
        let more = json!({ "identifier": "tenant", "lease": "a", "limit": 5, "cost": 4,
            "ttl_seconds": 60 });
        let denied = acquire(gateway, &more);
        assert_eq!((&denied["allowed"], &denied["fence"]), (&json!(false), &fence), "{name}");
        assert!(denied["expires_in_seconds"].as_f64().unwrap() > 50.0, "{denied}");
    }
}

#[test]
fn more_live_leases_than_the_server_allows_are_a_conflict_that_names_the_setting() {
    let server = Server::at(NOON);
    let gateway = Gateway::start(&server);
    server.client().call::<()>("CONFIG SET ratelimit.leases-max 2");
    for holder in ["a", "b"] {
        acquire(&gateway, &lease("tenant", holder, 5));
    }
    let answer = gateway.post("/rate-limit/leases", &lease("tenant", "c", 5).to_string());
    let error = r#"{"detail":"The identifier has as many live leases as ratelimit.leases-max allows","error_code":"TOO_MANY_LEASES"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (409, error));
    // The limit of the request comes first, and a holder keeps its lease.
    assert_eq!(acquire(&gateway, &lease("tenant", "c", 2))["allowed"], false);
    assert_eq!(acquire(&gateway, &lease("tenant", "a", 5))["allowed"], true);
    release(&gateway, "tenant/b");
    assert_eq!(acquire(&gateway, &lease("tenant", "c", 5))["allowed"], true);
}

#[test]
fn a_field_of_another_request_that_would_change_the_meaning_is_refused() {
    let gateway = Place::memory();
    let of_quotas = "all leases together take at most limit";
    let of_policies = "the leases of a policy are taken by a check";
    for (name, value, rule) in [
        ("force", json!(true), of_quotas),
        ("burst", json!(9), of_quotas),
        ("policy", json!("jobs"), of_policies),
        ("attributes", json!({}), of_policies),
    ] {
        let mut body = lease("tenant", "a", 5);
        body[name] = value;
        let answer = gateway.post("/rate-limit/leases", &body.to_string());
        let msg = format!("Value error, {name} does not belong here: {rule}");
        assert_eq!((answer.status, &json_of(&answer)["detail"][0]["msg"]), (422, &json!(msg)));
    }
    let by_policy = json!({ "attributes": { "tenant": "a" }, "lease": "job-42" });
    let answer = gateway.post("/rate-limit/leases", &by_policy.to_string());
    let msg =
        "Value error, attributes does not belong here: the leases of a policy are taken by a check";
    assert_eq!((answer.status, &json_of(&answer)["detail"][0]["msg"]), (422, &json!(msg)));
    acquire(&gateway, &lease("tenant", "a", 5));
    for name in ["cost", "policy", "attributes"] {
        let answer = renew(&gateway, "tenant/a", &json!({ "ttl_seconds": 60, name: 2 }));
        assert_eq!(answer.status, 422, "{}", answer.body);
    }
    let answer = renew(&gateway, "tenant/a", &json!({ "ttl_seconds": 60, "fence": null }));
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn leases_are_unavailable_without_redis_in_every_fail_mode() {
    for mode in ["closed", "open", "local"] {
        let server = Server::at(NOON);
        let gateway = Gateway::builder().redis(&server).env("FAIL_MODE", mode).start();
        acquire(&gateway, &lease("tenant", "a", 5));
        drop(server);
        let answers = [
            gateway.post("/rate-limit/leases", &lease("tenant", "b", 5).to_string()),
            renew(&gateway, "tenant/a", &json!({ "ttl_seconds": 60 })),
            gateway.delete("/rate-limit/leases/tenant/a"),
            gateway.get("/rate-limit/leases/tenant"),
            gateway.delete("/rate-limit/reset/tenant?algorithm=concurrency"),
        ];
        for answer in answers {
            assert_eq!((answer.status, answer.body.as_str()), (503, UNAVAILABLE), "{mode}");
        }
    }
}

#[test]
fn callers_need_the_scope_of_their_call() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("keys.json");
    let keys = ["check", "read", "reset"].map(|scope| (scope, ApiKey::new(scope, &[scope])));
    ApiKey::write(&path, &keys.each_ref().map(|(_, key)| key));
    let gateway = Gateway::builder().env("REDIS_URL", "memory://");
    let gateway = gateway.env("API_KEYS_FILE", &path.display().to_string()).start();
    let body = lease("tenant", "a", 5).to_string();
    for (method, path, body, scope) in [
        ("POST", "/rate-limit/leases", body.as_str(), "check"),
        ("GET", "/rate-limit/leases/tenant", "", "read"),
        ("PUT", "/rate-limit/leases/tenant/a", r#"{"ttl_seconds": 60}"#, "check"),
        ("DELETE", "/rate-limit/leases/tenant/a", "", "check"),
        ("DELETE", "/rate-limit/reset/tenant?algorithm=concurrency", "", "reset"),
    ] {
        assert_eq!(gateway.request(method, path, &[], body).status, 401, "{method} {path}");
        for (other, key) in &keys {
            let status = gateway.request(method, path, &[key.header()], body).status;
            assert_eq!(status == 403, *other != scope, "{method} {path} {status}");
        }
    }
}

#[test]
fn two_hundred_holders_at_once_get_exactly_the_limit() {
    for Place { name, gateway, .. } in &Place::both() {
        let allowed = thread::scope(|scope| {
            let holders: Vec<_> = (0..200)
                .map(|number| {
                    let body = lease("tenant", &format!("job-{number}"), 70);
                    scope.spawn(move || acquire(gateway, &body))
                })
                .collect();
            let answers = holders.into_iter().map(|holder| holder.join().unwrap());
            let granted: BTreeMap<_, _> = answers
                .filter(|answer| answer["allowed"] == true)
                .map(|answer| (answer["fence"].as_u64().unwrap(), answer["lease"].clone()))
                .collect();
            granted.len()
        });
        assert_eq!(allowed, 70, "{name}: as many fences as leases");
    }
}

/// Returns an answer without its times and fences.
fn timeless(answer: &Response, fences: &mut Vec<u64>) -> (u16, Value) {
    fn remove_times(value: &mut Value, fences: &mut Vec<u64>) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(|value| remove_times(value, fences)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    if name == "fence"
                        && let Some(fence) = value.as_u64()
                    {
                        // The place of a fence among all that this gateway has given.
                        fences.push(fence);
                        fences.sort_unstable();
                        fences.dedup();
                        *value = json!(fences.binary_search(&fence).unwrap());
                    } else if name.contains("seconds") || name == "retry_after" {
                        *value = json!(value.as_f64().map(|seconds| (seconds / 1_000.0).round()));
                    } else {
                        remove_times(value, fences);
                    }
                }
            }
            _ => {}
        }
    }
    let mut body = json_of(answer);
    remove_times(&mut body, fences);
    // The clock of the server stands still, so that leases can end at once there and not here.
    if let Some(leases) = body["leases"].as_array_mut() {
        leases.sort_by_key(|lease| lease["fence"].as_u64());
    }
    (answer.status, body)
}

#[test]
fn redis_and_memory_give_the_same_answers() {
    let places = Place::both();
    let mut random = Random::new();
    let mut fences = [vec![], vec![]];
    for _ in 0..600 {
        let identifier = random.pick(&["a", "b", "c%2Fd"]);
        let holder = random.pick(&["v", "w", "x", "y", "z"]);
        // Of whole months, so that no lease ends during the test.
        let ttl = random.pick(&[5_000_000, 10_000_000, 20_000_000]);
        let (limit, cost) = (random.below(6) + 1, random.below(3) + 1);
        let path = format!("{identifier}/{holder}");
        let choice = random.below(12);
        let answers = places.each_ref().map(|Place { gateway, .. }| match choice {
            0..6 => {
                let body = json!({ "identifier": identifier.replace("%2F", "/"), "lease": holder,
                    "limit": limit, "cost": cost, "ttl_seconds": ttl });
                gateway.post("/rate-limit/leases", &body.to_string())
            }
            6..8 => renew(gateway, &path, &json!({ "ttl_seconds": ttl })),
            8..10 => gateway.delete(&format!("/rate-limit/leases/{path}")),
            10 => gateway.get(&format!("/rate-limit/leases/{identifier}?count=1000")),
            _ => gateway.delete(&format!("/rate-limit/reset/{identifier}?algorithm=concurrency")),
        });
        let [memory, redis] = [0, 1].map(|place| timeless(&answers[place], &mut fences[place]));
        assert_eq!(memory, redis, "{choice} {path} {limit} {cost} {ttl}");
    }
}
