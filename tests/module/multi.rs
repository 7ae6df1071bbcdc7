//! RATELIMIT.MULTI: every key grants its cost, or none changes.

use std::time::Duration;

use redis::Value;

use crate::harness::{Client, NOON, Random, Server};

/// The reply: 1 if all keys granted their cost, else 0, and five integers for each key.
type Reply<const KEYS: usize> = (i64, [[i64; 5]; KEYS]);

#[test]
fn every_key_is_taken_from_when_all_grant() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let reply = multi(&mut client, "2 minute day TB 10 60 COST 3 SW 100 86400 COST 2");
    assert_eq!(reply, (1, [[3, 10, 7, 0, 18_000], [2, 100, 98, 0, 86_400_000]]));
    assert_eq!(client.decide("RATELIMIT.PEEK minute TB 10 60"), [1, 10, 7, 0, 18_000]);
    assert_eq!(client.decide("RATELIMIT.PEEK day SW 100 86400"), [1, 100, 98, 0, 86_400_000]);
}

#[test]
fn no_key_is_touched_when_one_denies_and_all_answer_as_a_peek_would() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB bucket 10 60 COST 4");
    client.decide("RATELIMIT.SW log 5 60 COST 5");
    let before = stored(&mut client, &["bucket", "log", "missing"]);
    server.clock().advance(Duration::from_secs(6));
    let reply = multi(&mut client, "3 bucket log missing TB 10 60 SW 5 60 TB 3 1 COST 2");
    let peeks = [
        client.decide("RATELIMIT.PEEK bucket TB 10 60"),
        client.decide("RATELIMIT.PEEK log SW 5 60"),
        client.decide("RATELIMIT.PEEK missing TB 3 1 COST 2"),
    ];
    assert_eq!(reply, (0, peeks));
    assert_eq!(peeks, [[1, 10, 7, 0, 18_000], [0, 5, 0, 54_000, 54_000], [2, 3, 3, 0, 0]]);
    assert_eq!(stored(&mut client, &["bucket", "log", "missing"]), before);
}

#[test]
fn a_cost_above_one_capacity_can_never_be_granted_and_takes_nothing() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let reply = multi(&mut client, "2 first second TB 10 60 TB 10 60 COST 11");
    assert_eq!(reply, (0, [[1, 10, 10, 0, 0], [0, 10, 10, -1, 0]]));
    assert_eq!(client.call::<i64>("EXISTS first second"), 0);
}

#[test]
fn a_burst_belongs_to_its_own_limit() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let reply = multi(&mut client, "2 a b tb 1 60 burst 20 cost 15 tb 1 60");
    assert_eq!(reply, (1, [[15, 20, 5, 0, 900_000], [1, 1, 0, 0, 60_000]]));
}

#[test]
fn one_key_and_a_thousand_keys_are_accepted() {
    let server = Server::at(NOON);
    let mut client = server.client();
    assert_eq!(multi(&mut client, "1 one SW 2 60"), (1, [[1, 2, 1, 0, 60_000]]));
    let keys: Vec<String> = (0..1_000).map(|key| format!("key:{key}")).collect();
    let limits = ["TB 2 60", "SW 2 60"].repeat(500);
    let line = format!("1000 {} {}", keys.join(" "), limits.join(" "));
    for expected in [1, 1, 0] {
        let reply: Vec<Value> = client.call(&format!("RATELIMIT.MULTI {line}"));
        assert_eq!((reply.len(), &reply[0]), (1_001, &Value::Int(expected)));
    }
}

/// Sends the same random history to RATELIMIT.MULTI and, on other keys, to the commands that
/// RATELIMIT.MULTI combines.
#[test]
fn it_grants_what_its_parts_would_all_grant() {
    const STEPS: usize = 1_500;
    const KEYS: [&str; 3] = ["a", "b", "c"];
    let server = Server::at(NOON);
    let mut client = server.client();
    client.call::<()>("DEBUG SET-ACTIVE-EXPIRE 0");
    let mut random = Random::new();
    let mut outcomes = [0, 0];
    for step in 0..STEPS {
        server.clock().advance(Duration::from_micros(random.bits() % 4_000_000));
        // The first key is a bucket, the second a log, the third a bucket again.
        let limits = KEYS.map(|key| {
            let limit = random.pick(&[3, 10, 50]);
            let cost = 1 + random.below(6);
            let window = random.pick(&["1", "10", "60.5"]);
            match key {
                "b" => format!("SW {limit} {window} COST {cost}"),
                _ => format!("TB {limit} {window} BURST {} COST {cost}", limit + 5),
            }
        });
        let singles = [0, 1, 2].map(|key| {
            client.decide(&format!("RATELIMIT.PEEK single:{} {}", KEYS[key], limits[key]))
        });
        let granted = singles.iter().all(|[.., retry_after_ms, _]| *retry_after_ms == 0);
        let singles = if granted { take_one_by_one(&mut client, &limits) } else { singles };
        let line = format!("3 multi:a multi:b multi:c {}", limits.join(" "));
        let reply = multi(&mut client, &line);
        assert_eq!(reply, (i64::from(granted), singles), "step {step}: {line}");
        for key in KEYS {
            let [single, multi] = ["single", "multi"].map(|side| {
                let key = format!("{side}:{key}");
                let [digest]: [String; 1] = client.call(&format!("DEBUG DIGEST-VALUE {key}"));
                (digest, client.call::<i64>(&format!("PEXPIRETIME {key}")))
            });
            assert_eq!(multi, single, "step {step}: {key} after {line}");
        }
        outcomes[usize::from(granted)] += 1;
    }
    assert!(outcomes.iter().all(|&times| times > STEPS / 20), "{outcomes:?} denied and granted");
}

#[test]
fn a_grant_travels_whole_and_a_denial_not_at_all() {
    let mut server = Server::builder()
        .clock(NOON)
        .config("appendonly", "yes")
        .config("repl-ping-replica-period", "86400")
        .start();
    let mut client = server.client();
    let line = "2 bucket log TB 10 60 COST 4 SW 10 60 COST 4";
    assert_eq!(multi::<2>(&mut client, line).0, 1);
    assert_eq!(multi::<2>(&mut client, line).0, 1);
    let size = client.info("persistence", "aof_current_size");
    assert_eq!(multi::<2>(&mut client, line).0, 0);
    assert_eq!(client.info("persistence", "aof_current_size"), size);
    let before = stored(&mut client, &["bucket", "log"]);
    server.restart();
    assert_eq!(stored(&mut server.client(), &["bucket", "log"]), before);
}

#[test]
fn a_denial_is_not_seen_by_a_watching_transaction_and_a_grant_is() {
    let server = Server::at(NOON);
    let (mut watching, mut client) = (server.client(), server.client());
    for (cost, runs) in [(11, true), (10, false)] {
        watching.call::<()>("WATCH bucket log");
        multi::<2>(&mut client, &format!("2 bucket log TB 10 60 SW 10 60 COST {cost}"));
        watching.call::<()>("MULTI");
        watching.call::<Value>("PING");
        assert_eq!(watching.call::<Value>("EXEC") != Value::Nil, runs, "after a cost of {cost}");
    }
}

#[test]
fn a_key_of_another_type_is_refused_wherever_it_stands() {
    const ERROR: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB bucket 10 60");
    client.decide("RATELIMIT.SW log 10 60");
    client.call::<()>("SET text x");
    let before = stored(&mut client, &["bucket", "log", "text", "missing"]);
    for line in [
        "3 bucket log text TB 10 60 SW 10 60 TB 10 60",
        "3 text bucket log SW 10 60 TB 10 60 SW 10 60",
        "2 bucket log SW 10 60 SW 10 60",
        "2 bucket log TB 10 60 TB 10 60",
        "2 missing log TB 10 60 TB 10 60",
    ] {
        assert_eq!(client.refusal(&format!("RATELIMIT.MULTI {line}")), ERROR, "{line}");
        assert_eq!(stored(&mut client, &["bucket", "log", "text", "missing"]), before, "{line}");
    }
}

#[test]
fn a_line_that_breaks_the_syntax_is_refused_with_its_rule() {
    const ARITY: &str = "ERR wrong number of arguments for 'ratelimit.multi' command";
    const NUMKEYS: &str =
        "ERR numkeys must be an integer of at least 1 and followed by that many keys";
    const LIMITS: &str = "ERR limits must be as many as keys";
    const LIMIT: &str = "ERR limit must be an integer between 1 and";
    let server = Server::at(NOON);
    let mut client = server.client();
    for (line, error) in [
        ("", ARITY),
        ("1", ARITY),
        ("0 a TB 10 60", NUMKEYS),
        ("-1 a TB 10 60", NUMKEYS),
        ("01 a TB 10 60", NUMKEYS),
        ("one a TB 10 60", NUMKEYS),
        ("5 a TB 10 60", NUMKEYS),
        ("1000000000 a TB 10 60", NUMKEYS),
        ("18446744073709551615 a TB 10 60", NUMKEYS),
        ("18446744073709551616 a TB 10 60", NUMKEYS),
        ("2 a a TB 10 60 TB 10 60", "ERR key may be given only once"),
        ("3 a b a TB 10 60 TB 10 60 SW 10 60", "ERR key may be given only once"),
        ("1 a", ARITY),
        ("2 a b", ARITY),
        ("4 a b c d", LIMITS),
        ("2 a b TB 10 60", LIMITS),
        ("1 a TB 10 60 SW 10 60", LIMITS),
        ("1 a TB 10 60 COST 2 TB", LIMITS),
        ("1 a XX 10 60", "ERR algorithm must be TB, SW or FW"),
        ("2 a b TB 10 60 b 10 60", "ERR options must be BURST capacity or COST cost"),
        ("1 a TB 10 60 PARTIAL", "ERR options must be BURST capacity or COST cost"),
        ("1 a SW 10 60 BURST 5", "ERR options must be RESOLUTION seconds or COST cost"),
        ("1 a SW 10 60 PARTIAL", "ERR options must be RESOLUTION seconds or COST cost"),
        ("1 a TB 10 60 COST 1 COST 1", "ERR COST may be given only once"),
        ("2 a b TB 10 60 COST TB 10 60", "ERR cost must be an integer between 1 and 1000000000"),
        ("1 a TB 10 60 COST", "ERR COST must be followed by a cost"),
        ("1 a TB 0 60", &format!("{LIMIT} 1000000000")),
        ("2 a b TB 10 60 SW 1000001 86400", &format!("{LIMIT} 1000000 with this resolution")),
        ("1 a TB 10", ARITY),
        ("2 a b TB 10 60 SW 10", ARITY),
    ] {
        assert_eq!(client.refusal(&format!("RATELIMIT.MULTI {line}")), error, "{line}");
        assert_eq!(client.call::<i64>("DBSIZE"), 0, "{line}");
    }
}

fn take_one_by_one(client: &mut Client, limits: &[String; 3]) -> [[i64; 5]; 3] {
    let mut keys = ["a", "b", "c"].iter();
    limits.each_ref().map(|limit| {
        let (command, rest) = limit.split_once(' ').unwrap();
        let key = keys.next().unwrap();
        client.decide(&format!("RATELIMIT.{command} single:{key} {rest}"))
    })
}

/// Returns the reply to RATELIMIT.MULTI with these arguments.
#[track_caller]
fn multi<const KEYS: usize>(client: &mut Client, line: &str) -> Reply<KEYS> {
    let reply: Vec<Value> = client.call(&format!("RATELIMIT.MULTI {line}"));
    let (granted, keys) = reply.split_first().unwrap();
    let integers = |value: &Value| redis::from_redis_value_ref::<[i64; 5]>(value).unwrap();
    let keys: Vec<[i64; 5]> = keys.iter().map(integers).collect();
    (redis::from_redis_value_ref(granted).unwrap(), keys.try_into().unwrap())
}

/// Returns the values of keys, and their expiries.
fn stored(client: &mut Client, keys: &[&str]) -> Vec<(Option<Vec<u8>>, i64)> {
    let stored =
        |key| (client.call(&format!("DUMP {key}")), client.call(&format!("PEXPIRETIME {key}")));
    keys.iter().map(stored).collect()
}
