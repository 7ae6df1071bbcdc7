//! Refused arguments of each command, with the exact text of the error. A refused call leaves the
//! key unchanged.

use crate::harness::{Client, NOON, Server};

/// The parts of a key that a refused call must leave unchanged: the value and the time to live.
type Stored = (Option<Vec<u8>>, i64);

/// Texts that are no integer between 1 and 1000000000 in plain decimal digits.
const NOT_UNITS: [&str; 19] = [
    "",
    "0",
    "-1",
    "+1",
    "01",
    "1.0",
    "1e3",
    " 1",
    "1 ",
    "0x10",
    "1_000",
    "ten",
    "1\0",
    "\u{661}",
    "1000000001",
    "4294967297",
    "18446744073709551615",
    "18446744073709551617",
    "100000000000000000000000000000000000000000",
];

/// Texts that are no number of seconds between 0.001 and 31622400 with at most three decimals.
const NOT_WINDOWS: [&str; 23] = [
    "",
    "0",
    "0.0",
    "0.000",
    "0.0001",
    "1.2345",
    "1.0000",
    "1.",
    ".5",
    "-1",
    "+1",
    "01",
    "00.5",
    "1e3",
    " 1",
    "1 ",
    "1,5",
    "1.2.3",
    "inf",
    "NaN",
    "31622400.001",
    "31622401",
    "18446744073709551616.5",
];

const UNITS: &str = "must be an integer between 1 and 1000000000";
const WINDOW: &str =
    "must be a number of seconds between 0.001 and 31622400 with at most three decimals";

#[test]
fn numbers_out_of_bounds_are_refused_with_their_rule() {
    let server = Server::at(NOON);
    let mut client = server.client();
    // The question mark stands for the bad number.
    for (call, argument, rule) in [
        ("RATELIMIT.TB bucket ? 60", "limit", UNITS),
        ("RATELIMIT.TB bucket 10 60 BURST ?", "capacity", UNITS),
        ("RATELIMIT.TB bucket 10 60 COST ?", "cost", UNITS),
        ("RATELIMIT.SW log ? 60", "limit", "must be an integer between 1 and 1000000"),
        ("RATELIMIT.SW log 10 60 COST ?", "cost", UNITS),
        ("RATELIMIT.PEEK bucket TB ? 60", "limit", UNITS),
        ("RATELIMIT.PEEK bucket TB 10 60 BURST ?", "capacity", UNITS),
        ("RATELIMIT.PEEK bucket TB 10 60 COST ?", "cost", UNITS),
        ("RATELIMIT.PEEK log SW ? 60", "limit", "must be an integer between 1 and 1000000"),
        ("RATELIMIT.PEEK log SW 10 60 COST ?", "cost", UNITS),
        ("RATELIMIT.REFUND bucket ?", "amount", UNITS),
        ("RATELIMIT.REFUND log ?", "amount", UNITS),
        ("RATELIMIT.TB bucket 10 ?", "window", WINDOW),
        ("RATELIMIT.SW log 10 ?", "window", WINDOW),
        ("RATELIMIT.PEEK bucket TB 10 ?", "window", WINDOW),
        ("RATELIMIT.PEEK log SW 10 ?", "window", WINDOW),
    ] {
        let bad: &[&str] = if rule == WINDOW { &NOT_WINDOWS } else { &NOT_UNITS };
        for number in bad {
            let arguments: Vec<&str> =
                call.split(' ').map(|word| if word == "?" { number } else { word }).collect();
            refuses(&mut client, &arguments, &format!("ERR {argument} {rule}"));
        }
    }
}

#[test]
fn numbers_at_the_bounds_are_accepted() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for limit in ["1", "1000000"] {
        for window in ["0.001", "0.1", "0.25", "1.500", "60", "60.0", "31622400", "31622400.000"] {
            for call in ["RATELIMIT.TB user", "RATELIMIT.SW user"] {
                assert_eq!(client.decide(&format!("{call} {limit} {window}"))[0], 1);
                client.call::<i64>("RATELIMIT.RESET user");
            }
        }
    }
    let most = "RATELIMIT.TB user 1000000000 60 BURST 1000000000 COST 1000000000";
    assert_eq!(client.decide(most), [1_000_000_000, 1_000_000_000, 0, 0, 60_000]);
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND user 1000000000"), 1_000_000_000);
}

#[test]
fn options_that_break_the_syntax_are_refused_with_their_rule() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let tb = "RATELIMIT.TB bucket 10 60";
    let tb_options = "ERR options must be BURST capacity, COST cost or PARTIAL";
    let sw = "RATELIMIT.SW log 10 60";
    let sw_options = "ERR options must be COST cost or PARTIAL";
    let peek_tb = "RATELIMIT.PEEK bucket TB 10 60";
    let peek_tb_options = "ERR options must be BURST capacity or COST cost";
    let peek_sw = "RATELIMIT.PEEK log SW 10 60";
    let peek_sw_options = "ERR options must be COST cost";
    let burst_value = "ERR BURST must be followed by a capacity";
    let cost_value = "ERR COST must be followed by a cost";
    let burst_once = "ERR BURST may be given only once";
    let cost_once = "ERR COST may be given only once";
    let partial_once = "ERR PARTIAL may be given only once";
    for (call, options, error) in [
        (tb, "EXTRA", tb_options),
        (tb, "PARTIA", tb_options),
        (tb, "PARTIALS", tb_options),
        (tb, "COST 1 2", tb_options),
        (tb, "BURST", burst_value),
        (tb, "COST 1 BURST", burst_value),
        (tb, "COST", cost_value),
        (tb, "PARTIAL cost", cost_value),
        (tb, "BURST 5 BURST 5", burst_once),
        (tb, "COST 5 COST 6", cost_once),
        (tb, "COST 5 PARTIAL COST", cost_once),
        (tb, "PARTIAL partial", partial_once),
        (tb, "BURST COST 5", "ERR capacity must be an integer between 1 and 1000000000"),
        (sw, "BURST 5", sw_options),
        (sw, "EXTRA", sw_options),
        (sw, "COST", cost_value),
        (sw, "COST 5 COST 5", cost_once),
        (sw, "PARTIAL PARTIAL", partial_once),
        (peek_tb, "PARTIAL", peek_tb_options),
        (peek_tb, "EXTRA", peek_tb_options),
        (peek_tb, "BURST", burst_value),
        (peek_tb, "COST", cost_value),
        (peek_tb, "BURST 1 BURST 1", burst_once),
        (peek_tb, "COST 1 COST 1", cost_once),
        (peek_sw, "PARTIAL", peek_sw_options),
        (peek_sw, "BURST 5", peek_sw_options),
        (peek_sw, "COST", cost_value),
        (peek_sw, "COST 1 COST 1", cost_once),
        ("RATELIMIT.PEEK bucket", "XX 10 60", "ERR algorithm must be TB or SW"),
        ("RATELIMIT.PEEK bucket", "T 10 60", "ERR algorithm must be TB or SW"),
        ("RATELIMIT.PEEK bucket", "10 60 TB", "ERR algorithm must be TB or SW"),
    ] {
        let line = format!("{call} {options}");
        refuses(&mut client, &line.split(' ').collect::<Vec<_>>(), error);
    }
}

#[test]
fn calls_with_the_wrong_number_of_arguments_are_refused_as_the_server_does() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for (command, too_short_or_long) in [
        ("ratelimit.tb", &["", "bucket", "bucket 10"][..]),
        ("ratelimit.sw", &["", "log", "log 10"]),
        ("ratelimit.peek", &["", "bucket", "bucket TB", "bucket TB 10", "log SW", "log SW 10"]),
        ("ratelimit.refund", &["", "bucket", "bucket 1 2", "log 1 PARTIAL"]),
        ("ratelimit.reset", &[""]),
    ] {
        let error = format!("ERR wrong number of arguments for '{command}' command");
        for arguments in too_short_or_long {
            let line = format!("{command} {arguments}");
            refuses(&mut client, &line.split_whitespace().collect::<Vec<_>>(), &error);
        }
    }
}

#[test]
fn keys_of_another_type_are_refused_by_every_command() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for create in [
        "SET other text",
        "SET other 12",
        "RPUSH other a",
        "SADD other a",
        "ZADD other 1 a",
        "HSET other a b",
        "XADD other * a b",
        "PFADD other a",
    ] {
        client.call::<redis::Value>(create);
        for call in [
            "RATELIMIT.TB other 10 60",
            "RATELIMIT.SW other 10 60",
            "RATELIMIT.PEEK other TB 10 60",
            "RATELIMIT.PEEK other SW 10 60",
            "RATELIMIT.REFUND other 1",
            "RATELIMIT.RESET other",
        ] {
            refuses_the_type_of(&mut client, "other", call);
        }
        client.call::<()>("DEL other");
    }
}

#[test]
fn keys_of_the_other_algorithm_are_refused() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB bucket 10 60");
    client.decide("RATELIMIT.SW log 10 60");
    refuses_the_type_of(&mut client, "log", "RATELIMIT.TB log 10 60");
    refuses_the_type_of(&mut client, "log", "RATELIMIT.PEEK log TB 10 60");
    refuses_the_type_of(&mut client, "bucket", "RATELIMIT.SW bucket 10 60");
    refuses_the_type_of(&mut client, "bucket", "RATELIMIT.PEEK bucket SW 10 60");
}

#[test]
fn a_reset_that_meets_another_type_removes_nothing() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB bucket 10 60");
    client.decide("RATELIMIT.SW log 10 60");
    client.call::<()>("SET text x");
    refuses_the_type_of(&mut client, "text", "RATELIMIT.RESET bucket log text");
    refuses_the_type_of(&mut client, "text", "RATELIMIT.RESET text bucket log");
    assert_eq!(client.call::<i64>("EXISTS bucket log text"), 3);
}

#[test]
fn other_commands_cannot_touch_the_state() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB bucket 10 60");
    client.decide("RATELIMIT.SW log 10 60");
    for key in ["bucket", "log"] {
        for call in ["GET", "INCR", "LPOP", "HGETALL", "SMEMBERS"] {
            refuses_the_type_of(&mut client, key, &format!("{call} {key}"));
        }
        refuses_the_type_of(&mut client, key, &format!("APPEND {key} x"));
        refuses_the_type_of(&mut client, key, &format!("SETRANGE {key} 0 x"));
    }
}

/// Asserts that a call over a used bucket and a used log is refused and leaves both as they were.
#[track_caller]
fn refuses(client: &mut Client, arguments: &[&str], error: &str) {
    let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
    client.decide("RATELIMIT.TB bucket 1000000000 60");
    client.decide("RATELIMIT.SW log 1000000 60");
    let before = (stored(client, "bucket"), stored(client, "log"));
    assert_eq!(client.refusal_of(&arguments), error, "{}", arguments.concat().escape_ascii());
    assert_eq!((stored(client, "bucket"), stored(client, "log")), before, "after {error}");
}

#[track_caller]
fn refuses_the_type_of(client: &mut Client, key: &str, call: &str) {
    const ERROR: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
    let before = stored(client, key);
    assert_eq!(client.refusal(call), ERROR, "{call}");
    assert_eq!(stored(client, key), before, "after {call}");
}

fn stored(client: &mut Client, key: &str) -> Stored {
    (client.call(&format!("DUMP {key}")), client.call(&format!("PTTL {key}")))
}
