//! The process of the gateway: its command line, its signals and its end.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Gateway, GatewayBuilder, Server, eventually, free_port, kept_request, timed};

fn memory() -> GatewayBuilder {
    Gateway::builder().env("REDIS_URL", "memory://")
}

#[test]
fn the_help_lists_every_command_and_setting() {
    let (status, help) = Gateway::builder().answers(&["--help"]);
    assert_eq!(status.code(), Some(0));
    for part in [
        "\n  healthcheck ",
        "\n  new-api-key ",
        "\n  completions ",
        "\n      --check-config ",
        "\n      --print-openapi ",
        "  MAX_CONNECTIONS\n      The largest number of open connections of clients. Further \
         connections are refused.\n      an \
         integer between 1 and 1000000; by default 20000\n",
        "  REDIS_PASSWORD\n",
    ] {
        assert!(help.contains(part), "{part:?} in\n{help}");
    }
    // The help is printed although a setting is invalid, because the help describes valid settings.
    let (status, output) = Gateway::builder().env("PORT", "0").answers(&["-h"]);
    assert_eq!((status.code(), output), (Some(0), help));
}

#[test]
fn words_that_are_no_command_are_refused_with_one_line() {
    for (words, line) in [
        (&["--port"][..], "unexpected argument '--port' found; see --help\n"),
        (&["healthcheck", "now"], "unexpected argument 'now' found; see --help\n"),
    ] {
        let (status, output) = Gateway::builder().answers(words);
        assert_eq!((status.code(), output.as_str()), (Some(2), line));
    }
}

#[test]
fn the_description_that_is_printed_is_the_one_that_is_served() {
    let (status, printed) = Gateway::builder().answers(&["--print-openapi"]);
    assert_eq!(status.code(), Some(0));
    let printed: Value = serde_json::from_str(&printed).unwrap();
    let served = memory().start().get("/openapi.json").body;
    assert_eq!(printed, serde_json::from_str::<Value>(&served).unwrap());
    let (status, version) = Gateway::builder().answers(&["--version"]);
    let expected = format!("ratelimit-gateway {}\n", printed["info"]["version"].as_str().unwrap());
    assert_eq!((status.code(), version), (Some(0), expected));
}

#[test]
fn settings_are_checked_without_a_connection() {
    let redis = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    redis.set_nonblocking(true).unwrap();
    let url = format!("redis://{}/", redis.local_addr().unwrap());
    let check = |name: &str, value: &str| {
        let settings = Gateway::builder().env("REDIS_URL", &url).env(name, value);
        let (status, output) = settings.answers(&["--check-config"]);
        (status.code(), output)
    };
    assert_eq!(check("LOG_LEVEL", "INFO"), (Some(0), "settings ok\n".to_owned()));
    assert_eq!(redis.accept().unwrap_err().kind(), ErrorKind::WouldBlock);

    for (name, value, line) in [
        ("PORT", "0", "PORT: \"0\" is not an integer between 1 and 65535\n"),
        (
            "API_KEYS_FILE",
            "missing.json",
            "API_KEYS_FILE: missing.json: No such file or directory (os error 2)\n",
        ),
    ] {
        assert_eq!(check(name, value), (Some(2), line.to_owned()));
    }
    let secure = Gateway::builder().env("REDIS_URL", "rediss://localhost/");
    let settings = secure.env("REDIS_TLS_CA_FILE", "missing.pem");
    let (status, output) = settings.answers(&["--check-config"]);
    assert_eq!(status.code(), Some(2));
    assert!(output.starts_with("REDIS_TLS_CA_FILE: ") && output.lines().count() == 1, "{output}");
}

#[test]
fn a_health_check_succeeds_only_when_the_gateway_is_ready() {
    let ask_with = |words: &[&str], host: &str, port: u16| {
        let settings = Gateway::builder().env("HOST", host).env("PORT", &port.to_string());
        let (status, output) = settings.answers(words);
        assert!(output.lines().count() <= 1, "{output}");
        (status.code(), output)
    };
    let ask = |host: &str, port: u16| ask_with(&["healthcheck"], host, port);
    let ready = memory().start();
    let port = ready.address().port();
    for host in ["127.0.0.1", "0.0.0.0", "localhost"] {
        assert_eq!(ask(host, port), (Some(0), String::new()), "{host}");
    }

    let url = format!("redis://127.0.0.1:{}/", free_port());
    let alone = Gateway::builder().env("REDIS_URL", &url).start();
    let port = alone.address().port();
    let line = format!("/health/ready at 127.0.0.1 port {port} answers 503 Service Unavailable\n");
    assert_eq!(ask("0.0.0.0", port), (Some(1), line));
    let live = ["healthcheck", "--live"];
    assert_eq!(ask_with(&live, "0.0.0.0", port), (Some(0), String::new()));
    let (status, output) = ask_with(&live, "127.0.0.1", free_port());
    assert!(status == Some(1) && output.starts_with("cannot request /health/live at "), "{output}");

    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (status, output) = ask("127.0.0.1", silent.local_addr().unwrap().port());
    assert!(status == Some(1) && output.ends_with(" does not answer within 3s\n"), "{output}");
    let (status, output) = ask("127.0.0.1", free_port());
    assert!(status == Some(1) && output.starts_with("cannot request "), "{output}");
}

#[test]
fn after_sigterm_the_gateway_is_not_ready_and_serves_for_a_while() {
    let gateway = memory().env("SHUTDOWN_DELAY_MS", "600000").start();
    let mut kept = gateway.connect();
    let probe = kept_request("GET", "/health/live", &[], "");
    assert_eq!(kept.exchange(&probe).unwrap().header("Connection"), None);

    gateway.ask_to_end();
    let ready = eventually("it is not ready", || {
        Some(gateway.get("/health/ready")).filter(|answer| answer.status == 503)
    });
    assert!(ready.body.starts_with(r#"{"status":"stopping","#), "{}", ready.body);
    // The gateway serves new clients, and all answers close their connections so that clients
    // connect to another gateway.
    let body = r#"{"identifier": "user"}"#;
    assert_eq!(gateway.post("/rate-limit/check", body).status, 200);
    assert_eq!(gateway.get("/health").status, 200);
    let last = kept.exchange(&probe).unwrap();
    assert_eq!((last.status, last.header("Connection")), (200, Some("close")));
    assert!(kept.exchange(&probe).is_err());

    // An operator can end the delay with a second signal.
    let ((status, log), time) = timed(|| gateway.terminate());
    assert!(status.success() && time < Duration::from_secs(60), "{time:?}\n{log}");
}

#[test]
fn after_the_delay_the_gateway_ends_by_itself_and_accepts_no_client() {
    let gateway = memory().env("SHUTDOWN_DELAY_MS", "300").start();
    let address = gateway.address();
    let start = Instant::now();
    let (status, log) = gateway.terminate();
    assert!(status.success() && start.elapsed() >= Duration::from_millis(300), "{log}");
    assert!(log.contains("stopping") && log.contains("stopped"), "{log}");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn ctrl_c_does_not_wait_for_a_load_balancer() {
    let gateway = memory().env("SHUTDOWN_DELAY_MS", "600000").start();
    gateway.interrupt();
    assert!(gateway.ends().0.success());
}

#[test]
fn a_second_signal_ends_the_gateway_although_requests_are_running() {
    let gateway = memory().env("SHUTDOWN_TIMEOUT_MS", "600000").start();
    let mut stuck = TcpStream::connect(gateway.address()).unwrap();
    let head = b"POST /rate-limit/check HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{";
    stuck.write_all(head).unwrap();
    assert_eq!(gateway.get("/health/live").status, 200);
    gateway.ask_to_end();
    gateway.log_with("stopping");
    let ((status, log), time) = timed(|| {
        gateway.interrupt();
        gateway.ends()
    });
    // The gateway ends before the timeout of the body, which is ten seconds.
    assert!(status.success() && time < Duration::from_secs(8), "{time:?}\n{log}");
    assert!(log.contains("stopped with requests still running"), "{log}");
}

#[test]
fn the_gateway_ends_at_once_when_connections_are_idle() {
    let server = Server::start();
    let gateway = Gateway::start(&server);
    let mut idle = TcpStream::connect(gateway.address()).unwrap();
    idle.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    idle.read_exact(&mut [0; 12]).unwrap();
    let ((status, log), time) = timed(|| gateway.terminate());
    assert!(status.success() && time < Duration::from_secs(5), "{time:?}\n{log}");
}

#[test]
fn the_gateway_ends_in_time_when_requests_are_stuck() {
    let server = Server::start();
    let gateway = Gateway::builder().redis(&server).env("SHUTDOWN_TIMEOUT_MS", "200").start();
    let mut stuck = TcpStream::connect(gateway.address()).unwrap();
    let head = b"POST /rate-limit/check HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{";
    stuck.write_all(head).unwrap();
    // An answer on another connection proves that the gateway has accepted the first connection as
    // well.
    assert_eq!(gateway.get("/health/live").status, 200);
    let ((status, log), time) = timed(|| gateway.terminate());
    assert!(status.success() && time < Duration::from_secs(5), "{time:?}\n{log}");
    assert!(log.contains("stopped with requests still running"), "{log}");
}

#[test]
fn a_request_that_is_running_is_answered_before_the_end() {
    let server = Server::start();
    let gateway = Gateway::start(&server);
    let mut slow = TcpStream::connect(gateway.address()).unwrap();
    let head = b"POST /rate-limit/check HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n";
    slow.write_all(head).unwrap();
    assert_eq!(gateway.get("/health/live").status, 200);
    let ending = std::thread::spawn(move || gateway.terminate());
    slow.write_all(br#"{"identifier": "me"}"#).unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(ending.join().unwrap().0.success());
}
