//! The settings of the gateway, and their lines in the log.

use std::net::TcpListener;

use crate::harness::{Gateway, Server, eventually};

#[test]
fn a_bad_setting_stops_the_start_with_one_line() {
    for (name, value, line) in [
        ("REDIS_PORT", "abc", r#"REDIS_PORT: "abc" is not an integer between 1 and 65535"#),
        ("DEFAULT_LIMIT", "0", r#"DEFAULT_LIMIT: "0" is not an integer between 1 and 1000000000"#),
        ("FAIL_MODE", "ajar", r#"FAIL_MODE: "ajar" is not one of closed, open, local"#),
        (
            "REDIS_URL",
            "redis://:secret@host:port",
            "REDIS_URL: the value has a host that is not NAME, NAME:PORT or [IPv6]:PORT",
        ),
        (
            "REDIS_HOST",
            "redis://:secret@host",
            "REDIS_HOST: the value is not a host name or an IP address without a scheme, a login \
             or a port",
        ),
        ("REDIS_USERNAME", "me", "REDIS_USERNAME: takes no effect without REDIS_PASSWORD"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "localhost:4318",
            "OTEL_EXPORTER_OTLP_ENDPOINT: the value is not an http:// or https:// URL with a host, \
             and at most a port and a path",
        ),
    ] {
        let (status, output) = Gateway::builder().env(name, value).fails();
        assert_eq!((status.code(), output), (Some(2), format!("{line}\n")));
    }
}

#[cfg(not(feature = "envoy"))]
#[test]
fn a_gateway_without_grpc_does_not_start_with_a_port_for_grpc() {
    let settings = || Gateway::builder().env("POLICIES_FILE", "p.yaml").env("GRPC_PORT", "8001");
    let line = "GRPC_PORT: this program was built without gRPC (the feature `envoy` of cargo)\n";
    for (status, output) in [settings().fails(), settings().answers(&["--check-config"])] {
        assert_eq!((status.code(), output.as_str()), (Some(2), line));
    }
}

#[test]
fn a_file_has_the_settings_that_the_environment_does_not_have() {
    let server = Server::start();
    let file = "# a comment\nDENY_STATUS=429\nDEFAULT_LIMIT=5\nDEFAULT_WINDOW_SECONDS=7\n";
    let settings = Gateway::builder().redis(&server).dotenv(file);
    let gateway = settings.env("DEFAULT_LIMIT", "6").env("DEFAULT_WINDOW_SECONDS", "").start();
    let status = gateway.get("/rate-limit/status/user").body;
    assert!(status.contains(r#""limit":6,"window_seconds":7,"#), "{status}");
}

#[test]
fn a_fault_of_the_file_is_one_line_that_names_the_line_and_the_rule() {
    for (file, line) in [
        ("PORT=1\nsecret words\n", "line 2: an entry must be NAME=value"),
        (
            "REDIS_PASSWRD=secret",
            "line 1: REDIS_PASSWRD is not a setting; the nearest one is \
          REDIS_PASSWORD",
        ),
        ("OTEL_TRACES_SAMPLER=x", "line 1: OTEL_TRACES_SAMPLER is read from the environment only"),
    ] {
        let (status, output) = Gateway::builder().dotenv(file).fails();
        assert_eq!((status.code(), output), (Some(2), format!(".env: {line}\n")));
    }
}

#[test]
fn a_dollar_sign_in_the_file_is_a_plain_character() {
    let password = "pa$HOME$1";
    let server = Server::builder().password(password).start();
    let port = server.port().to_string();
    let file = format!("REDIS_HOST=127.0.0.1\nREDIS_PORT={port}\nREDIS_PASSWORD={password}\n");
    let gateway = Gateway::builder().dotenv(&file).start();
    eventually("Redis is connected", || (gateway.get("/health").status == 200).then_some(()));
}

#[test]
fn a_port_in_use_stops_the_start_with_one_line() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (status, output) = Gateway::builder().env("PORT", &port).fails();
    let line = format!("cannot listen on HOST 127.0.0.1 PORT {port}: Address already in use");
    assert_eq!(status.code(), Some(1));
    assert!(output.starts_with(&line) && output.lines().count() == 1, "{output}");
}

#[test]
fn the_log_has_requests_and_no_identifiers() {
    let server = Server::start();
    for (format, parts) in [
        ("json", [r#""route":"/rate-limit/status/{identifier}""#, r#""request_id":"id-7""#]),
        ("text", [r#"route="/rate-limit/status/{identifier}""#, r#"request_id="id-7""#]),
    ] {
        let gateway = Gateway::builder().redis(&server).env("LOG_FORMAT", format).start();
        let id = [("X-Request-Id", "id-7")];
        gateway.request("GET", "/rate-limit/status/someone?limit=5", &id, "");
        gateway.get("/someone");
        gateway.post("/rate-limit/check", r#"{"identifier":"someone","limit":"x"}"#);
        let (status, log) = gateway.terminate();
        assert!(status.success());
        assert!(!log.contains("someone"), "{log}");
        for part in parts {
            assert!(log.contains(part), "{part}\n{log}");
        }
    }
}

#[test]
fn the_log_has_the_address_of_the_client_when_a_setting_asks_for_it() {
    let server = Server::start();
    let client = r#""client":"127.0.0.1""#;
    for (setting, logged) in [("true", true), ("false", false)] {
        let gateway = Gateway::builder().redis(&server).env("LOG_CLIENT_ADDRESS", setting).start();
        gateway.get("/nowhere");
        let log = gateway.log_with("unmatched");
        let line = log.lines().find(|line| line.contains("unmatched")).unwrap();
        assert_eq!(line.contains(client), logged, "{line}");
        // The lines about invalid requests have the address as well.
        gateway.send(b"nonsense\r\n\r\n");
        let log = gateway.log_with("no valid request");
        let line = log.lines().find(|line| line.contains("no valid request")).unwrap();
        assert_eq!(line.contains(client), logged, "{line}");
    }
}

#[test]
fn default_settings_cause_no_warning() {
    let server = Server::start();
    let settings = Gateway::builder().redis(&server).env("LOG_LEVEL", "warning");
    // The limit of open files is low, as on systems without a service manager.
    let gateway = settings.open_files(4096).start();
    gateway.get("/health");
    assert_eq!(gateway.terminate().1, "");

    let settings = Gateway::builder().redis(&server).env("MAX_CONNECTIONS", "5000");
    let gateway = settings.open_files(4096).start();
    gateway.log_with("because of the limit of open files; raise it");
}
