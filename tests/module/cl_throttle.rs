//! CL.THROTTLE: the cases of redis-cell, its bounds, and its keys, which are token buckets.

use std::time::Duration;

use crate::harness::{Client, NOON, Random, Server};

const MILLISECOND: Duration = Duration::from_millis(1);

fn server() -> Server {
    Server::builder().clock(NOON).module_arguments(&["cl-throttle", "yes"]).start()
}

/// Calls as they are made with redis-cell: limited, limit, remaining, retry_after, reset_after.
fn throttle(client: &mut Client, parameters: &str) -> [i64; 5] {
    client.call(&format!("CL.THROTTLE user {parameters}"))
}

#[test]
fn the_cases_of_redis_cell_have_the_same_answers() {
    let server = server();
    let mut client = server.client();
    // Milliseconds since the start, and the quantity. Times of redis-cell are rounded up here.
    for (millis, quantity, expected) in [
        (0, 6, [1, 5, 5, -1, 0]),
        (0, 1, [0, 5, 4, -1, 1]),
        (0, 1, [0, 5, 3, -1, 2]),
        (0, 1, [0, 5, 2, -1, 3]),
        (0, 1, [0, 5, 1, -1, 4]),
        (0, 1, [0, 5, 0, -1, 5]),
        (0, 1, [1, 5, 0, 1, 5]),
        (3_000, 1, [0, 5, 2, -1, 3]),
        (3_100, 1, [0, 5, 1, -1, 4]),
        (4_000, 1, [0, 5, 1, -1, 4]),
        (8_000, 1, [0, 5, 4, -1, 1]),
        (9_500, 1, [0, 5, 4, -1, 1]),
        (9_500, 0, [0, 5, 4, -1, 1]),
        (9_500, 2, [0, 5, 2, -1, 3]),
        (9_500, 5, [1, 5, 2, 3, 3]),
    ] {
        server.clock().set(NOON + millis * 1_000);
        let answer = throttle(&mut client, &format!("4 1 1 {quantity}"));
        assert_eq!(answer, expected, "{quantity} at {millis} ms");
    }
}

#[test]
fn the_quantity_is_one_unless_given() {
    let server = server();
    let mut client = server.client();
    assert_eq!(throttle(&mut client, "15 30 60"), [0, 16, 15, -1, 2]);
    assert_eq!(throttle(&mut client, "15 30 60 1"), [0, 16, 14, -1, 4]);
    assert_eq!(client.call::<[i64; 5]>("cl.throttle other 0 1 60"), [0, 1, 0, -1, 60]);
}

#[test]
fn no_wait_is_a_second_too_early() {
    let server = server();
    let mut client = server.client();
    let mut random = Random::new();
    let mut limited = 0;
    for _ in 0..2_000 {
        client.call::<i64>("RATELIMIT.RESET user");
        let max_burst = random.bits() % 20;
        let (count, period) = (random.pick(&[1, 3, 7, 999]), random.pick(&[1, 7, 60, 86_399]));
        let quantity = 1 + random.bits() % (max_burst + 1);
        let call = format!("{max_burst} {count} {period} {quantity}");
        for _ in 0..3 {
            let [is_limited, _, _, retry_after, _] = throttle(&mut client, &call);
            if is_limited == 0 {
                assert_eq!(retry_after, -1, "{call}");
                server.clock().advance(Duration::from_micros(random.bits() % 1_000_000));
                continue;
            }
            limited += 1;
            assert!(retry_after > 0, "{call}");
            server.clock().advance(Duration::from_secs(retry_after.unsigned_abs()));
            assert_eq!(throttle(&mut client, &call)[0], 0, "{call} after {retry_after} s");
        }
    }
    assert!(limited > 200, "{limited}");
}

#[test]
fn rates_above_a_thousand_per_second_are_exact() {
    let server = server();
    let mut client = server.client();
    for (count, period) in [(7_000, 1), (1_000_000, 1), (1_000_000_000, 60)] {
        client.call::<i64>("RATELIMIT.RESET user");
        let call = format!("{} {count} {period} {}", count - 1, count);
        assert_eq!(throttle(&mut client, &call)[0], 0);
        let mut granted = 0;
        for _ in 0..100 {
            server.clock().advance(MILLISECOND);
            let part = count / period / 1_000;
            granted +=
                1 - throttle(&mut client, &format!("{} {count} {period} {part}", count - 1))[0];
        }
        assert_eq!(granted, 100, "{count} per {period}");
    }
}

#[test]
fn a_quantity_of_nothing_takes_nothing_and_is_limited_only_in_debt() {
    let server = server();
    let mut client = server.client();
    assert_eq!(throttle(&mut client, "4 1 1 0"), [0, 5, 5, -1, 0]);
    assert_eq!(client.call::<i64>("EXISTS user"), 0);
    throttle(&mut client, "4 1 1 5");
    let before: Vec<u8> = client.call("DUMP user");
    let changes = client.info("persistence", "rdb_changes_since_last_save");
    // The bucket is exhausted, and not in debt.
    assert_eq!(throttle(&mut client, "4 1 1 0"), [0, 5, 0, -1, 5]);
    // A lower burst makes it a debt of three units.
    assert_eq!(throttle(&mut client, "1 1 1 0"), [1, 2, 0, 3, 5]);
    assert_eq!(client.call::<Vec<u8>>("DUMP user"), before);
    assert_eq!(client.info("persistence", "rdb_changes_since_last_save"), changes);
    server.clock().advance(3_000 * MILLISECOND - Duration::from_micros(1));
    assert_eq!(throttle(&mut client, "1 1 1 0"), [1, 2, 0, 1, 3]);
    server.clock().advance(Duration::from_micros(1));
    assert_eq!(throttle(&mut client, "1 1 1 0"), [0, 2, 0, -1, 2]);
    // The debt of the largest bucket.
    for _ in 0..2 {
        client.decide("RATELIMIT.TB user 1000000000 1 COST 1000000000 FORCE");
    }
    let largest = "999999999 1000000000 1 0";
    assert_eq!(throttle(&mut client, largest), [1, 1_000_000_000, 0, 1, 2]);
}

#[test]
fn its_keys_are_token_buckets() {
    let server = server();
    let mut client = server.client();
    throttle(&mut client, "4 1 60 3");
    assert_eq!(client.call::<String>("TYPE user"), "ratelimTB");
    let peek = "RATELIMIT.PEEK user TB 1 60 BURST 5";
    assert_eq!(client.decide(peek), [1, 5, 2, 0, 180_000]);
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 2"), 2);
    assert_eq!(client.decide(peek), [1, 5, 4, 0, 60_000]);
    assert_eq!(client.info("ratelimit", "ratelimit_token_bucket_granted"), "1");
    throttle(&mut client, "4 1 60 5");
    assert_eq!(client.info("ratelimit", "ratelimit_token_bucket_denied"), "1");
    let top: Vec<(String, i64)> = client.call("RATELIMIT.TOP");
    assert_eq!(top, [("user".to_owned(), 1)]);
    assert_eq!(client.call::<i64>("RATELIMIT.RESET user"), 1);
}

#[test]
fn a_key_of_another_type_is_refused_and_stays() {
    let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
    let server = server();
    let mut client = server.client();
    client.decide("RATELIMIT.SW log 10 60");
    // A key of redis-cell is a string.
    client.call::<()>("SET string 1800014400000000000 EX 60");
    for key in ["log", "string"] {
        for quantity in ["", "0", "1", "6"] {
            assert_eq!(client.refusal(&format!("CL.THROTTLE {key} 4 1 1 {quantity}")), wrong);
        }
    }
    assert_eq!(client.call::<String>("GET string"), "1800014400000000000");
}

#[test]
fn arguments_out_of_their_bounds_are_refused_with_their_rule() {
    let server = server();
    let mut client = server.client();
    let integer = |argument, min, max: u64| {
        format!("ERR {argument} must be an integer between {min} and {max}")
    };
    let bad = ["-1", "+1", "01", "1.0", "", "x", "18446744073709551616", "1\0", " 1"];
    for (place, argument, min, max) in [
        (2, "max_burst", 0, 999_999_999),
        (3, "count", 1, 1_000_000_000),
        (4, "period", 1, 31_622_400),
        (5, "quantity", 0, 1_000_000_000),
    ] {
        let above = (max + 1).to_string();
        let below = (min > 0).then_some("0");
        for value in bad.into_iter().chain([above.as_str()]).chain(below) {
            let mut call = ["CL.THROTTLE", "user", "4", "1", "1", "1"].map(str::as_bytes);
            call[place] = value.as_bytes();
            assert_eq!(client.refusal_of(&call), integer(argument, min, max), "{value:?}");
        }
    }
    for call in ["CL.THROTTLE user 4 1", "CL.THROTTLE user 4 1 1 1 1", "CL.THROTTLE"] {
        let error = client.refusal(call);
        assert!(error.starts_with("ERR wrong number of arguments"), "{error}");
    }
    let most = "999999999 1000000000 31622400 1000000000";
    assert_eq!(throttle(&mut client, most), [0, 1_000_000_000, 0, -1, 31_622_400]);
}

#[test]
fn the_command_exists_only_with_the_argument() {
    for arguments in [&[][..], &["cl-throttle", "no"]] {
        let server = Server::builder().module_arguments(arguments).start();
        let error = server.client().refusal("CL.THROTTLE user 4 1 1");
        assert!(error.starts_with("ERR unknown command"), "{error}");
    }
    let arguments = ["top-keys", "3", "cl-throttle", "yes"];
    let server = Server::builder().module_arguments(&arguments).start();
    assert_eq!(throttle(&mut server.client(), "4 1 1")[..3], [0, 5, 4]);
    assert_eq!(server.client().call::<Vec<String>>("CONFIG GET ratelimit.cl*").len(), 0);
}

#[test]
fn a_load_is_refused_if_the_command_is_there() {
    let builder = || Server::builder().rename_command("STRLEN", "CL.THROTTLE");
    let log = builder().module_arguments(&["cl-throttle", "yes"]).start_in_vain();
    let lines = log.lines().filter_map(|line| line.split_once("<ratelimit> "));
    let lines: Vec<&str> = lines.map(|(_, reason)| reason).collect();
    let expected =
        "cannot register the command cl.throttle: another module may have one of this name";
    assert_eq!(lines, [expected], "{log}");
    // Without the argument the name is of no interest.
    assert_eq!(builder().start().client().decide("RATELIMIT.TB user 1 60")[0], 1);
}

#[test]
fn replicas_and_restarts_have_the_same_bytes() {
    let arguments = ["cl-throttle", "yes"];
    let mut primary = Server::builder()
        .clock(NOON)
        .config("appendonly", "yes")
        .module_arguments(&arguments)
        .start();
    // A replica needs no such command: it receives effects.
    let replica = Server::builder()
        .clock_of(&primary)
        .config("propagation-error-behavior", "panic")
        .replica_of(&primary)
        .start();
    let mut client = primary.client();
    for quantity in [1, 0, 2, 9, 3] {
        throttle(&mut client, &format!("7 13 11 {quantity}"));
        primary.clock().advance(123 * MILLISECOND);
    }
    let digest = |client: &mut Client| -> Vec<String> { client.call("DEBUG DIGEST-VALUE user") };
    let expected = digest(&mut client);
    replica.catch_up_with(&primary);
    assert_eq!(digest(&mut replica.client()), expected);
    primary.restart();
    assert_eq!(digest(&mut primary.client()), expected);
}
