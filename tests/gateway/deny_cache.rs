//! Denials in the deny cache of the gateway: a flood of denied checks does not reach Redis.

use crate::harness::{Gateway, GatewayBuilder, Response, Server, eventually};

/// Body of a check: one unit per hour.
const BODY: &str = r#"{"identifier": "user", "limit": 1, "window_seconds": 3600}"#;

/// Starts a server, and a gateway whose deny cache keeps denials for longer than any test takes.
fn start() -> (Server, Gateway) {
    let server = Server::start();
    let gateway = settings(&server).env("DENY_CACHE_MAX_MS", "3600000").start();
    (server, gateway)
}

fn settings(server: &Server) -> GatewayBuilder {
    Gateway::builder().redis(server)
}

fn check(gateway: &Gateway, body: &str) -> Response {
    let response = gateway.post("/rate-limit/check", body);
    assert_eq!(response.status, 200, "{}", response.body);
    response
}

fn is_allowed(response: &Response) -> bool {
    response.body.starts_with(r#"{"allowed":true,"#)
}

/// Uses up the quota of [`BODY`], so that its denial is in the deny cache.
fn use_up(gateway: &Gateway) {
    assert!(is_allowed(&check(gateway, BODY)));
    assert_eq!(check(gateway, BODY).header("X-RateLimit-Source"), None);
    assert_eq!(check(gateway, BODY).header("X-RateLimit-Source"), Some("cache"));
}

/// Returns the number of checks that Redis has denied.
fn denied_by(server: &Server) -> String {
    server.client().info("ratelimit", "ratelimit_token_bucket_denied")
}

#[test]
fn a_repeated_denial_does_not_go_to_redis() {
    let (server, gateway) = start();
    assert!(is_allowed(&check(&gateway, BODY)));
    let first = check(&gateway, BODY);
    for _ in 0..100 {
        let again = check(&gateway, BODY);
        assert_eq!(again.header("X-RateLimit-Source"), Some("cache"));
        assert!(!is_allowed(&again), "{}", again.body);
        for name in ["RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining"] {
            assert_eq!(again.header(name), first.header(name));
        }
        let wait = |response: &Response| -> u64 {
            response.header("Retry-After").unwrap().parse().unwrap()
        };
        assert!((1..=wait(&first)).contains(&wait(&again)), "{}", wait(&again));
    }
    assert_eq!(denied_by(&server), "1");
    let metrics = gateway.get("/metrics").body;
    let counted = r#"{algorithm="token_bucket",outcome="denied",source="cache"} 100"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn every_denial_comes_from_redis_without_a_cache() {
    let server = Server::start();
    let gateway = settings(&server).env("DENY_CACHE_SIZE", "0").start();
    for _ in 0..4 {
        assert_eq!(check(&gateway, BODY).header("X-RateLimit-Source"), None);
    }
    assert_eq!(denied_by(&server), "3");
}

#[test]
fn a_reset_is_seen_by_the_next_check() {
    let (_server, gateway) = start();
    for path in ["/rate-limit/reset/user", "/rate-limit/reset/user?algorithm=token_bucket"] {
        use_up(&gateway);
        assert_eq!(gateway.delete(path).status, 200);
        assert!(is_allowed(&check(&gateway, BODY)), "{path}");
        gateway.delete(path);
    }
}

#[test]
fn a_denial_is_forgotten_at_its_longest_age() {
    let server = Server::start();
    let gateway = settings(&server).env("DENY_CACHE_MAX_MS", "50").start();
    assert!(is_allowed(&check(&gateway, BODY)));
    assert!(!is_allowed(&check(&gateway, BODY)));
    server.client().call::<()>("DEL token_bucket:{user}");
    eventually("the gateway asks Redis again", || is_allowed(&check(&gateway, BODY)).then_some(()));
}

#[test]
fn another_check_of_the_same_identifier_goes_to_redis() {
    let (_server, gateway) = start();
    let body = |rest: &str| format!(r#"{{"identifier": "user", "window_seconds": 3600, {rest}}}"#);
    let five = body(r#""limit": 5, "cost": 5"#);
    assert!(is_allowed(&check(&gateway, &body(r#""limit": 5, "cost": 3"#))));
    assert!(!is_allowed(&check(&gateway, &five)));
    assert!(is_allowed(&check(&gateway, &body(r#""limit": 5, "cost": 1"#))));
    assert_eq!(check(&gateway, &five).header("X-RateLimit-Source"), Some("cache"));
    assert!(is_allowed(&check(&gateway, &body(r#""limit": 50"#))));
    assert!(is_allowed(&check(&gateway, &body(r#""limit": 5, "algorithm": "sliding_window""#))));
}

#[test]
fn a_status_looks_at_redis() {
    let (server, gateway) = start();
    use_up(&gateway);
    server.client().call::<()>("DEL token_bucket:{user}");
    let status = gateway.get("/rate-limit/status/user?limit=1&window_seconds=3600");
    assert!(status.body.contains(r#""requests_used":0,"#), "{}", status.body);
    assert_eq!(status.header("X-RateLimit-Source"), None);
}

#[test]
fn a_denial_holds_while_redis_is_down() {
    let (mut server, gateway) = start();
    use_up(&gateway);
    server.kill();
    let again = check(&gateway, BODY);
    assert_eq!(again.header("X-RateLimit-Source"), Some("cache"));
    let other = gateway.post("/rate-limit/check", r#"{"identifier": "other"}"#);
    assert_eq!(other.status, 503);
}
