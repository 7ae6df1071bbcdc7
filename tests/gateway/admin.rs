//! The listener for probes and operators: it answers while clients use all other connections.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use tempfile::TempDir;

use crate::harness::{
    ApiKey, Authority, Connection, Gateway, GatewayBuilder, Server, eventually, kept_request,
};

/// The paths for probes and operators.
const PATHS: [&str; 4] = ["/health", "/health/live", "/health/ready", "/metrics"];

fn memory() -> GatewayBuilder {
    Gateway::builder().env("REDIS_URL", "memory://")
}

fn probe() -> Vec<u8> {
    kept_request("GET", "/health/live", &[], "")
}

/// Opens as many connections as clients may have.
fn fill(gateway: &Gateway, connections: usize) -> Vec<Connection<TcpStream>> {
    eventually("the connections of the start are gone", || {
        let mut kept: Vec<_> = (0..connections).map(|_| gateway.connect()).collect();
        let is_served = |connection: &mut Connection<TcpStream>| {
            connection.exchange(&probe()).is_ok_and(|answer| answer.status == 200)
        };
        kept.iter_mut().all(is_served).then_some(kept)
    })
}

#[test]
fn a_gateway_without_room_for_clients_is_alive_and_ready() {
    let gateway = memory().env("MAX_CONNECTIONS", "3").admin().start();
    let _kept = fill(&gateway, 3);
    assert_eq!(gateway.get("/health/live").status, 503);
    for path in PATHS {
        assert_eq!(gateway.get_as_operator(path).status, 200, "{path}");
    }
    assert_eq!(gateway.metric("http_connections"), 3.0);
    assert_eq!(gateway.metric("http_max_connections"), 3.0);

    let [port, admin] =
        [gateway.address(), gateway.admin_address()].map(|at| at.port().to_string());
    let settings = Gateway::builder().env("PORT", &port).env("ADMIN_PORT", &admin);
    let (status, output) = settings.answers(&["healthcheck"]);
    assert_eq!((status.code(), output.as_str()), (Some(0), ""));
}

#[test]
fn without_a_port_of_their_own_probes_share_the_room_of_clients() {
    let gateway = memory().env("MAX_CONNECTIONS", "3").start();
    let _kept = fill(&gateway, 3);
    assert_eq!(gateway.get("/health/live").status, 503);
}

#[test]
fn each_port_has_its_paths() {
    let gateway = memory().admin().start();
    for (path, to_clients, to_operators) in [
        ("/health", 200, 200),
        ("/health/live", 200, 200),
        ("/health/ready", 200, 200),
        ("/metrics", 404, 200),
        ("/rate-limit/top", 200, 200),
        ("/rate-limit/status/user", 200, 404),
        ("/docs", 200, 404),
        ("/openapi.json", 200, 404),
        ("/", 200, 404),
    ] {
        assert_eq!(gateway.get(path).status, to_clients, "{path}");
        assert_eq!(gateway.get_as_operator(path).status, to_operators, "{path}");
    }
    assert!(!gateway.get("/openapi.json").body.contains("/metrics"));
}

#[test]
fn operators_have_connections_of_their_own_and_no_more_than_64() {
    let gateway = memory().admin().start();
    let open = || {
        let mut connection = Connection::open(gateway.admin_address()).unwrap();
        connection.exchange(&probe()).map(|answer| (answer.status, connection))
    };
    let kept: Vec<_> = eventually("64 connections are served", || {
        let kept = (0..64).map(|_| open()).collect::<Result<Vec<_>, _>>().ok()?;
        kept.iter().all(|(status, _)| *status == 200).then_some(kept)
    });
    assert_eq!(open().unwrap().0, 503);
    // The connections of clients are counted separately.
    assert_eq!(gateway.get("/health/live").status, 200);
    drop(kept);
    eventually("there is room again", || (open().ok()?.0 == 200).then_some(()));
}

#[test]
fn operators_have_the_same_scopes_and_the_same_certificate() {
    let keys = TempDir::new().unwrap();
    let file = keys.path().join("keys.json");
    ApiKey::write(&file, &[&ApiKey::new("monitoring", &["read"])]);
    let authority = Authority::new();
    let files = authority.server("gateway", &["127.0.0.1"]);
    let gateway = memory()
        .https(&authority, &files)
        .env("API_KEYS_FILE", &file.to_string_lossy())
        .env("METRICS_OPEN", "false")
        .admin()
        .start();
    assert_eq!(gateway.get_as_operator("/health/live").status, 200);
    assert_eq!(gateway.get_as_operator("/metrics").status, 401);
}

#[test]
fn keys_of_other_programs_do_not_make_a_gateway_unready() {
    let server = Server::start();
    let mut client = server.client();
    for key in ["health", "token_bucket:{}"] {
        client.call::<()>(&format!("SET {key} other"));
    }
    let gateway = Gateway::start(&server);
    for path in ["/health", "/health/ready"] {
        assert_eq!(gateway.get(path).status, 200, "{path}");
    }
    assert_eq!(gateway.metric(r#"ratelimit_redis_errors_total{kind="wrong_type"}"#), 0.0);
}

#[test]
fn metrics_for_many_at_once_are_written_by_one_thread() {
    let gateway = memory().start();
    let before = gateway.threads();
    let mut readers: Vec<_> = (0..200).map(|_| gateway.connect()).collect();
    let request = kept_request("GET", "/metrics", &[], "");
    for reader in &mut readers {
        reader.stream().write_all(&request).unwrap();
    }
    for reader in &mut readers {
        let answer = reader.receive().unwrap();
        assert!(answer.status == 200 && answer.body.contains("\nhttp_connections "), "{answer:?}");
    }
    // A client that leaves without its answer starts no further rendering.
    for _ in 0..200 {
        gateway.connect().stream().write_all(&request).unwrap();
    }
    assert_eq!(gateway.get("/metrics").status, 200);
    // The runtime keeps an idle thread for ten seconds.
    let threads = gateway.threads() - before;
    assert!(threads <= 4, "{threads} threads more than before");
}

#[test]
fn a_port_for_operators_that_is_taken_stops_the_start_with_one_line() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (status, output) = memory().env("ADMIN_PORT", &port).fails();
    let line =
        format!("cannot listen on ADMIN_HOST 127.0.0.1 ADMIN_PORT {port}: Address already in use");
    assert_eq!(status.code(), Some(1));
    assert!(output.starts_with(&line) && output.lines().count() == 1, "{output}");
}
