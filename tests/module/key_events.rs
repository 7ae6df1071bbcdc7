//! Key events: a server that publishes the events of modules publishes grants and refunds.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{NOON, Server, exchange};

/// Calls, and the events of the module and of the server that each of them publishes.
const CALLS: [(&str, &[&str]); 26] = [
    ("RATELIMIT.TB {a}bucket 10 60 COST 4", &["ratelimit.grant {a}bucket"]),
    ("RATELIMIT.TB {a}bucket 10 60 COST 9 PARTIAL", &["ratelimit.grant {a}bucket"]),
    ("RATELIMIT.TB {a}bucket 10 60", &[]),
    ("RATELIMIT.PEEK {a}bucket TB 10 60", &[]),
    ("RATELIMIT.REFUND {a}bucket 2", &["ratelimit.refund {a}bucket"]),
    ("RATELIMIT.SW {a}log 10 60 COST 4", &["ratelimit.grant {a}log"]),
    ("RATELIMIT.REFUND {a}log 2", &["ratelimit.refund {a}log"]),
    (
        "RATELIMIT.MULTI 2 {a}bucket {a}log TB 10 60 SW 10 60",
        &["ratelimit.grant {a}bucket", "ratelimit.grant {a}log"],
    ),
    ("RATELIMIT.MULTI 2 {a}bucket {a}log TB 10 60 SW 10 60 COST 9", &[]),
    ("RATELIMIT.FW {a}window 10 DAY COST 4", &["ratelimit.grant {a}window"]),
    ("RATELIMIT.FW {a}window 10 DAY COST 9 FORCE", &["ratelimit.grant {a}window"]),
    ("RATELIMIT.FW {a}window 10 DAY", &[]),
    ("RATELIMIT.REFUND {a}window 2", &["ratelimit.refund {a}window"]),
    ("RATELIMIT.REFUND {a}log 9", &["ratelimit.refund {a}log", "del {a}log"]),
    ("RATELIMIT.RESET {a}bucket missing", &["del {a}bucket"]),
    ("RATELIMIT.REFUND missing 1", &[]),
    ("RATELIMIT.ACQUIRE {a}jobs 2 60 a", &["ratelimit.acquire {a}jobs"]),
    ("RATELIMIT.ACQUIRE {a}jobs 2 60 a", &["ratelimit.acquire {a}jobs"]),
    ("RATELIMIT.ACQUIRE {a}jobs 2 60 b", &["ratelimit.acquire {a}jobs"]),
    ("RATELIMIT.ACQUIRE {a}jobs 2 60 c", &[]),
    ("RATELIMIT.RENEW {a}jobs 90 a b c", &["ratelimit.renew {a}jobs"]),
    ("RATELIMIT.RENEW {a}jobs 1 a c", &[]),
    ("RATELIMIT.RELEASE {a}jobs a c", &["ratelimit.release {a}jobs"]),
    ("RATELIMIT.RELEASE {a}jobs a", &[]),
    ("RATELIMIT.HOLDERS {a}jobs", &[]),
    ("RATELIMIT.RELEASE {a}jobs b", &["ratelimit.release {a}jobs", "del {a}jobs"]),
];

/// Starts a server that publishes these classes, and a subscriber to all events.
fn start(classes: &str) -> (Server, TcpStream) {
    let server = Server::builder().clock(NOON).config("notify-keyspace-events", classes).start();
    let subscriber = subscriber(&server);
    (server, subscriber)
}

pub(super) fn subscriber(server: &Server) -> TcpStream {
    let mut subscriber = server.socket();
    subscriber.write_all(b"HELLO 3\r\nPSUBSCRIBE __keyevent@0__:*\r\n").unwrap();
    exchange(&mut subscriber, "");
    subscriber
}

/// Returns the events since the last call, each followed by its key.
pub(super) fn events(subscriber: &mut TcpStream) -> Vec<String> {
    let received = exchange(subscriber, "");
    let lines: Vec<_> = received.lines().collect();
    let event = |lines: &[&str]| {
        let channel = lines[4].strip_prefix("__keyevent@0__:").expect("a channel of events");
        format!("{channel} {}", lines[6])
    };
    lines.windows(7).filter(|lines| lines[0] == "pmessage").map(event).collect()
}

#[test]
fn grants_and_refunds_are_published_with_the_classes_that_a_server_publishes() {
    for (classes, own, deletions) in
        [("EA", true, true), ("Ed", true, false), ("Eg", false, true), ("Kd", false, false)]
    {
        let (server, mut subscriber) = start(classes);
        let mut client = server.client();
        for (call, published) in CALLS {
            server.clock().advance(Duration::from_micros(1_500));
            client.call::<redis::Value>(call);
            let is_published =
                |event: &&str| if event.starts_with("del") { deletions } else { own };
            let expected: Vec<_> = published.iter().copied().filter(is_published).collect();
            assert_eq!(events(&mut subscriber), expected, "{call} with {classes}");
        }
    }
}

#[test]
fn nothing_is_published_for_a_key_that_is_missing() {
    let (server, mut subscriber) = start("EAdm");
    let mut client = server.client();
    // Redis 7.0 does not have the flag with which a module reads a key silently.
    let is_redis_7_0 = client.info("server", "redis_version").starts_with("7.0.");
    for (call, reads) in [
        ("RATELIMIT.PEEK missing TB 10 60", true),
        ("RATELIMIT.TB missing 10 60 COST 11", false),
        ("RATELIMIT.SW missing 10 60 COST 11", false),
        ("RATELIMIT.REFUND missing 1", false),
        ("RATELIMIT.RESET missing", false),
        ("RATELIMIT.ACQUIRE missing 1 60 a COST 2", false),
        ("RATELIMIT.RENEW missing 60 a", false),
        ("RATELIMIT.RELEASE missing a", false),
        ("RATELIMIT.HOLDERS missing", true),
    ] {
        client.call::<redis::Value>(call);
        let expected: &[_] = if reads && is_redis_7_0 { &["keymiss missing"] } else { &[] };
        assert_eq!(events(&mut subscriber), expected, "{call}");
    }
}

#[test]
fn a_replica_publishes_what_it_applies() {
    let primary = Server::at(NOON);
    let replica = Server::builder().config("notify-keyspace-events", "EA").start();
    replica.follow(&primary);
    let mut subscriber = subscriber(&replica);
    let mut client = primary.client();
    for (call, published) in CALLS {
        primary.clock().advance(Duration::from_micros(1_500));
        client.call::<redis::Value>(call);
        replica.catch_up_with(&primary);
        // A refund of all units arrives as a deletion.
        let deleted = published.iter().any(|event| event.starts_with("del"));
        let arrives = |event: &&str| !deleted || event.starts_with("del");
        let expected: Vec<_> = published.iter().copied().filter(arrives).collect();
        assert_eq!(events(&mut subscriber), expected, "{call}");
    }
}

#[test]
fn a_refund_is_distinguished_from_a_grant_at_the_same_time() {
    let primary = Server::at(NOON);
    let replica = Server::builder().config("notify-keyspace-events", "Ed").start();
    replica.follow(&primary);
    let mut subscriber = subscriber(&replica);
    let mut client = primary.client();
    for (call, event) in [
        ("RATELIMIT.TB user 10 60 COST 8", "ratelimit.grant user"),
        ("RATELIMIT.REFUND user 2", "ratelimit.refund user"),
        ("RATELIMIT.TB user 10 60", "ratelimit.grant user"),
        ("RATELIMIT.TB user 1000 1", "ratelimit.grant user"),
        ("RATELIMIT.REFUND user 2", "ratelimit.refund user"),
    ] {
        client.call::<redis::Value>(call);
        replica.catch_up_with(&primary);
        assert_eq!(events(&mut subscriber), [event], "{call}");
    }
}

#[test]
fn a_copy_of_a_state_publishes_no_grant() {
    let (server, mut subscriber) = start("EA");
    let mut client = server.client();
    client.decide("RATELIMIT.TB user 10 60");
    client.call::<i64>("COPY user other");
    let dump: Vec<u8> = client.call("DUMP user");
    client.send::<()>(&[b"RESTORE", b"third", b"0", &dump]);
    let published = ["ratelimit.grant user", "copy_to other", "restore third"];
    assert_eq!(events(&mut subscriber), published);
}
