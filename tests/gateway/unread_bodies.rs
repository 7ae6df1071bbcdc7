//! Answers that the gateway sends before the body of their request has arrived: the connection
//! serves the next request, or the answer announces that the connection closes.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{ApiKey, Connection, Gateway, GatewayBuilder, eventually, kept_request};

const BODY: &str = r#"{"identifier":"x"}"#;

/// A request whose answer does not depend on its body.
struct Early {
    method: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    status: u16,
}

const fn early(method: &'static str, path: &'static str, status: u16) -> Early {
    Early { method, path, headers: &[], status }
}

fn memory() -> GatewayBuilder {
    Gateway::builder().env("REDIS_URL", "memory://")
}

impl Early {
    /// Returns the head, which announces the framing of the body, and the body.
    fn parts(&self, body: &str, is_chunked: bool) -> (Vec<u8>, Vec<u8>) {
        let length = body.len().to_string();
        let framing = match is_chunked {
            true => ("Transfer-Encoding", "chunked"),
            false => ("Content-Length", length.as_str()),
        };
        let head = kept_request(self.method, self.path, &[self.headers, &[framing]].concat(), "");
        let body = match is_chunked {
            true => format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
            false => body.to_owned(),
        };
        (head, body.into_bytes())
    }

    /// Asserts that the answer comes before the body, and that the next request is served.
    fn assert_harms_no_other(&self, connection: &mut Connection<TcpStream>, body: &str) {
        let Self { method, path, status, .. } = self;
        for is_chunked in [false, true] {
            let context = format!("{method} {path}, chunked: {is_chunked}");
            let (head, body) = self.parts(body, is_chunked);
            let answer = connection.exchange(&head).unwrap_or_else(|e| panic!("{context}: {e}"));
            assert_eq!((answer.status, answer.header("Connection")), (*status, None), "{context}");
            connection.stream().write_all(&body).unwrap();
            assert_served(connection, &context);
        }
    }
}

fn assert_served(connection: &mut Connection<TcpStream>, context: &str) {
    let check = kept_request("POST", "/rate-limit/check", &[("X-API-Key", "none")], BODY);
    let live = kept_request("GET", "/health/live", &[], "");
    let checked = connection.exchange(&check).map(|answer| answer.status);
    assert!(matches!(checked, Ok(200 | 401)), "{context}: {checked:?}");
    let answer = connection.exchange(&live).map(|answer| answer.status);
    assert!(matches!(answer, Ok(200)), "{context}: {answer:?}");
}

#[test]
fn a_body_that_comes_after_its_answer_costs_the_next_request_nothing() {
    let gateway = memory().start();
    let mut connection = gateway.connect();
    for request in [
        early("POST", "/nowhere", 404),
        early("PUT", "/rate-limit/check", 405),
        early("POST", "/docs", 405),
        early("GET", "/", 200),
        early("GET", "/openapi.json", 200),
        early("GET", "/health", 200),
        early("GET", "/metrics", 200),
        early("GET", "/rate-limit/status/x", 200),
        early("GET", "/rate-limit/status/%ff", 422),
        early("GET", "/rate-limit/status/x?limit=0", 422),
        early("DELETE", "/rate-limit/reset/x", 200),
        early("DELETE", "/rate-limit/reset/x?algorithm=sliding_window", 404),
        Early {
            headers: &[("Origin", "http://page"), ("Access-Control-Request-Method", "POST")],
            ..early("OPTIONS", "/rate-limit/check", 200)
        },
    ] {
        request.assert_harms_no_other(&mut connection, BODY);
    }
}

#[test]
fn a_body_of_a_caller_that_is_refused_costs_the_next_request_nothing() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("keys.json");
    ApiKey::write(&path, &[&ApiKey::new("reader", &["read"])]);
    let gateway = memory().env("API_KEYS_FILE", &path.display().to_string()).start();
    let mut connection = gateway.connect();
    for path in ["/rate-limit/check", "/rate-limit/check/batch", "/rate-limit/refund"] {
        early("POST", path, 401).assert_harms_no_other(&mut connection, BODY);
        // The body is too large to arrive together with the head.
        early("POST", path, 401).assert_harms_no_other(&mut connection, &"x".repeat(1_000_000));
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_before_all_of_it_has_come() {
    let gateway = memory().start();
    for (path, size) in [("/rate-limit/check", 1_000_000), ("/rate-limit/check/batch", 4_000_000)] {
        let mut connection = gateway.connect();
        let (head, body) = early("POST", path, 413).parts(&"x".repeat(size), false);
        let (first, rest) = body.split_at(size - 1);
        connection.stream().write_all(&[&head, first].concat()).unwrap();
        assert_eq!(connection.receive().unwrap().status, 413, "{path}");
        connection.stream().write_all(rest).unwrap();
        assert_served(&mut connection, path);
    }
}

#[test]
fn a_client_may_be_silent_after_such_a_body_for_longer_than_within_a_head() {
    let gateway = memory().env("HEADER_TIMEOUT_MS", "1000").start();
    let mut connection = gateway.connect();
    early("POST", "/nowhere", 404).assert_harms_no_other(&mut connection, BODY);
    let (head, body) = early("POST", "/nowhere", 404).parts(BODY, false);
    assert_eq!(connection.exchange(&head).unwrap().status, 404);
    thread::sleep(Duration::from_millis(1_600));
    connection.stream().write_all(&body).unwrap();
    thread::sleep(Duration::from_millis(1_600));
    assert_served(&mut connection, "after a pause");
}

#[test]
fn the_end_is_announced_where_the_rest_is_not_read() {
    let gateway = memory().start();
    let too_large = ("Content-Length", "17000000");
    let expects = ("Expect", "100-continue");
    for headers in [&[too_large][..], &[("Content-Length", "18"), expects]] {
        let mut connection = gateway.connect();
        let head = kept_request("POST", "/nowhere", headers, "");
        // The answer is the first response: no response with status 100 asks for the body.
        let answer = connection.exchange(&head).unwrap();
        let expected = (404, Some("close"));
        assert_eq!((answer.status, answer.header("Connection")), expected, "{headers:?}");
    }
    // The gateway asks for an expected body on a route that reads the body.
    let mut connection = gateway.connect();
    let length = BODY.len().to_string();
    let headers = [("Content-Length", length.as_str()), expects];
    let head = kept_request("POST", "/rate-limit/check", &headers, "");
    connection.stream().write_all(&head).unwrap();
    let mut asked = [0; 25];
    std::io::Read::read_exact(connection.stream(), &mut asked).unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    let answer = connection.exchange(BODY.as_bytes()).unwrap();
    assert_eq!((answer.status, answer.header("Connection")), (200, None));
}

#[test]
fn a_body_without_an_end_is_not_read_for_ever() {
    let gateway = memory().start();
    let mut connection = gateway.connect();
    let (head, _) = early("POST", "/nowhere", 404).parts("", true);
    assert_eq!(connection.exchange(&head).unwrap().status, 404);
    let chunk = format!("{:x}\r\n{}\r\n", 64 * 1024, "x".repeat(64 * 1024));
    let mut sent = 0;
    eventually("the gateway hangs up", || {
        let broken = connection.stream().write_all(chunk.as_bytes()).is_err();
        sent += usize::from(!broken);
        broken.then_some(())
    });
    assert!(sent >= 200, "only {sent} chunks were read");
}
