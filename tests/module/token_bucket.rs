//! RATELIMIT.TB and the other commands on buckets: exact replies of a live server whose clock the
//! test sets.

use std::time::Duration;

use crate::harness::{NOON, Server};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn a_grant_answers_what_is_left_and_when_all_is_back() {
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(client.decide("RATELIMIT.TB user 100 60"), [1, 100, 99, 0, 600]);
    assert_eq!(client.decide("RATELIMIT.TB user 100 60 COST 9"), [9, 100, 90, 0, 6_000]);
    server.clock().advance(Duration::from_millis(900));
    assert_eq!(client.decide("RATELIMIT.TB user 100 60"), [1, 100, 90, 0, 5_700]);
}

#[test]
fn a_denial_takes_nothing_and_answers_how_long_to_wait() {
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(client.decide("RATELIMIT.TB user 2 60 COST 2"), [2, 2, 0, 0, 60_000]);
    assert_eq!(client.decide("RATELIMIT.TB user 2 60"), [0, 2, 0, 30_000, 60_000]);
    assert_eq!(client.decide("RATELIMIT.TB user 2 60 COST 2"), [0, 2, 0, 60_000, 60_000]);
    server.clock().advance(45 * SECOND);
    assert_eq!(client.decide("RATELIMIT.TB user 2 60 COST 2"), [0, 2, 1, 15_000, 15_000]);
}

#[test]
fn a_wait_as_told_is_enough_and_a_millisecond_less_is_not() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB user 3 1 COST 3");
    assert_eq!(client.decide("RATELIMIT.TB user 3 1"), [0, 3, 0, 334, 1_000]);
    server.clock().advance(333 * MILLISECOND);
    assert_eq!(client.decide("RATELIMIT.TB user 3 1"), [0, 3, 0, 1, 667]);
    server.clock().advance(MILLISECOND);
    assert_eq!(client.decide("RATELIMIT.TB user 3 1"), [1, 3, 0, 0, 1_000]);
}

#[test]
fn hammering_neither_loses_nor_gains_a_fraction() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let mut granted = 0;
    for _ in 0..=10_000 {
        granted += client.decide("RATELIMIT.TB user 7 1")[0];
        server.clock().advance(MILLISECOND);
    }
    assert_eq!(granted, 7 + 10 * 7);
}

#[test]
fn burst_sets_the_capacity_above_or_below_the_limit() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let high = "RATELIMIT.TB high 10 60 BURST 25";
    assert_eq!(client.decide(&format!("{high} COST 25")), [25, 25, 0, 0, 150_000]);
    assert_eq!(client.decide(high), [0, 25, 0, 6_000, 150_000]);
    let low = "RATELIMIT.TB low 10 60 BURST 1";
    assert_eq!(client.decide(low), [1, 1, 0, 0, 6_000]);
    assert_eq!(client.decide(low), [0, 1, 0, 6_000, 6_000]);
}

#[test]
fn a_cost_above_the_capacity_is_never_granted() {
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(client.decide("RATELIMIT.TB user 20 60 COST 11 BURST 10"), [0, 10, 10, -1, 0]);
    assert_eq!(client.call::<i64>("EXISTS user"), 0);
}

#[test]
fn partial_takes_what_there_is_and_waits_for_the_rest() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let partial = "RATELIMIT.TB user 10 60 COST 7 PARTIAL";
    assert_eq!(client.decide(partial), [7, 10, 3, 0, 42_000]);
    assert_eq!(client.decide(partial), [3, 10, 0, 24_000, 60_000]);
    // No unit is available, and PARTIAL needs only one unit.
    assert_eq!(client.decide(partial), [0, 10, 0, 6_000, 60_000]);
    server.clock().advance(24 * SECOND);
    assert_eq!(client.decide("RATELIMIT.TB user 10 60 COST 4"), [4, 10, 0, 0, 60_000]);
}

#[test]
fn partial_never_gets_more_than_the_capacity() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let more = "RATELIMIT.TB user 10 60 COST 25 PARTIAL";
    assert_eq!(client.decide(more), [10, 10, 0, -1, 60_000]);
    // Units become available one by one, for any number of units that a call asks for.
    assert_eq!(client.decide(more), [0, 10, 0, 6_000, 60_000]);
    server.clock().advance(6 * SECOND - MILLISECOND);
    assert_eq!(client.decide(more), [0, 10, 0, 1, 54_001]);
    server.clock().advance(MILLISECOND);
    assert_eq!(client.decide(more), [1, 10, 0, -1, 60_000]);
}

#[test]
fn a_refund_gives_back_at_most_the_whole_units_that_are_used() {
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 5"), 0);
    client.decide("RATELIMIT.TB user 10 60 COST 10");
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 4"), 4);
    assert_eq!(client.decide("RATELIMIT.PEEK user TB 10 60"), [1, 10, 4, 0, 36_000]);
    assert_eq!(client.call::<i64>("PTTL user"), 45_000);
    // After three more seconds half a unit has drained: five and a half units are in use.
    server.clock().advance(3 * SECOND);
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 2"), 2);
    assert_eq!(client.decide("RATELIMIT.PEEK user TB 10 60"), [1, 10, 6, 0, 21_000]);
    assert_eq!(client.call::<i64>("PTTL user"), 30_000);
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 1000000000"), 4);
    assert_eq!(client.call::<i64>("EXISTS user"), 0);
}

#[test]
fn a_call_that_is_given_back_a_moment_later_leaves_the_bucket_full() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for (call, cost) in [("RATELIMIT.TB user 1 86400", 1), ("RATELIMIT.TB user 5 3600 COST 5", 5)] {
        assert_eq!(client.decide(call)[0], cost);
        server.clock().advance(Duration::from_micros(200));
        assert_eq!(client.call::<i64>(&format!("RATELIMIT.REFUND user {cost}")), cost, "{call}");
        assert_eq!(client.call::<i64>("EXISTS user"), 0, "{call}");
    }
}

#[test]
fn a_refund_leaves_the_time_and_the_rate_of_the_latest_grant() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB user 100 3600 COST 100");
    let fast = "RATELIMIT.PEEK user TB 100 5";
    server.clock().advance(Duration::from_millis(2_500));
    assert_eq!(client.decide(fast), [1, 100, 50, 0, 2_500]);
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 1"), 1);
    assert_eq!(client.decide(fast), [1, 100, 51, 0, 2_450]);
    // A refund drains the bucket at the rate of the latest grant, not at that of the peek.
    server.clock().advance(3 * SECOND);
    assert_eq!(client.decide(fast), [1, 100, 100, 0, 0]);
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 200"), 99);
}

#[test]
fn what_was_used_carries_over_to_another_limit() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB user 100 60 COST 100");
    assert_eq!(client.decide("RATELIMIT.PEEK user TB 1000 60"), [1, 1_000, 900, 0, 6_000]);
    assert_eq!(client.decide("RATELIMIT.TB user 1000 60 COST 400"), [400, 1_000, 500, 0, 30_000]);
    // 500 units are in use, and 401 of them must drain first, at the rate of the latest grant: 1000
    // a minute.
    assert_eq!(client.decide("RATELIMIT.TB user 100 60"), [0, 100, 0, 24_060, 30_000]);
}

#[test]
fn time_drains_at_the_faster_rate_of_the_latest_grant_and_the_call() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB user 100 5 COST 100");
    server.clock().advance(Duration::from_millis(4_500));
    assert_eq!(client.decide("RATELIMIT.TB user 1 3600"), [0, 1, 0, 500, 500]);
    server.clock().advance(499 * MILLISECOND);
    assert_eq!(client.decide("RATELIMIT.TB user 1 3600"), [0, 1, 0, 1, 1]);
    server.clock().advance(MILLISECOND);
    assert_eq!(client.decide("RATELIMIT.TB user 1 3600"), [1, 1, 0, 0, 3_600_000]);
    // A faster rate of another caller holds for all callers.
    assert_eq!(client.decide("RATELIMIT.TB user 100 5 COST 100"), [0, 100, 99, 50, 50]);
}

#[test]
fn what_was_used_carries_over_to_another_window_and_capacity() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB user 10 60 COST 8");
    assert_eq!(client.decide("RATELIMIT.TB user 10 1"), [1, 10, 1, 0, 900]);
    assert_eq!(client.decide("RATELIMIT.TB user 10 3600 BURST 20"), [1, 20, 10, 0, 3_600_000]);
    assert_eq!(client.decide("RATELIMIT.TB user 10 60 BURST 5"), [0, 5, 0, 36_000, 60_000]);
}

#[test]
fn the_expiry_is_rounded_up_to_a_whole_millisecond() {
    let server = Server::at(NOON + 1);
    let mut client = server.client();
    for (micros, millis_left) in [(1, 1), (500, 1), (900, 1), (901, 2), (999, 2)] {
        server.clock().set(NOON + micros);
        // The bucket is full again 100 microseconds later.
        assert_eq!(client.decide(&format!("RATELIMIT.TB user:{micros} 10000 1"))[4], 1);
        let expires: i64 = client.call(&format!("PTTL user:{micros}"));
        assert_eq!(expires, 1_000 + millis_left, "{micros}");
        client.call::<i64>("RATELIMIT.RESET user");
    }
}

#[test]
fn the_longest_time_is_the_largest_integer_that_every_client_has() {
    const LONGEST: i64 = (1 << 53) - 1;
    let server = Server::at(NOON);
    let mut client = server.client();
    let all = "RATELIMIT.TB user 1 31622400 BURST 1000000000 COST 1000000000";
    assert_eq!(client.decide(all), [1_000_000_000, 1_000_000_000, 0, 0, LONGEST]);
    assert_eq!(client.decide(all), [0, 1_000_000_000, 0, LONGEST, LONGEST]);
    let expiry: i64 = client.call("PEXPIRETIME user");
    assert!(expiry > i64::MAX / 4, "{expiry}");
}

#[test]
fn a_step_back_of_the_clock_grants_nothing() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB user 10 60 COST 10");
    server.clock().step_back(30 * SECOND);
    assert_eq!(client.decide("RATELIMIT.TB user 10 60"), [0, 10, 0, 36_000, 90_000]);
    server.clock().advance(30 * SECOND);
    assert_eq!(client.decide("RATELIMIT.TB user 10 60"), [0, 10, 0, 6_000, 60_000]);
    server.clock().advance(6 * SECOND);
    assert_eq!(client.decide("RATELIMIT.TB user 10 60"), [1, 10, 0, 0, 60_000]);
}

#[test]
fn a_step_back_and_forth_drains_nothing_twice() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB user 10 60 COST 5");
    for _ in 0..5 {
        server.clock().step_back(30 * SECOND);
        assert_eq!(client.decide("RATELIMIT.TB user 10 60")[0], 1);
        server.clock().advance(30 * SECOND);
    }
    assert_eq!(client.decide("RATELIMIT.TB user 10 60"), [0, 10, 0, 6_000, 60_000]);
}
