//! Connections of clients: many, slow, silent or greedy connections do not delay other connections.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    Connection, Gateway, GatewayBuilder, eventually, kept_request, raise_limit_of_open_files,
    within,
};

const PROBE: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";

fn memory() -> GatewayBuilder {
    Gateway::builder().env("REDIS_URL", "memory://")
}

/// Asserts that a client gets a decision on a connection of its own.
fn assert_serves(gateway: &Gateway) {
    let answer = gateway.post("/rate-limit/check", r#"{"identifier": "normal"}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Returns whether the gateway answers a request as usual.
fn served(connection: &mut Connection<TcpStream>) -> bool {
    connection.exchange(PROBE).is_ok_and(|answer| answer.status == 200)
}

/// Returns whether the gateway has closed a connection that has no bytes to read.
fn is_closed(socket: &mut TcpStream) -> bool {
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    match socket.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// Sends a text, and then single bytes until the gateway has closed the connection. Returns the
/// duration.
fn trickle(socket: &mut TcpStream, text: &str) -> Duration {
    let start = Instant::now();
    socket.write_all(text.as_bytes()).unwrap();
    eventually("the gateway hangs up", || {
        thread::sleep(Duration::from_millis(20));
        (socket.write_all(b"x").is_err() || is_closed(socket)).then_some(start.elapsed())
    })
}

#[test]
fn ten_thousand_idle_connections_leave_room_for_others() {
    const IDLE: usize = 10_000;
    raise_limit_of_open_files();
    let gateway = memory().start();
    assert_serves(&gateway);
    let before = gateway.resident_memory();
    let mut idle: Vec<_> = (0..IDLE).map(|_| gateway.connect()).collect();
    eventually("all of them are accepted", || {
        (gateway.metric("http_connections") > IDLE as f64).then_some(())
    });
    let each = (gateway.resident_memory() - before) / IDLE as u64;
    println!("a connection that was never used takes {each} bytes");
    assert!(each < 4096, "{each} bytes");
    assert_serves(&gateway);

    for connection in &mut idle {
        assert_eq!(connection.exchange(PROBE).unwrap().status, 200);
    }
    let each = (gateway.resident_memory() - before) / IDLE as u64;
    println!("a connection that was used once takes {each} bytes");
    assert!(each < 24 * 1024, "{each} bytes");
    assert_serves(&gateway);
    drop(idle);
    eventually("all of them are forgotten", || {
        (gateway.metric("http_connections") < 10.0).then_some(())
    });
}

#[test]
fn a_connection_over_the_limit_is_answered_and_harms_no_other() {
    let gateway = memory().env("MAX_CONNECTIONS", "3").start();
    let mut kept = eventually("those that saw it start are gone", || {
        let mut kept: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
        kept.iter_mut().all(served).then_some(kept)
    });
    let refused = gateway.post("/rate-limit/check", r#"{"identifier": "someone"}"#);
    assert_eq!(refused.status, 503);
    assert_eq!(
        refused.body,
        r#"{"detail":"Too many connections","error_code":"TOO_MANY_CONNECTIONS"}"#
    );
    assert_eq!(refused.header("Retry-After"), Some("1"));
    assert_eq!(refused.header("Connection"), Some("close"));
    assert_eq!(refused.header("X-Request-Id").unwrap().len(), 32);

    // The gateway does not wait for silent connections, however many there are.
    let mut silent: Vec<_> = (0..300).map(|_| gateway.connect()).collect();
    assert!(kept.iter_mut().all(served));
    for connection in &mut silent {
        eventually("a silent one is hung up on", || is_closed(connection.stream()).then_some(()));
    }
    drop(kept);
    eventually("there is room again", || served(&mut gateway.connect()).then_some(()));
    assert!(gateway.metric("http_connections_refused_total") >= 301.0);
    assert_eq!(gateway.metric("http_max_connections"), 3.0);
}

#[test]
fn a_head_must_be_whole_in_time_however_its_bytes_come() {
    let gateway = memory().env("HEADER_TIMEOUT_MS", "500").start();
    for begin in ["G", "GET /health/live HTTP/1.1\r\nHost: x\r\nX: "] {
        let mut slow = TcpStream::connect(gateway.address()).unwrap();
        let time = trickle(&mut slow, begin);
        assert!(time >= Duration::from_millis(400), "{begin:?}: {time:?}");
    }
    // The gateway does the same on a connection that has served a request.
    let mut kept = gateway.connect();
    assert_eq!(kept.exchange(PROBE).unwrap().status, 200);
    let time = trickle(kept.stream(), "GET /");
    assert!(time >= Duration::from_millis(400), "{time:?}");
    assert_eq!(gateway.metric(r#"http_connections_slow_total{part="head"}"#), 3.0);
}

#[test]
fn hundreds_of_slow_heads_delay_no_other_client() {
    let gateway = memory().env("HEADER_TIMEOUT_MS", "5000").start();
    let mut slow: Vec<_> = (0..300)
        .map(|_| {
            let mut socket = TcpStream::connect(gateway.address()).unwrap();
            socket.write_all(b"POST /rate-limit/check HTTP/1.1\r\n").unwrap();
            socket
        })
        .collect();
    let mut normal = gateway.connect();
    let check = kept_request("POST", "/rate-limit/check", &[], r#"{"identifier": "normal"}"#);
    let mut served = 0;
    eventually("all slow ones are hung up on", || {
        slow.retain_mut(|socket| socket.write_all(b"x").is_ok() && !is_closed(socket));
        assert_eq!(normal.exchange(&check).unwrap().status, 200);
        served += 1;
        slow.is_empty().then_some(())
    });
    assert!(served > 1, "only {served} requests were served meanwhile");
}

#[test]
fn a_client_may_be_silent_before_a_head_for_longer_than_within_it() {
    let gateway = memory().env("HEADER_TIMEOUT_MS", "200").start();
    let mut connection = gateway.connect();
    for _ in 0..2 {
        thread::sleep(Duration::from_millis(600));
        assert_eq!(connection.exchange(PROBE).unwrap().status, 200);
    }
    assert_eq!(gateway.metric(r#"http_connections_slow_total{part="head"}"#), 0.0);
}

#[test]
fn a_body_must_be_whole_in_time_however_its_bytes_come() {
    let gateway = memory().start();
    let mut slow = TcpStream::connect(gateway.address()).unwrap();
    let head = "POST /rate-limit/check HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n";
    slow.write_all(head.as_bytes()).unwrap();
    slow.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut answer = vec![];
    eventually("the gateway gives up", || {
        thread::sleep(Duration::from_millis(100));
        assert_serves(&gateway);
        let sent = slow.write_all(b" ");
        let _ = slow.read_to_end(&mut answer);
        (sent.is_err() || answer.ends_with(b"}")).then_some(())
    });
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", answer.escape_ascii());
    let head = String::from_utf8_lossy(&answer);
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    eventually("the connection is closed", || is_closed(&mut slow).then_some(()));
}

#[test]
fn a_client_that_does_not_read_its_answers_is_disconnected() {
    let gateway = memory().start();
    let mut greedy = TcpStream::connect(gateway.address()).unwrap();
    // The requests cause more bytes than the buffers of the system between client and gateway can
    // hold.
    let requests = b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    greedy.write_all(&requests).unwrap();
    // The client has thirty seconds for each part of an answer.
    let slow = r#"http_connections_slow_total{part="answer"}"#;
    let given_up = within(Duration::from_secs(90), || {
        thread::sleep(Duration::from_millis(500));
        assert_serves(&gateway);
        (gateway.metric(slow) == 1.0).then_some(())
    });
    assert!(given_up.is_some(), "it holds its connection still");
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let gateway = memory().start();
    let padded = |size: usize| format!("X-Padding: {}\r\n", "x".repeat(size));
    let many = |count: usize| "X: y\r\n".repeat(count);
    for (headers, status) in
        [(padded(30 * 1024), 200), (padded(32 * 1024), 431), (many(98), 200), (many(101), 431)]
    {
        let head = format!("GET /health/live HTTP/1.1\r\nHost: x\r\n{headers}");
        let answer = gateway.send(format!("{head}Connection: close\r\n\r\n").as_bytes());
        assert_eq!(answer.status, status, "{} bytes", head.len());
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(32 * 1024));
    assert_eq!(gateway.send(long.as_bytes()).status, 431);
    assert_serves(&gateway);
}

#[test]
fn requests_sent_at_once_are_answered_in_order() {
    const REQUESTS: usize = 2_000;
    let gateway = memory().start();
    let mut connection = gateway.connect();
    let request = |number: usize| {
        let id = number.to_string();
        kept_request("GET", "/health/live", &[("X-Request-Id", &id)], "")
    };
    let requests: Vec<u8> = (0..REQUESTS).flat_map(request).collect();
    let mut writing: Connection<TcpStream> =
        Connection::over(connection.stream().try_clone().unwrap());
    thread::scope(|scope| {
        scope.spawn(move || writing.stream().write_all(&requests).unwrap());
        for number in 0..REQUESTS {
            let answer = connection.receive().unwrap();
            assert_eq!(answer.header("X-Request-Id"), Some(number.to_string().as_str()));
        }
        assert_serves(&gateway);
    });
}
