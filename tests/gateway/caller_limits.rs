//! Limits on the requests of callers.

use std::path::Path;
use std::time::Duration;

use ratelimit_test_tokens::Algorithm;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{ApiKey, Gateway, GatewayBuilder, Issuer, NOON, Response, Server, json_of};

/// Configures a gateway for callers with these keys, without a deny cache.
fn builder(directory: &TempDir, keys: &[&ApiKey]) -> GatewayBuilder {
    let path = directory.path().join("keys.json");
    ApiKey::write(&path, keys);
    with_file(Gateway::builder(), "API_KEYS_FILE", &path).env("DENY_CACHE_SIZE", "0")
}

fn with_file(builder: GatewayBuilder, variable: &str, path: &Path) -> GatewayBuilder {
    builder.env(variable, &path.display().to_string())
}

fn look(gateway: &Gateway, header: (&str, &str)) -> Response {
    gateway.request("GET", "/rate-limit/status/user", &[header], "")
}

fn batch(gateway: &Gateway, header: (&str, &str), checks: usize) -> Response {
    let body = json!({ "checks": vec![json!({ "identifier": "user" }); checks] }).to_string();
    gateway.request("POST", "/rate-limit/check/batch", &[header], &body)
}

/// Asserts that the answer refuses a caller that exceeded its limit, with this `Retry-After`.
fn assert_limited(answer: &Response, seconds: &str) {
    let body = r#"{"detail":"Too many requests","error_code":"CALLER_LIMITED"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (429, body));
    assert_eq!(answer.header("Retry-After"), Some(seconds));
}

#[test]
fn a_caller_that_is_limited_is_not_forgotten_when_there_is_no_room() {
    let directory = TempDir::new().unwrap();
    let keys = ["shop", "other"].map(|name| ApiKey::new(name, &["read"]).limit(1, 3_600));
    let builder = builder(&directory, &keys.each_ref());
    let gateway = builder.env("REDIS_URL", "memory://").env("LOCAL_MAX_KEYS", "1").start();
    let status = |key: &ApiKey| look(&gateway, key.header()).status;
    assert_eq!([&keys[0], &keys[1], &keys[0]].map(status), [200, 429, 429]);
}

#[test]
fn all_gateways_together_keep_the_limit_of_a_caller() {
    let (server, directory) = (Server::at(NOON), TempDir::new().unwrap());
    let shop = ApiKey::new("shop", &["check", "read"]).limit(3, 60);
    let other = ApiKey::new("other", &["read"]).limit(3, 60);
    let start = || builder(&directory, &[&shop, &other]).redis(&server).start();
    let (first, second) = (start(), start());
    for gateway in [&first, &second, &first] {
        assert_eq!(look(gateway, shop.header()).status, 200);
    }
    for gateway in [&first, &second] {
        assert_limited(&look(gateway, shop.header()), "20");
        assert_eq!(look(gateway, other.header()).status, 200);
        // A route without authentication has no limit.
        assert_eq!(gateway.request("GET", "/health", &[shop.header()], "").status, 200);
    }
    // A request that is refused for another reason does not count.
    let reset = |key: &ApiKey| {
        first.request("DELETE", "/rate-limit/reset/user", &[key.header()], "").status
    };
    assert_eq!((reset(&other), reset(&other)), (403, 403));
    assert_eq!(look(&first, other.header()).status, 200);

    server.clock().advance(Duration::from_secs(20));
    let body = r#"{"identifier": "key:shop", "limit": 3}"#;
    let checked = first.request("POST", "/rate-limit/check", &[shop.header()], body);
    // An identifier with the name of the caller has its own quota.
    assert_eq!((checked.status, checked.header("X-RateLimit-Remaining")), (200, Some("2")));
    let mut keys: Vec<String> = server.client().call("KEYS *");
    keys.sort();
    assert_eq!(
        keys,
        [
            "caller:token_bucket:{key:other}",
            "caller:token_bucket:{key:shop}",
            "token_bucket:{key:shop}",
        ]
    );
    let metrics = first.get("/metrics").body;
    assert!(metrics.contains("\nratelimit_callers_limited_total 1\n"), "{metrics}");
}

#[test]
fn a_batch_counts_as_many_requests_as_it_has_checks() {
    let (server, directory) = (Server::at(NOON), TempDir::new().unwrap());
    let shop = ApiKey::new("shop", &["check"]).limit(10, 100);
    let gateway = builder(&directory, &[&shop]).redis(&server).start();
    assert_eq!(batch(&gateway, shop.header(), 6).status, 200);
    // A refused batch takes no units, however often the caller sends it.
    for _ in 0..5 {
        assert_limited(&batch(&gateway, shop.header(), 6), "20");
    }
    server.clock().advance(Duration::from_secs(20));
    assert_eq!(batch(&gateway, shop.header(), 6).status, 200);
    assert_limited(&batch(&gateway, shop.header(), 1), "10");

    server.clock().advance(Duration::from_secs(100));
    let answer = batch(&gateway, shop.header(), 11);
    let fault: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((answer.status, &fault["detail"][0]["ctx"]["max_length"]), (422, &json!(10)));
    assert_eq!(batch(&gateway, shop.header(), 10).status, 200);
    // The gateway refuses a caller without units before it reads the body.
    let answer = gateway.request("POST", "/rate-limit/check/batch", &[shop.header()], "{");
    assert_limited(&answer, "10");
}

#[test]
fn a_check_and_a_batch_count_as_many_requests_as_they_have_limits() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("policies.yaml");
    let limit = |name: &str| format!("{{name: {name}, limit: 900, per: 365d}}");
    let limits = ["a", "b", "c"].map(limit).join(", ");
    let free = "{by: free, unlimited: true, reason: probes}";
    let policies = format!(
        "{{version: 1, policies: [{{name: three, match: named, by: [identifier], missing: deny, \
         overrides: [{free}], limits: [{limits}]}}]}}"
    );
    std::fs::write(&file, policies).unwrap();
    for server in [None, Some(Server::at(NOON))] {
        let shop = ApiKey::new("shop", &["check"]).limit(10, 3_600);
        let builder = with_file(builder(&directory, &[&shop]), "POLICIES_FILE", &file);
        let gateway = match &server {
            None => builder.env("REDIS_URL", "memory://").start(),
            Some(server) => builder.redis(server).start(),
        };
        let post = |path: &str, body: &Value| {
            gateway.request("POST", path, &[shop.header()], &body.to_string())
        };
        let check = |body: &Value| post("/rate-limit/check", body);
        let named =
            |name: &str| json!({ "name": name, "limit": 900, "window_seconds": 31_622_400 });
        let inline = |count: usize| json!({ "identifier": "u", "limits": (0..count).map(|it| named(&format!("l{it}"))).collect::<Vec<_>>() });
        let by_policy = |identifier: &str| json!({ "policy": "three", "identifier": identifier });
        assert_eq!(check(&inline(4)).status, 200);
        assert_eq!(check(&by_policy("u")).status, 200);
        assert_eq!(check(&by_policy("free")).status, 200);
        // Two are left. A refused check takes none, however often the caller sends it.
        for _ in 0..3 {
            let refused = check(&by_policy("u"));
            assert!(refused.body.contains("CALLER_LIMITED"), "{}", refused.body);
            let batch = json!({ "checks": [{ "identifier": "u" }, inline(2)] });
            assert_eq!(post("/rate-limit/check/batch", &batch).status, 429);
            let most = json_of(&check(&inline(11)));
            let rule = "Value error, all checks together must have at most 10 limits, not 11";
            assert_eq!(most["detail"][0]["msg"], rule);
        }
        let batch = json!({ "checks": [{ "policy": "none" }, { "identifier": "u" }] });
        assert_eq!(post("/rate-limit/check/batch", &batch).status, 200);
        assert_eq!(check(&json!({ "identifier": "u" })).status, 429);
    }
}

#[test]
fn a_reservation_counts_as_many_requests_as_it_has_limits() {
    for server in [None, Some(Server::at(NOON))] {
        let directory = TempDir::new().unwrap();
        let shop = ApiKey::new("shop", &["check"]).limit(10, 3_600);
        let builder = builder(&directory, &[&shop]);
        let gateway = match &server {
            None => builder.env("REDIS_URL", "memory://").start(),
            Some(server) => builder.redis(server).start(),
        };
        let reserve = |limits: &[&str]| {
            let limit = |algorithm: &&str| json!({ "algorithm": algorithm, "limit": 900, "window_seconds": 60 });
            let limits: Vec<_> = limits.iter().map(limit).collect();
            let body =
                json!({ "identifier": "u", "ttl_seconds": 60, "limits": limits }).to_string();
            gateway.request("POST", "/rate-limit/reserve", &[shop.header()], &body).status
        };
        let all = ["token_bucket", "sliding_window", "fixed_window"];
        assert_eq!([3, 3, 2].map(|count| reserve(&all[..count])), [200, 200, 200]);
        // Two are left. A refused reservation takes none.
        assert_eq!([3, 3, 2, 1].map(|count| reserve(&all[..count])), [429, 429, 200, 429]);
    }
}

#[test]
fn a_refused_batch_takes_nothing_without_redis() {
    let directory = TempDir::new().unwrap();
    let shop = ApiKey::new("shop", &["check"]).limit(10, 3_600);
    let gateway = builder(&directory, &[&shop]).env("REDIS_URL", "memory://").start();
    let statuses = [3, 8, 11, 8, 7, 1].map(|checks| batch(&gateway, shop.header(), checks).status);
    assert_eq!(statuses, [200, 429, 422, 429, 200, 429]);
}

#[test]
fn callers_without_a_limit_of_their_own_have_the_one_of_the_settings() {
    let directory = TempDir::new().unwrap();
    let issuer = Issuer::new(Algorithm::HS256);
    let key_set = directory.path().join("jwks.json");
    Issuer::write(&key_set, &[&issuer]);
    let plain = ApiKey::new("plain", &["read"]);
    let own = ApiKey::new("own", &["read"]).limit(3, 3_600);
    let free = ApiKey::new("free", &["read"]).limit(0, 1);
    let settings =
        with_file(builder(&directory, &[&plain, &own, &free]), "JWT_JWKS_FILE", &key_set)
            .env("JWT_AUDIENCE", Issuer::AUDIENCE)
            .env("JWT_ISSUER", Issuer::NAME);
    let settings = settings.env("CALLER_LIMIT", "2").env("CALLER_WINDOW_SECONDS", "3600");
    let gateway = settings.env("REDIS_URL", "memory://").start();
    // A token and a key with the same name are two callers.
    let tokens = ["alice", "plain"].map(|name| format!("Bearer {}", issuer.token(name, "read")));
    for (header, granted) in [
        (plain.header(), 2),
        (own.header(), 3),
        (("Authorization", tokens[0].as_str()), 2),
        (("Authorization", tokens[1].as_str()), 2),
    ] {
        for _ in 0..granted {
            assert_eq!(look(&gateway, header).status, 200);
        }
        assert_eq!(look(&gateway, header).status, 429);
    }
    for _ in 0..5 {
        assert_eq!(look(&gateway, free.header()).status, 200);
    }
}

#[test]
fn while_redis_is_down_the_fail_mode_decides_on_callers_as_well() {
    for (mode, statuses) in
        [("closed", [503, 503, 503]), ("open", [200, 200, 200]), ("local", [200, 200, 429])]
    {
        let (mut server, directory) = (Server::start(), TempDir::new().unwrap());
        let shop = ApiKey::new("shop", &["check", "read"]).limit(2, 3_600);
        let settings = builder(&directory, &[&shop]).redis(&server).env("FAIL_MODE", mode);
        let gateway = settings.env("METRICS_OPEN", "false").start();
        server.kill();
        let body = r#"{"identifier": "user", "limit": 100}"#;
        let check = || gateway.request("POST", "/rate-limit/check", &[shop.header()], body).status;
        assert_eq!([check(), check(), check()], statuses, "{mode}");
        // The caller can read the metrics in each fail mode.
        for _ in 0..5 {
            assert_eq!(gateway.request("GET", "/metrics", &[shop.header()], "").status, 200);
        }
    }
}

#[test]
fn the_answer_to_a_caller_over_its_limit_is_documented() {
    let directory = TempDir::new().unwrap();
    let gateway = builder(&directory, &[]).env("REDIS_URL", "memory://").start();
    let document: Value = serde_json::from_str(&gateway.get("/openapi.json").body).unwrap();
    let schema = |path: &str, method: &str| {
        document["paths"][path][method]["responses"]["429"]["content"]["application/json"]["schema"]
            .clone()
    };
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    assert_eq!(schema("/rate-limit/refund", "post"), reference("ErrorBody"));
    // A denied check has this status as well.
    let either = json!({ "anyOf": [reference("CheckResult"), reference("ErrorBody")] });
    assert_eq!(schema("/rate-limit/check", "post"), either);
    assert_eq!(schema("/metrics", "get"), Value::Null);
}
