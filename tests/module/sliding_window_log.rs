//! RATELIMIT.SW and the other commands on logs: exact replies of a live server whose clock the test
//! sets.

use std::time::Duration;

use crate::harness::{NOON, Server};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn a_grant_answers_what_is_left_and_when_all_is_back() {
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(client.decide("RATELIMIT.SW user 100 60"), [1, 100, 99, 0, 60_000]);
    server.clock().advance(10 * SECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 100 60 COST 9"), [9, 100, 90, 0, 60_000]);
    server.clock().advance(50 * SECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 100 60"), [1, 100, 90, 0, 60_000]);
}

#[test]
fn a_denial_takes_nothing_and_answers_when_the_oldest_have_left() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.SW user 2 60");
    server.clock().advance(10 * SECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 2 60"), [1, 2, 0, 0, 60_000]);
    server.clock().advance(10 * SECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 2 60"), [0, 2, 0, 40_000, 50_000]);
    assert_eq!(client.decide("RATELIMIT.SW user 2 60 COST 2"), [0, 2, 0, 50_000, 50_000]);
}

#[test]
fn a_grant_counts_until_just_before_a_window_has_passed() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.SW user 1 60");
    server.clock().set(NOON + 59_999_999);
    assert_eq!(client.decide("RATELIMIT.SW user 1 60"), [0, 1, 0, 1, 1]);
    server.clock().set(NOON + 60_000_000);
    assert_eq!(client.decide("RATELIMIT.SW user 1 60"), [1, 1, 0, 0, 60_000]);
}

#[test]
fn no_interval_as_long_as_the_window_holds_more_than_the_limit() {
    const LIMIT: i64 = 7;
    const WINDOW_MICROS: u64 = 50_000;
    let server = Server::at(NOON);
    let mut client = server.client();
    let mut grants = vec![];
    for step in 0..5_000_u64 {
        let cost = 1 + step % 3;
        let [granted, ..] = client.decide(&format!("RATELIMIT.SW user {LIMIT} 0.05 COST {cost}"));
        grants.push((server.clock().micros(), granted));
        server.clock().advance(Duration::from_micros(137));
    }
    for (index, &(start, _)) in grants.iter().enumerate() {
        let within = grants[index..].iter().take_while(|(time, _)| *time < start + WINDOW_MICROS);
        let sum: i64 = within.map(|(_, granted)| granted).sum();
        assert!(sum <= LIMIT, "{sum} granted in the window from {start}");
    }
    let total: i64 = grants.iter().map(|(_, granted)| granted).sum();
    let windows = i64::try_from(5_000 * 137 / WINDOW_MICROS).unwrap();
    assert!(total >= (windows - 1) * (LIMIT - 1), "only {total} in {windows} windows");
}

#[test]
fn partial_takes_what_there_is_and_waits_for_the_rest() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.SW user 10 60 COST 3");
    server.clock().advance(10 * SECOND);
    let partial = "RATELIMIT.SW user 10 60 COST 9 PARTIAL";
    // Two of nine units are missing, and two of the first three units leave the window in fifty
    // seconds.
    assert_eq!(client.decide(partial), [7, 10, 0, 50_000, 60_000]);
    // No unit is available, and PARTIAL needs only one unit.
    assert_eq!(client.decide(partial), [0, 10, 0, 50_000, 60_000]);
    assert_eq!(client.decide("RATELIMIT.SW other 10 60 PARTIAL COST 25"), [10, 10, 0, -1, 60_000]);
}

#[test]
fn a_refund_gives_back_the_newest_grants_first() {
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 5"), 0);
    client.decide("RATELIMIT.SW user 10 60 COST 3");
    server.clock().advance(10 * SECOND);
    client.decide("RATELIMIT.SW user 10 60 COST 4");
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 5"), 5);
    assert_eq!(client.decide("RATELIMIT.PEEK user SW 10 60"), [1, 10, 8, 0, 50_000]);
    assert_eq!(client.call::<i64>("PTTL user"), 59_000);
}

#[test]
fn a_refund_gives_back_nothing_that_has_left_the_window() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.SW user 10 60 COST 3");
    server.clock().advance(30 * SECOND);
    client.decide("RATELIMIT.SW user 10 60 COST 2");
    server.clock().advance(30 * SECOND);
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 5"), 2);
}

#[test]
fn a_lowered_limit_waits_for_as_many_grants_as_it_takes() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for _ in 0..5 {
        assert_eq!(client.decide("RATELIMIT.SW user 5 60")[0], 1);
        server.clock().advance(10 * SECOND);
    }
    // The grants were made at 0, 10, 20, 30 and 40 s. Now it is 50 s; at 90 s only the last grant
    // counts.
    assert_eq!(client.decide("RATELIMIT.SW user 2 60"), [0, 2, 0, 40_000, 50_000]);
    server.clock().advance(40 * SECOND - MILLISECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 2 60"), [0, 2, 0, 1, 10_001]);
    server.clock().advance(MILLISECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 2 60"), [1, 2, 0, 0, 60_000]);
}

#[test]
fn another_window_counts_the_grants_that_lie_in_it() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.SW user 10 60 COST 4");
    server.clock().advance(20 * SECOND);
    client.decide("RATELIMIT.SW user 10 60 COST 3");
    assert_eq!(client.decide("RATELIMIT.PEEK user SW 10 20"), [1, 10, 7, 0, 20_000]);
    assert_eq!(client.decide("RATELIMIT.PEEK user SW 10 21"), [1, 10, 3, 0, 21_000]);
    assert_eq!(client.decide("RATELIMIT.PEEK user SW 10 3600"), [1, 10, 3, 0, 60_000]);
}

#[test]
fn a_wider_window_waits_no_longer_than_to_the_end_of_the_log() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.SW user 10 1 COST 10");
    server.clock().advance(900 * MILLISECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 10 60"), [0, 10, 0, 100, 100]);
    server.clock().advance(99 * MILLISECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 10 60"), [0, 10, 0, 1, 1]);
    server.clock().advance(MILLISECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 10 60 COST 10"), [10, 10, 0, 0, 60_000]);
}

#[test]
fn windows_with_different_ticks_do_not_keep_a_grant_alive() {
    let server = Server::at(NOON);
    let mut client = server.client();
    // Calls 0.6 ms apart: any two of them may lie in the same tick of 0.999 or 1 ms.
    for call in 0..1_000 {
        server.clock().set(NOON + 600 * call);
        let window = 999 + call % 2;
        client.decide(
            &format!("RATELIMIT.SW user 1000000 0.{window:03} COST 2").replace("0.1000", "1"),
        );
    }
    server.clock().set(NOON + 1_300_000);
    // The grants of the first 300 ms have left the window, less than a tick late.
    let [_, _, remaining, ..] = client.decide("RATELIMIT.PEEK user SW 1000000 1");
    let used = 1_000_000 - remaining;
    assert!((2 * 499..=2 * 502).contains(&used), "{used}");
}

#[test]
fn a_lone_grant_is_exact_to_the_microsecond() {
    let server = Server::at(NOON + 400);
    let mut client = server.client();
    assert_eq!(client.decide("RATELIMIT.SW user 1 60"), [1, 1, 0, 0, 60_000]);
    assert_eq!(client.call::<i64>("PTTL user"), 61_001);
    server.clock().set(NOON + 60_000_399);
    assert_eq!(client.decide("RATELIMIT.SW user 1 60"), [0, 1, 0, 1, 1]);
    server.clock().set(NOON + 60_000_400);
    assert_eq!(client.decide("RATELIMIT.SW user 1 60"), [1, 1, 0, 0, 60_000]);
}

#[test]
fn grants_of_one_millisecond_count_from_the_latest_of_them() {
    let server = Server::at(NOON + 400);
    let mut client = server.client();
    client.decide("RATELIMIT.SW user 2 60");
    server.clock().set(NOON + 900);
    assert_eq!(client.decide("RATELIMIT.SW user 2 60"), [1, 2, 0, 0, 60_000]);
    server.clock().set(NOON + 60_000_899);
    assert_eq!(client.decide("RATELIMIT.SW user 2 60"), [0, 2, 0, 1, 1]);
    server.clock().set(NOON + 60_000_900);
    assert_eq!(client.decide("RATELIMIT.SW user 2 60 COST 2"), [2, 2, 0, 0, 60_000]);
}

#[test]
fn a_step_back_of_the_clock_grants_nothing() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.SW user 10 60 COST 10");
    server.clock().step_back(30 * SECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 10 60"), [0, 10, 0, 90_000, 90_000]);
    server.clock().advance(90 * SECOND - MILLISECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 10 60"), [0, 10, 0, 1, 1]);
    server.clock().advance(MILLISECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 10 60"), [1, 10, 9, 0, 60_000]);
}

#[test]
fn a_grant_after_a_step_back_counts_from_the_newest_time_there_is() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.SW user 2 60");
    server.clock().step_back(30 * SECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 2 60"), [1, 2, 0, 0, 90_000]);
    server.clock().advance(60 * SECOND);
    assert_eq!(client.decide("RATELIMIT.SW user 2 60"), [0, 2, 0, 30_000, 30_000]);
}
