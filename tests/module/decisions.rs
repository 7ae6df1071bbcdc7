//! The behaviour that the commands that decide have in common, one command for each algorithm. The
//! replies are those of a live server whose clock the test sets.

use std::time::Duration;

use limiter::Algorithm;
use redis::Value;

use crate::harness::{Client, NOON, Server, eventually};

const MILLISECOND: Duration = Duration::from_millis(1);

/// Runs `test` for each algorithm, with the word of the algorithm, a server and a client.
fn for_each_algorithm(test: impl Fn(&str, &Server, &mut Client)) {
    for word in Algorithm::ALL.map(Algorithm::word) {
        let server = Server::at(NOON);
        test(word, &server, &mut server.client());
    }
}

#[test]
fn a_cost_above_the_limit_is_never_granted() {
    for_each_algorithm(|word, _, client| {
        let call = format!("RATELIMIT.{word} user 10 60 COST 11");
        assert_eq!(client.decide(&call), [0, 10, 10, -1, 0], "{call}");
        assert_eq!(client.call::<i64>("EXISTS user"), 0, "{call}");
    });
}

#[test]
fn partial_never_gets_more_than_the_limit() {
    for_each_algorithm(|word, _, client| {
        let call = format!("RATELIMIT.{word} user 10 60 COST 25 PARTIAL");
        assert_eq!(client.decide(&call), [10, 10, 0, -1, 60_000], "{call}");
    });
}

#[test]
fn options_come_in_any_order_and_case() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for (command, options, reset_after) in [
        ("ratelimit.tb", "BURST 4 COST 3 PARTIAL", 18_000),
        ("ratelimit.tb", "PARTIAL COST 3 BURST 4", 18_000),
        ("ratelimit.tb", "cost 3 partial burst 4", 18_000),
        ("RateLimit.tb", "Cost 3 Burst 4", 18_000),
        ("ratelimit.sw", "COST 3 PARTIAL", 60_000),
        ("ratelimit.sw", "partial cost 3", 60_000),
        ("RateLimit.sw", "cOsT 3", 60_000),
    ] {
        let limit = if command.ends_with("tb") { 10 } else { 4 };
        let call = format!("{command} user {limit} 60 {options}");
        assert_eq!(client.decide(&call), [3, 4, 1, 0, reset_after], "{call}");
        client.call::<i64>("RATELIMIT.RESET user");
    }
}

#[test]
fn a_peek_answers_what_would_happen_and_takes_nothing() {
    for (word, wait, reset_after, smaller) in
        [("TB", 6_000, 36_000, "TB 10 60 BURST 5"), ("SW", 60_000, 60_000, "SW 5 60")]
    {
        let server = Server::at(NOON);
        let mut client = server.client();
        let peek = format!("RATELIMIT.PEEK user {word} 10 60");
        assert_eq!(client.decide(&peek), [1, 10, 10, 0, 0], "{peek}");
        client.decide(&format!("RATELIMIT.{word} user 10 60 COST 6"));
        for peek in [&peek, &peek.replace(word, &word.to_lowercase())] {
            let reply = client.decide(&format!("{peek} COST 4"));
            assert_eq!(reply, [4, 10, 4, 0, reset_after], "{peek}");
            let reply = client.decide(&format!("{peek} COST 5"));
            assert_eq!(reply, [0, 10, 4, wait, reset_after], "{peek}");
            let reply = client.decide(&format!("RATELIMIT.PEEK user {smaller} COST 6"));
            assert_eq!(reply, [0, 5, 0, -1, reset_after], "{smaller}");
        }
    }
}

#[test]
fn a_refund_of_everything_removes_the_key() {
    for_each_algorithm(|word, _, client| {
        assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 5"), 0, "{word}");
        for amount in [3, 7, 1_000_000_000] {
            client.decide(&format!("RATELIMIT.{word} user 10 60 COST 3"));
            assert_eq!(client.call::<i64>(&format!("RATELIMIT.REFUND user {amount}")), 3, "{word}");
            assert_eq!(client.call::<i64>("EXISTS user"), 0, "{word}");
        }
    });
}

#[test]
fn a_reset_makes_the_quota_whole_and_counts_the_keys() {
    for_each_algorithm(|word, _, client| {
        for other in Algorithm::ALL.map(Algorithm::word) {
            client.decide(&format!("RATELIMIT.{word} a 1 60"));
            client.decide(&format!("RATELIMIT.{other} b 1 60"));
            let call = "RATELIMIT.RESET a missing b a";
            assert_eq!(client.call::<i64>(call), 2, "{word}, {other}");
        }
        let first = client.decide(&format!("RATELIMIT.{word} a 1 60"));
        assert_eq!(first, [1, 1, 0, 0, 60_000], "{word}");
    });
}

#[test]
fn units_in_use_carry_over_to_another_limit() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for (word, resets_after) in [("TB", [6_000, 6_060]), ("SW", [60_000, 60_000])] {
        client.decide(&format!("RATELIMIT.{word} user 100 60 COST 100"));
        let peek = client.decide(&format!("RATELIMIT.PEEK user {word} 1000 60"));
        assert_eq!(peek, [1, 1_000, 900, 0, resets_after[0]], "{word}");
        let take = client.decide(&format!("RATELIMIT.{word} user 1000 60"));
        assert_eq!(take, [1, 1_000, 899, 0, resets_after[1]], "{word}");
        client.call::<i64>("RATELIMIT.RESET user");
    }
}

#[test]
fn a_key_expires_a_second_after_its_quota_is_whole() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for (call, reset_after_ms) in [
        ("TB 100 60", 600),
        ("TB 3 1", 334),
        ("TB 1 0.001", 1),
        ("TB 1000000000 0.001", 1),
        ("TB 1000000000 0.001 COST 1000000000", 1),
        ("TB 1 31622400", 31_622_400_000),
        ("TB 7 31622400", 4_517_485_715),
        ("TB 1 60 BURST 1000000000 COST 1000000000", 60_000_000_000_000),
        ("SW 100 60", 60_000),
        ("SW 1 1", 1_000),
        ("SW 1 0.001", 1),
        ("SW 1000000 0.25 COST 1000000", 250),
        ("SW 1 31622400", 31_622_400_000),
    ] {
        let (word, parameters) = call.split_once(' ').unwrap();
        let reply = client.decide(&format!("RATELIMIT.{word} user {parameters}"));
        assert_eq!(reply[4], reset_after_ms, "{call}");
        assert_eq!(client.call::<i64>("PTTL user"), reset_after_ms + 1_000, "{call}");
        server.clock().advance(Duration::from_millis(reset_after_ms.unsigned_abs()));
        let peek = client.decide(&format!("RATELIMIT.PEEK user {call}"));
        assert_eq!((peek[2], peek[4]), (peek[1], 0), "whole after {call}");
        // The server removes a key when its expiry has passed.
        server.clock().advance(Duration::from_secs(1) + MILLISECOND);
        assert_eq!(client.call::<i64>("EXISTS user"), 0, "gone after {call}");
    }
}

#[test]
fn a_bucket_that_is_whole_before_each_call_stays_in_its_key() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB user 100 60");
    for _ in 0..10 {
        server.clock().advance(Duration::from_secs(1));
        assert_eq!(client.decide("RATELIMIT.TB user 100 60"), [1, 100, 99, 0, 600]);
    }
    assert_eq!(client.info("stats", "expired_keys"), "0", "no deletion to replicate");
}

#[test]
fn a_state_that_has_ended_is_missing_for_every_command() {
    let server = Server::at(NOON + 700);
    let mut client = server.client();
    for end in Algorithm::ALL.map(|end| format!("RATELIMIT.{} user 1 0.05 COST 1", end.word())) {
        for (call, answer) in [
            ("RATELIMIT.RESET user", "0"),
            ("RATELIMIT.REFUND user 1", "0"),
            ("RATELIMIT.PEEK user TB 1 60", "[1, 1, 1, 0, 0]"),
            ("RATELIMIT.PEEK user SW 1 60", "[1, 1, 1, 0, 0]"),
            ("RATELIMIT.TB user 1 60", "[1, 1, 0, 0, 60000]"),
            ("RATELIMIT.SW user 1 60", "[1, 1, 0, 0, 60000]"),
            ("RATELIMIT.MULTI 1 user SW 1 60", "[1, [1, 1, 0, 0, 60000]]"),
        ] {
            client.call::<i64>("RATELIMIT.RESET user");
            server.clock().set(NOON + 700);
            assert_eq!(client.decide(&end)[0], 1);
            server.clock().set(NOON + 50_700);
            assert_eq!(client.call::<i64>("EXISTS user"), 1, "the server has not removed the key");
            let found = client.call::<Value>(call);
            assert_eq!(integers(&found), answer, "{call} after {end}");
        }
    }
}

/// Writes a reply of integers and arrays.
fn integers(reply: &Value) -> String {
    match reply {
        Value::Int(integer) => integer.to_string(),
        Value::Array(replies) => {
            format!("[{}]", replies.iter().map(integers).collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_key_without_calls_is_kept_until_its_quota_is_whole() {
    let (fixed, others): (Vec<_>, Vec<_>) =
        Algorithm::ALL.into_iter().partition(|&algorithm| algorithm == Algorithm::FixedWindow);
    keys_are_kept_for_50_ms(&others, NOON + 700);
    // A fixed window of 50 ms begins at each 50 ms of the clock.
    keys_are_kept_for_50_ms(&fixed, NOON);
}

/// Checks that calls at `start` are denied 49.999 ms later, although the server removes keys that
/// have expired.
fn keys_are_kept_for_50_ms(algorithms: &[Algorithm], start: u64) {
    let server = Server::at(start);
    let mut client = server.client();
    let words = algorithms.iter().map(|algorithm| algorithm.word());
    let calls: Vec<_> = words.map(|word| format!("RATELIMIT.{word} {word} 1 0.05")).collect();
    for call in &calls {
        client.decide(call);
    }
    client.call::<()>(&format!("SET witness x PXAT {}", NOON / 1_000 + 40));
    server.clock().set(start + 49_999);
    // The sweep that removes the witness also meets the other keys.
    eventually("the server has removed what had expired", || {
        (client.call::<usize>("DBSIZE") <= calls.len()).then_some(())
    });
    for call in &calls {
        assert_eq!(client.decide(call), [0, 1, 0, 1, 1], "{call}");
    }
}

#[test]
fn a_hammered_key_recovers_within_two_windows_of_the_clock_being_right_again() {
    const DAY: u64 = 86_400;
    for_each_algorithm(|word, server, client| {
        for ahead_secs in [1, 59, 60, 61, 119, 120, 121, 3_600, DAY, 3_650 * DAY] {
            server.clock().set(NOON + ahead_secs * 1_000_000);
            client.decide(&format!("RATELIMIT.{word} user 10 60 COST 10"));
            let granted = (0..=120).any(|second| {
                server.clock().set(NOON + second * 1_000_000);
                client.decide(&format!("RATELIMIT.{word} user 10 60"))[0] == 1
            });
            assert!(granted, "{word}, {ahead_secs} s ahead");
            client.call::<i64>("RATELIMIT.RESET user");
        }
    });
}
