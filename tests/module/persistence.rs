//! Durability is byte equality: the data before a reload or a restart equals the data after it.

use std::sync::LazyLock;
use std::time::Duration;

use crate::harness::{Client, NOON, Server, eventually, slowdown};

/// The digest and the expiry of a value.
type Snapshot = (String, i64);

const KEYS: [&str; 5] = ["bucket", "burst", "log", "large", "window"];

/// A number of entries that exceeds one buffer of every format on the way, unless servers are slow.
static LARGE: LazyLock<u64> = LazyLock::new(|| 100_000 / u64::from(slowdown().unwrap_or(1)));

/// The stored form of a log with [`LARGE`] entries, each made by a call of its own.
static LARGE_LOG: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let server = Server::at(before_large());
    grow_large_log(&server);
    server.client().call("DUMP large")
});

/// Returns the time at which [`LARGE_LOG`] begins, so that it ends at noon.
fn before_large() -> u64 {
    NOON - 1_000 * *LARGE
}

#[test]
fn a_reload_keeps_values_expiries_and_decisions() {
    let server = Server::at(NOON);
    let mut client = server.client();
    fill(&server);
    let before = held(&mut client);
    client.call::<()>("DEBUG RELOAD");
    assert_eq!(held(&mut client), before);
    decides_as_if_never_restarted(&server);
}

#[test]
fn a_restart_from_a_snapshot_keeps_values_expiries_and_decisions() {
    let mut server = Server::at(NOON);
    fill(&server);
    let before = held(&mut server.client());
    server.client().call::<()>("SAVE");
    server.restart();
    assert_eq!(held(&mut server.client()), before);
    decides_as_if_never_restarted(&server);
}

#[test]
fn a_restart_from_the_append_only_file_keeps_values_expiries_and_decisions() {
    let mut server = Server::builder().clock(NOON).config("appendonly", "yes").start();
    fill(&server);
    let before = held(&mut server.client());
    server.restart();
    assert_eq!(held(&mut server.client()), before);
    decides_as_if_never_restarted(&server);
}

#[test]
fn a_restart_after_a_crash_keeps_values_expiries_and_decisions() {
    let mut server = Server::builder().clock(NOON).config("appendonly", "yes").start();
    fill(&server);
    let before = held(&mut server.client());
    server.kill();
    server.resume();
    assert_eq!(held(&mut server.client()), before);
    decides_as_if_never_restarted(&server);
}

#[test]
fn a_rewritten_append_only_file_keeps_values_expiries_and_decisions() {
    // With the preamble the rewritten file is a snapshot; without it, commands.
    for preamble in ["yes", "no"] {
        let mut server = Server::builder()
            .clock(NOON)
            .config("appendonly", "yes")
            .config("aof-use-rdb-preamble", preamble)
            .start();
        fill(&server);
        let before = held(&mut server.client());
        rewrite_append_only_file(&server);
        server.restart();
        assert_eq!(held(&mut server.client()), before, "preamble {preamble}");
        decides_as_if_never_restarted(&server);
    }
}

#[test]
fn a_rewritten_append_only_file_needs_no_command_that_an_operator_has_renamed() {
    let mut server = Server::builder()
        .clock(NOON)
        .config("appendonly", "yes")
        .config("aof-use-rdb-preamble", "no")
        .rename_command("UNLINK", "")
        .rename_command("DEL", "")
        .start();
    fill(&server);
    let before = held(&mut server.client());
    rewrite_append_only_file(&server);
    server.restart();
    assert_eq!(held(&mut server.client()), before);
    decides_as_if_never_restarted(&server);
}

#[test]
fn a_large_log_is_the_same_when_it_is_loaded_entry_by_entry() {
    let mut server = Server::builder().clock(before_large()).config("appendonly", "yes").start();
    grow_large_log(&server);
    server.restart();
    assert_eq!(server.client().call::<Vec<u8>>("DUMP large"), *LARGE_LOG);
}

#[test]
fn refunds_and_resets_survive_in_the_append_only_file() {
    let mut server = Server::builder().clock(NOON).config("appendonly", "yes").start();
    let mut client = server.client();
    fill(&server);
    for key in KEYS {
        assert_eq!(client.call::<i64>(&format!("RATELIMIT.REFUND {key} 3")), 3);
    }
    client.call::<i64>("RATELIMIT.RESET burst");
    let before = held(&mut client);
    server.restart();
    assert_eq!(held(&mut server.client()), before);
}

#[test]
fn a_key_that_became_whole_while_the_server_was_down_is_gone() {
    for appendonly in ["yes", "no"] {
        let mut server = Server::builder().clock(NOON).config("appendonly", appendonly).start();
        fill(&server);
        server.client().call::<()>("SAVE");
        server.stop();
        server.clock().advance(Duration::from_secs(86_411));
        server.resume();
        assert_eq!(server.client().call::<i64>("DBSIZE"), 0, "appendonly {appendonly}");
    }
}

/// Makes a log of [`LARGE`] entries in as many calls.
fn grow_large_log(server: &Server) {
    let mut client = server.client();
    for _ in 0..*LARGE {
        assert_eq!(client.decide("RATELIMIT.SW large 1000000 86400")[0], 1);
        server.clock().advance(Duration::from_millis(1));
    }
}

/// Creates keys of all types, with fractions, bursts, refunds and a large log.
fn fill(server: &Server) {
    let mut client = server.client();
    client.send::<()>(&[b"RESTORE", b"large", b"86400000", &LARGE_LOG]);
    for _ in 0..4 {
        client.decide("RATELIMIT.TB bucket 7 60");
        client.decide("RATELIMIT.TB burst 3 1 BURST 90 COST 20");
        client.decide("RATELIMIT.SW log 100 60 COST 4");
        client.decide("RATELIMIT.SW large 1000000 86400 COST 2");
        client.decide("RATELIMIT.FW window 100 60 COST 4");
        server.clock().advance(Duration::from_micros(1_234_567));
    }
    client.call::<i64>("RATELIMIT.REFUND log 5");
}

fn held(client: &mut Client) -> Vec<Snapshot> {
    let digest = |key| {
        let [digest]: [String; 1] = client.call(&format!("DEBUG DIGEST-VALUE {key}"));
        (digest, client.call(&format!("PEXPIRETIME {key}")))
    };
    KEYS.map(digest).into()
}

/// Asserts the replies that follow from [`fill`], which took 4.938268 s, to the millisecond.
fn decides_as_if_never_restarted(server: &Server) {
    let mut client = server.client();
    assert_eq!(client.decide("RATELIMIT.TB bucket 7 60 COST 4"), [0, 7, 3, 3_634, 29_348]);
    assert_eq!(client.decide("RATELIMIT.TB burst 3 1 BURST 90"), [1, 90, 23, 0, 22_062]);
    assert_eq!(client.decide("RATELIMIT.SW log 100 60 COST 90"), [0, 100, 89, 55_062, 57_531]);
    assert_eq!(client.decide("RATELIMIT.FW window 100 60 COST 90"), [0, 100, 84, 55_062, 55_062]);
    let large = i64::try_from(*LARGE).unwrap();
    assert_eq!(client.decide("RATELIMIT.PEEK large SW 1000000 86400")[2], 999_992 - large);
    let full = format!("RATELIMIT.PEEK large SW {} 86400", large + 8);
    assert_eq!(client.decide(&full)[3], 86_395_062 - large);
}

/// Rewrites the file and waits until the server uses the new one.
fn rewrite_append_only_file(server: &Server) {
    let mut client = server.client();
    client.call::<String>("BGREWRITEAOF");
    eventually("the append-only file is rewritten", || {
        // The order matters: a rewrite that starts between the two calls would seem finished
        // otherwise.
        let state = ["aof_rewrite_scheduled", "aof_rewrite_in_progress"];
        state.iter().all(|field| client.info("persistence", field) == "0").then_some(())
    });
    assert_eq!(client.info("persistence", "aof_last_bgrewrite_status"), "ok");
}
