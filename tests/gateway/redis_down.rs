//! Redis that cannot answer, and Redis that can answer again.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::harness::{Gateway, Server, UNAVAILABLE, eventually, free_port, health, timed};

/// Asserts that checks, statuses and resets fail with the answers of an outage.
fn assert_unavailable(gateway: &Gateway) {
    for response in [
        gateway.check("someone"),
        gateway.get("/rate-limit/status/someone"),
        gateway.delete("/rate-limit/reset/someone"),
    ] {
        assert_eq!((response.status, response.body.as_str()), (503, UNAVAILABLE));
        assert_eq!(response.header("Retry-After"), Some("1"));
        assert_eq!(response.header("RateLimit"), None);
    }
}

fn assert_unhealthy(gateway: &Gateway, connected: bool) {
    let body = health("unhealthy", connected, "redis").replace(r#"null,"policies":null}"#, "");
    for path in ["/health", "/health/ready"] {
        let response = gateway.get(path);
        let failure = response.body.strip_prefix(&body);
        let failure = failure.unwrap_or_else(|| panic!("{path}: {}", response.body));
        assert_eq!(response.status, 503);
        assert!(failure.starts_with(r#"{"kind":"disconnected","seconds_ago":"#), "{failure}");
    }
    assert_eq!(gateway.get("/health/live").status, 200);
}

#[test]
fn the_gateway_starts_before_redis_does() {
    let port = free_port();
    let url = format!("redis://127.0.0.1:{port}/");
    let gateway = Gateway::builder().env("REDIS_URL", &url).start();
    for _ in 0..20 {
        assert_unavailable(&gateway);
    }
    assert_unhealthy(&gateway, false);
    let log = gateway.log_with("check that Redis runs");
    let count = log.matches("cannot connect to Redis").count();
    assert!((1..10).contains(&count), "{log}");

    let _server = Server::builder().port(port).start();
    gateway.wait_until_redis_decides("someone");
    assert_eq!(gateway.get("/health/ready").status, 200);
}

#[test]
fn a_gateway_that_starts_without_redis_decides_by_its_fail_mode() {
    for (fail_mode, allowed) in [("open", 3), ("local", 2)] {
        let port = free_port();
        let builder = Gateway::builder().env("REDIS_URL", &format!("redis://127.0.0.1:{port}/"));
        let gateway = builder.env("FAIL_MODE", fail_mode).start();
        let body = r#"{"identifier": "someone", "limit": 2, "window_seconds": 86400}"#;
        let answers = [(); 3].map(|()| gateway.post("/rate-limit/check", body));
        for answer in &answers {
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("X-RateLimit-Source"), Some(fail_mode));
        }
        let grants = answers.iter().filter(|each| each.body.contains(r#""allowed":true"#));
        assert_eq!(grants.count(), allowed, "{fail_mode}");
        assert_eq!(gateway.get("/health").status, 503);
        assert_eq!(gateway.get("/health/ready").status, 200);

        let _server = Server::builder().port(port).start();
        eventually("Redis decides", || {
            let answer = gateway.post("/rate-limit/check", r#"{"identifier": "other"}"#);
            answer.header("X-RateLimit-Source").is_none().then_some(())
        });
        assert_eq!(gateway.get("/health/ready").status, 200);
    }
}

#[test]
fn a_restart_of_redis_is_over_within_two_seconds() {
    let mut server = Server::start();
    let gateway = Gateway::start(&server);
    assert_eq!(gateway.check("someone").status, 200);

    server.stop();
    eventually("the gateway notices", || (gateway.check("someone").status == 503).then_some(()));
    let ((), time) = timed(|| {
        for _ in 0..20 {
            assert_unavailable(&gateway);
        }
    });
    assert!(time < Duration::from_secs(2), "failing takes {time:?}");

    server.resume();
    let ((), time) = timed(|| gateway.wait_until_redis_decides("someone"));
    assert!(time < Duration::from_secs(2), "recovering takes {time:?}");
}

#[test]
fn an_idle_gateway_notices_a_restart_before_its_next_request() {
    let mut server = Server::start();
    let gateway = Gateway::builder().redis(&server).env("LOG_LEVEL", "DEBUG").start();
    server.restart();
    let connected = || gateway.log().matches("connected to Redis").count();
    eventually("every connection is replaced", || (connected() >= 8).then_some(()));
    assert_eq!(gateway.check("someone").status, 200);
}

#[test]
fn a_redis_that_hangs_is_waited_for_once() {
    for hang in [Hang::Paused, Hang::Asleep, Hang::Frozen] {
        let server = Server::start();
        let builder = Gateway::builder().redis(&server);
        let timeout = Duration::from_millis(800);
        let gateway = builder.env("REDIS_TIMEOUT_MS", &timeout.as_millis().to_string()).start();
        gateway.wait_until_redis_decides("someone");

        hang.begin(&server);
        let (waited, at_best) = eventually("a check is given up", || {
            let begin = Instant::now();
            let (answer, at_best) = timed(|| gateway.check("someone"));
            (answer.status == 503).then(|| (begin.elapsed(), at_best))
        });
        assert!(waited >= timeout && at_best < 2 * timeout, "{hang:?}: after {waited:?}");
        // The gateway answers later checks at once.
        let ((), waited) = timed(|| {
            for _ in 0..20 {
                assert_eq!(gateway.check("someone").status, 503, "{hang:?}");
            }
        });
        assert!(waited < timeout, "{hang:?}: all wait, {waited:?}");
        gateway.log_with("slow commands in Redis");
        hang.end(&server);
        gateway.wait_until_redis_decides("someone");
    }
}

/// A way in which a server keeps its connections and does not answer.
#[derive(Clone, Copy, Debug)]
enum Hang {
    Paused,
    Asleep,
    Frozen,
}

impl Hang {
    /// Stops the server for longer than the test needs, and for a limited time.
    fn begin(self, server: &Server) {
        match self {
            Self::Paused => server.client().call::<()>("CLIENT PAUSE 8000 ALL"),
            Self::Asleep => server.socket().write_all(b"DEBUG SLEEP 8\r\n").unwrap(),
            Self::Frozen => server.freeze(),
        }
    }

    fn end(self, server: &Server) {
        if matches!(self, Self::Frozen) {
            server.thaw();
        }
    }
}

#[test]
fn a_check_that_redis_has_while_it_hangs_counts_once() {
    let server = Server::start();
    let gateway = Gateway::builder().redis(&server).env("REDIS_TIMEOUT_MS", "500").start();
    gateway.wait_until_redis_decides("someone");
    server.freeze();
    let body = r#"{"identifier": "hasty", "window_seconds": 31622400}"#;
    assert_eq!(gateway.post("/rate-limit/check", body).status, 503);
    server.thaw();
    gateway.wait_until_redis_decides("someone");
    let key = "token_bucket:{hasty}";
    let [_, _, remaining, ..] =
        server.client().decide(&format!("RATELIMIT.PEEK {key} TB 100 31622400"));
    assert_eq!(remaining, 99);
}

#[test]
fn a_lasting_outage_is_logged_about_every_ten_seconds_and_once_at_its_end() {
    let port = free_port();
    let plain = Server::builder().without_module().config("enable-module-command", "yes").start();
    let down = Gateway::builder().env("REDIS_URL", &format!("redis://127.0.0.1:{port}/"));
    let down = down.env("FAIL_MODE", "open").env("DENY_CACHE_SIZE", "0").start();
    let wrong = Gateway::builder().redis(&plain).start();
    let lines = |gateway: &Gateway, text: &str| -> Vec<String> {
        gateway.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    };
    let begin = Instant::now();
    let mut checks = 0;
    eventually("each failure is logged twice", || {
        assert_eq!((down.check("someone").status, wrong.check("someone").status), (200, 503));
        checks += 1;
        std::thread::sleep(Duration::from_millis(50));
        let counts = [
            lines(&down, "Redis unavailable").len(),
            lines(&down, "cannot connect to Redis").len(),
            lines(&wrong, "Redis unavailable").len(),
            lines(&wrong, "no decision from Redis").len(),
        ];
        counts.iter().all(|count| *count >= 2).then_some(())
    });
    // The period of one message began at the start of the gateway, before `begin`.
    let most = 3 + begin.elapsed().as_secs() as usize / 10;
    for (gateway, text, first, later) in [
        (&down, "Redis unavailable", "checks are granted without Redis", " s; "),
        (&down, "cannot connect to Redis", r#""attempts":1,"#, r#""seconds":"#),
        (
            &wrong,
            "Redis unavailable",
            "checks are answered with status 503",
            "answered with status 503",
        ),
        (&wrong, "no decision from Redis", r#""calls":1,"#, r#""calls":"#),
    ] {
        let lines = lines(gateway, text);
        assert!(lines.len() <= most, "{lines:?}");
        assert!(lines[0].contains(first) && lines[1].contains(later), "{lines:?}");
    }

    let _server = Server::builder().port(port).start();
    plain.load_module();
    eventually("both ends are logged", || {
        checks += 1;
        let _ = (down.check("someone"), wrong.check("someone"));
        let ends = [&down, &wrong].map(|gateway| lines(gateway, "Redis decides again after").len());
        (ends == [1, 1]).then_some(())
    });
    let end = &lines(&down, "Redis decides again after")[0];
    let granted = end.split(" s; ").nth(1).and_then(|sums| sums.split(' ').next()?.parse().ok());
    let granted: u32 = granted.unwrap_or_else(|| panic!("{end}"));
    assert!(granted > 100 && granted < checks, "{checks} checks, {end}");
    let closed = &lines(&down, "circuit breaker closed")[0];
    assert!(closed.contains(r#""attempts":"#) && closed.contains(r#""seconds":"#), "{closed}");
}
