//! FORCE: units that are taken in every case, and the debt that they leave.

use std::time::Duration;

use crate::harness::{Client, NOON, Server};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// The most units that can be used at once.
const MOST: i64 = 4_294_967_295;

#[test]
fn a_bucket_in_debt_denies_until_enough_has_drained() {
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(client.decide("RATELIMIT.TB user 10 60 COST 4 FORCE"), [4, 10, 6, 0, 24_000]);
    assert_eq!(client.decide("RATELIMIT.TB user 10 60 COST 25 FORCE"), [25, 10, 0, 0, 174_000]);
    assert_eq!(client.decide("RATELIMIT.TB user 10 60"), [0, 10, 0, 120_000, 174_000]);
    assert_eq!(client.call::<i64>("PTTL user"), 183_000);
    server.clock().advance(120 * SECOND - MILLISECOND);
    assert_eq!(client.decide("RATELIMIT.TB user 10 60")[..4], [0, 10, 0, 1]);
    server.clock().advance(MILLISECOND);
    assert_eq!(client.decide("RATELIMIT.TB user 10 60"), [1, 10, 0, 0, 60_000]);
}

#[test]
fn a_log_in_debt_denies_until_enough_has_left() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.SW user 10 60 COST 8");
    server.clock().advance(20 * SECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 10 60 FORCE COST 15"), [15, 10, 0, 0, 60_000]);
    // 23 units are used; the first 8 leave after 40 seconds, which does not suffice.
    assert_eq!(client.decide("RATELIMIT.SW user 10 60"), [0, 10, 0, 60_000, 60_000]);
    server.clock().advance(60 * SECOND - MILLISECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 10 60"), [0, 10, 0, 1, 1]);
    server.clock().advance(MILLISECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 10 60"), [1, 10, 9, 0, 60_000]);
}

#[test]
fn the_debt_of_a_fixed_window_ends_with_the_window() {
    let server = Server::at(NOON);
    let mut client = server.client();
    server.clock().advance(15 * SECOND);
    assert_eq!(client.decide("RATELIMIT.FW user 10 60 COST 25 FORCE"), [25, 10, 0, 0, 45_000]);
    assert_eq!(client.decide("RATELIMIT.FW user 10 60"), [0, 10, 0, 45_000, 45_000]);
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 16"), 16);
    assert_eq!(client.decide("RATELIMIT.FW user 10 60"), [1, 10, 0, 0, 45_000]);
    server.clock().advance(45 * SECOND);
    assert_eq!(client.decide("RATELIMIT.FW user 10 60"), [1, 10, 9, 0, 60_000]);
}

#[test]
fn granted_is_what_was_added_up_to_the_most_units() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for kind in ["TB", "SW", "FW"] {
        let call = format!("RATELIMIT.{kind} {kind} 1 31622400 COST 1000000000 FORCE");
        let granted: Vec<i64> = (0..6).map(|_| client.decide(&call)[0]).collect();
        let last = MOST - 4 * 1_000_000_000;
        let billion = 1_000_000_000;
        assert_eq!(granted, [billion, billion, billion, billion, last, 0], "{kind}");
        let denied = client.decide(&call);
        assert_eq!(denied[..3], [0, 1, 0], "{kind}");
        assert!(denied[3] > 0, "{kind}: {denied:?}");
        let one = client.decide(&format!("RATELIMIT.{kind} {kind} 1 31622400"));
        assert_eq!(one[..3], [0, 1, 0], "{kind}");
        assert!(one[3] > 0 && one[3] < 1 << 53, "{kind}: {one:?}");
        let refund = format!("RATELIMIT.REFUND {kind} 1000000000");
        let returned: Vec<i64> = (0..6).map(|_| client.call(&refund)).collect();
        assert_eq!(returned, granted, "{kind}");
        assert_eq!(client.call::<i64>(&format!("EXISTS {kind}")), 0, "{kind}");
    }
}

/// The wait of a forced call is the time until the rest of its cost can be added.
#[test]
fn a_forced_call_at_the_most_units_waits_until_its_cost_fits() {
    const BILLION: u32 = 1_000_000_000;
    for (kind, window, wait) in [("TB", 1, 5_000), ("SW", 20, 20_000), ("FW", 20, 20_000)] {
        let server = Server::at(NOON);
        let mut client = server.client();
        let call = |client: &mut Client, cost: u32| {
            let limit = BILLION / 1_000;
            client.decide(&format!("RATELIMIT.{kind} key {limit} {window} COST {cost} FORCE"))
        };
        for _ in 0..5 {
            call(&mut client, BILLION);
        }
        // A bucket drains a million units a second; the other units end together.
        assert_eq!(call(&mut client, 5_000_000)[..4], [0, 1_000_000, 0, wait], "{kind}");
        server.clock().advance(Duration::from_millis(wait.unsigned_abs()) - MILLISECOND);
        let denied = call(&mut client, 5_000_000);
        assert!(denied[0] < 5_000_000 && denied[3] > 0, "{kind}: {denied:?}");
        server.clock().advance(Duration::from_millis(denied[3].unsigned_abs()));
        let rest = u32::try_from(5_000_000 - denied[0]).unwrap();
        let taken = call(&mut client, rest);
        assert_eq!((taken[0], taken[3]), (i64::from(rest), 0), "{kind}");
    }
}

#[test]
fn debt_is_the_same_on_a_replica_after_a_restart_and_in_a_copy() {
    let mut primary = Server::builder().clock(NOON).config("appendonly", "yes").start();
    let replica = Server::builder()
        .clock_of(&primary)
        .config("propagation-error-behavior", "panic")
        .replica_of(&primary)
        .start();
    let mut client = primary.client();
    for kind in ["TB", "SW", "FW"] {
        for cost in [1, 1_000_000_000, 1_000_000_000, 7] {
            client.decide(&format!("RATELIMIT.{kind} {kind} 5 3600 COST {cost} FORCE"));
            primary.clock().advance(3 * MILLISECOND);
        }
        client.call::<i64>(&format!("COPY {kind} copy:{kind}"));
        let dumped: Vec<u8> = client.call(&format!("DUMP {kind}"));
        let restored = format!("restored:{kind}");
        client.send::<()>(&[b"RESTORE", restored.as_bytes(), b"100000", &dumped]);
    }
    let expected = digests(&mut client);
    replica.catch_up_with(&primary);
    assert_eq!(digests(&mut replica.client()), expected);
    for reload in ["DEBUG RELOAD", "DEBUG LOADAOF"] {
        client.call::<()>(reload);
        assert_eq!(digests(&mut client), expected, "{reload}");
    }
    client.call::<String>("BGREWRITEAOF");
    primary.restart();
    assert_eq!(digests(&mut primary.client()), expected);
    let answer = primary.client().decide("RATELIMIT.FW FW 5 3600");
    assert_eq!(answer[..3], [0, 5, 0]);
}

/// Returns the digests of a state of each kind, of its copy and of what was restored.
fn digests(client: &mut Client) -> Vec<String> {
    let keys = ["TB", "SW", "FW"].map(|kind| format!("{kind} copy:{kind} restored:{kind}"));
    client.call(&format!("DEBUG DIGEST-VALUE {}", keys.join(" ")))
}

#[test]
fn a_log_with_its_most_entries_gets_no_other_one() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.call::<()>("CONFIG SET ratelimit.sliding-window-max-limit 3");
    let call = "RATELIMIT.SW log 1 31622400 FORCE";
    client.decide(call);
    let one: i64 = client.call("MEMORY USAGE log");
    for _ in 0..10_000 {
        server.clock().advance(2 * MILLISECOND);
        client.decide(call);
    }
    let many: i64 = client.call("MEMORY USAGE log");
    assert!(many <= one + 200, "{many} bytes for three entries, {one} for one");
    // The newest entry counts from now.
    assert_eq!(client.decide(call)[4], 31_622_400_000);
    let peek = "RATELIMIT.PEEK log SW 1 31622400";
    assert_eq!(client.decide(peek), [0, 1, 0, 31_622_400_000, 31_622_400_000]);
    // The other two entries have one unit each.
    server.clock().advance(Duration::from_secs(31_622_400) - MILLISECOND);
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND log 1000000"), 10_000);
}

#[test]
fn a_forced_call_is_counted_and_published_as_a_grant() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for kind in ["TB", "SW", "FW"] {
        client.decide(&format!("RATELIMIT.{kind} {kind} 5 60 COST 7 FORCE"));
    }
    for name in ["token_bucket", "sliding_window", "fixed_window"] {
        for (count, value) in [("granted", "1"), ("granted_units", "7"), ("denied", "0")] {
            let field = format!("ratelimit_{name}_{count}");
            assert_eq!(client.info("ratelimit", &field), value, "{field}");
        }
    }
}
