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
const PERIOD: &str = "must be a number of seconds between 0.001 and 31622400 with at most three \
                      decimals, DAY, WEEK, MONTH, YEAR, or FROM unix-seconds UNTIL unix-seconds";
const RESOLUTION: &str =
    "must be a number of seconds between 0.001 and the window with at most three decimals";
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
        ("RATELIMIT.SW log ? 60", "limit", UNITS),
        ("RATELIMIT.SW log 10 60 COST ?", "cost", UNITS),
        ("RATELIMIT.PEEK bucket TB ? 60", "limit", UNITS),
        ("RATELIMIT.PEEK bucket TB 10 60 BURST ?", "capacity", UNITS),
        ("RATELIMIT.PEEK bucket TB 10 60 COST ?", "cost", UNITS),
        ("RATELIMIT.PEEK log SW ? 60", "limit", UNITS),
        ("RATELIMIT.PEEK log SW 10 60 COST ?", "cost", UNITS),
        ("RATELIMIT.FW window ? 60", "limit", UNITS),
        ("RATELIMIT.FW window ? MONTH", "limit", UNITS),
        ("RATELIMIT.FW window 10 DAY COST ?", "cost", UNITS),
        ("RATELIMIT.FW window 10 60 COST ? FORCE", "cost", UNITS),
        ("RATELIMIT.PEEK window FW ? 60", "limit", UNITS),
        ("RATELIMIT.PEEK window FW 10 YEAR COST ?", "cost", UNITS),
        ("RATELIMIT.MULTI 1 window FW ? WEEK", "limit", UNITS),
        ("RATELIMIT.REFUND bucket ?", "amount", UNITS),
        ("RATELIMIT.REFUND log ?", "amount", UNITS),
        ("RATELIMIT.TB bucket 10 ?", "window", WINDOW),
        ("RATELIMIT.SW log 10 ?", "window", WINDOW),
        ("RATELIMIT.PEEK bucket TB 10 ?", "window", WINDOW),
        ("RATELIMIT.PEEK log SW 10 ?", "window", WINDOW),
        ("RATELIMIT.FW window 10 ?", "window", PERIOD),
        ("RATELIMIT.PEEK window FW 10 ?", "window", PERIOD),
        ("RATELIMIT.MULTI 1 window FW 10 ?", "window", PERIOD),
        ("RATELIMIT.SW log 10 60 RESOLUTION ?", "resolution", RESOLUTION),
        ("RATELIMIT.PEEK log SW 10 60 RESOLUTION ?", "resolution", RESOLUTION),
        ("RATELIMIT.MULTI 1 log SW 10 60 RESOLUTION ?", "resolution", RESOLUTION),
    ] {
        let bad: &[&str] = if rule == UNITS { &NOT_UNITS } else { &NOT_WINDOWS };
        for number in bad {
            let arguments: Vec<&str> =
                call.split(' ').map(|word| if word == "?" { number } else { word }).collect();
            refuses(&mut client, &arguments, &format!("ERR {argument} {rule}"));
        }
    }
}

#[test]
fn times_of_fixed_windows_out_of_bounds_are_refused_with_their_rule() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let anchor = "ERR anchor must be an integer between 0 and 253402300799";
    for bad in ["", "-1", "+0", "00", "1.0", "1e3", "253402300800", "18446744073709551616", "DAY"] {
        let call = ["RATELIMIT.FW", "window", "10", "60", "ANCHOR", bad];
        refuses(&mut client, &call, anchor);
        let call = ["RATELIMIT.PEEK", "window", "FW", "10", "60", "COST", "1", "ANCHOR", bad];
        refuses(&mut client, &call, anchor);
    }
    let seconds = "must be Unix seconds up to 281474976710.655 with at most three decimals";
    for bad in
        ["", "-1", "+1", "01", "1.", ".5", "1.2345", "281474976710.656", "9".repeat(40).as_str()]
    {
        let call = ["RATELIMIT.FW", "window", "10", "FROM", bad, "UNTIL", "1800014401"];
        refuses(&mut client, &call, &format!("ERR FROM {seconds}"));
        let call = ["RATELIMIT.FW", "window", "10", "FROM", "1800014399", "UNTIL", bad];
        refuses(&mut client, &call, &format!("ERR UNTIL {seconds}"));
    }
    let apart = "ERR UNTIL must be between 0.001 and 31622400 seconds after FROM";
    for until in ["1800014400", "1800014399.999", "0", "1831636800.001", "281474976710.655"] {
        let call = ["RATELIMIT.FW", "window", "10", "FROM", "1800014400", "UNTIL", until];
        refuses(&mut client, &call, apart);
    }
    for until in ["1800014400.001", "1831636800"] {
        client.decide(&format!("RATELIMIT.FW window 10 FROM 1800014400 UNTIL {until}"));
        client.call::<i64>("RATELIMIT.RESET window");
    }
    let followed = "ERR FROM must be followed by Unix seconds and UNTIL";
    for call in [
        "RATELIMIT.FW window 10 FROM 1800014400",
        "RATELIMIT.FW window 10 FROM 1800014400 1800014401",
        "RATELIMIT.FW window 10 FROM 1800014400 COST 1",
        "RATELIMIT.PEEK window FW 10 FROM 1 TO 2",
    ] {
        refuses(&mut client, &call.split(' ').collect::<Vec<_>>(), followed);
    }
    for (call, rule) in
        [("RATELIMIT.FW window 10 FROM", "FROM"), ("RATELIMIT.FW window 10 FROM 1 UNTIL", "UNTIL")]
    {
        let error = format!("ERR {rule} {seconds}");
        refuses(&mut client, &call.split(' ').collect::<Vec<_>>(), &error);
    }
}

#[test]
fn numbers_at_the_bounds_are_accepted() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for limit in ["1", "1000000"] {
        for window in ["0.001", "0.1", "0.25", "1.500", "60", "60.0", "31622400", "31622400.000"] {
            for call in ["RATELIMIT.TB user", "RATELIMIT.SW user", "RATELIMIT.FW user"] {
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
    let tb_options = "ERR options must be BURST capacity, COST cost, and PARTIAL or FORCE";
    let sw = "RATELIMIT.SW log 10 60";
    let sw_options = "ERR options must be RESOLUTION seconds, COST cost, and PARTIAL or FORCE";
    let fw = "RATELIMIT.FW window 10 60";
    let fw_options = "ERR options must be ANCHOR unix-seconds, COST cost, and PARTIAL or FORCE";
    let day = "RATELIMIT.FW window 10 DAY";
    let bounds = "RATELIMIT.FW window 10 FROM 1800014400 UNTIL 1800014460";
    let period_options = "ERR options must be COST cost, and PARTIAL or FORCE";
    let peek_fw = "RATELIMIT.PEEK window FW 10 60";
    let peek_fw_options = "ERR options must be ANCHOR unix-seconds or COST cost";
    let peek_day = "RATELIMIT.PEEK window FW 10 DAY";
    let peek_day_options = "ERR options must be COST cost";
    let force_once = "ERR FORCE may be given only once";
    let both = "ERR PARTIAL must not be given with FORCE";
    let multi = "RATELIMIT.MULTI 1 window";
    let algorithms = "ERR algorithm must be TB, SW or FW";
    let peek_tb = "RATELIMIT.PEEK bucket TB 10 60";
    let peek_tb_options = "ERR options must be BURST capacity or COST cost";
    let peek_sw = "RATELIMIT.PEEK log SW 10 60";
    let peek_sw_options = "ERR options must be RESOLUTION seconds or COST cost";
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
        (tb, "FORCE FORCE", force_once),
        (tb, "FORCE PARTIAL", both),
        (tb, "PARTIAL COST 2 force", both),
        (tb, "RESOLUTION 1", tb_options),
        (tb, "ANCHOR 1", tb_options),
        (sw, "FORCE PARTIAL", both),
        (sw, "ANCHOR 1", sw_options),
        (sw, "RESOLUTION", "ERR RESOLUTION must be followed by a number of seconds"),
        (sw, "RESOLUTION 1 RESOLUTION 1", "ERR RESOLUTION may be given only once"),
        (fw, "EXTRA", fw_options),
        (fw, "BURST 5", fw_options),
        (fw, "RESOLUTION 1", fw_options),
        (fw, "COST 1 2", fw_options),
        (fw, "UNTIL 1800014460", fw_options),
        (fw, "COST", cost_value),
        (fw, "COST 1 COST 1", cost_once),
        (fw, "PARTIAL PARTIAL", partial_once),
        (fw, "FORCE COST 2 FORCE", force_once),
        (fw, "PARTIAL FORCE", both),
        (fw, "ANCHOR", "ERR ANCHOR must be followed by Unix seconds"),
        (fw, "ANCHOR 1 ANCHOR 1", "ERR ANCHOR may be given only once"),
        (day, "ANCHOR 1", period_options),
        (day, "EXTRA", period_options),
        (bounds, "ANCHOR 1", period_options),
        (bounds, "UNTIL 1800014460", period_options),
        (peek_tb, "FORCE", peek_tb_options),
        (peek_sw, "FORCE", peek_sw_options),
        (peek_fw, "FORCE", peek_fw_options),
        (peek_fw, "PARTIAL", peek_fw_options),
        (peek_day, "ANCHOR 1", peek_day_options),
        (multi, "TB 10 60 FORCE", peek_tb_options),
        (multi, "SW 10 60 FORCE", peek_sw_options),
        (multi, "FW 10 60 FORCE", peek_fw_options),
        (multi, "FW 10 DAY FW 10 DAY", "ERR limits must be as many as keys"),
        (multi, "FW 10 DAY ANCHOR 1", peek_day_options),
        ("RATELIMIT.PEEK bucket", "XX 10 60", algorithms),
        ("RATELIMIT.PEEK bucket", "T 10 60", algorithms),
        ("RATELIMIT.PEEK bucket", "10 60 TB", algorithms),
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
        ("ratelimit.fw", &["", "window", "window 10"]),
        (
            "ratelimit.peek",
            &["", "bucket", "bucket TB", "bucket TB 10", "log SW", "log SW 10", "window FW 10"],
        ),
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
            "RATELIMIT.FW other 10 60",
            "RATELIMIT.FW other 10 DAY COST 11 FORCE",
            "RATELIMIT.PEEK other FW 10 60",
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

/// Asserts that a call over a used bucket, a used log and a used window is refused and leaves all of
/// them as they were.
#[track_caller]
fn refuses(client: &mut Client, arguments: &[&str], error: &str) {
    let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
    client.decide("RATELIMIT.TB bucket 1000000000 60");
    client.decide("RATELIMIT.SW log 1000000 60");
    client.decide("RATELIMIT.FW window 1000000000 60");
    let keys = ["bucket", "log", "window"];
    let before = keys.map(|key| stored(client, key));
    assert_eq!(client.refusal_of(&arguments), error, "{}", arguments.concat().escape_ascii());
    assert_eq!(keys.map(|key| stored(client, key)), before, "after {error}");
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
