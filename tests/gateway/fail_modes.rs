//! Answers of each `FAIL_MODE` while Redis does not answer.

use crate::harness::{Gateway, GatewayBuilder, Response, Server, UNAVAILABLE, eventually, health};

/// Body of a check: ten units per hour.
const BODY: &str = r#"{"identifier": "user", "limit": 10, "window_seconds": 3600}"#;
const STATUS: &str = "/rate-limit/status/user?limit=10&window_seconds=3600";

/// Configures a gateway that waits for answers as long as a busy machine may need.
fn settings(server: &Server, fail_mode: &str) -> GatewayBuilder {
    Gateway::builder().redis(server).env("FAIL_MODE", fail_mode)
}

fn check(gateway: &Gateway) -> Response {
    gateway.post("/rate-limit/check", BODY)
}

fn refund(gateway: &Gateway) -> Response {
    gateway.post("/rate-limit/refund", r#"{"identifier": "user"}"#)
}

fn reset(gateway: &Gateway) -> Response {
    gateway.delete("/rate-limit/reset/user")
}

fn assert_unavailable(response: &Response) {
    assert_eq!((response.status, response.body.as_str()), (503, UNAVAILABLE));
    assert_eq!(response.header("Retry-After"), Some("1"));
    assert_eq!(response.header("X-RateLimit-Source"), None);
}

/// Starts a gateway, and kills its Redis after a check.
fn without_redis(fail_mode: &str) -> (Server, Gateway) {
    let mut server = Server::start();
    let share = if fail_mode == "local" { "0.25" } else { "" };
    let gateway = settings(&server, fail_mode).env("LOCAL_SHARE", share).start();
    eventually("Redis decides", || {
        let response = gateway.post("/rate-limit/check", r#"{"identifier": "first"}"#);
        (response.status == 200 && response.header("X-RateLimit-Source").is_none()).then_some(())
    });
    server.kill();
    (server, gateway)
}

#[test]
fn closed_answers_nothing_without_redis() {
    let (_server, gateway) = without_redis("closed");
    for response in [check(&gateway), gateway.get(STATUS), refund(&gateway), reset(&gateway)] {
        assert_unavailable(&response);
    }
}

#[test]
fn open_allows_every_check_and_nothing_else() {
    let (_server, gateway) = without_redis("open");
    for _ in 0..20 {
        let response = check(&gateway);
        assert_eq!(response.status, 200);
        assert_eq!(
            response.body,
            r#"{"allowed":true,"remaining":9,"reset_in_seconds":0,"retry_after":null}"#
        );
        for (name, value) in [
            ("X-RateLimit-Source", Some("open")),
            ("X-RateLimit-Limit", Some("10")),
            ("X-RateLimit-Remaining", Some("9")),
            ("Retry-After", None),
        ] {
            assert_eq!(response.header(name), value, "{name}");
        }
    }
    for response in [gateway.get(STATUS), refund(&gateway), reset(&gateway)] {
        assert_unavailable(&response);
    }
    let metrics = gateway.get("/metrics").body;
    let counted = r#"{algorithm="token_bucket",outcome="allowed",source="open"} 20"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn local_decides_by_its_share_until_redis_is_back() {
    let (mut server, gateway) = without_redis("local");
    let remaining = ["1", "0", "0"].map(|remaining| {
        let response = check(&gateway);
        assert_eq!(response.status, 200);
        assert_eq!(response.header("X-RateLimit-Source"), Some("local"));
        assert_eq!(response.header("X-RateLimit-Limit"), Some("2"));
        assert_eq!(response.header("RateLimit-Policy"), Some(r#""default";q=2;w=3600"#));
        assert_eq!(response.header("X-RateLimit-Remaining"), Some(remaining));
        response.body.contains(r#""allowed":true"#)
    });
    assert_eq!(remaining, [true, true, false]);

    let status = gateway.get(STATUS);
    assert_eq!(status.header("X-RateLimit-Source"), Some("local"));
    assert!(status.body.contains(r#""requests_used":2,"limit":2,"#), "{}", status.body);

    let dear = r#"{"identifier": "other", "limit": 10, "cost": 3}"#;
    let response = gateway.post("/rate-limit/check", dear);
    assert_eq!(
        (response.status, response.body.as_str()),
        (200, r#"{"allowed":false,"remaining":2,"reset_in_seconds":0,"retry_after":1}"#)
    );

    let metrics = gateway.get("/metrics").body;
    for counted in [
        r#"{algorithm="token_bucket",outcome="allowed",source="local"} 2"#,
        r#"{algorithm="token_bucket",outcome="denied",source="local"} 2"#,
    ] {
        assert!(metrics.contains(counted), "{metrics}");
    }

    server.resume();
    eventually("Redis decides again", || {
        let response = check(&gateway);
        response.header("X-RateLimit-Source").is_none().then_some(())
    });
    assert_eq!(check(&gateway).header("X-RateLimit-Limit"), Some("10"));
}

#[test]
fn local_refunds_the_units_that_it_granted() {
    let (_server, gateway) = without_redis("local");
    for _ in 0..3 {
        check(&gateway);
    }
    // A part of the second unit has come back already, and a refund returns whole units only.
    let response = refund(&gateway);
    assert_eq!(response.header("X-RateLimit-Source"), Some("local"));
    assert_eq!((response.status, response.body.as_str()), (200, r#"{"refunded":1}"#));
    assert!(check(&gateway).body.contains(r#""allowed":true"#));
}

#[test]
fn a_reset_needs_redis_and_clears_this_process_in_any_case() {
    let (_server, gateway) = without_redis("local");
    let bodies = [BODY.to_owned(), BODY.replace('{', r#"{"algorithm": "sliding_window", "#)];
    let is_allowed =
        |body: &String| gateway.post("/rate-limit/check", body).body.contains(r#""allowed":true"#);
    for body in &bodies {
        assert_eq!([(); 3].map(|()| is_allowed(body)), [true, true, false]);
    }
    assert_unavailable(&reset(&gateway));
    for body in &bodies {
        assert!(is_allowed(body), "{body}");
    }

    let mut server = Server::start();
    let gateway = settings(&server, "closed").env("DENY_CACHE_MAX_MS", "3600000").start();
    let denied = || check(&gateway).header("X-RateLimit-Source").map(str::to_owned);
    eventually("a denial is remembered", denied);
    server.kill();
    assert_eq!(denied().as_deref(), Some("cache"));
    assert_unavailable(&reset(&gateway));
    assert_unavailable(&check(&gateway));
}

#[test]
fn errors_of_redis_have_no_fail_mode() {
    let server = Server::start();
    for fail_mode in ["open", "local"] {
        let gateway = settings(&server, fail_mode).start();
        let body = r#"{"identifier": "user", "algorithm": "sliding_window", "limit": 1000001,
            "window_seconds": 86400}"#;
        let response = gateway.post("/rate-limit/check", body);
        assert_eq!(response.status, 422, "{}", response.body);
        assert!(response.body.contains("limit must be an integer"), "{}", response.body);
    }
}

#[test]
fn the_log_reports_once_that_a_fail_mode_decides_and_once_that_redis_decides() {
    let (mut server, gateway) = without_redis("open");
    let count = |line: &str| gateway.log().matches(line).count();
    for _ in 0..20 {
        check(&gateway);
    }
    assert_eq!(
        count("Redis unavailable: checks are granted without Redis"),
        1,
        "{}",
        gateway.log()
    );
    assert_eq!(count("Redis decides again"), 0);
    server.resume();
    eventually("Redis decides again", || {
        check(&gateway);
        (count("Redis decides again") > 0).then_some(())
    });
    for _ in 0..20 {
        check(&gateway);
    }
    assert_eq!(count("Redis decides again"), 1, "{}", gateway.log());
}

#[test]
fn an_instance_is_ready_when_it_decides_with_or_without_redis() {
    for (fail_mode, ready, status) in
        [("closed", 503, "unhealthy"), ("open", 200, "degraded"), ("local", 200, "degraded")]
    {
        let (_server, gateway) = without_redis(fail_mode);
        for (path, code, status) in
            [("/health/ready", ready, status), ("/health", 503, "unhealthy")]
        {
            let response = gateway.get(path);
            let body = health(status, false, "redis").replace(r#"null,"policies":null}"#, "{");
            assert_eq!(response.status, code, "{fail_mode} {path}");
            assert!(response.body.starts_with(&body), "{fail_mode} {path}: {}", response.body);
        }
    }
}
