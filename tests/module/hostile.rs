//! Hostile input of any bytes and any length, and hostile stored bytes: neither stops the server or
//! changes other data.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use limiter::{
    Effect, FixedLimit, FixedWindow, Instant, Limit, Limiter, LogEffect, LogLimit, Period, Request,
    SlidingWindowLog, TokenBucket, Units, Window,
};
use redis::Value;

use crate::harness::{Client, NOON, Random, Server, effect, sealed};

/// Keys that hostile commands name although they hold other types.
const WITNESSES: [&str; 3] = ["text", "list", "hash"];

#[test]
fn random_commands_get_an_answer_and_touch_nothing_else() {
    const BATCHES: usize = 300;
    const BATCH: usize = 1_000;
    let server = Server::at(NOON);
    let mut client = server.client();
    let witnesses = create_witnesses(&mut client);
    let mut random = Random::new();
    let mut socket = server.socket();
    // On servers where only servers may send effects, this client counts as a server.
    socket.write_all(b"DEBUG MARK-INTERNAL-CLIENT\r\n").unwrap();
    for _ in 0..BATCHES {
        let mut batch = vec![];
        for _ in 0..BATCH {
            encode(&random_command(&mut random), &mut batch);
        }
        answers_all(&mut socket, &batch, &server);
        server.clock().advance(Duration::from_micros(random.bits() % 1_000_000));
    }
    assert_eq!(dumps(&mut client), witnesses);
    // Every stored value can be saved and loaded again.
    let before = everything(&mut client);
    client.call::<()>("DEBUG RELOAD");
    assert_eq!(everything(&mut client), before);
}

#[test]
fn damaged_payloads_of_a_bucket_are_refused_or_usable() {
    let server = Server::builder().clock(NOON).config("sanitize-dump-payload", "yes").start();
    server.client().decide("RATELIMIT.TB original 100 60 BURST 150 COST 7");
    survives_damaged_payloads(&server);
}

#[test]
fn damaged_payloads_of_a_log_are_refused_or_usable() {
    let server = Server::builder().clock(NOON).config("sanitize-dump-payload", "yes").start();
    for step in 0..120 {
        let cost = 1 + step % 5;
        server.client().decide(&format!("RATELIMIT.SW original 1000 60 COST {cost}"));
        server.clock().advance(Duration::from_micros(1_000 + step * 7));
    }
    survives_damaged_payloads(&server);
}

#[test]
fn damaged_effects_are_refused_or_usable() {
    let server = Server::at(NOON);
    let mut client = server.client().acting_as_a_server();
    let witnesses = create_witnesses(&mut client);
    let mut random = Random::new();
    for effect in effects() {
        for key in ["missing", "bucket", "log", "text"] {
            for damaged in damages(&effect, &mut random) {
                client.call::<i64>("RATELIMIT.RESET missing bucket log");
                client.decide("RATELIMIT.TB bucket 100 60 COST 5");
                client.decide("RATELIMIT.SW log 100 60 COST 5");
                let before: Option<Vec<u8>> = client.call(&format!("DUMP {key}"));
                let refused = apply(&mut client, key, &damaged).is_err();
                let after: Option<Vec<u8>> = client.call(&format!("DUMP {key}"));
                assert!(!refused || after == before, "{key}: {}", damaged.escape_ascii());
                use_key(&mut client, key);
            }
        }
    }
    assert_eq!(dumps(&mut client), witnesses);
}

#[test]
fn effects_as_they_are_sent_are_accepted() {
    let server = Server::at(NOON);
    let mut client = server.client().acting_as_a_server();
    client.decide("RATELIMIT.SW log 100 60 COST 9");
    client.decide("RATELIMIT.TB gone 100 60");
    let keys = ["bucket", "whole log", "log", "log", "fixed", "gone"];
    for (effect, key) in effects().iter().zip(keys) {
        assert_eq!(apply(&mut client, key, effect).unwrap(), Value::Okay, "{key}");
    }
    assert_eq!(client.decide("RATELIMIT.PEEK bucket TB 100 60"), [1, 100, 95, 0, 3_000]);
    assert_eq!(client.decide("RATELIMIT.PEEK log SW 100 60"), [1, 100, 89, 0, 60_000]);
    assert_eq!(client.call::<i64>("EXISTS gone"), 0);
}

/// Sends a batch of commands, and waits until the server has answered all of them.
fn answers_all(socket: &mut TcpStream, batch: &[u8], server: &Server) {
    const MARK: &[u8] = b"all of them were answered";
    let mut request = batch.to_vec();
    encode(&[b"ECHO".to_vec(), MARK.to_vec()], &mut request);
    // The test reads answers while it writes commands; otherwise both sides would wait for each
    // other.
    let mut writer = socket.try_clone().unwrap();
    let answered = std::thread::scope(|scope| {
        let written = scope.spawn(move || writer.write_all(&request));
        let mut received = vec![];
        let mut chunk = [0; 65_536];
        while !received.ends_with(&[MARK, b"\r\n"].concat()) {
            match socket.read(&mut chunk) {
                Ok(length @ 1..) => received.extend(&chunk[..length]),
                _ => return false,
            }
            let excess = received.len().saturating_sub(MARK.len() + 2);
            received.drain(..excess);
        }
        written.join().unwrap().is_ok()
    });
    assert!(answered, "the server has closed the connection\n{}", server.log());
}

/// Encodes a command as a client sends it.
fn encode(arguments: &[Vec<u8>], bytes: &mut Vec<u8>) {
    bytes.extend(format!("*{}\r\n", arguments.len()).bytes());
    for argument in arguments {
        bytes.extend(format!("${}\r\n", argument.len()).bytes());
        bytes.extend(argument);
        bytes.extend(b"\r\n");
    }
}

/// Returns a command of the module with any arguments, or a command of the server on its keys.
fn random_command(random: &mut Random) -> Vec<Vec<u8>> {
    const OWN: [&str; 15] = [
        "TB", "SW", "FW", "MULTI", "PEEK", "REFUND", "RESET", "TOP", "APPLY", "ACQUIRE", "RENEW",
        "RELEASE", "HOLDERS", "RESERVE", "SETTLE",
    ];
    const VALUE: [&str; 8] =
        ["DUMP", "MEMORY USAGE", "DEBUG DIGEST-VALUE", "PERSIST", "TYPE", "UNLINK", "DEL", "PTTL"];
    if random.once_in(10) {
        let words = random.pick(&VALUE);
        let mut command: Vec<_> = words.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        command.push(random.pick(&LIMITER_KEYS).into());
        return command;
    }
    if random.once_in(500) {
        let count = random.pick(&["0", "1", "3", "128"]);
        return ["CONFIG", "SET", "ratelimit.top-keys", count].map(|word| word.into()).into();
    }
    let name = random.pick(&OWN);
    let mut command = vec![format!("RATELIMIT.{name}").into_bytes()];
    // Half of the commands begin with valid arguments, so that the server reads the other
    // arguments.
    if random.once_in(2) {
        let start = match name {
            "MULTI" => random.pick(&[
                "1 KEY TB 10 60",
                "2 KEY KEY TB 10 60 SW 10 60",
                "3 KEY KEY KEY SW 1000000 31622400 TB 1 0.001 COST 2 SW 7 1",
                "2 KEY KEY FW 10 DAY FW 7 60 ANCHOR 1 COST 2",
            ]),
            "PEEK" => random.pick(&[
                "KEY TB 10 60",
                "KEY SW 10 60",
                "KEY TB 1000000000 31622400",
                "KEY FW 10 60",
                "KEY FW 10 FROM 0 UNTIL 1",
            ]),
            "REFUND" | "RESET" | "APPLY" | "RELEASE" | "HOLDERS" => "KEY",
            "ACQUIRE" => random.pick(&["KEY 10 60 a", "KEY 1000000000 31622400 b", "KEY 1 0.001"]),
            "RENEW" => random.pick(&["KEY 60", "KEY 60 a", "KEY 0.001 FENCED"]),
            "RESERVE" => random
                .pick(&["KEY 60 1 KEY TB 10 60", "KEY 0.001 2 KEY KEY SW 10 60 TB 1 0.001 COST 2"]),
            "SETTLE" => random.pick(&["KEY 1 KEY", "KEY 1 KEY ACTUAL 5", "KEY 2 KEY KEY ACTUAL 0"]),
            "TOP" => "COUNT",
            "FW" => random.pick(&["KEY 10 60", "KEY 1 MONTH", "KEY 1000000000 YEAR", "KEY 7 FROM"]),
            _ => random.pick(&["KEY 10 60", "KEY 1 0.001", "KEY 1000000 31622400", "KEY 7 1"]),
        };
        command.extend(start.split(' ').map(|word| match word {
            "KEY" => random_key(random),
            word => word.into(),
        }));
    }
    let most = if random.once_in(200) { 2_000 } else { 8 };
    for _ in 0..random.below(most) {
        command.push(random_argument(random));
    }
    command
}

const LIMITER_KEYS: [&str; 5] = ["a", "b", "c", "", "\0"];

fn random_key(random: &mut Random) -> Vec<u8> {
    match random.below(10) {
        0 => random.pick(&WITNESSES).into(),
        1 => random.bytes(20),
        _ => random.pick(&LIMITER_KEYS).into(),
    }
}

fn random_argument(random: &mut Random) -> Vec<u8> {
    const WORDS: [&str; 24] = [
        "BURST",
        "burst",
        "COST",
        "cost",
        "PARTIAL",
        "partial",
        "TB",
        "SW",
        "NaN",
        "-1",
        "FW",
        "FORCE",
        "force",
        "RESOLUTION",
        "ANCHOR",
        "FROM",
        "UNTIL",
        "DAY",
        "week",
        "MONTH",
        "YEAR",
        "until",
        "FENCED",
        "a",
    ];
    const NUMBERS: [&str; 14] = [
        "0",
        "1",
        "2",
        "60",
        "0.001",
        "1000000",
        "1000001",
        "1000000000",
        "1000000001",
        "31622400",
        "31622400.001",
        "9223372036854775807",
        "18446744073709551615",
        "0.0000000000000000000000000000001",
    ];
    match random.below(12) {
        0 => random.bytes(40),
        1 if random.once_in(50) => random.bytes(100_000),
        1 | 2 => random_key(random),
        3..=6 => random.pick(&WORDS).into(),
        7 => (random.bits() >> random.below(64)).to_string().into_bytes(),
        8 => {
            let mut effect = effects()[random.below(6)].clone();
            let length = effect.len();
            effect[random.below(length)] ^= 1 << random.below(8);
            effect
        }
        _ => random.pick(&NUMBERS).into(),
    }
}

/// Restores the payload of the key `original` with every damage.
pub(crate) fn survives_damaged_payloads(server: &Server) {
    let mut client = server.client();
    let witnesses = create_witnesses(&mut client);
    let payload: Vec<u8> = client.call("DUMP original");
    let footer = payload.len() - 10;
    let (value, version) = (&payload[..footer], &payload[footer..footer + 2]);
    assert_eq!(sealed(value, version), payload, "the checksum is the server's own");
    let mut random = Random::new();
    let (mut accepted, mut refused) = (0, 0);
    for damaged in damages(value, &mut random) {
        let restore: [&[u8]; 5] =
            [b"RESTORE", b"victim", b"0", &sealed(&damaged, version), b"REPLACE"];
        match client.reply(&restore) {
            Ok(_) => {
                accepted += 1;
                use_key(&mut client, "victim");
                client.call::<i64>("DEL victim");
            }
            Err(error) => {
                assert_eq!(error.detail(), Some("Bad data format"), "{}", damaged.escape_ascii());
                refused += 1;
            }
        }
    }
    assert!(accepted > 0 && refused > 0, "{accepted} accepted, {refused} refused");
    assert_eq!(dumps(&mut client), witnesses);
    assert_eq!(client.call::<Vec<u8>>("DUMP original"), payload);
}

/// Returns every truncation, every flip of a bit, and some hundred random changes.
pub(crate) fn damages(bytes: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let truncated = (0..bytes.len()).map(|length| bytes[..length].to_vec());
    let flipped = (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    });
    let scrambled = (0..300).map(|_| {
        let mut scrambled = bytes.to_vec();
        for _ in 0..=random.below(6) {
            scrambled[random.below(bytes.len())] = random.pick(&[0, 1, 0x7f, 0x80, 0xff]);
        }
        scrambled
    });
    truncated.chain(flipped).chain(scrambled).collect()
}

/// Returns one effect of each kind, as a primary sends it.
fn effects() -> [Vec<u8>; 6] {
    let now = Instant::from_micros(NOON);
    let window = Window::from_millis(60_000).unwrap();
    let [units, refunded, limit] = [5, 3, 100].map(|units| Units::new(units).unwrap());
    let (limit, five) = (Limit::new(limit, window), Request::all(units));
    let mut bucket = TokenBucket::new();
    bucket.take(&limit, five, now);
    let mut log = SlidingWindowLog::new();
    log.take(&LogLimit::new(limit.limit, window), five, now);
    let mut fixed = FixedWindow::new();
    let period = Period::every(window);
    fixed.take(&FixedLimit { limit: limit.limit, period }, five, now);
    let expiry_millis = NOON / 1_000 + 60_000;
    [
        (expiry_millis, Effect::TokenBucket(bucket)),
        (expiry_millis, Effect::SlidingWindowLog(LogEffect::Whole(log))),
        (expiry_millis, Effect::SlidingWindowLog(LogEffect::Grant { time: now, window, units })),
        (expiry_millis, Effect::SlidingWindowLog(LogEffect::Refund { time: now, units: refunded })),
        (expiry_millis, Effect::FixedWindow(fixed)),
        (0, Effect::Deletion),
    ]
    .map(|(expiry_millis, change)| effect(expiry_millis, &change))
}

pub(crate) fn apply(
    client: &mut Client,
    key: &str,
    effect: &[u8],
) -> Result<Value, redis::RedisError> {
    client.reply(&[b"RATELIMIT.APPLY", key.as_bytes(), effect])
}

/// Runs every command that reads or changes a key, and asserts that the server answers each of
/// them.
pub(crate) fn use_key(client: &mut Client, key: &str) {
    for line in [
        format!("RATELIMIT.PEEK {key} TB 100 60"),
        format!("RATELIMIT.PEEK {key} SW 100 60"),
        format!("RATELIMIT.PEEK {key} FW 100 60"),
        format!("DUMP {key}"),
        format!("DEBUG DIGEST-VALUE {key}"),
        format!("MEMORY USAGE {key}"),
        format!("RATELIMIT.TB {key} 1000000000 31622400"),
        format!("RATELIMIT.SW {key} 1000000 31622400"),
        format!("RATELIMIT.SW {key} 1 60 RESOLUTION 7 COST 1000000000 FORCE"),
        format!("RATELIMIT.FW {key} 1000000000 YEAR"),
        format!("RATELIMIT.FW {key} 1 60 COST 1000000000 FORCE"),
        format!("RATELIMIT.REFUND {key} 1000000000"),
        format!("RATELIMIT.ACQUIRE {key} 1000000000 31622400 worker COST 5"),
        format!("RATELIMIT.RENEW {key} 31622400 worker worker-1"),
        format!("RATELIMIT.HOLDERS {key} COUNT 10000"),
        format!("RATELIMIT.RELEASE {key} worker worker-1"),
        format!("RATELIMIT.RESERVE {key} 60 1 reserved TB 10 60"),
        format!("RATELIMIT.SETTLE {key} 1 reserved ACTUAL 3"),
    ] {
        let arguments: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        if let Err(error) = client.reply(&arguments) {
            assert!(error.code().is_some(), "{line}: {error}");
        }
    }
}

/// Returns all keys that have not expired, the digests of their values, and their expiries.
fn everything(client: &mut Client) -> Vec<(Vec<u8>, String, i64)> {
    let mut keys: Vec<Vec<u8>> = client.call("KEYS *");
    keys.sort();
    let held = |key: Vec<u8>| {
        let [digest]: [String; 1] = client.send(&[b"DEBUG", b"DIGEST-VALUE", &key]);
        let expiry_millis = client.send(&[b"PEXPIRETIME", &key]);
        (key, digest, expiry_millis)
    };
    keys.into_iter().map(held).collect()
}

pub(crate) fn create_witnesses(client: &mut Client) -> Vec<Vec<u8>> {
    client.call::<()>("SET text value");
    client.call::<()>("RPUSH list a b c");
    client.call::<()>("HSET hash field value");
    dumps(client)
}

pub(crate) fn dumps(client: &mut Client) -> Vec<Vec<u8>> {
    WITNESSES.map(|key| client.call(&format!("DUMP {key}"))).into()
}
