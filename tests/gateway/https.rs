//! The gateway with a certificate.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{Authority, Certificate, Gateway, GatewayBuilder, eventually, kept_request};

/// Addresses on which every gateway of a test listens.
const HOSTS: [&str; 1] = ["127.0.0.1"];

fn start(authority: &Authority, files: &Certificate) -> Gateway {
    https(authority, files).start()
}

fn https(authority: &Authority, files: &Certificate) -> GatewayBuilder {
    Gateway::builder().env("REDIS_URL", "memory://").https(authority, files)
}

fn probe() -> Vec<u8> {
    kept_request("GET", "/health/live", &[], "")
}

/// Returns the certificate that the gateway sends on a new connection.
fn certificate(gateway: &Gateway) -> Vec<u8> {
    gateway.connect_tls().1
}

#[test]
fn checks_are_answered_over_tls() {
    let authority = Authority::new();
    let gateway = start(&authority, &authority.server("gateway", &HOSTS));
    let body = r#"{"identifier": "user", "limit": 5}"#;
    let answer = gateway.post("/rate-limit/check", body);
    assert_eq!((answer.status, answer.header("X-RateLimit-Remaining")), (200, Some("4")));

    let (mut kept, _) = gateway.connect_tls();
    assert_eq!(kept.stream().conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    for remaining in ["3", "2"] {
        let check = kept_request("POST", "/rate-limit/check", &[], body);
        let answer = kept.exchange(&check).unwrap();
        assert_eq!(answer.header("X-RateLimit-Remaining"), Some(remaining));
    }
}

#[test]
fn a_new_certificate_is_sent_on_new_connections_and_disturbs_no_old_one() {
    let authority = Authority::new();
    let files = authority.server("gateway", &HOSTS);
    let gateway = start(&authority, &files);
    let (mut old, first) = gateway.connect_tls();
    assert_eq!(old.exchange(&probe()).unwrap().status, 200);

    authority.server("renewed", &HOSTS).replace(&files);
    let (mut new, _) = eventually("the new certificate is shown", || {
        Some(gateway.connect_tls()).filter(|(_, certificate)| *certificate != first)
    });
    for connection in [&mut old, &mut new] {
        assert_eq!(connection.exchange(&probe()).unwrap().status, 200);
    }
}

#[test]
fn a_certificate_without_its_key_is_not_taken_up() {
    let authority = Authority::new();
    let files = authority.server("gateway", &HOSTS);
    let gateway = start(&authority, &files);
    let first = certificate(&gateway);

    let other = authority.server("other", &HOSTS);
    fs::copy(&other.certificate, &files.certificate).unwrap();
    gateway.log_with("the key is not that of the certificate");
    assert_eq!(certificate(&gateway), first);
    fs::copy(&other.key, &files.key).unwrap();
    eventually("the pair is taken up", || (certificate(&gateway) != first).then_some(()));
}

#[test]
fn a_connection_without_a_handshake_is_closed() {
    let authority = Authority::new();
    let settings = https(&authority, &authority.server("gateway", &HOSTS));
    let gateway = settings.env("HEADER_TIMEOUT_MS", "1000").start();

    let mut plain = TcpStream::connect(gateway.address()).unwrap();
    plain.write_all(&probe()).unwrap();
    let mut answer = vec![];
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{}", answer.escape_ascii());
    eventually("the failure is counted", || {
        (gateway.metric("http_tls_handshakes_failed_total") == 1.0).then_some(())
    });

    // On a busy machine the connections of the harness can have been slow as well.
    let given_up = || gateway.metric(r#"http_connections_slow_total{part="handshake"}"#);
    let before = given_up();
    // The first client sends nothing, and the second client begins a handshake and stops.
    for begin in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut slow = TcpStream::connect(gateway.address()).unwrap();
        slow.write_all(begin).unwrap();
        let _ = slow.read_to_end(&mut vec![]);
    }
    assert!(given_up() >= before + 2.0);
    assert_eq!(gateway.get("/health/live").status, 200);
}

#[test]
fn a_connection_over_the_limit_is_closed_and_harms_no_other() {
    let authority = Authority::new();
    let settings = https(&authority, &authority.server("gateway", &HOSTS));
    let gateway = settings.env("MAX_CONNECTIONS", "2").start();
    // The connections of the harness may still be open.
    let mut kept = [gateway.connect_tls().0, gateway.connect_tls().0];
    for connection in &mut kept {
        assert_eq!(connection.exchange(&probe()).unwrap().status, 200);
    }
    let mut refused = TcpStream::connect(gateway.address()).unwrap();
    assert_eq!(refused.read_to_end(&mut vec![]).unwrap(), 0);
    for connection in &mut kept {
        assert_eq!(connection.exchange(&probe()).unwrap().status, 200);
    }
}

#[test]
fn files_that_cannot_be_used_stop_the_start_with_one_line() {
    let authority = Authority::new();
    let files = authority.server("gateway", &HOSTS);
    let other = authority.server("other", &HOSTS);
    let [certificate, key, other] = [&files.certificate, &files.key, &other.key]
        .map(|path| path.to_string_lossy().into_owned());
    let missing = format!("{certificate}.old");
    for (certificate, key, fault) in [
        (&missing, &key, format!("{missing}: No such file or directory (os error 2)")),
        (
            &certificate,
            &other,
            format!("{certificate}, {other}: the key is not that of the certificate"),
        ),
        (&key, &key, format!("{key}, {key}: the first file is not a certificate as PEM")),
        (
            &certificate,
            &certificate,
            format!("{certificate}, {certificate}: the second file is not a private key as PEM"),
        ),
    ] {
        for words in [&[][..], &["--check-config"]] {
            let settings = Gateway::builder().env("TLS_CERT_FILE", certificate);
            let (status, output) = settings.env("TLS_KEY_FILE", key).answers(words);
            let line = format!("TLS_CERT_FILE, TLS_KEY_FILE: {fault}\n");
            assert_eq!((status.code(), output), (Some(2), line), "{words:?}");
        }
    }
}

#[test]
fn a_health_check_takes_any_certificate() {
    let authority = Authority::new();
    // The certificate is for a name other than the address of the health check.
    let files = authority.server("gateway", &["gateway.example", "127.0.0.1"]);
    let gateway = start(&authority, &files);
    let port = gateway.address().port().to_string();
    let settings = https(&authority, &files).env("HOST", "localhost").env("PORT", &port);
    let (status, output) = settings.answers(&["healthcheck"]);
    assert_eq!((status.code(), output.as_str()), (Some(0), ""));
}
