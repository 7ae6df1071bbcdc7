//! The network between clients and the gateway: crowds of clients, idle connections, signals, heads
//! that are not valid HTTP, pages of other origins, floods of handshakes.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{
    ApiKey, Authority, Gateway, GatewayBuilder, eventually, http_request, kept_request,
    raise_limit_of_open_files, timed, with_stall,
};

fn memory() -> GatewayBuilder {
    Gateway::builder().env("REDIS_URL", "memory://")
}

fn probe() -> Vec<u8> {
    kept_request("GET", "/health/live", &[], "")
}

#[test]
fn a_thousand_clients_connect_at_once_although_none_is_accepted_yet() {
    raise_limit_of_open_files();
    let somaxconn = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let clients = somaxconn.trim().parse::<usize>().unwrap().min(1_000);
    let gateway = memory().start();
    gateway.freeze();
    let mut waiting = vec![];
    let (longest, stall) = with_stall(|| {
        let connect = |number| {
            let start = Instant::now();
            let socket = TcpStream::connect(gateway.address());
            waiting.push(socket.unwrap_or_else(|error| panic!("client {number}: {error}")));
            start.elapsed()
        };
        (0..clients).map(connect).max().unwrap_or_default()
    });
    // The system repeats a SYN that found no place in the backlog after a second.
    assert!(longest < Duration::from_millis(900) + stall, "{longest:?}, stall {stall:?}");
    gateway.thaw();
    for socket in &mut waiting {
        socket.write_all(&probe()).unwrap();
    }
    for socket in &mut waiting {
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
}

#[test]
fn an_idle_connection_is_kept_until_the_timeout_of_the_setting() {
    let gateway = memory().env("IDLE_TIMEOUT_MS", "4000").start();
    let mut kept = gateway.connect();
    let start = Instant::now();
    let mut unused = gateway.connect();
    assert_eq!(kept.exchange(&probe()).unwrap().status, 200);
    for silent in [&mut kept, &mut unused] {
        assert_eq!(silent.stream().read(&mut [0]).unwrap(), 0);
        assert!(start.elapsed() >= Duration::from_millis(4000), "{:?}", start.elapsed());
    }
    // The client was idle: no head was slow.
    assert_eq!(gateway.metric(r#"http_connections_slow_total{part="head"}"#), 0.0);
}

#[test]
fn sighup_ends_nothing_and_has_files_read_again() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("keys.json");
    let key = ApiKey::new("monitoring", &["read"]);
    ApiKey::write(&file, &[&key]);
    let mut gateway = memory().env("API_KEYS_FILE", &file.to_string_lossy()).start();
    let mut kept = gateway.connect();
    assert_eq!(kept.exchange(&probe()).unwrap().status, 200);

    gateway.hang_up();
    gateway.log_with("SIGHUP: ");
    let log = gateway.log_with(r#""message":"read again""#);
    assert!(log.contains(r#"keys.json""#), "{log}");
    // The gateway logs an error again after SIGHUP, although the log has this error already.
    fs::write(&file, "no keys").unwrap();
    let faults = |gateway: &Gateway| gateway.log().matches("a changed file is not valid").count();
    eventually("the fault is logged", || (faults(&gateway) == 1).then_some(()));
    gateway.hang_up();
    eventually("the fault is logged again", || (faults(&gateway) == 2).then_some(()));
    let answer = gateway.request("GET", "/rate-limit/status/user", &[key.header()], "");
    assert_eq!(answer.status, 200);
    assert_eq!(kept.exchange(&probe()).unwrap().status, 200);
    assert!(gateway.is_running());
    assert!(gateway.terminate().0.success());
}

#[test]
fn sighup_ends_nothing_where_there_are_no_files() {
    let mut gateway = memory().start();
    gateway.hang_up();
    gateway.log_with("SIGHUP: ");
    assert_eq!(gateway.get("/health/live").status, 200);
    assert!(gateway.is_running());
}

#[test]
fn a_request_has_one_host_unless_its_version_is_older() {
    let gateway = memory().start();
    for (version, hosts, status) in [
        ("1.1", &["localhost"][..], 200),
        ("1.1", &[""], 200),
        ("1.1", &[], 400),
        ("1.1", &["localhost", "localhost"], 400),
        ("1.1", &["localhost", "elsewhere"], 400),
        // The health checks of load balancers send HTTP/1.0 without `Host`.
        ("1.0", &[], 200),
        ("1.0", &["localhost"], 200),
        ("1.0", &["localhost", "elsewhere"], 400),
    ] {
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        for path in ["/health/ready", "/rate-limit/status/user", "http://localhost/health"] {
            let head = format!("GET {path} HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
            let answer = gateway.send(head.as_bytes());
            assert_eq!(answer.status, status, "{head}");
            assert!(answer.header("X-Request-Id").is_some());
            if status == 400 {
                assert_eq!(answer.body, r#"{"detail":"A request must have one Host header"}"#);
            }
        }
    }
}

#[test]
fn a_page_of_an_excluded_origin_changes_nothing() {
    let gateway = memory().env("CORS_ALLOW_ORIGINS", "https://shop.example").start();
    let unit = r#"{"identifier": "user", "limit": 10, "window_seconds": 31622400}"#;
    let refund = r#"{"identifier": "user", "amount": 1}"#;
    let batch = format!(r#"{{"checks": [{unit}]}}"#);
    let used = || {
        let query = "limit=10&window_seconds=31622400";
        let status = gateway.get(&format!("/rate-limit/status/user?{query}")).body;
        let (_, used) = status.split_once(r#""requests_used":"#).unwrap();
        used.split(',').next().unwrap().parse::<u32>().unwrap()
    };
    for _ in 0..5 {
        assert_eq!(gateway.post("/rate-limit/check", unit).status, 200);
    }
    for (method, path, body) in [
        ("POST", "/rate-limit/check", unit),
        ("POST", "/rate-limit/check/batch", &batch),
        ("POST", "/rate-limit/refund", refund),
        ("DELETE", "/rate-limit/reset/user", ""),
    ] {
        for origin in ["https://evil.example", "http://shop.example", "null"] {
            // A browser sends this request for a page without a preflight request.
            let headers = [("Origin", origin), ("Content-Type", "text/plain")];
            let answer = gateway.request(method, path, &headers, body);
            assert_eq!(answer.status, 403, "{method} {path} from {origin}");
            assert!(answer.body.contains(r#""error_code":"ORIGIN_EXCLUDED""#), "{answer:?}");
            assert_eq!(answer.header("Access-Control-Allow-Origin"), None);
        }
        assert_eq!(used(), 5, "{method} {path}");
    }
    // These requests come from pages of listed origins, from pages of the gateway itself, and from
    // clients other than pages.
    let own = format!("http://{}", gateway.address());
    for origin in [Some("https://shop.example"), Some(own.as_str()), None] {
        let host = gateway.address().to_string();
        let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        let head = format!("POST /rate-limit/check HTTP/1.1\r\nHost: {host}\r\n{origin}");
        let length = format!("Content-Length: {}\r\nConnection: close\r\n\r\n", unit.len());
        assert_eq!(gateway.send(format!("{head}{length}{unit}").as_bytes()).status, 200, "{head}");
    }
    assert_eq!(used(), 8);
    // The browser itself hides the answer to a GET request from the page.
    let headers = [("Origin", "https://evil.example")];
    let answer = gateway.request("GET", "/rate-limit/status/user", &headers, "");
    assert_eq!((answer.status, answer.header("Access-Control-Allow-Origin")), (200, None));
}

#[test]
fn a_flood_of_handshakes_does_not_hold_open_connections_up() {
    const FLOOD: usize = 600;
    raise_limit_of_open_files();
    let authority = Authority::new();
    let files = authority.server("gateway", &["127.0.0.1"]);
    let gateway = memory().https(&authority, &files).start();
    let (mut open, _) = gateway.connect_tls();
    assert_eq!(open.exchange(&probe()).unwrap().status, 200);

    let hello = gateway.client_hello();
    let mut flood: Vec<_> =
        (0..FLOOD).map(|_| TcpStream::connect(gateway.address()).unwrap()).collect();
    let start = Instant::now();
    for socket in &mut flood {
        socket.write_all(&hello).unwrap();
    }
    let (answer, answered_in) = timed(|| open.exchange(&probe()).unwrap());
    assert_eq!(answer.status, 200);
    for socket in &mut flood {
        socket.read_exact(&mut [0]).unwrap();
    }
    let all = start.elapsed();
    println!("{FLOOD} handshakes take {all:?}; a request beside them takes {answered_in:?}");
    assert!(answered_in < all / 4, "{answered_in:?} of {all:?}");
}

#[test]
fn handshakes_that_are_not_finished_exclude_no_other_client() {
    raise_limit_of_open_files();
    let authority = Authority::new();
    let files = authority.server("gateway", &["127.0.0.1"]);
    let gateway = memory().https(&authority, &files).start();
    let hello = gateway.client_hello();
    let stalled: Vec<_> = (0..300)
        .map(|number| {
            let mut socket = TcpStream::connect(gateway.address()).unwrap();
            // Half of the clients stop within their first message, and half stop after it.
            let part = if number % 2 == 0 { &hello[..] } else { &hello[..20] };
            socket.write_all(part).unwrap();
            socket
        })
        .collect();
    let ((), time) = timed(|| {
        for _ in 0..5 {
            assert_eq!(gateway.send(&http_request("GET", "/health/live", &[], "")).status, 200);
        }
    });
    // The stalled clients have ten seconds.
    assert!(time < Duration::from_secs(8), "{time:?}");
    drop(stalled);
}
