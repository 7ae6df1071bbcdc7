//! Denied calls change nothing: no key, no stream, no file, no counter.

use std::io::Write;

use crate::harness::{Client, NOON, Server, eventually, exchange};

/// Calls that fill a bucket, a log and a fixed window, except for two units each.
const FILL: [&str; 3] = [
    "RATELIMIT.TB bucket 10 60 COST 8",
    "RATELIMIT.SW log 10 60 COST 8",
    "RATELIMIT.FW window 10 60 COST 8",
];

/// Calls that must change nothing.
const FREE: [&str; 24] = [
    "RATELIMIT.TB bucket 10 60 COST 3",
    "RATELIMIT.TB bucket 10 60 COST 11",
    "RATELIMIT.TB bucket 7 60 COST 5 PARTIAL",
    "RATELIMIT.TB bucket 10 1 BURST 8",
    "RATELIMIT.TB missing 10 60 COST 11",
    "RATELIMIT.SW log 10 60 COST 3",
    "RATELIMIT.SW log 10 60 COST 11",
    "RATELIMIT.SW log 7 60 COST 5 PARTIAL",
    "RATELIMIT.SW missing 10 60 COST 11",
    "RATELIMIT.SW log 10 60 RESOLUTION 1 COST 3",
    "RATELIMIT.FW window 10 60 COST 3",
    "RATELIMIT.FW window 10 60 COST 11",
    "RATELIMIT.FW window 7 DAY COST 5 PARTIAL",
    "RATELIMIT.FW window 8 MONTH",
    "RATELIMIT.FW missing 10 YEAR COST 11",
    "RATELIMIT.MULTI 2 log window SW 10 60 FW 10 60 COST 3",
    "RATELIMIT.PEEK window FW 10 60",
    "RATELIMIT.MULTI 2 bucket log TB 10 60 SW 10 60 COST 3",
    "RATELIMIT.MULTI 2 log missing SW 10 60 TB 10 60 COST 11",
    "RATELIMIT.PEEK bucket TB 10 60",
    "RATELIMIT.PEEK log SW 10 60",
    "RATELIMIT.PEEK missing TB 10 60",
    "RATELIMIT.REFUND missing 1",
    "RATELIMIT.RESET missing",
];

/// Calls that change something, so that a test that cannot detect a change fails.
const CHANGING: [&str; 13] = [
    "RATELIMIT.TB bucket 10 60",
    "RATELIMIT.TB bucket 10 60 COST 9 PARTIAL",
    "RATELIMIT.SW log 10 60",
    "RATELIMIT.SW log 10 60 COST 9 PARTIAL",
    "RATELIMIT.MULTI 2 bucket log TB 10 60 SW 10 60",
    "RATELIMIT.FW window 10 60",
    "RATELIMIT.FW window 10 60 COST 9 PARTIAL",
    "RATELIMIT.TB bucket 10 60 COST 9 FORCE",
    "RATELIMIT.SW log 10 60 COST 9 FORCE",
    "RATELIMIT.FW window 10 60 COST 9 FORCE",
    "RATELIMIT.REFUND window 1",
    "RATELIMIT.REFUND bucket 1",
    "RATELIMIT.RESET log",
];

#[test]
fn a_free_call_leaves_value_and_expiry() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for (calls, changes) in [(&FREE[..], false), (&CHANGING[..], true)] {
        for call in calls {
            fill(&mut client);
            server.clock().advance(std::time::Duration::from_micros(1_500));
            let before = values(&mut client);
            client.call::<redis::Value>(call);
            assert_eq!(values(&mut client) != before, changes, "{call}");
        }
    }
}

#[test]
fn a_free_call_leaves_replication_stream_and_dirty_counter_and_append_only_file() {
    // Without a ping to the replica, nothing but the calls can move the replication offset.
    let server = Server::builder()
        .clock(NOON)
        .config("appendonly", "yes")
        .config("repl-ping-replica-period", "86400")
        .start();
    let replica = Server::builder().clock_of(&server).replica_of(&server).start();
    let mut client = server.client();
    eventually("the replica follows", || {
        (replica.client().info("replication", "master_link_status") == "up").then_some(())
    });
    for (calls, changes) in [(&FREE[..], false), (&CHANGING[..], true)] {
        for call in calls {
            fill(&mut client);
            let before = written(&mut client);
            client.call::<redis::Value>(call);
            let after = written(&mut client);
            let differs = [0, 1, 2].map(|index| before[index] != after[index]);
            assert_eq!(differs, [changes; 3], "{call}: {before:?}, then {after:?}");
        }
    }
}

#[test]
fn a_free_call_leaves_watched_keys_unchanged() {
    let server = Server::at(NOON);
    let (mut client, mut watcher) = (server.client(), server.client());
    for (calls, changes) in [(&FREE[..], false), (&CHANGING[..], true)] {
        for call in calls {
            fill(&mut client);
            watcher.call::<()>("WATCH bucket log window missing");
            client.call::<redis::Value>(call);
            watcher.call::<()>("MULTI");
            watcher.call::<()>("PING");
            let executed: Option<Vec<String>> = watcher.call("EXEC");
            assert_eq!(executed.is_none(), changes, "{call}");
        }
    }
}

#[test]
fn a_free_call_invalidates_no_client_side_cache() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let mut tracker = server.socket();
    tracker.write_all(b"HELLO 3\r\nCLIENT TRACKING ON\r\n").unwrap();
    for (calls, changes) in [(&FREE[..], false), (&CHANGING[..], true)] {
        for call in calls {
            fill(&mut client);
            exchange(&mut tracker, "EXISTS bucket log window missing");
            client.call::<redis::Value>(call);
            let received = exchange(&mut tracker, "");
            assert_eq!(received.contains("invalidate"), changes, "{call}: {received}");
        }
    }
}

#[test]
fn a_free_call_publishes_no_key_event() {
    let server = Server::builder().clock(NOON).config("notify-keyspace-events", "KEA").start();
    let mut client = server.client();
    let mut subscriber = server.socket();
    subscriber.write_all(b"HELLO 3\r\nPSUBSCRIBE __keyspace@0__:*\r\n").unwrap();
    for (calls, changes) in [(&FREE[..], false), (&CHANGING[..], true)] {
        for call in calls {
            fill(&mut client);
            exchange(&mut subscriber, "");
            client.call::<redis::Value>(call);
            let received = exchange(&mut subscriber, "");
            assert_eq!(received.contains("pmessage"), changes, "{call}: {received}");
        }
    }
}

fn fill(client: &mut Client) {
    client.call::<i64>("RATELIMIT.RESET bucket log window");
    for call in FILL {
        client.decide(call);
    }
}

fn values(client: &mut Client) -> Vec<(Option<Vec<u8>>, i64)> {
    ["bucket", "log", "window", "missing"]
        .map(|key| {
            (client.call(&format!("DUMP {key}")), client.call(&format!("PEXPIRETIME {key}")))
        })
        .into()
}

/// Returns the replication offset, the changes since the last save, and the size of the append-only
/// file.
fn written(client: &mut Client) -> [String; 3] {
    [
        client.info("replication", "master_repl_offset"),
        client.info("persistence", "rdb_changes_since_last_save"),
        client.info("persistence", "aof_current_size"),
    ]
}
