//! Requests that end before their answer: the log and the metrics contain each of these requests,
//! and Redis runs each command that it has received.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{
    Gateway, GatewayBuilder, Network, Proxy, Response, Server, eventually, kept_request, within,
};

/// Body of a check: one unit per hour.
const BODY: &str =
    r#"{"identifier":"somebody","algorithm":"sliding_window","limit":1,"window_seconds":3600}"#;

fn settings(proxy: &Proxy) -> GatewayBuilder {
    Gateway::builder().env("REDIS_URL", &proxy.url())
}

fn check(gateway: &Gateway) -> Response {
    gateway.post("/rate-limit/check", BODY)
}

/// Sends a request, and closes the connection after the gateway has called Redis and before the
/// gateway answers.
fn send_and_leave(gateway: &Gateway, method: &str, path: &str, body: &str) {
    let mut socket = TcpStream::connect(gateway.address()).unwrap();
    let headers = [("X-Request-Id", "the-one")];
    socket.write_all(&kept_request(method, path, &headers, body)).unwrap();
    eventually("Redis is asked", || {
        (gateway.metric("ratelimit_redis_backlog") > 0.0).then_some(())
    });
}

/// Waits until the gateway has counted the request of a client that closed its connection.
fn wait_until_disconnect_is_counted(gateway: &Gateway, route: &str, method: &str) {
    let labels = format!(r#"route="{route}",method="{method}",status="499""#);
    let counted = format!("http_requests_total{{{labels}}} 1");
    eventually("it is counted", || gateway.get("/metrics").body.contains(&counted).then_some(()));
}

#[test]
fn a_client_that_gives_up_is_logged_and_counted_and_its_units_stay_taken() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    for (path, body, method) in [
        ("/rate-limit/check", BODY.to_owned(), "POST"),
        ("/rate-limit/check/batch", format!(r#"{{"checks":[{BODY}]}}"#), "POST"),
    ] {
        let gateway = settings(&proxy).start();
        eventually("Redis decides", || (gateway.get("/health").status == 200).then_some(()));
        proxy.set(Network::Paused);
        send_and_leave(&gateway, method, path, &body);
        wait_until_disconnect_is_counted(&gateway, path, method);
        let log = gateway.log_with(r#""message":"the client disconnected""#);
        let line = log.lines().find(|line| line.contains("the client disconnected")).unwrap();
        for part in [r#""request_id":"the-one""#, r#""status":499,"#, path, r#""level":"INFO""#] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        assert!(!log.contains("somebody"), "{log}");
        proxy.set(Network::Sound);
        let status =
            "/rate-limit/status/somebody?algorithm=sliding_window&limit=1&window_seconds=3600";
        eventually("the unit is taken", || {
            gateway.get(status).body.contains(r#""requests_used":1,"#).then_some(())
        });
        assert_eq!(gateway.delete("/rate-limit/reset/somebody").status, 200);
    }
}

#[test]
fn a_client_that_disconnects_before_any_work_is_counted_too() {
    let gateway = Gateway::builder().env("REDIS_URL", "memory://").start();
    let all = || {
        let metrics = gateway.get("/metrics").body;
        let is_check = |line: &&str| {
            line.starts_with("http_requests_total{") && line.contains(r#"method="POST""#)
        };
        let counts = metrics.lines().filter(is_check).map(|line| line.rsplit_once(' ').unwrap().1);
        counts.map(|count| count.parse::<u32>().unwrap()).sum::<u32>()
    };
    for number in 1..=50 {
        let mut socket = TcpStream::connect(gateway.address()).unwrap();
        socket.write_all(&kept_request("POST", "/rate-limit/check", &[], BODY)).unwrap();
        drop(socket);
        eventually("it is counted", || (all() == number).then_some(()));
    }
}

#[test]
fn a_client_that_disconnects_within_its_body_is_counted_as_such() {
    let gateway = Gateway::builder().env("REDIS_URL", "memory://").start();
    let mut socket = TcpStream::connect(gateway.address()).unwrap();
    let request = kept_request("POST", "/rate-limit/check", &[], BODY);
    socket.write_all(&request[..request.len() - 1]).unwrap();
    drop(socket);
    wait_until_disconnect_is_counted(&gateway, "/rate-limit/check", "POST");
}

#[test]
fn units_of_a_refund_to_a_client_that_disconnected_can_be_taken_at_once() {
    let server = Server::start();
    let proxy = Proxy::to(&server);
    let gateway = settings(&proxy).env("DENY_CACHE_MAX_MS", "3600000").start();
    let (reset, by_name) = ("/rate-limit/reset/somebody", "?algorithm=sliding_window");
    for (count, (method, path, body)) in [
        ("DELETE", reset.to_owned(), ""),
        ("DELETE", format!("{reset}{by_name}"), ""),
        ("POST", "/rate-limit/refund".to_owned(), BODY),
    ]
    .into_iter()
    .enumerate()
    {
        eventually("a denial is remembered", || {
            (check(&gateway).header("X-RateLimit-Source") == Some("cache")).then_some(())
        });
        proxy.set(Network::Paused);
        send_and_leave(&gateway, method, &path, body);
        let seen = within(Duration::from_secs(30), || {
            (gateway.log().matches("the client disconnected").count() > count).then_some(())
        });
        assert!(seen.is_some(), "{path}: the client is not missed\n{}", gateway.log());
        proxy.set(Network::Sound);
        eventually("the denial is forgotten", || {
            check(&gateway).body.contains(r#""allowed":true"#).then_some(())
        });
    }
}

#[test]
fn invalid_http_is_answered_logged_and_counted_like_every_request() {
    let gateway = Gateway::builder().env("REDIS_URL", "memory://").start();
    let too_large = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    for (request, status, detail) in [
        ("GET / HTTP/9.9\r\n\r\n", 400, "Bad Request"),
        ("\u{16}\u{3}\u{1}\r\n\r\n", 400, "Bad Request"),
        ("GET / HTTP/1.1\r\nno header\r\n\r\n", 400, "Bad Request"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "Bad Request"),
        (&too_large, 431, "Request Header Fields Too Large"),
    ] {
        let answer = gateway.send(request.as_bytes());
        assert_eq!(answer.status, status, "{request}");
        assert_eq!(answer.body, format!(r#"{{"detail":"{detail}"}}"#));
        assert_eq!(answer.header("Connection"), Some("close"));
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        assert_eq!(answer.header("Content-Length"), Some(answer.body.len().to_string().as_str()));
        assert!(answer.header("X-Process-Time").is_some() && answer.header("Date").is_some());
        let id = answer.header("X-Request-Id").unwrap();
        assert_eq!(id.len(), 32);
        let log = gateway.log_with(id);
        let line = log.lines().find(|line| line.contains(id)).unwrap();
        let status = format!(r#""status":{status},"#);
        assert!(line.contains(&status) && line.contains("no valid request"), "{line}");
    }
    for (status, count) in [(400, 4.0), (431, 1.0)] {
        let labels = format!(r#"route="unmatched",method="other",status="{status}""#);
        assert_eq!(gateway.metric(&format!("http_requests_total{{{labels}}}")), count);
    }
}

#[test]
fn invalid_http_after_a_request_changes_no_answer() {
    let gateway = Gateway::builder().env("REDIS_URL", "memory://").start();
    for path in ["/health/live", "/docs", "/nowhere"] {
        let request = kept_request("GET", path, &[], "");
        let mut connection = gateway.connect();
        let sent = [&request, &request, &b"no request\r\n\r\n"[..]].concat();
        let first = connection.exchange(&sent).unwrap();
        let second = connection.receive().unwrap();
        assert_eq!((first.status, &first.body), (second.status, &second.body), "{path}");
        let error = connection.receive().unwrap();
        assert_eq!((error.status, error.header("X-Request-Id").unwrap().len()), (400, 32));
        assert!(connection.receive().is_err(), "the connection is closed");
    }
}
