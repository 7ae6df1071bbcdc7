//! Generic commands on keys: limiter keys behave as keys of any other type.

use std::time::Duration;

use redis::Value;

use crate::harness::{Client, NOON, Server, Snapshot, eventually};

const KEYS: [&str; 3] = ["bucket", "log", "window"];

/// The replies to a peek of five units after [`fill`].
const LEFT: [[i64; 5]; 3] =
    [[0, 10, 4, 6_000, 36_000], [0, 10, 4, 60_000, 60_000], [0, 10, 4, 60_000, 60_000]];

#[test]
fn a_copy_is_equal_and_lives_its_own_life() {
    let server = Server::at(NOON);
    let mut client = server.client();
    fill(&mut client);
    for (key, left) in KEYS.into_iter().zip(LEFT) {
        let original = held(&mut client, key);
        for copy in [format!("COPY {key} copy"), format!("COPY {key} {key} DB 3")] {
            assert_eq!(client.call::<i64>(&copy), 1, "{copy}");
        }
        assert_eq!(held(&mut client, "copy"), original);
        take_all(&mut client, key);
        assert_eq!(held(&mut client, "copy"), original);
        assert_eq!(client.call::<i64>(&format!("COPY {key} copy")), 0, "nothing is replaced");
        assert_eq!(client.call::<i64>(&format!("COPY {key} copy REPLACE")), 1);
        assert_eq!(held(&mut client, "copy"), held(&mut client, key));
        client.call::<i64>("RATELIMIT.RESET copy");
        client.call::<()>("SELECT 3");
        assert_eq!(held(&mut client, key), original);
        assert_eq!(peek(&mut client, key, 5), left);
        client.call::<()>("SELECT 0");
    }
}

#[test]
fn a_key_that_moves_keeps_its_value_and_its_expiry() {
    let server = Server::at(NOON);
    let mut client = server.client();
    fill(&mut client);
    for key in KEYS {
        let original = held(&mut client, key);
        assert_eq!(client.call::<i64>(&format!("MOVE {key} 3")), 1);
        assert_eq!(peek(&mut client, key, 10)[0], 10, "another key may take its place");
        client.call::<()>("SELECT 3");
        assert_eq!(held(&mut client, key), original);
        client.call::<()>("SELECT 0");
    }
}

#[test]
fn a_key_that_is_renamed_keeps_its_value_and_its_expiry() {
    let server = Server::at(NOON);
    let mut client = server.client();
    fill(&mut client);
    for key in KEYS {
        let original = held(&mut client, key);
        client.call::<()>("SET taken value");
        assert_eq!(client.call::<i64>(&format!("RENAMENX {key} taken")), 0);
        assert_eq!(client.call::<i64>(&format!("RENAMENX {key} free")), 1);
        assert_eq!(held(&mut client, "free"), original);
        client.call::<()>("RENAME free taken");
        assert_eq!(held(&mut client, "taken"), original);
        assert_eq!(peek(&mut client, key, 10)[0], 10, "another key may take its place");
        // RENAME also replaces a limiter of another type.
        client.call::<()>(&format!("RENAME taken {}", KEYS[0]));
        assert_eq!(held(&mut client, KEYS[0]), original);
    }
}

#[test]
fn databases_that_are_swapped_take_their_limiters_along() {
    let server = Server::at(NOON);
    let mut client = server.client();
    fill(&mut client);
    let original = KEYS.map(|key| held(&mut client, key));
    client.call::<()>("SWAPDB 0 3");
    assert_eq!(KEYS.map(|key| peek(&mut client, key, 10)[0]), [10; 3]);
    client.call::<()>("SELECT 3");
    assert_eq!(KEYS.map(|key| held(&mut client, key)), original);
    assert_eq!([take_all(&mut client, KEYS[0]), take_all(&mut client, KEYS[1])], [4, 4]);
}

#[test]
fn what_is_flushed_starts_afresh() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for flush in ["FLUSHALL ASYNC", "FLUSHALL SYNC", "FLUSHDB ASYNC", "FLUSHDB SYNC"] {
        fill(&mut client);
        for copy in 0..200 {
            client.call::<i64>(&format!("COPY log copy:{copy}"));
        }
        client.call::<()>(flush);
        assert_eq!(client.call::<i64>("DBSIZE"), 0, "{flush}");
        assert_eq!(KEYS.map(|key| peek(&mut client, key, 10)[0]), [10; 3], "{flush}");
        eventually("everything is freed", || {
            (client.info("memory", "lazyfree_pending_objects") == "0").then_some(())
        });
    }
}

#[test]
fn what_is_deleted_in_any_way_starts_afresh() {
    for lazily in ["yes", "no"] {
        let server = Server::builder()
            .clock(NOON)
            .config("lazyfree-lazy-user-del", lazily)
            .config("lazyfree-lazy-server-del", lazily)
            .config("lazyfree-lazy-expire", lazily)
            .start();
        let mut client = server.client();
        for key in KEYS {
            for deletion in ["DEL KEY", "UNLINK KEY", "SET KEY value", "GETDEL KEY", "EXPIRE KEY 0"]
            {
                fill(&mut client);
                if deletion == "GETDEL KEY" {
                    client.call::<()>(&format!("SET {key} value"));
                }
                client.call::<Value>(&deletion.replace("KEY", key));
                if deletion == "SET KEY value" {
                    assert_eq!(client.call::<String>(&format!("TYPE {key}")), "string");
                    client.call::<String>(&format!("GETDEL {key}"));
                }
                assert_eq!(take_all(&mut client, key), 10, "{deletion} of a {key}");
            }
            server.clock().advance(Duration::from_secs(62));
            assert_eq!(client.call::<i64>(&format!("EXISTS {key}")), 0, "{key} expires");
        }
    }
}

#[test]
fn commands_for_other_types_are_refused_and_change_nothing() {
    let server = Server::at(NOON);
    let mut client = server.client();
    fill(&mut client);
    client.call::<()>("SADD set member");
    for key in KEYS {
        let before = held(&mut client, key);
        for command in [
            "GET KEY",
            "GETEX KEY PERSIST",
            "GETDEL KEY",
            "GETSET KEY value",
            "SET KEY value GET",
            "INCR KEY",
            "APPEND KEY value",
            "SETRANGE KEY 1 value",
            "GETBIT KEY 1",
            "STRLEN KEY",
            "LPUSH KEY value",
            "LRANGE KEY 0 -1",
            "HSET KEY field value",
            "SADD KEY member",
            "SUNION set KEY",
            "ZADD KEY 1 member",
            "ZUNIONSTORE other 1 KEY",
            "XADD KEY * field value",
            "PFADD KEY element",
            "GEOADD KEY 1 1 member",
            "SORT KEY",
        ] {
            let error = client.refusal(&command.replace("KEY", key));
            assert!(error.starts_with("WRONGTYPE "), "{command}: {error}");
        }
        assert_eq!(held(&mut client, key), before);
    }
}

#[test]
fn limiters_are_found_by_their_type() {
    let server = Server::at(NOON);
    let mut client = server.client();
    fill(&mut client);
    client.call::<()>("SET text value");
    for (key, name) in [("bucket", "ratelimTB"), ("log", "ratelimSW"), ("window", "ratelimFW")] {
        assert_eq!(client.call::<String>(&format!("TYPE {key}")), name);
        let scan: (String, Vec<String>) = client.call(&format!("SCAN 0 COUNT 100 TYPE {name}"));
        assert_eq!(scan, ("0".into(), vec![key.into()]));
    }
    client.call::<i64>("DEL text");
    let any: String = client.call("RANDOMKEY");
    assert!(KEYS.contains(&any.as_str()), "{any}");
    assert_eq!(client.call::<i64>("TOUCH bucket log window missing"), 3);
}

#[test]
fn object_answers_as_for_any_value() {
    let server = Server::at(NOON);
    let mut client = server.client();
    fill(&mut client);
    for key in KEYS {
        assert_eq!(client.call::<String>(&format!("OBJECT ENCODING {key}")), "raw");
        assert_eq!(client.call::<i64>(&format!("OBJECT REFCOUNT {key}")), 1);
        let error = client.refusal(&format!("OBJECT FREQ {key}"));
        assert!(error.starts_with("ERR An LFU maxmemory policy is not selected"), "{error}");
        assert_eq!(client.call::<i64>(&format!("OBJECT IDLETIME {key}")), 0);
        let described: String = client.call(&format!("DEBUG OBJECT {key}"));
        assert!(described.contains("encoding:raw serializedlength:"), "{described}");
    }
    server.clock().advance(Duration::from_secs(20));
    for key in KEYS {
        let idle = format!("OBJECT IDLETIME {key}");
        eventually("both keys are idle", || (client.call::<i64>(&idle) >= 20).then_some(()));
        peek(&mut client, key, 1);
        assert_eq!(client.call::<i64>(&idle), 0, "{key} was used");
    }
}

#[test]
fn calls_count_as_uses_under_a_policy_that_counts_them() {
    let server = Server::builder().clock(NOON).config("maxmemory-policy", "allkeys-lfu").start();
    let mut client = server.client();
    client.call::<()>("CONFIG SET lfu-log-factor 0");
    fill(&mut client);
    for key in KEYS {
        let frequency = format!("OBJECT FREQ {key}");
        let before: i64 = client.call(&frequency);
        for _ in 0..20 {
            take_all(&mut client, key);
        }
        let after: i64 = client.call(&frequency);
        assert_eq!(after, before + 20, "{key} was used");
    }
}

#[test]
fn a_user_may_shorten_the_life_of_a_limiter() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for key in KEYS {
        for expire in ["EXPIRE KEY 1", "PEXPIRE KEY 1000", "PEXPIREAT KEY 1800014401000"] {
            fill(&mut client);
            assert_eq!(client.call::<i64>(&expire.replace("KEY", key)), 1);
            assert_eq!(peek(&mut client, key, 5)[0], 0, "nothing else has changed");
            server.clock().advance(Duration::from_millis(1_001));
            assert_eq!(take_all(&mut client, key), 10, "a new {key} after {expire}");
            server.clock().set(NOON);
        }
        // The next grant sets the expiry that the key needs.
        fill(&mut client);
        let before = client.call::<i64>(&format!("PEXPIRETIME {key}"));
        client.call::<i64>(&format!("EXPIRE {key} 1"));
        client.decide(&take(key, 1));
        assert!(client.call::<i64>(&format!("PEXPIRETIME {key}")) >= before, "{key}");
    }
}

#[test]
fn a_user_may_keep_a_limiter_beyond_its_time() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for (key, left) in KEYS.into_iter().zip(LEFT) {
        for keep in ["PERSIST KEY", "EXPIRE KEY 86400", "EXPIRE KEY 86400 GT"] {
            server.clock().set(NOON);
            fill(&mut client);
            assert_eq!(client.call::<i64>(&keep.replace("KEY", key)), 1, "{keep}");
            assert_eq!(peek(&mut client, key, 5), left, "{keep} of a {key}");
            server.clock().advance(Duration::from_secs(3_600));
            assert_eq!(peek(&mut client, key, 10), [10, 10, 10, 0, 0], "{keep} of a {key}");
            assert_eq!(client.call::<i64>(&format!("RATELIMIT.REFUND {key} 1")), 0);
            assert_eq!(take_all(&mut client, key), 10);
            // The end of a fixed window does not move, so that its key gets no more time.
            let seconds = if key == "window" { 61 } else { 69 };
            assert_eq!(client.call::<i64>(&format!("TTL {key}")), seconds, "{key} after {keep}");
        }
        server.clock().set(NOON);
        fill(&mut client);
        assert_eq!(client.call::<i64>(&format!("EXPIRE {key} 86400 NX")), 0, "it has an expiry");
        assert_eq!(client.call::<i64>(&format!("EXPIRE {key} 86400 LT")), 0, "it is later");
    }
}

#[test]
fn a_dumped_value_is_restored_with_any_expiry() {
    let server = Server::at(NOON);
    let mut client = server.client();
    fill(&mut client);
    for key in KEYS {
        let before = held(&mut client, key);
        let payload: Vec<u8> = client.call(&format!("DUMP {key}"));
        for (options, expected) in [
            (&["0"][..], -1),
            (&["7000"], 1_800_014_407_000),
            (&["1800014460000", "ABSTTL"], 1_800_014_460_000),
            (&["9000", "IDLETIME", "5"], 1_800_014_409_000),
        ] {
            let (expires, options) = options.split_first().unwrap();
            let mut restore: Vec<&[u8]> = vec![b"RESTORE", b"copy", expires.as_bytes(), &payload];
            restore.extend(options.iter().map(|option| option.as_bytes()));
            client.send::<()>(&restore);
            assert_eq!(client.call::<Vec<u8>>("DUMP copy"), payload, "{options:?}");
            assert_eq!(client.call::<i64>("PEXPIRETIME copy"), expected, "{options:?}");
            let error = client.refusal_of(&restore);
            assert_eq!(error, "BUSYKEY Target key name already exists.");
            restore.push(b"REPLACE");
            client.send::<()>(&restore);
            client.call::<i64>("DEL copy");
        }
        assert_eq!(held(&mut client, key), before);
    }
}

/// Creates a bucket, a log and a fixed window, each with six of ten units in use.
fn fill(client: &mut Client) {
    client.call::<i64>("DEL bucket log window");
    for key in KEYS {
        assert_eq!(client.decide(&take(key, 6))[0], 6);
    }
}

fn take(key: &str, cost: u32) -> String {
    format!("RATELIMIT.{} {key} 10 60 COST {cost}", algorithm(key))
}

/// Takes all units that a key has left, and returns their number.
fn take_all(client: &mut Client, key: &str) -> i64 {
    client.decide(&format!("{} PARTIAL", take(key, 10)))[0]
}

fn peek(client: &mut Client, key: &str, cost: u32) -> [i64; 5] {
    client.decide(&format!("RATELIMIT.PEEK {key} {} 10 60 COST {cost}", algorithm(key)))
}

fn algorithm(key: &str) -> &'static str {
    match key {
        "bucket" => "TB",
        "log" => "SW",
        _ => "FW",
    }
}

/// Returns the digest and the expiry of a value, without the name of its key.
fn held(client: &mut Client, key: &str) -> (String, i64) {
    let Snapshot { digest, expiry, .. } = Snapshot::of(client, key);
    (digest, expiry)
}
