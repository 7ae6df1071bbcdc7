//! `INFO ratelimit`: the events that it counts, and the events that it does not count.

use crate::harness::{Client, NOON, Server, eventually};

const BUCKET: &str = "token_bucket";
const LOG: &str = "sliding_window";
const WINDOW: &str = "fixed_window";

/// The fields of one algorithm.
const FIELDS: [&str; 7] =
    ["calls", "granted", "denied", "granted_units", "peeks", "refunds", "refunded_units"];

#[test]
fn grants_denials_peeks_and_refunds_are_counted_for_each_algorithm() {
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(counts(&mut client, BUCKET), [0; 7]);
    assert_eq!(counts(&mut client, LOG), [0; 7]);
    for (name, algorithm) in [("TB", BUCKET), ("SW", LOG), ("FW", WINDOW)] {
        for call in [
            format!("RATELIMIT.{name} {name} 10 60 COST 7"),
            format!("RATELIMIT.{name} {name} 10 60 COST 4"),
            format!("RATELIMIT.{name} {name} 10 60 COST 4 PARTIAL"),
            format!("RATELIMIT.{name} {name} 10 60 COST 4 PARTIAL"),
            format!("RATELIMIT.{name} missing 10 60 COST 11"),
            format!("RATELIMIT.PEEK {name} {name} 10 60"),
        ] {
            client.decide(&call);
        }
        client.call::<i64>(&format!("RATELIMIT.REFUND {name} 3"));
        client.call::<i64>(&format!("RATELIMIT.REFUND {name} 100"));
        assert_eq!(counts(&mut client, algorithm), [5, 2, 3, 10, 1, 2, 10], "{algorithm}");
    }
    assert_eq!(counts(&mut client, BUCKET), [5, 2, 3, 10, 1, 2, 10], "a log is no bucket");
}

#[test]
fn each_key_of_several_at_once_is_counted() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.call::<redis::Value>("RATELIMIT.MULTI 2 a b TB 10 60 COST 4 SW 10 60 COST 5");
    assert_eq!(counts(&mut client, BUCKET)[..4], [1, 1, 0, 4]);
    assert_eq!(counts(&mut client, LOG)[..4], [1, 1, 0, 5]);
    client.call::<redis::Value>("RATELIMIT.MULTI 2 a b TB 10 60 COST 6 SW 10 60 COST 6");
    assert_eq!(counts(&mut client, BUCKET), [1, 1, 0, 4, 0, 0, 0], "it would have granted");
    assert_eq!(counts(&mut client, LOG), [2, 1, 1, 5, 0, 0, 0]);
}

#[test]
fn refused_calls_and_refunds_of_nothing_are_not_counted() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.call::<()>("SET string value");
    for call in [
        "RATELIMIT.TB key 0 60",
        "RATELIMIT.TB string 10 60",
        "RATELIMIT.SW string 10 60",
        "RATELIMIT.PEEK string TB 10 60",
        "RATELIMIT.PEEK key XX 10 60",
        "RATELIMIT.REFUND string 1",
        "RATELIMIT.REFUND key 0",
    ] {
        client.refusal(call);
    }
    client.call::<i64>("RATELIMIT.REFUND missing 1");
    client.call::<i64>("RATELIMIT.RESET missing");
    assert_eq!(counts(&mut client, BUCKET), [0; 7]);
    assert_eq!(counts(&mut client, LOG), [0; 7]);
}

#[test]
fn what_a_replica_applies_is_not_counted_again() {
    let primary = Server::at(NOON);
    let replica = Server::builder().clock_of(&primary).replica_of(&primary).start();
    let mut client = replica.client();
    primary.client().decide("RATELIMIT.TB key 10 60 COST 7");
    eventually("the replica has the key", || (client.call::<i64>("EXISTS key") == 1).then_some(()));
    assert_eq!(counts(&mut client, BUCKET), [0; 7]);
    client.decide("RATELIMIT.PEEK key TB 10 60");
    assert_eq!(counts(&mut client, BUCKET), [0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn the_section_is_shown_when_it_is_asked_for() {
    let server = Server::start();
    let mut client = server.client();
    for section in ["ratelimit", "everything", "modules"] {
        let text: String = client.call(&format!("INFO {section}"));
        assert_eq!(text.matches("# ratelimit\r\n").count(), 1, "{section}: {text}");
        assert_eq!(text.matches("ratelimit_token_bucket_").count(), FIELDS.len(), "{section}");
        assert_eq!(text.matches("ratelimit_sliding_window_").count(), FIELDS.len(), "{section}");
        assert_eq!(text.matches("ratelimit_fixed_window_").count(), FIELDS.len(), "{section}");
        assert!(text.contains("ratelimit_replication_failures:0\r\n"), "{section}: {text}");
    }
    for section in ["", "all", "replication", "commandstats"] {
        let text: String = client.call(&format!("INFO {section}"));
        assert!(!text.contains("# ratelimit\r\n"), "{section}: {text}");
    }
    let text: String = client.call("INFO ratelimit");
    let names = text.lines().skip(1).all(|line| line.starts_with("ratelimit_"));
    assert!(names, "{text}");
}

#[test]
fn the_keys_that_are_known_to_be_denied_are_counted_over_all_databases() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let tracked = |client: &mut Client| client.info("ratelimit", "ratelimit_top_keys_tracked");
    client.decide("RATELIMIT.TB a 1 60 COST 2");
    client.decide("RATELIMIT.SW b 1 60 COST 2");
    client.decide("RATELIMIT.SW b 1 60 COST 2");
    client.call::<()>("SELECT 1");
    client.decide("RATELIMIT.SW b 1 60 COST 2");
    assert_eq!(tracked(&mut client), "3");
    server.clock().advance(std::time::Duration::from_secs(60));
    assert_eq!(tracked(&mut client), "1", "those with one denial have left");
}

#[test]
fn resetting_the_servers_statistics_leaves_the_counts() {
    let server = Server::start();
    let mut client = server.client();
    client.decide("RATELIMIT.TB key 10 60");
    client.call::<()>("CONFIG RESETSTAT");
    assert_eq!(counts(&mut client, BUCKET)[0], 1);
}

#[test]
fn a_crash_report_shows_the_counts() {
    // The memory test at the end of a crash report overwrites all memory for a moment: a server
    // with the malloc of libc may die before the report ends.
    let server = Server::builder().config("crash-memcheck-enabled", "no").start();
    server.client().decide("RATELIMIT.TB key 10 60 COST 7");
    // The command kills the server, so there is no reply.
    let _ = server.client().reply(&[b"DEBUG", b"SEGFAULT"]);
    eventually("the report is written", || server.log().contains("MODULES INFO").then_some(()));
    let lines = ["# ratelimit", "ratelimit_token_bucket_granted_units:7"];
    for line in lines {
        eventually(line, || server.log().contains(line).then_some(()));
    }
    eventually("the report ends", || server.log().contains("BUG REPORT END").then_some(()));
}

/// The counts of one algorithm, in the order of the fields.
fn counts(client: &mut Client, algorithm: &str) -> [u64; 7] {
    FIELDS.map(|field| {
        let value = client.info("ratelimit", &format!("ratelimit_{algorithm}_{field}"));
        value.parse().unwrap()
    })
}
