//! Whoever joins while grants are made misses none: a replica, and an append-only file.
//!
//! The module sends its changes only while somebody receives them, so the moments at which
//! somebody joins are those at which one could be lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::harness::{Server, eventually};

/// Enough keys that each is changed many times, and few enough to compare them all.
const KEYS: u64 = 50;

#[test]
fn a_replica_that_joins_under_load_misses_nothing() {
    let primary = Server::start();
    let replica = Server::start();
    let replicaof = format!("REPLICAOF 127.0.0.1 {}", primary.port());
    under_load(&primary, |granted| {
        let mut client = replica.client();
        for _ in 0..3 {
            client.call::<()>("REPLICAOF NO ONE");
            more_grants(granted);
            client.call::<()>(&replicaof);
            eventually("the replica follows", || {
                (client.info("replication", "master_link_status") == "up").then_some(())
            });
            more_grants(granted);
        }
    });
    let sent = primary.client().info("replication", "master_repl_offset");
    let mut client = replica.client();
    eventually("the replica catches up", || {
        let state = ["master_link_status", "slave_repl_offset"];
        let state = state.map(|field| client.info("replication", field));
        (state == ["up", &sent]).then_some(())
    });
    assert_same(&held(&primary), &held(&replica));
}

#[test]
fn an_append_only_file_that_is_turned_on_under_load_misses_nothing() {
    let server = Server::start();
    under_load(&server, |granted| {
        let mut client = server.client();
        // A snapshot that is already being written puts off the one that the file starts from.
        client.call::<String>("BGSAVE");
        more_grants(granted);
        client.call::<()>("CONFIG SET appendonly yes");
        eventually("the file is kept", || {
            let state = ["aof_rewrite_in_progress", "aof_rewrite_scheduled"];
            state.iter().all(|field| client.info("persistence", field) == "0").then_some(())
        });
        more_grants(granted);
    });
    let mut client = server.client();
    let before = held(&server);
    client.call::<()>("DEBUG LOADAOF");
    assert_same(&before, &held(&server));
}

/// Runs `join` while two clients take units without a pause.
fn under_load(server: &Server, join: impl FnOnce(&AtomicU64)) {
    let (granted, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for command in ["RATELIMIT.TB bucket:", "RATELIMIT.SW log:"] {
            let (granted, stop) = (&granted, &stop);
            scope.spawn(move || {
                let mut client = server.client();
                while !stop.load(Ordering::Relaxed) {
                    let key = granted.load(Ordering::Relaxed) % KEYS;
                    // So slow a drain that no key expires while the test runs.
                    let [taken, ..] = client.decide(&format!("{command}{key} 1000000 31622400"));
                    granted.fetch_add(u64::try_from(taken).expect("units"), Ordering::Relaxed);
                }
            });
        }
        // Also when `join` panics: the scope waits for its threads.
        let _stop = StopOnDrop(&stop);
        join(&granted);
    });
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until some more units have been granted.
fn more_grants(granted: &AtomicU64) {
    let enough = granted.load(Ordering::Relaxed) + 500;
    eventually("more is granted", || (granted.load(Ordering::Relaxed) >= enough).then_some(()));
}

fn assert_same(expected: &[Held], found: &[Held]) {
    for (expected, found) in expected.iter().zip(found) {
        assert_eq!(expected, found);
    }
}

/// A key, its digest, and when it expires.
type Held = (String, String, i64);

fn held(server: &Server) -> Vec<Held> {
    let mut client = server.client();
    let keys = (0..KEYS).flat_map(|key| [format!("bucket:{key}"), format!("log:{key}")]);
    keys.map(|key| {
        let [digest]: [String; 1] = client.call(&format!("DEBUG DIGEST-VALUE {key}"));
        assert!(digest.contains(|digit| digit != '0'), "{key} is missing");
        let expiry = client.call(&format!("PEXPIRETIME {key}"));
        (key, digest, expiry)
    })
    .collect()
}
