//! What the gateway does while Redis cannot answer, and when it can again.

use std::time::{Duration, Instant};

use crate::harness::{Gateway, Response, Server, eventually, free_port};

const UNAVAILABLE: &str =
    r#"{"detail":"Rate limiting service temporarily unavailable","error_code":"REDIS_ERROR"}"#;

fn check(gateway: &Gateway) -> Response {
    gateway.post("/rate-limit/check", r#"{"identifier": "someone"}"#)
}

/// Asserts that checks, statuses and resets fail as they should.
fn assert_unavailable(gateway: &Gateway) {
    for response in [
        check(gateway),
        gateway.get("/rate-limit/status/someone"),
        gateway.delete("/rate-limit/reset/someone"),
    ] {
        assert_eq!((response.status, response.body.as_str()), (503, UNAVAILABLE));
        assert_eq!(response.header("Retry-After"), Some("1"));
        assert_eq!(response.header("RateLimit"), None);
    }
}

fn assert_unhealthy(gateway: &Gateway, connected: bool) {
    let body = format!(
        r#"{{"status":"unhealthy","redis_connected":{connected},"version":"1.0.0","store":"redis"}}"#
    );
    for path in ["/health", "/health/ready"] {
        let response = gateway.get(path);
        assert_eq!((response.status, &response.body), (503, &body), "{path}");
    }
    assert_eq!(gateway.get("/health/live").status, 200);
}

fn recovers(gateway: &Gateway) -> Duration {
    let start = Instant::now();
    eventually("the gateway decides again", || (check(gateway).status == 200).then_some(()));
    start.elapsed()
}

#[test]
fn the_gateway_starts_before_redis_does() {
    let port = free_port();
    let url = format!("redis://127.0.0.1:{port}/");
    let gateway = Gateway::builder().env("REDIS_URL", &url).start();
    assert_unavailable(&gateway);
    assert_unhealthy(&gateway, false);

    let _server = Server::builder().port(port).start();
    recovers(&gateway);
    assert_eq!(gateway.get("/health/ready").status, 200);
}

#[test]
fn a_restart_of_redis_is_over_within_two_seconds() {
    let mut server = Server::start();
    let gateway = Gateway::start(&server);
    assert_eq!(check(&gateway).status, 200);

    server.stop();
    eventually("the gateway notices", || (check(&gateway).status == 503).then_some(()));
    let start = Instant::now();
    for _ in 0..20 {
        assert_unavailable(&gateway);
    }
    assert!(start.elapsed() < Duration::from_secs(2), "failing takes {:?}", start.elapsed());

    server.resume();
    let time = recovers(&gateway);
    assert!(time < Duration::from_secs(2), "recovering takes {time:?}");
}

#[test]
fn an_idle_gateway_notices_a_restart_before_its_next_request() {
    let mut server = Server::start();
    let gateway = Gateway::start(&server);
    server.restart();
    let connected = || gateway.log().matches("connected to Redis").count();
    eventually("every connection is replaced", || (connected() >= 8).then_some(()));
    assert_eq!(check(&gateway).status, 200);
}

#[test]
fn a_redis_that_hangs_is_given_up_at_the_timeout() {
    let server = Server::start();
    let gateway = Gateway::builder().redis(&server).env("REDIS_TIMEOUT_MS", "50").start();
    let mut client = server.client();
    client.call::<()>("CLIENT PAUSE 1500 ALL");
    let start = Instant::now();
    assert_eq!(check(&gateway).status, 503);
    assert!(start.elapsed() < Duration::from_secs(1), "giving up takes {:?}", start.elapsed());
    recovers(&gateway);
}

#[test]
fn a_check_is_never_sent_twice() {
    let server = Server::start();
    let gateway = Gateway::builder().redis(&server).env("REDIS_TIMEOUT_MS", "50").start();
    let mut client = server.client();
    client.call::<()>("CLIENT PAUSE 500 ALL");
    assert_eq!(check(&gateway).status, 503);
    recovers(&gateway);
    let status = gateway.get("/rate-limit/status/someone").body;
    let used = ["1", "2"].map(|used| status.contains(&format!(r#""requests_used":{used},"#)));
    assert!(used.contains(&true), "{status}");
}

#[test]
fn a_server_without_the_module_is_connected_and_unhealthy() {
    let server = Server::builder().without_module().start();
    let gateway = Gateway::start(&server);
    assert_unavailable(&gateway);
    assert_unhealthy(&gateway, true);
    gateway.log_with("load the ratelimit module into Redis");
    assert!(!gateway.log().contains("someone"), "{}", gateway.log());
}

#[test]
fn a_wrong_password_is_told_to_the_operator_and_not_logged() {
    let server = Server::builder().password("right").start();
    let url = format!("redis://:wrong-one@127.0.0.1:{}/", server.port());
    let gateway = Gateway::builder().env("REDIS_URL", &url).start();
    assert_unavailable(&gateway);
    assert_unhealthy(&gateway, false);
    gateway.log_with("cannot connect to Redis");
    assert!(!gateway.log().contains("wrong-one"), "{}", gateway.log());
    assert_eq!(check(&Gateway::start(&server)).status, 200);
}

#[test]
fn a_key_of_another_program_is_told_to_the_operator() {
    let server = Server::start();
    server.client().call::<()>("SET token_bucket:{someone} value");
    let gateway = Gateway::start(&server);
    assert_eq!(check(&gateway).status, 503);
    gateway.log_with("set KEY_PREFIX");
    assert!(!gateway.log().contains("someone"), "{}", gateway.log());
    let metrics = gateway.get("/metrics").body;
    assert!(metrics.contains(r#"ratelimit_redis_errors_total{kind="wrong_type"} 1"#), "{metrics}");
}

#[test]
fn a_replica_answers_statuses_only() {
    let primary = Server::start();
    let replica = Server::builder().replica_of(&primary).start();
    let gateway = Gateway::start(&replica);
    eventually("the replica is in step", || {
        (gateway.get("/rate-limit/status/someone").status == 200).then_some(())
    });
    let response = check(&gateway);
    assert_eq!((response.status, response.body.as_str()), (503, UNAVAILABLE));
    gateway.log_with("lead to its primary");
}

#[test]
fn a_full_redis_is_told_to_the_operator() {
    let server = Server::builder().config("maxmemory", "1").start();
    let gateway = Gateway::start(&server);
    assert_eq!(check(&gateway).status, 503);
    gateway.log_with("Redis is at maxmemory");
}
