//! RATELIMIT.RESERVE and RATELIMIT.SETTLE: estimates that are taken together and corrected once.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use redis::{Value, from_redis_value_ref};

use crate::harness::{Client, NOON, Server, Snapshot};

/// The reply to RATELIMIT.RESERVE: 1 if the reservation was made, and five integers for each key.
type Reserved = (i64, Vec<[i64; 5]>);

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
const OTHER_LIMITS: &str = "ERR reservation exists with other keys or limits";
const OTHER_KEYS: &str = "ERR keys must be those of the reservation, in the same order";

#[test]
fn estimates_are_taken_together_and_corrected_once() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let limits = "TB 100 60 COST 60 SW 100 60 COST 70 FW 100 3600 COST 80";
    let reserved = reserve(&mut client, &format!("job 30 3 bucket log window {limits}"));
    let bucket = [60, 100, 40, 0, 36_000];
    assert_eq!(reserved, (1, vec![bucket, [70, 100, 30, 0, 60_000], [80, 100, 20, 0, 3_600_000]]));
    assert_eq!(client.call::<i64>("PEXPIRETIME job"), (NOON / 1_000 + 30_000).cast_signed());
    server.clock().advance(Duration::from_secs(1));
    let settlement = "job 3 bucket log window ACTUAL 10 75 80";
    assert_eq!(settle(&mut client, settlement), Some(vec![-50, 5, 0]));
    assert_eq!(client.call::<i64>("EXISTS job"), 0);
    // A bucket drains from the time of its latest grant: 60 - 50 less 1 second of 100 per minute.
    assert_eq!(client.decide("RATELIMIT.PEEK bucket TB 100 60")[2], 91);
    assert_eq!(client.decide("RATELIMIT.PEEK log SW 100 60")[2], 25);
    assert_eq!(client.decide("RATELIMIT.PEEK window FW 100 3600")[2], 20);
    assert_eq!(settle(&mut client, settlement), None, "settled already");
    assert_eq!(client.decide("RATELIMIT.PEEK log SW 100 60")[2], 25);
}

#[test]
fn a_denied_reservation_takes_from_no_key_and_stores_nothing() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.SW b 10 60 COST 6");
    let line = "job 30 2 a b TB 10 60 COST 5 SW 10 60 COST 5";
    let reply = reserve(&mut client, line);
    assert_eq!(reply, (0, vec![[5, 10, 10, 0, 0], [0, 10, 4, 60_000, 60_000]]));
    assert_eq!(client.call::<i64>("DBSIZE"), 1);
    assert_eq!(settle(&mut client, "job 2 a b ACTUAL 0 0"), None);
    assert_eq!(client.decide("RATELIMIT.PEEK b SW 10 60")[2], 4);
}

#[test]
fn a_repeated_reservation_takes_nothing_and_moves_its_end_to_a_later_one() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let reservation = |ttl| format!("job {ttl} 2 a b SW 10 60 COST 9 FW 10 3600 COST 10");
    reserve(&mut client, &reservation("10"));
    let end = NOON / 1_000 + 10_000;
    assert_eq!(client.call::<u64>("PEXPIRETIME job"), end);
    server.clock().advance(Duration::from_secs(4));
    // The quota of the second key is used up: the call is granted all the same.
    client.decide("RATELIMIT.SW a 10 60");
    let again = (1, vec![[9, 10, 0, 0, 60_000], [10, 10, 0, 0, 3_596_000]]);
    for (ttl, end) in [("6", end), ("5.999", end), ("0.001", end), ("6.001", end + 1)] {
        assert_eq!(reserve(&mut client, &reservation(ttl)), again, "{ttl}");
        assert_eq!(client.call::<u64>("PEXPIRETIME job"), end, "{ttl}");
    }
    // The reservation counts until just before its end, whether or not the key is there.
    server.clock().set(end * 1_000 + 999);
    assert_eq!(settle(&mut client, "job 2 a b ACTUAL 0 0"), Some(vec![-9, -10]));
}

#[test]
fn a_repeated_reservation_does_not_need_its_window() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let (begin, end) = (NOON / 1_000_000 - 1, NOON / 1_000_000 + 10);
    let line = format!("job 60 1 a FW 10 FROM {begin} UNTIL {end} COST 4");
    assert_eq!(reserve(&mut client, &line), (1, vec![[4, 10, 6, 0, 10_000]]));
    server.clock().advance(Duration::from_secs(11));
    let other = line.replace("job", "other");
    let refusal = client.refusal(&format!("RATELIMIT.RESERVE {other}"));
    assert!(refusal.starts_with("ERR FROM and UNTIL must contain the server's time"), "{refusal}");
    assert_eq!(reserve(&mut client, &line), (1, vec![[4, 10, 10, 0, 0]]));
    assert_eq!(client.call::<u64>("PEXPIRETIME job"), NOON / 1_000 + 71_000);
}

#[test]
fn a_repeated_reservation_with_other_keys_or_limits_is_an_error() {
    let server = Server::at(NOON);
    let mut client = server.client();
    reserve(&mut client, "job 30 2 a b TB 10 60 COST 2 SW 10 60 RESOLUTION 1");
    let before = Snapshot::all(&mut client, &["a", "b", "job"]);
    for line in [
        "2 a b TB 10 60 COST 3 SW 10 60 RESOLUTION 1",
        "2 a b TB 11 60 COST 2 SW 10 60 RESOLUTION 1",
        "2 a b TB 10 61 COST 2 SW 10 60 RESOLUTION 1",
        "2 a b TB 10 60 COST 2 BURST 11 SW 10 60 RESOLUTION 1",
        "2 a b TB 10 60 COST 2 SW 10 60",
        "2 a b TB 10 60 COST 2 SW 10 60 RESOLUTION 2",
        "2 a b TB 10 60 COST 2 FW 10 60",
        "2 b a SW 10 60 RESOLUTION 1 TB 10 60 COST 2",
        "2 a c TB 10 60 COST 2 SW 10 60 RESOLUTION 1",
        "1 a TB 10 60 COST 2",
        "3 a b c TB 10 60 COST 2 SW 10 60 RESOLUTION 1 TB 10 60",
    ] {
        let refusal = client.refusal(&format!("RATELIMIT.RESERVE job 60 {line}"));
        assert_eq!(refusal, OTHER_LIMITS, "{line}");
        assert_eq!(Snapshot::all(&mut client, &["a", "b", "job"]), before, "{line}");
    }
    assert_eq!(client.call::<i64>("DBSIZE"), 3);
}

#[test]
fn a_settlement_without_amounts_keeps_the_estimates() {
    let server = Server::at(NOON);
    let mut client = server.client();
    reserve(&mut client, "job 30 2 a b TB 10 60 COST 5 FW 10 60 COST 5");
    let before = Snapshot::all(&mut client, &["a", "b"]);
    assert_eq!(settle(&mut client, "job 2 a b"), Some(vec![0, 0]));
    assert_eq!(Snapshot::all(&mut client, &["a", "b"]), before);
    assert_eq!(client.call::<i64>("DBSIZE"), 2);
}

#[test]
fn a_reservation_that_has_ended_is_not_settled() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.call::<()>("DEBUG SET-ACTIVE-EXPIRE 0");
    reserve(&mut client, "job 0.5 1 a SW 10 60 COST 5");
    server.clock().advance(Duration::from_millis(500));
    assert_eq!(settle(&mut client, "job 1 a ACTUAL 0"), None);
    assert_eq!(client.decide("RATELIMIT.PEEK a SW 10 60")[2], 5, "the estimate stays taken");
    // Its name is free again, also for other keys and limits.
    assert_eq!(reserve(&mut client, "job 1 1 b TB 10 60").0, 1);
}

#[test]
fn a_log_gives_back_to_the_grant_of_the_reservation() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let second = Duration::from_secs(1);
    reserve(&mut client, "job 600 1 log SW 3500 60 COST 2000");
    server.clock().advance(29 * second);
    assert_eq!(client.decide("RATELIMIT.SW log 3500 60 COST 1500")[0], 1_500);
    server.clock().advance(second);
    assert_eq!(settle(&mut client, "job 1 log ACTUAL 500"), Some(vec![-1_500]));
    server.clock().advance(second);
    assert_eq!(client.decide("RATELIMIT.SW log 3500 60 COST 1500")[0], 1_500);
    // The 500 used units leave after 60 seconds; the 1,500 of the other caller stay.
    server.clock().advance(29 * second);
    assert_eq!(client.decide("RATELIMIT.PEEK log SW 3500 60")[2], 500);
}

#[test]
fn a_log_gives_nothing_back_when_the_grant_has_left() {
    let server = Server::at(NOON);
    let mut client = server.client();
    reserve(&mut client, "job 600 1 log SW 100 60 COST 60");
    server.clock().advance(Duration::from_secs(60));
    client.decide("RATELIMIT.SW log 100 60 COST 90");
    let before = Snapshot::of(&mut client, "log");
    assert_eq!(settle(&mut client, "job 1 log ACTUAL 0"), Some(vec![0]));
    assert_eq!(Snapshot::of(&mut client, "log"), before);
}

#[test]
fn a_fixed_window_gives_nothing_back_in_the_next_window() {
    // The last second of a month: 31 January 2027, 23:59:59 UTC.
    let server = Server::at(1_801_439_999_000_000);
    let mut client = server.client();
    reserve(&mut client, "job 600 1 quota FW 5000 MONTH COST 3000");
    server.clock().advance(Duration::from_secs(2));
    assert_eq!(client.decide("RATELIMIT.FW quota 5000 MONTH COST 4000")[2], 1_000);
    assert_eq!(settle(&mut client, "job 1 quota ACTUAL 100"), Some(vec![0]));
    assert_eq!(client.decide("RATELIMIT.PEEK quota FW 5000 MONTH")[2], 1_000);
    // More than was estimated is charged to the window of the settlement.
    reserve(&mut client, "job 600 1 quota FW 5000 MONTH COST 100");
    assert_eq!(settle(&mut client, "job 1 quota ACTUAL 1500"), Some(vec![1_400]));
    assert_eq!(client.decide("RATELIMIT.PEEK quota FW 5000 MONTH")[2], 0);
}

#[test]
fn a_bucket_gives_back_at_most_what_is_used() {
    let server = Server::at(NOON);
    let mut client = server.client();
    reserve(&mut client, "job 600 1 bucket TB 60 60 COST 50");
    server.clock().advance(Duration::from_secs(40));
    assert_eq!(settle(&mut client, "job 1 bucket ACTUAL 0"), Some(vec![-10]));
    assert_eq!(client.call::<i64>("EXISTS bucket"), 0, "nothing stays used");
}

#[test]
fn missing_units_of_a_key_without_state_use_the_limit_of_the_reservation() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let limits = "TB 10 60 BURST 20 COST 2 SW 10 30 COST 2 FW 10 DAY COST 2";
    reserve(&mut client, &format!("job 600 3 a b c {limits}"));
    client.call::<i64>("RATELIMIT.RESET a b c");
    assert_eq!(settle(&mut client, "job 3 a b c ACTUAL 5 5 5"), Some(vec![3, 3, 3]));
    assert_eq!(client.decide("RATELIMIT.PEEK a TB 10 60 BURST 20"), [1, 20, 17, 0, 18_000]);
    assert_eq!(client.decide("RATELIMIT.PEEK b SW 10 30"), [1, 10, 7, 0, 30_000]);
    assert_eq!(client.decide("RATELIMIT.PEEK c FW 10 DAY"), [1, 10, 7, 0, 43_200_000]);
    // A surplus has nowhere to return to.
    reserve(&mut client, &format!("job 600 3 a b c {limits}"));
    client.call::<i64>("RATELIMIT.RESET a b c");
    assert_eq!(settle(&mut client, "job 3 a b c ACTUAL 0 0 0"), Some(vec![0, 0, 0]));
    assert_eq!(client.call::<i64>("DBSIZE"), 0);
}

#[test]
fn a_settlement_keeps_the_limit_that_a_key_has_now() {
    let server = Server::at(NOON);
    let mut client = server.client();
    reserve(&mut client, "job 600 2 log bucket SW 100 1 COST 10 TB 100 1 COST 10");
    // The plan of the customer changes.
    client.decide("RATELIMIT.SW log 10000 86400 COST 1000");
    client.decide("RATELIMIT.TB bucket 10000 86400 COST 1000");
    server.clock().advance(Duration::from_millis(100));
    assert_eq!(settle(&mut client, "job 2 log bucket ACTUAL 30 30"), Some(vec![20, 20]));
    let log = client.decide("RATELIMIT.PEEK log SW 10000 86400");
    assert_eq!(log, [1, 10_000, 8_970, 0, 86_400_000]);
    let [_, _, remaining, _, reset_after] = client.decide("RATELIMIT.PEEK bucket TB 10000 86400");
    assert_eq!(remaining, 8_970);
    // 1,030 units at 10,000 per day; a tenth of a second returns less than one of them.
    assert!((8_899_100..=8_899_200).contains(&reset_after), "{reset_after}");
}

#[test]
fn a_charge_can_exceed_every_limit() {
    let server = Server::at(NOON);
    let mut client = server.client();
    reserve(&mut client, "job 600 3 a b c TB 10 60 SW 10 60 FW 10 60");
    let most = 1_000_000_000;
    let settlement = format!("job 3 a b c ACTUAL {most} {most} {most}");
    assert_eq!(settle(&mut client, &settlement), Some(vec![most - 1; 3]));
    for _ in 0..5 {
        reserve(&mut client, "next 600 1 d SW 10 60");
        settle(&mut client, &format!("next 1 d ACTUAL {most}"));
        client.call::<i64>("COPY d spare REPLACE");
    }
    for peek in ["a TB 10 60", "b SW 10 60", "c FW 10 60"] {
        assert_eq!(client.decide(&format!("RATELIMIT.PEEK {peek}"))[..3], [0, 10, 0], "{peek}");
    }
    let before = Snapshot::all(&mut client, &["a", "b", "c"]);
    client.call::<()>("DEBUG RELOAD");
    Snapshot::assert_same(&before, &Snapshot::all(&mut client, &["a", "b", "c"]));
}

#[test]
fn a_key_of_another_type_makes_a_settlement_change_nothing() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for replacement in ["SET b text", "RATELIMIT.TB b 10 60", "RATELIMIT.FW b 10 60"] {
        client.call::<()>("FLUSHALL");
        reserve(&mut client, "job 600 3 a b c TB 10 60 COST 4 SW 10 60 COST 4 TB 10 60 COST 4");
        client.call::<i64>("RATELIMIT.RESET b");
        client.call::<Value>(replacement);
        let before = Snapshot::all(&mut client, &["a", "b", "c", "job"]);
        for amounts in ["", "ACTUAL 4 4 4", "ACTUAL 0 0 0", "ACTUAL 9 9 9"] {
            let line = format!("RATELIMIT.SETTLE job 3 a b c {amounts}");
            assert_eq!(client.refusal(&line), WRONG_TYPE, "{replacement}; {line}");
            let after = Snapshot::all(&mut client, &["a", "b", "c", "job"]);
            assert_eq!(after, before, "{replacement}; {line}");
        }
        client.call::<i64>("DEL b");
        assert_eq!(settle(&mut client, "job 3 a b c ACTUAL 0 0 0"), Some(vec![-4, 0, -4]));
    }
}

#[test]
fn a_state_of_another_type_that_has_ended_counts_as_missing() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.call::<()>("DEBUG SET-ACTIVE-EXPIRE 0");
    reserve(&mut client, "job 600 1 a SW 10 60 COST 4");
    client.call::<i64>("RATELIMIT.RESET a");
    client.decide("RATELIMIT.TB a 10 1 COST 10");
    // The key is kept for a second more than its state.
    server.clock().advance(Duration::from_millis(1_500));
    assert_eq!(settle(&mut client, "job 1 a ACTUAL 6"), Some(vec![2]));
    assert_eq!(client.decide("RATELIMIT.PEEK a SW 10 60")[2], 8);
}

#[test]
fn a_settlement_names_the_keys_of_its_reservation_in_their_order() {
    let server = Server::at(NOON);
    let mut client = server.client();
    reserve(&mut client, "job 600 2 a b TB 10 60 COST 4 TB 10 60 COST 4");
    let before = Snapshot::all(&mut client, &["a", "b", "job"]);
    for line in ["2 b a ACTUAL 1 1", "1 a ACTUAL 1", "3 a b c ACTUAL 1 1 1", "2 a c ACTUAL 1 1"] {
        assert_eq!(client.refusal(&format!("RATELIMIT.SETTLE job {line}")), OTHER_KEYS, "{line}");
        assert_eq!(Snapshot::all(&mut client, &["a", "b", "job"]), before, "{line}");
    }
}

#[test]
fn a_reservation_is_a_key_of_its_own_type() {
    let server = Server::at(NOON);
    let mut client = server.client();
    reserve(&mut client, "job 600 1 a TB 10 60 COST 4");
    client.call::<()>("SET text value");
    assert_eq!(client.call::<String>("TYPE job"), "ratelimRE");
    for line in [
        "RATELIMIT.TB job 10 60",
        "RATELIMIT.SW job 10 60",
        "RATELIMIT.FW job 10 60",
        "RATELIMIT.PEEK job TB 10 60",
        "RATELIMIT.REFUND job 1",
        "RATELIMIT.RESERVE text 10 1 b TB 10 60",
        "RATELIMIT.RESERVE a 10 1 b TB 10 60",
        "RATELIMIT.RESERVE new 10 2 b job TB 10 60 TB 10 60",
        "RATELIMIT.SETTLE text 1 a",
        "RATELIMIT.SETTLE a 1 b",
        "INCR job",
    ] {
        assert_eq!(client.refusal(line), WRONG_TYPE, "{line}");
        assert_eq!(client.call::<i64>("DBSIZE"), 3, "{line}");
    }
    // A copy could be settled as well.
    assert!(client.try_call("COPY job copy").is_err());
    assert_eq!(client.call::<i64>("EXISTS copy"), 0);
    assert_eq!(client.call::<i64>("RATELIMIT.RESET job a"), 2);
    assert_eq!(settle(&mut client, "job 1 a ACTUAL 0"), None);
}

#[test]
fn a_line_that_breaks_the_syntax_is_refused_with_its_rule() {
    const NUMKEYS: &str =
        "ERR numkeys must be an integer of at least 1 and followed by that many keys";
    const TTL: &str = "ERR ttl must be a number of seconds between 0.001 and 31622400 with at most \
                       three decimals";
    const AMOUNT: &str = "ERR amount must be an integer between 0 and 1000000000";
    const AMOUNTS: &str = "ERR ACTUAL must be followed by as many amounts as keys";
    const RESERVE: &str = "ERR wrong number of arguments for 'ratelimit.reserve' command";
    const SETTLE: &str = "ERR wrong number of arguments for 'ratelimit.settle' command";
    const SELF: &str = "ERR reservation must be none of the keys";
    let server = Server::at(NOON);
    let mut client = server.client();
    for (line, error) in [
        ("RESERVE job 10 1 a TB 10", RESERVE),
        ("RESERVE job 0 1 a TB 10 60", TTL),
        ("RESERVE job 0.0001 1 a TB 10 60", TTL),
        ("RESERVE job 31622400.001 1 a TB 10 60", TTL),
        ("RESERVE job -1 1 a TB 10 60", TTL),
        ("RESERVE job ten 1 a TB 10 60", TTL),
        ("RESERVE job 10 0 a TB 10 60", NUMKEYS),
        ("RESERVE job 10 9 a TB 10 60", NUMKEYS),
        ("RESERVE job 10 1 job TB 10 60", SELF),
        ("RESERVE job 10 2 a a TB 10 60 TB 10 60", "ERR key may be given only once"),
        ("RESERVE job 10 2 a b TB 10 60", "ERR limits must be as many as keys"),
        ("RESERVE job 10 1 a TB 10 60 SW 10 60", "ERR limits must be as many as keys"),
        (
            "RESERVE job 10 1 a TB 10 60 COST 0",
            "ERR cost must be an integer between 1 and 1000000000",
        ),
        ("SETTLE job 1", SETTLE),
        ("SETTLE job 0 a", NUMKEYS),
        ("SETTLE job 2 a", NUMKEYS),
        ("SETTLE job 18446744073709551616 a", NUMKEYS),
        ("SETTLE job 1 job", SELF),
        ("SETTLE job 2 a a", "ERR key may be given only once"),
        ("SETTLE job 1 a 5", "ERR options must be ACTUAL amount [amount ...]"),
        ("SETTLE job 1 a b ACTUAL 5", "ERR options must be ACTUAL amount [amount ...]"),
        ("SETTLE job 1 a ACTUAL", AMOUNTS),
        ("SETTLE job 1 a ACTUAL 1 2", AMOUNTS),
        ("SETTLE job 1 a ACTUAL 1 ACTUAL 1", AMOUNTS),
        ("SETTLE job 2 a b ACTUAL 1", AMOUNTS),
        ("SETTLE job 1 a ACTUAL -1", AMOUNT),
        ("SETTLE job 1 a ACTUAL 1000000001", AMOUNT),
        ("SETTLE job 1 a ACTUAL 18446744073709551616", AMOUNT),
        ("SETTLE job 1 a ACTUAL 1.5", AMOUNT),
        ("SETTLE job 1 a ACTUAL 01", AMOUNT),
    ] {
        assert_eq!(client.refusal(&format!("RATELIMIT.{line}")), error, "{line}");
        assert_eq!(client.call::<i64>("DBSIZE"), 0, "{line}");
    }
}

#[test]
fn a_server_without_memory_reserves_nothing_and_settles() {
    let server = Server::at(NOON);
    let mut client = server.client();
    reserve(&mut client, "job 600 1 a TB 10 60 COST 4");
    client.call::<()>("CONFIG SET maxmemory 1");
    let refusal = client.refusal("RATELIMIT.RESERVE other 600 1 b TB 10 60");
    assert!(refusal.starts_with("OOM"), "{refusal}");
    assert_eq!(settle(&mut client, "job 1 a ACTUAL 6"), Some(vec![2]));
}

#[test]
fn many_clients_settle_a_reservation_once() {
    const CLIENTS: usize = 50;
    const ROUNDS: usize = 20;
    let server = Server::at(NOON);
    let (start, mut client) = (Barrier::new(CLIENTS), server.client());
    for round in 0..ROUNDS {
        reserve(
            &mut client,
            &format!("job{round} 600 2 a b SW 1000 60 COST 10 TB 1000 60 COST 10"),
        );
    }
    let settled = || {
        let mut client = server.client();
        start.wait();
        let settle_one = |round| settle(&mut client, &format!("job{round} 2 a b ACTUAL 3 13"));
        (0..ROUNDS).filter_map(settle_one).count()
    };
    let settlements: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(settled)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(settlements, ROUNDS);
    assert_eq!(client.decide("RATELIMIT.PEEK a SW 1000 60")[2], 1_000 - 20 * 3);
    assert_eq!(client.decide("RATELIMIT.PEEK b TB 1000 60")[2], 1_000 - 20 * 13);
}

/// Returns the reply to RATELIMIT.RESERVE with these arguments.
#[track_caller]
pub(super) fn reserve(client: &mut Client, line: &str) -> Reserved {
    let reply: Vec<Value> = client.call(&format!("RATELIMIT.RESERVE {line}"));
    let (granted, keys) = reply.split_first().unwrap();
    let integers = |value: &Value| from_redis_value_ref::<[i64; 5]>(value).unwrap();
    (from_redis_value_ref(granted).unwrap(), keys.iter().map(integers).collect())
}

/// Returns the reply to RATELIMIT.SETTLE with these arguments.
#[track_caller]
pub(super) fn settle(client: &mut Client, line: &str) -> Option<Vec<i64>> {
    client.call(&format!("RATELIMIT.SETTLE {line}"))
}
