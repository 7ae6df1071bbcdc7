//! Memory of values: its exact size, its release without a pause, its defragmentation.

use std::collections::HashMap;
use std::env;
use std::process::Command;
use std::time::Duration;

use redis::FromRedisValue;

use crate::harness::{Client, NOON, Random, Server, dumped, eventually, log};

/// A kind of keys that the tests create in large numbers.
#[derive(Clone, Copy)]
enum Kind {
    /// A string without an allocation of its own: the memory that a server needs for any key with
    /// an expiry.
    Number,
    Bucket,
    Window,
    /// A log with this number of entries.
    Log(u32),
}

impl Kind {
    const LOGS: [(Self, u32); 3] =
        [(Self::Log(10), 20_000), (Self::Log(1_000), 2_000), (Self::Log(100_000), 25)];

    fn fill(self, keys: u32, client: &mut Client) {
        let names = (0..keys).map(name);
        match self {
            Self::Number => {
                let set = |name| format!("SET {name} 1234567890 PXAT {EXPIRY_MILLIS}");
                client.calls::<()>(&names.map(set).collect::<Vec<_>>());
            }
            Self::Bucket => {
                let take = |name| format!("RATELIMIT.TB {name} 100 86400 COST 50");
                client.calls::<[i64; 5]>(&names.map(take).collect::<Vec<_>>());
            }
            Self::Window => {
                let take = |name| format!("RATELIMIT.FW {name} 100 86400 COST 50");
                client.calls::<[i64; 5]>(&names.map(take).collect::<Vec<_>>());
            }
            Self::Log(entries) => {
                let log = dump_of_log(client, entries, NOON);
                for name in names {
                    restore(client, &name, &log);
                }
            }
        }
    }
}

/// The time at which keys expire.
const EXPIRY_MILLIS: u64 = NOON / 1_000 + 86_400_000;

/// Returns the name of a key; all names have the same length.
fn name(index: u32) -> String {
    format!("key:{index:09}")
}

/// Returns the payload from which RESTORE makes a log with this number of entries.
fn dump_of_log(client: &mut Client, entries: u32, now: u64) -> Vec<u8> {
    client.decide("RATELIMIT.SW sample 1 1");
    let sample: Vec<u8> = client.call("DUMP sample");
    client.call::<i64>("DEL sample");
    dumped(&log(entries, now), &sample)
}

fn restore(client: &mut Client, key: &str, dump: &[u8]) {
    client.send::<()>(&[b"RESTORE", key.as_bytes(), b"86400000", dump]);
}

/// Bytes per key.
#[derive(Clone, Copy, Debug)]
struct Bytes {
    /// The growth of the used memory.
    grown: f64,
    /// The reply to MEMORY USAGE.
    told: f64,
}

impl Bytes {
    fn of(kind: Kind, keys: u32) -> Self {
        // Latency tracking would allocate a histogram at the first call of each command.
        let server = Server::builder().clock(NOON).config("latency-tracking", "no").start();
        let before = used_memory(&server);
        kind.fill(keys, &mut server.client());
        let grown = used_memory(&server) - before;
        let usage: Vec<_> = (0..keys).map(|key| format!("MEMORY USAGE {}", name(key))).collect();
        let told: f64 = server.client().calls::<f64>(&usage).iter().sum();
        Self { grown: grown / f64::from(keys), told: told / f64::from(keys) }
    }
}

/// Returns the used memory with one new client, after the server has finished rehashing.
fn used_memory(server: &Server) -> f64 {
    let mut client = server.client();
    eventually("all others are gone", || {
        (client.info("clients", "connected_clients") == "1").then_some(())
    });
    eventually("the hash tables have grown", || {
        let tables: String = client.call("DEBUG HTSTATS 0");
        (!tables.contains("rehashing target")).then_some(())
    });
    client.info("memory", "used_memory").parse().unwrap()
}

fn assert_close(told: f64, true_bytes: f64, what: &str) {
    let error = told / true_bytes - 1.0;
    assert!(error.abs() < 0.05, "{what}: {told} bytes for {true_bytes}, {error:+.3}");
}

#[test]
fn memory_usage_agrees_with_the_allocator() {
    let (number, bucket) = (Bytes::of(Kind::Number, 20_000), Bytes::of(Kind::Bucket, 20_000));
    // The memory that a server uses for a key and does not report: its hash tables.
    let untold = number.grown - number.told;
    // The object, the key and its entry of a hash table, unless the object contains the key.
    let apart = number.told >= f64::from(16 + 24 + name(0).len() as u32 + 2);
    if apart {
        assert_close(bucket.told, bucket.grown - untold, "bucket");
    } else {
        // Older servers of this kind count neither the object nor the key of a module's value;
        // newer servers count both.
        let error = bucket.told - (bucket.grown - untold);
        assert!((-60.0..20.0).contains(&error), "{bucket:?} {number:?}");
    }
    let window = Bytes::of(Kind::Window, 20_000);
    // A window has 16 bytes of state where a bucket has 32. Buffers of the server add up to a byte
    // for each key, which is much beside 16 bytes.
    for (what, saved) in
        [("told", bucket.told - window.told), ("grown", bucket.grown - window.grown)]
    {
        assert!((14.0..18.0).contains(&saved), "{what}: {window:?} {bucket:?}");
    }
    if apart {
        assert_close(window.told, window.grown - untold, "window");
    }
    for (kind, keys) in Kind::LOGS {
        let log = Bytes::of(kind, keys);
        let Kind::Log(entries) = kind else { continue };
        assert_close(log.told - bucket.told, log.grown - bucket.grown, &format!("{entries} more"));
        if apart {
            assert_close(log.told, log.grown - untold, &format!("{entries} entries"));
        }
    }
}

#[test]
fn a_large_log_is_freed_in_the_background_and_a_bucket_at_once() {
    let server = Server::builder()
        .clock(NOON)
        .config("lazyfree-lazy-user-del", "yes")
        .config("lazyfree-lazy-expire", "yes")
        .start();
    let mut client = server.client();
    let log = dump_of_log(&mut client, 100_000, NOON);
    for removal in ["UNLINK key", "DEL key", "RATELIMIT.RESET key"] {
        client.decide("RATELIMIT.TB key 100 86400 COST 50");
        assert_eq!(freed_in_background(&mut client, |client| remove(client, removal)), 0);
        restore(&mut client, "key", &log);
        assert_eq!(freed_in_background(&mut client, |client| remove(client, removal)), 1);
    }
    client.decide("RATELIMIT.TB bucket 100 60 COST 50");
    restore(&mut client, "key", &log);
    let freed = freed_in_background(&mut client, |client| {
        server.clock().advance(Duration::from_secs(86_401));
        eventually("both have expired", || {
            (client.call::<i64>("EXISTS key bucket") == 0).then_some(())
        });
    });
    assert_eq!(freed, 1, "keys that have expired");
}

#[test]
fn all_keys_can_be_freed_in_the_background() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for kind in [Kind::Bucket, Kind::Window, Kind::Log(1_000)] {
        kind.fill(1_000, &mut client);
        let flush = |client: &mut Client| client.call::<()>("FLUSHALL ASYNC");
        assert_eq!(freed_in_background(&mut client, flush), 1_000);
        assert_eq!(client.call::<i64>("DBSIZE"), 0);
    }
}

fn remove(client: &mut Client, removal: &str) {
    assert!(client.call::<i64>(removal) > 0, "{removal}");
    assert_eq!(client.call::<i64>("EXISTS key"), 0, "{removal}");
}

/// Returns the number of objects that the server frees in the background because of an action.
fn freed_in_background(client: &mut Client, mut act: impl FnMut(&mut Client)) -> u64 {
    let freed = |client: &mut Client| client.info("memory", "lazyfreed_objects").parse::<u64>();
    let before = freed(client).unwrap();
    act(client);
    eventually("everything is freed", || {
        (client.info("memory", "lazyfree_pending_objects") == "0").then_some(())
    });
    freed(client).unwrap() - before
}

#[test]
fn logs_are_moved_until_memory_is_less_fragmented() {
    const KEYS: u32 = 20_000;
    let server = Server::start();
    let mut client = server.client();
    let mut random = Random::new();
    let now = server_micros(&mut client);
    let logs: Vec<_> = (0..200).map(|length| dump_of_log(&mut client, 20 + length, now)).collect();
    for (key, log) in (0..KEYS).zip(logs.iter().cycle()) {
        restore(&mut client, &name(key), log);
    }
    client.calls::<[i64; 5]>(
        &(0..KEYS).map(|key| format!("RATELIMIT.TB bucket:{key} 9 86400")).collect::<Vec<_>>(),
    );
    let gone: Vec<_> = (0..KEYS).filter(|_| !random.once_in(4)).collect();
    client.calls::<i64>(
        &gone.iter().map(|&key| format!("DEL {} bucket:{key}", name(key))).collect::<Vec<_>>(),
    );
    let (held, fragmented) = (held(&mut client), fragmentation(&mut client));
    if !defragments(&mut client) {
        return;
    }
    eventually("keys are moved", || {
        let moved: u32 = client.info("stats", "active_defrag_key_hits").parse().unwrap();
        (moved > KEYS / 8).then_some(())
    });
    if has_small_pages(&mut client) {
        eventually("memory is less fragmented", || {
            (fragmentation(&mut client) - 1.0 < (fragmented - 1.0) / 2.0).then_some(())
        });
    }
    client.call::<()>("CONFIG SET activedefrag no");
    assert_eq!(self::held(&mut client), held);
    for key in (0..KEYS).filter(|key| gone.binary_search(key).is_err()) {
        let entries = i64::from(20 + key % 200);
        let key = name(key);
        let decision = client.decide(&format!("RATELIMIT.SW {key} 1000 86400 COST 2"));
        assert_eq!(decision[..3], [2, 1_000, 998 - entries]);
        assert_eq!(client.call::<i64>(&format!("RATELIMIT.REFUND {key} 1000")), entries + 2);
    }
}

#[test]
fn a_long_log_is_moved_in_steps_and_can_be_used_between_them() {
    const ENTRIES: u32 = 200_000;
    const STRINGS: u32 = 16_000;
    let server = Server::builder().clock(NOON).config("hz", "500").start();
    let mut client = server.client();
    let now = server_micros(&mut client);
    // The strings are as large as the buffers of a log. The server puts the buffers into the places
    // of deleted strings, so the buffers are far apart once all strings are deleted.
    let string = "x".repeat(240);
    let set = |index| format!("SET {index} {string}");
    client.calls::<()>(&(0..STRINGS).map(set).collect::<Vec<_>>());
    let delete = |index| format!("DEL {index}");
    client.calls::<i64>(&(0..STRINGS).step_by(4).map(delete).collect::<Vec<_>>());
    let log = dump_of_log(&mut client, ENTRIES, now);
    restore(&mut client, "log", &log);
    // A grant sets the expiry of the key, which the value notes. While the clock stands, no other grant
    // does.
    client.decide("RATELIMIT.SW log 1000000 86400");
    assert_eq!(client.call::<i64>("RATELIMIT.REFUND log 1"), 1);
    let restored: [String; 1] = client.call("DEBUG DIGEST-VALUE log");
    client.calls::<i64>(&(0..STRINGS).map(delete).collect::<Vec<_>>());
    if !defragments(&mut client) {
        return;
    }
    let many = if has_small_pages(&mut client) { 1_000 } else { 100 };
    let mut used = 0;
    eventually("many buffers of the log are moved", || {
        used += client.decide("RATELIMIT.SW log 1000000 86400")[0];
        let moved: u32 = client.info("stats", "active_defrag_hits").parse().unwrap();
        (moved > many).then_some(())
    });
    client.call::<()>("CONFIG SET activedefrag no");
    let steps: u32 = client.info("stats", "active_defrag_key_hits").parse().unwrap();
    assert!(steps > 1, "moved at once");
    assert_eq!(client.call::<i64>(&format!("RATELIMIT.REFUND log {used}")), used);
    assert_eq!(client.call::<[String; 1]>("DEBUG DIGEST-VALUE log"), restored);
}

/// Returns the digest of all values, and the expiries of the first keys.
fn held(client: &mut Client) -> (String, Vec<i64>) {
    let expiries: Vec<_> = (0..100).map(|key| format!("PEXPIRETIME {}", name(key))).collect();
    (client.call("DEBUG DIGEST"), client.calls(&expiries))
}

fn server_micros(client: &mut Client) -> u64 {
    let [seconds, micros]: [u64; 2] = client.call("TIME");
    seconds * 1_000_000 + micros
}

/// Returns the memory that the allocator holds for each byte in use.
fn fragmentation(client: &mut Client) -> f64 {
    client.info("memory", "allocator_frag_ratio").parse().unwrap()
}

/// Returns whether the allocator of the server has pages of 4 KiB. The allocator of
/// redis-stack-server has pages of 64 KiB: its slabs hold many values, and all slabs are about
/// equally full, so the allocator advises the server to move few values.
fn has_small_pages(client: &mut Client) -> bool {
    let statistics: String = client.call("MEMORY MALLOC-STATS");
    statistics.contains("Page size: 4096")
}

/// Turns defragmentation on. Returns false where the server's allocator does not support it.
fn defragments(client: &mut Client) -> bool {
    for setting in [
        "active-defrag-ignore-bytes 1",
        "active-defrag-threshold-lower 1",
        "active-defrag-threshold-upper 2",
        "active-defrag-cycle-min 10",
        "active-defrag-cycle-max 20",
    ] {
        client.call::<()>(&format!("CONFIG SET {setting}"));
    }
    match client.reply(&[b"CONFIG", b"SET", b"activedefrag", b"yes"]) {
        Ok(_) => true,
        Err(error) => {
            assert!(error.to_string().contains("cannot be enabled"), "{error}");
            false
        }
    }
}

#[test]
fn many_limiters_are_as_unremarkable_as_many_strings() {
    // The default is less than a million keys, which take a minute.
    let keys = env::var("RATELIMIT_TEST_KEYS").map_or(100_000, |keys| keys.parse().unwrap());
    let (limiters, strings) = (Server::at(NOON), Server::at(NOON));
    let (mut client, mut other) = (limiters.client(), strings.client());
    for batch in (0..keys).collect::<Vec<u32>>().chunks(10_000) {
        let take = |&key: &u32| match key % 10 {
            0..=1 => format!("RATELIMIT.FW {} 100 86400 COST 50", name(key)),
            2..=6 => format!("RATELIMIT.TB {} 100 86400 COST 50", name(key)),
            _ => format!("RATELIMIT.SW {} 100 86400 COST 50", name(key)),
        };
        client.calls::<[i64; 5]>(&batch.iter().map(take).collect::<Vec<_>>());
        let set = |key: &u32| format!("SET {} 12345 PXAT {EXPIRY_MILLIS}", name(*key));
        other.calls::<()>(&batch.iter().map(set).collect::<Vec<_>>());
    }
    let digest: String = client.call("DEBUG DIGEST");
    for client in [&mut client, &mut other] {
        client.call::<()>("DEBUG RELOAD");
    }
    assert_eq!(client.call::<String>("DEBUG DIGEST"), digest);
    assert_eq!(client.call::<u32>("DBSIZE"), keys);
    eventually("the server complains of nothing that strings do not cause", || {
        let tolerated = complaints(&mut other);
        let said = complaints(&mut client);
        said.iter().all(|complaint| tolerated.contains(complaint)).then_some(())
    });
    let stats: HashMap<String, redis::Value> = client.call("MEMORY STATS");
    assert_eq!(u32::from_redis_value_ref(&stats["keys.count"]).unwrap(), keys);
    for option in ["--bigkeys", "--memkeys"] {
        let told = redis_cli(&limiters, option);
        for name in ["ratelimTB", "ratelimSW", "ratelimFW"] {
            assert!(told.contains(name), "{option} does not name {name}:\n{told}");
        }
    }
}

/// Returns the complaints of MEMORY DOCTOR after MEMORY PURGE.
fn complaints(client: &mut Client) -> Vec<String> {
    client.call::<()>("MEMORY PURGE");
    let said: String = client.call("MEMORY DOCTOR");
    let titles = said.lines().filter_map(|line| line.trim().strip_prefix("* ")?.split_once(':'));
    titles.map(|(title, _)| title.to_owned()).collect()
}

/// Runs redis-cli, asserts that it succeeds, and returns its output.
fn redis_cli(server: &Server, option: &str) -> String {
    let port = server.port().to_string();
    let output = Command::new("redis-cli").args(["-p", &port, option]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}
