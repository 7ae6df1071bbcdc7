//! Reservations outside the memory of one server: in the replication stream, on disk, in INFO, in
//! key events, in clusters, and as bytes of any origin.

use std::fs;
use std::time::Duration;

use limiter::{
    Effect, Estimate, Instant, Limit, Origin, Reservation, ReservationEffect, Units, Window,
};

use crate::harness::{Client, Cluster, NOON, Random, Server, Snapshot, effect, repository, sealed};
use crate::module::hostile::apply;
use crate::module::reservations::{reserve, settle};

/// The time at which the committed reservation ends.
const END: u64 = NOON + 30_000_000;

#[test]
fn the_effects_of_a_call_travel_in_one_transaction() {
    let primary = Server::builder().clock(NOON).config("appendonly", "yes").start();
    let replica = Server::builder()
        .clock_of(&primary)
        .config("propagation-error-behavior", "panic")
        .replica_of(&primary)
        .start();
    replica.catch_up_with(&primary);
    let mut client = primary.client();
    let line = "job 30 3 a b c TB 10 60 COST 4 SW 10 60 COST 4 FW 10 60 COST 4";
    let same = |keys: &[&str]| {
        replica.catch_up_with(&primary);
        let held = Snapshot::all(&mut primary.client(), keys);
        Snapshot::assert_same(&held, &Snapshot::all(&mut replica.client(), keys));
    };
    reserve(&mut client, line);
    same(&["a", "b", "c", "job"]);
    assert_eq!(transactions(&mut client, &primary), [4]);
    primary.clock().advance(Duration::from_secs(1));
    // A repeated call has one effect, or none if the end does not move.
    reserve(&mut client, line);
    same(&["job"]);
    reserve(&mut client, &line.replace("30", "1"));
    assert_eq!(transactions(&mut client, &primary), [4, 1]);
    // One key is charged, one is unused again, one does not change; the reservation is deleted.
    assert_eq!(settle(&mut client, "job 3 a b c ACTUAL 9 0 4"), Some(vec![5, -4, 0]));
    same(&["a", "c"]);
    assert_eq!(replica.client().call::<i64>("DBSIZE"), 2);
    assert_eq!(transactions(&mut client, &primary), [4, 1, 3]);
    // Calls that change nothing send nothing.
    assert_eq!(settle(&mut client, "job 3 a b c ACTUAL 0 0 0"), None);
    assert_eq!(reserve(&mut client, "job 30 1 a TB 10 60 COST 9").0, 0);
    assert_eq!(transactions(&mut client, &primary), [4, 1, 3]);
    let calls = replica.client().info("commandstats", "cmdstat_ratelimit.apply");
    assert!(calls.starts_with("calls=8,"), "{calls}");
    let refusal = replica.client().refusal(&format!("RATELIMIT.RESERVE {line}"));
    assert!(refusal.starts_with("READONLY"), "{refusal}");
}

#[test]
fn a_reservation_survives_restarts_and_is_not_copied() {
    let mut server = Server::builder().clock(NOON).config("appendonly", "yes").start();
    let keys = ["a", "b", "job"];
    let mut client = server.client();
    reserve(&mut client, "job 30 2 a b SW 10 60 RESOLUTION 2 COST 4 FW 10 DAY COST 4");
    let before = Snapshot::all(&mut client, &keys);
    client.call::<()>("DEBUG RELOAD");
    Snapshot::assert_same(&before, &Snapshot::all(&mut client, &keys));
    server.restart();
    Snapshot::assert_same(&before, &Snapshot::all(&mut server.client(), &keys));
    server.client().call::<()>("CONFIG SET aof-use-rdb-preamble no");
    server.client().call::<String>("BGREWRITEAOF");
    crate::harness::eventually("the file is rewritten", || {
        (server.client().info("persistence", "aof_rewrite_in_progress") == "0").then_some(())
    });
    server.kill();
    server.resume();
    let mut client = server.client();
    Snapshot::assert_same(&before, &Snapshot::all(&mut client, &keys));
    // RESTORE is the exception to the rule that a reservation is not copied.
    let dump: Vec<u8> = client.call("DUMP job");
    client.send::<()>(&[b"RESTORE", b"moved", b"30000", &dump]);
    assert_eq!(settle(&mut client, "job 2 a b ACTUAL 1 1"), Some(vec![-3, -3]));
    let memory: u64 = client.call("MEMORY USAGE moved");
    assert!((100..1_000).contains(&memory), "{memory} bytes");
}

#[test]
fn grants_and_corrections_are_key_events_and_a_settlement_is_one() {
    let server = Server::builder().clock(NOON).config("notify-keyspace-events", "EA").start();
    let mut subscriber = crate::module::key_events::subscriber(&server);
    let mut client = server.client();
    let mut expect = |events: &[&str]| {
        assert_eq!(crate::module::key_events::events(&mut subscriber), events);
    };
    reserve(&mut client, "job 30 2 a b TB 10 60 COST 4 SW 10 60 COST 4");
    expect(&["ratelimit.grant a", "ratelimit.grant b"]);
    reserve(&mut client, "job 60 2 a b TB 10 60 COST 4 SW 10 60 COST 4");
    expect(&[]);
    settle(&mut client, "job 2 a b ACTUAL 5 0");
    expect(&[
        "ratelimit.grant a",
        "ratelimit.refund b",
        "del b",
        "ratelimit.settle job",
        "del job",
    ]);
    settle(&mut client, "job 2 a b ACTUAL 5 0");
    expect(&[]);
}

#[test]
fn info_counts_reservations_and_their_units() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let line = "job 30 2 a b TB 10 60 COST 4 SW 10 60 COST 4";
    reserve(&mut client, line);
    reserve(&mut client, line);
    reserve(&mut client, &line.replace("job", "other").replace("COST 4", "COST 7"));
    settle(&mut client, "job 2 a b ACTUAL 6 1");
    settle(&mut client, "job 2 a b ACTUAL 6 1");
    for (field, count) in [
        ("reservations_granted", 1),
        ("reservations_repeated", 1),
        ("reservations_denied", 1),
        ("reservations_settled", 1),
        ("token_bucket_granted", 2),
        ("token_bucket_granted_units", 6),
        ("token_bucket_denied", 1),
        ("sliding_window_granted", 1),
        ("sliding_window_refunded_units", 3),
        ("sliding_window_denied", 1),
    ] {
        let found = client.info("ratelimit", &format!("ratelimit_{field}"));
        assert_eq!(found, count.to_string(), "{field}");
    }
    let top: Vec<(String, i64)> = client.call("RATELIMIT.TOP");
    assert_eq!(top, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
}

#[test]
fn a_reservation_shares_the_slot_of_its_keys() {
    let cluster = Cluster::start();
    let (own, others) = (cluster.tag(0), cluster.tag(1));
    let mut client = cluster.node(0).client();
    let line = format!("{own}job 30 2 {own}a {own}b TB 10 60 COST 2 FW 10 60 COST 2");
    assert_eq!(reserve(&mut client, &line).0, 1);
    for line in [
        format!("RATELIMIT.RESERVE {others}job 30 1 {own}a TB 10 60"),
        format!("RATELIMIT.RESERVE {own}job 30 1 {others}a TB 10 60"),
        format!("RATELIMIT.SETTLE {others}job 2 {own}a {own}b"),
        format!("RATELIMIT.SETTLE {own}job 2 {own}a {others}b"),
    ] {
        let refusal = client.refusal(&line);
        assert_eq!(refusal, "CROSSSLOT Keys in request don't hash to the same slot", "{line}");
    }
    let line = format!("RATELIMIT.SETTLE {others}job 1 {others}a");
    assert!(client.refusal(&line).starts_with("MOVED "), "{line}");
    let line = format!("{own}job 2 {own}a {own}b ACTUAL 1 3");
    assert_eq!(settle(&mut client, &line), Some(vec![-1, 1]));
}

#[test]
fn committed_bytes_are_restored_and_applied_and_settled() {
    let server = Server::builder().clock(NOON).config("rdbcompression", "no").start();
    let mut client = server.client().acting_as_a_server();
    client.decide("RATELIMIT.TB a 10 60 COST 4");
    let value = committed("reservation-value");
    client.call::<()>("SET sample value");
    let sample: Vec<u8> = client.call("DUMP sample");
    let version = &sample[sample.len() - 10..][..2];
    client.send::<()>(&[b"RESTORE", b"restored", b"30000", &sealed(&value, version)]);
    let stored: Vec<u8> = client.call("DUMP restored");
    assert_eq!(stored[..stored.len() - 10], value);
    assert_eq!(settle(&mut client, "restored 1 a ACTUAL 1"), Some(vec![-3]));
    for name in ["reservation-effect", "extension-effect"] {
        apply(&mut client, "job", &committed(name)).unwrap();
    }
    assert_eq!(client.call::<u64>("PEXPIRETIME job"), END / 1_000 + 30_000);
    assert_eq!(settle(&mut client, "job 1 a ACTUAL 5"), Some(vec![1]));
    // The bytes are those that this version sends.
    assert_eq!(effect(END / 1_000, &whole()), committed("reservation-effect"));
    assert_eq!(effect(END / 1_000 + 30_000, &extension()), committed("extension-effect"));
}

#[test]
fn damaged_bytes_of_reservations_are_refused_or_usable() {
    let server = Server::builder().clock(NOON).config("sanitize-dump-payload", "yes").start();
    let mut client = server.client().acting_as_a_server();
    let mut random = Random::new();
    reserve(&mut client, "original 30 3 a b c TB 10 60 SW 10 60 RESOLUTION 1 FW 10 MONTH");
    let payload: Vec<u8> = client.call("DUMP original");
    let (value, version) = (&payload[..payload.len() - 10], &payload[payload.len() - 10..][..2]);
    let mut outcomes = [0, 0];
    for damaged in damages(value, &mut random) {
        client.call::<i64>("DEL victim");
        let restore: [&[u8]; 4] = [b"RESTORE", b"victim", b"30000", &sealed(&damaged, version)];
        let accepted = client.reply(&restore).is_ok();
        outcomes[usize::from(accepted)] += 1;
        use_reservation(&mut client, "victim");
    }
    for effect in [effect(END / 1_000, &whole()), effect(END / 1_000 + 30_000, &extension())] {
        for damaged in damages(&effect, &mut random) {
            for key in ["victim", "a", "original"] {
                let before: Option<Vec<u8>> = client.call(&format!("DUMP {key}"));
                let accepted = apply(&mut client, key, &damaged).is_ok();
                outcomes[usize::from(accepted)] += 1;
                let after: Option<Vec<u8>> = client.call(&format!("DUMP {key}"));
                assert!(accepted || after == before, "{key}: {}", damaged.escape_ascii());
            }
            use_reservation(&mut client, "victim");
            client.call::<i64>("DEL victim");
        }
    }
    assert!(outcomes.iter().all(|&times| times > 50), "{outcomes:?} refused and accepted");
    client.call::<()>("DEBUG RELOAD");
}

#[test]
fn arguments_of_any_bytes_are_refused_and_change_nothing() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let mut random = Random::new();
    let keys = ["a", "b", "job"];
    reserve(&mut client, "job 600 2 a b TB 10 60 COST 3 SW 10 60 COST 3");
    let before = Snapshot::all(&mut client, &keys);
    let line = "RATELIMIT.RESERVE new 30 2 a b TB 10 60 COST 2 SW 10 60 RESOLUTION 1 COST 2";
    for (line, numbers) in [
        (line, &[2, 3, 7, 8, 10, 12, 13, 15, 17][..]),
        ("RATELIMIT.SETTLE job 2 a b ACTUAL 3 3", &[2, 6, 7]),
    ] {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        for &number in numbers {
            for _ in 0..100 {
                let mut hostile = words.clone();
                let bytes = [&random.bytes(20)[..], b"\0\xff"].concat();
                hostile[number] = &bytes;
                let refusal = client.refusal_of(&hostile);
                assert!(refusal.starts_with("ERR "), "{refusal}");
                assert_eq!(refusal.lines().count(), 1, "{refusal}");
            }
            Snapshot::assert_same(&before, &Snapshot::all(&mut client, &keys));
        }
    }
    // Names of keys may have any bytes.
    for _ in 0..100 {
        let (key, name) = (random.bytes(300), random.bytes(300));
        if key == name {
            continue;
        }
        let reserve: [&[u8]; 8] =
            [b"RATELIMIT.RESERVE", &name, b"30", b"1", &key, b"TB", b"9", b"60"];
        client.send::<redis::Value>(&reserve);
        let settle: [&[u8]; 6] = [b"RATELIMIT.SETTLE", &name, b"1", &key, b"ACTUAL", b"0"];
        assert_eq!(client.send::<Vec<i64>>(&settle), [-1]);
    }
    assert_eq!(client.call::<i64>("DBSIZE"), 3);
}

/// Runs every command that can meet a reservation, and asserts that the server answers each.
fn use_reservation(client: &mut Client, key: &str) {
    for line in [
        format!("DUMP {key}"),
        format!("DEBUG DIGEST-VALUE {key}"),
        format!("MEMORY USAGE {key}"),
        format!("RATELIMIT.PEEK {key} TB 10 60"),
        format!("RATELIMIT.RESERVE {key} 1 1 other TB 1000000000 1"),
        format!("RATELIMIT.SETTLE {key} 1 other ACTUAL 0"),
        format!("RATELIMIT.SETTLE {key} 3 a b c ACTUAL 0 1000000000 2"),
    ] {
        if let Err(error) = client.try_call(&line) {
            assert!(error.code().is_some(), "{line}: {error}");
        }
    }
}

/// Returns every truncation, every flip of a bit, and some hundred random changes.
fn damages(bytes: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    crate::module::hostile::damages(bytes, random)
}

/// Returns the number of effects in each transaction of the append-only file; a call with one
/// effect has no transaction.
fn transactions(client: &mut Client, server: &Server) -> Vec<usize> {
    // The file is written before the reply to a call is sent.
    let _ = server;
    let directory: Vec<String> = client.call("CONFIG GET dir");
    let folder = fs::read_dir(format!("{}/appendonlydir", directory[1])).expect("the folder");
    let files = folder.map(|file| file.expect("a file").path());
    let changes = files.filter(|path| path.to_string_lossy().ends_with(".incr.aof"));
    let bytes: Vec<u8> = changes.flat_map(|path| fs::read(path).expect("bytes")).collect();
    let text = String::from_utf8_lossy(&bytes);
    let (mut transactions, mut inside) = (vec![], false);
    for line in text.lines() {
        match line {
            "MULTI" => {
                inside = true;
                transactions.push(0);
            }
            "EXEC" => inside = false,
            "ratelimit.apply" if inside => *transactions.last_mut().expect("a transaction") += 1,
            "ratelimit.apply" => transactions.push(1),
            _ => {}
        }
    }
    transactions
}

fn committed(name: &str) -> Vec<u8> {
    let file = fs::read_to_string(repository().join("tests/payloads/version-2.txt"));
    let file = file.expect("the committed payloads");
    let mut fields = file.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let (_, digits) = fields.find(|(field, _)| *field == name).expect("a line of that name");
    let digits = digits.trim();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// The reservation of the committed bytes, as a change.
fn whole() -> Effect {
    let units = |units| Units::new(units).unwrap();
    let limit = Limit::new(units(10), Window::from_millis(60_000).unwrap());
    let estimate =
        Estimate { key: b"a".to_vec(), cost: units(4), origin: Origin::TokenBucket { limit } };
    let ttl = Window::from_millis(30_000).unwrap();
    let reservation = Reservation::new(vec![estimate], ttl, Instant::from_micros(NOON)).unwrap();
    Effect::Reservation(ReservationEffect::Whole(reservation))
}

/// A later end of this reservation.
fn extension() -> Effect {
    let [time, end] = [NOON, END + 30_000_000].map(Instant::from_micros);
    Effect::Reservation(ReservationEffect::Extension { time, end })
}
