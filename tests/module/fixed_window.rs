//! RATELIMIT.FW and the other commands on fixed windows: exact replies of a live server whose clock
//! the test sets.

use std::time::Duration;

use crate::harness::{Client, NOON, Server};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Milliseconds from noon on Friday, 15 January 2027, to the end of a window of UTC.
const TO_MIDNIGHT: i64 = 43_200_000;
const TO_MONDAY: i64 = TO_MIDNIGHT + 2 * 86_400_000;
const TO_FEBRUARY: i64 = TO_MIDNIGHT + 16 * 86_400_000;
const TO_NEXT_YEAR: i64 = TO_MIDNIGHT + 350 * 86_400_000;

#[test]
fn a_grant_answers_what_is_left_and_when_its_window_ends() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for (window, to_end) in [
        ("60", 60_000),
        ("0.25", 250),
        ("86400", TO_MIDNIGHT),
        // Weeks are counted from the epoch, a Thursday.
        ("604800", TO_MIDNIGHT + 5 * 86_400_000),
        ("DAY", TO_MIDNIGHT),
        ("week", TO_MONDAY),
        ("Month", TO_FEBRUARY),
        ("YEAR", TO_NEXT_YEAR),
        ("FROM 1800014399.5 UNTIL 1800014400.001", 1),
        ("from 0 until 1", -1),
    ] {
        if to_end < 0 {
            assert!(client.refusal(&format!("RATELIMIT.FW user 100 {window}")).starts_with("ERR"));
            continue;
        }
        let call = format!("RATELIMIT.FW user 100 {window}");
        assert_eq!(client.decide(&call), [1, 100, 99, 0, to_end], "{window}");
        assert_eq!(client.decide(&format!("{call} COST 9")), [9, 100, 90, 0, to_end], "{window}");
        assert_eq!(client.call::<i64>("PTTL user"), to_end + 1_000, "{window}");
        assert_eq!(client.call::<i64>("RATELIMIT.RESET user"), 1);
    }
}

#[test]
fn a_denial_takes_nothing_and_waits_for_the_end_of_the_window() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let call = "RATELIMIT.FW user 2 60";
    server.clock().advance(15 * SECOND);
    assert_eq!(client.decide("RATELIMIT.FW user 2 60 COST 2"), [2, 2, 0, 0, 45_000]);
    assert_eq!(client.decide(call), [0, 2, 0, 45_000, 45_000]);
    assert_eq!(client.decide("RATELIMIT.FW user 2 60 COST 3"), [0, 2, 0, -1, 45_000]);
    server.clock().advance(45 * SECOND - MILLISECOND);
    assert_eq!(client.decide(call), [0, 2, 0, 1, 1]);
    server.clock().advance(MILLISECOND);
    assert_eq!(client.decide(call), [1, 2, 1, 0, 60_000]);
}

#[test]
fn no_window_holds_more_than_the_limit() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for _ in 0..20 {
        let mut granted = 0;
        for _ in 0..50 {
            granted += client.decide("RATELIMIT.FW user 7 0.05")[0];
            server.clock().advance(MILLISECOND);
        }
        assert_eq!(granted, 7);
    }
}

#[test]
fn months_and_years_end_where_the_calendar_ends_them() {
    for (begin, window, days) in [
        // The first of February of a year with and of years without a leap day.
        (1_832_976_000, "MONTH", 29),
        (1_801_440_000, "MONTH", 28),
        (4_105_123_200, "MONTH", 28),
        (1_830_297_600, "YEAR", 366),
        (1_861_920_000, "YEAR", 365),
        (951_782_400 - 28 * 86_400, "MONTH", 29),
    ] {
        let server = Server::at(begin * 1_000_000 + 1);
        let mut client = server.client();
        let expected = [1, 5, 4, 0, days * 86_400_000];
        assert_eq!(client.decide(&format!("RATELIMIT.FW user 5 {window}")), expected, "{begin}");
    }
}

#[test]
fn an_anchor_moves_the_windows_of_a_length() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for (anchor, to_end) in [
        ("0", 3_600_000),
        ("1800", 1_800_000),
        ("1800014401", 1_000),
        ("1800014399", 3_599_000),
        // An anchor may lie in the future.
        ("253402300799", 3_599_000),
    ] {
        let call = format!("RATELIMIT.FW user 5 3600 COST 2 ANCHOR {anchor}");
        assert_eq!(client.decide(&call), [2, 5, 3, 0, to_end], "{anchor}");
        client.call::<()>("DEL user");
    }
    let first = "RATELIMIT.FW user 5 60 ANCHOR 30";
    assert_eq!(client.decide(first), [1, 5, 4, 0, 30_000]);
    assert_eq!(client.decide("RATELIMIT.PEEK user FW 5 60 ANCHOR 30"), [1, 5, 4, 0, 30_000]);
}

#[test]
fn a_window_that_does_not_contain_now_is_an_error_with_the_servers_time() {
    let server = Server::at(NOON + 1_999);
    let mut client = server.client();
    let error = "ERR FROM and UNTIL must contain the server's time, 1800014400.001";
    client.decide("RATELIMIT.FW user 9 DAY COST 9");
    let before: Vec<u8> = client.call("DUMP user");
    for bounds in ["FROM 1800014400.002 UNTIL 1800014500", "FROM 1800014000 UNTIL 1800014400.001"] {
        for call in [
            format!("RATELIMIT.FW user 100 {bounds}"),
            // An error, also where a call would be denied.
            format!("RATELIMIT.FW user 1 {bounds}"),
            format!("RATELIMIT.FW user 100 {bounds} COST 7 FORCE"),
            format!("RATELIMIT.FW new 100 {bounds}"),
            format!("RATELIMIT.PEEK user FW 100 {bounds}"),
            format!("RATELIMIT.PEEK new FW 100 {bounds}"),
            format!("RATELIMIT.MULTI 2 new user TB 5 60 FW 100 {bounds}"),
        ] {
            assert_eq!(client.refusal(&call), error, "{call}");
        }
    }
    assert_eq!(client.call::<Vec<u8>>("DUMP user"), before);
    assert_eq!(client.call::<i64>("EXISTS new"), 0);
    // The first and the last millisecond of a window are in it.
    for bounds in ["FROM 1800014400.001 UNTIL 1800014500", "FROM 1800014000 UNTIL 1800014400.002"] {
        assert_eq!(client.decide(&format!("RATELIMIT.FW new 100 {bounds}"))[0], 1);
    }
}

#[test]
fn a_day_of_a_time_zone_with_23_hours_has_its_own_quota() {
    // In Berlin, 28 March 2027 has 23 hours: from 23:00 to 22:00 of UTC.
    let midnight = 1_806_188_400_u64;
    let server = Server::at(midnight * 1_000_000);
    let mut client = server.client();
    let (sunday, monday) = (midnight, midnight + 23 * 3_600);
    let day = |from, until| format!("RATELIMIT.FW user 20000 FROM {from} UNTIL {until}");
    let sundays = day(sunday, monday);
    assert_eq!(client.decide(&format!("{sundays} COST 19999"))[2], 1);
    server.clock().advance(23 * HOUR - MILLISECOND);
    assert_eq!(client.decide(&sundays), [1, 20_000, 0, 0, 1]);
    server.clock().advance(MILLISECOND);
    let mondays = day(monday, monday + 86_400);
    assert_eq!(client.decide(&mondays), [1, 20_000, 19_999, 0, 86_400_000]);
    // A caller whose clock is behind gets an error, and not the quota of another day.
    assert!(client.refusal(&sundays).contains("the server's time"));
    assert_eq!(client.decide(&mondays)[2], 19_998);
}

#[test]
fn what_was_used_counts_until_the_window_of_the_state_ends() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.FW quota 1000 MONTH COST 100");
    // A denied call waits for the end of the month, although it asks for a day.
    let day = "RATELIMIT.FW quota 100 DAY";
    assert_eq!(client.decide(day), [0, 100, 0, TO_FEBRUARY, TO_FEBRUARY]);
    server.clock().advance(DAY);
    let left = TO_FEBRUARY - 86_400_000;
    assert_eq!(client.decide(day), [0, 100, 0, left, left]);
    let expected = [0, 100, 0, left, left];
    assert_eq!(client.decide("RATELIMIT.PEEK quota FW 100 DAY"), expected);

    // The other way round: the wait is until the day ends.
    client.decide("RATELIMIT.FW user 5 DAY COST 5");
    let month = "RATELIMIT.FW user 5 MONTH";
    assert_eq!(client.decide(month), [0, 5, 0, TO_MIDNIGHT, TO_MIDNIGHT]);
    server.clock().advance(12 * HOUR);
    assert_eq!(client.decide(month)[..3], [1, 5, 4]);
}

#[test]
fn a_granted_call_makes_its_window_that_of_the_state() {
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(client.decide("RATELIMIT.FW user 1000 MONTH COST 900")[4], TO_FEBRUARY);
    assert_eq!(client.decide("RATELIMIT.FW user 1000 DAY"), [1, 1_000, 99, 0, TO_MIDNIGHT]);
    // Two windows need two keys: at midnight, the month begins afresh.
    server.clock().advance(DAY);
    assert_eq!(client.decide("RATELIMIT.FW user 1000 MONTH COST 1000")[0], 1_000);
}

#[test]
fn limits_may_change_within_a_window() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.FW user 100 60 COST 90");
    assert_eq!(client.decide("RATELIMIT.FW user 1000 60"), [1, 1_000, 909, 0, 60_000]);
    assert_eq!(client.decide("RATELIMIT.FW user 10 60"), [0, 10, 0, 60_000, 60_000]);
    assert_eq!(client.decide("RATELIMIT.PEEK user FW 91 60"), [0, 91, 0, 60_000, 60_000]);
    assert_eq!(client.decide("RATELIMIT.PEEK user FW 92 60"), [1, 92, 1, 0, 60_000]);
}

#[test]
fn partial_takes_what_there_is_and_waits_for_the_rest() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let partial = "RATELIMIT.FW user 10 60 COST 7 PARTIAL";
    assert_eq!(client.decide(partial), [7, 10, 3, 0, 60_000]);
    assert_eq!(client.decide(partial), [3, 10, 0, 60_000, 60_000]);
    assert_eq!(client.decide(partial), [0, 10, 0, 60_000, 60_000]);
    assert_eq!(
        client.decide("RATELIMIT.FW user 10 60 PARTIAL COST 25"),
        [0, 10, 0, 60_000, 60_000]
    );
}

#[test]
fn a_refund_gives_back_what_is_used_in_the_window() {
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 5"), 0);
    client.decide("RATELIMIT.FW user 10 60 COST 10");
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 4"), 4);
    assert_eq!(client.decide("RATELIMIT.PEEK user FW 10 60"), [1, 10, 4, 0, 60_000]);
    assert_eq!(client.call::<i64>("PTTL user"), 61_000);
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 1000000000"), 6);
    assert_eq!(client.call::<i64>("EXISTS user"), 0);
    // Units of a window that has ended are not given back to the next one.
    client.decide("RATELIMIT.FW user 10 60 COST 10");
    server.clock().advance(60 * SECOND);
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 5"), 0);
    assert_eq!(client.decide("RATELIMIT.FW user 10 60"), [1, 10, 9, 0, 60_000]);
}

#[test]
fn a_step_back_into_an_earlier_window_grants_nothing() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let call = "RATELIMIT.FW user 10 60";
    client.decide("RATELIMIT.FW user 10 60 COST 10");
    server.clock().step_back(60 * SECOND);
    assert_eq!(client.decide(call), [0, 10, 0, 120_000, 120_000]);
    server.clock().advance(120 * SECOND);
    assert_eq!(client.decide(call), [1, 10, 9, 0, 60_000]);
}

#[test]
fn a_clock_that_was_far_ahead_blocks_no_key() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.call::<()>("DEBUG SET-ACTIVE-EXPIRE 0");
    server.clock().advance(365 * DAY);
    client.decide("RATELIMIT.FW user 10 DAY COST 10");
    server.clock().step_back(365 * DAY);
    assert_eq!(client.decide("RATELIMIT.FW user 10 DAY"), [1, 10, 9, 0, TO_MIDNIGHT]);
}

#[test]
fn fixed_windows_are_one_of_the_limits_of_a_call_over_several_keys() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let call = "RATELIMIT.MULTI 3 minute day month TB 10 60 COST 4 FW 5 DAY COST 2 FW 100 FROM \
                1800014400 UNTIL 1800014460.5 COST 3";
    let granted = multi(&mut client, call);
    let expected = [[4, 10, 6, 0, 24_000], [2, 5, 3, 0, TO_MIDNIGHT], [3, 100, 97, 0, 60_500]];
    assert_eq!(granted, (1, expected));
    assert_eq!(multi(&mut client, call).0, 1);
    // The day lacks one unit, so that nothing is taken.
    let expected =
        [[0, 10, 2, 12_000, 48_000], [0, 5, 1, TO_MIDNIGHT, TO_MIDNIGHT], [3, 100, 94, 0, 60_500]];
    assert_eq!(multi(&mut client, call), (0, expected));
    assert_eq!(client.decide("RATELIMIT.PEEK day FW 5 DAY"), [1, 5, 1, 0, TO_MIDNIGHT]);
}

fn multi(client: &mut Client, call: &str) -> (i64, [[i64; 5]; 3]) {
    let (granted, first, second, third) = client.call(call);
    (granted, [first, second, third])
}

#[test]
fn a_key_of_another_kind_is_refused_until_its_state_has_ended() {
    let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.FW user 10 60");
    for call in ["RATELIMIT.TB user 10 60", "RATELIMIT.SW user 10 60", "GET user", "INCR user"] {
        assert_eq!(client.refusal(call), wrong, "{call}");
    }
    for other in ["TB", "SW"] {
        client.decide(&format!("RATELIMIT.{other} {other} 1 60"));
        assert_eq!(client.refusal(&format!("RATELIMIT.FW {other} 10 60")), wrong);
        assert_eq!(client.refusal(&format!("RATELIMIT.PEEK {other} FW 10 60")), wrong);
    }
    client.call::<()>("SET text value");
    assert_eq!(client.refusal("RATELIMIT.FW text 10 60"), wrong);
    assert_eq!(client.call::<String>("TYPE user"), "ratelimFW");
    // Within the second after its end, a key still holds its state.
    server.clock().advance(60 * SECOND);
    assert_eq!(client.call::<i64>("EXISTS user TB SW"), 3);
    for call in ["RATELIMIT.TB user 10 60", "RATELIMIT.FW TB 10 60", "RATELIMIT.FW SW 10 60"] {
        assert_eq!(client.decide(call)[..3], [1, 10, 9], "{call}");
    }
}

#[test]
fn a_replica_follows_a_state_that_replaces_one_of_another_kind() {
    let primary = Server::at(NOON);
    let replica = Server::builder()
        .clock_of(&primary)
        .config("propagation-error-behavior", "panic")
        .replica_of(&primary)
        .start();
    let mut client = primary.client();
    for (first, second) in [("TB", "FW"), ("SW", "FW"), ("FW", "TB"), ("FW", "SW"), ("TB", "FW")] {
        // A window that begins before the first state, which ends within the window.
        client.decide(&format!("RATELIMIT.{first} key 10 0.1"));
        primary.clock().advance(100 * MILLISECOND);
        client.decide(&format!("RATELIMIT.{second} key 10 60"));
        replica.catch_up_with(&primary);
        let digest = |server: &Server| -> String {
            let [digest]: [String; 1] = server.client().call("DEBUG DIGEST-VALUE key");
            digest
        };
        assert_eq!(digest(&replica), digest(&primary), "{first} {second}");
        client.call::<()>("DEL key");
    }
}
