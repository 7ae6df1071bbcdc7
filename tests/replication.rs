//! Replicas hold the same bytes as their primary, and hear only of what changed.

use std::time::Duration;

use crate::harness::{Client, NOON, Server, eventually};

const KEYS: [&str; 5] = ["bucket", "burst", "log", "refunded", "gone"];

/// A primary and a replica that share a clock, and are in step.
struct Pair {
    primary: Server,
    replica: Server,
}

impl Pair {
    fn start() -> Self {
        // Without a ping to the replica, nothing but the calls can move the replication offset.
        let primary =
            Server::builder().clock(NOON).config("repl-ping-replica-period", "86400").start();
        let replica = Self::replica_of(&primary);
        Self { primary, replica }
    }

    /// A new replica that has caught up.
    fn replica_of(primary: &Server) -> Server {
        let replica = Server::builder()
            .clock_of(primary)
            .config("propagation-error-behavior", "panic")
            .replica_of(primary)
            .start();
        let mut client = replica.client();
        eventually("the replica follows", || {
            (client.info("replication", "master_link_status") == "up").then_some(())
        });
        replica
    }

    /// Waits until the replica has everything that the primary has sent.
    fn catch_up(&self) {
        let sent = offset(&self.primary);
        let mut client = self.replica.client();
        eventually("the replica catches up", || {
            (client.info("replication", "slave_repl_offset") == sent).then_some(())
        });
    }
}

#[test]
fn a_replica_holds_the_same_bytes_and_expiries() {
    let pair = Pair::start();
    let mut client = pair.primary.client();
    change(&pair.primary, &mut client);
    pair.catch_up();
    let expected = held(&pair.primary);
    assert_eq!(held(&pair.replica), expected);
    assert!(expected[0].0.contains(|digit| digit != '0'), "there is something to compare");
    // A replica that comes later gets a snapshot instead of the changes.
    let late = Pair::replica_of(&pair.primary);
    assert_eq!(held(&late), expected);
}

#[test]
fn a_replica_runs_one_effect_for_each_change_and_no_call() {
    let pair = Pair::start();
    let mut client = pair.primary.client();
    let changes = change(&pair.primary, &mut client);
    pair.catch_up();
    let stats: String = pair.replica.client().call("INFO commandstats");
    let calls: Vec<(&str, &str)> = stats
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(':'))
        .filter(|(name, _)| name.starts_with("ratelimit") || matches!(*name, "del" | "unlink"))
        .collect();
    let effects: u32 = calls.iter().map(|(_, stats)| number(stats, "calls=")).sum();
    assert_eq!(effects, changes, "{calls:?}");
    for (name, stats) in &calls {
        let own = ["tb", "sw", "peek", "refund", "reset"].map(|name| format!("ratelimit.{name}"));
        assert!(!own.iter().any(|own| own == name), "{name} decides again on the replica");
        assert_eq!(number(stats, "rejected_calls="), 0, "{name}");
        assert_eq!(number(stats, "failed_calls="), 0, "{name}");
    }
}

#[test]
fn a_replica_hears_nothing_of_calls_that_change_nothing() {
    let pair = Pair::start();
    let mut client = pair.primary.client();
    client.decide("RATELIMIT.TB bucket 10 60 COST 10");
    client.decide("RATELIMIT.SW log 10 60 COST 10");
    pair.catch_up();
    let before = offset(&pair.primary);
    for _ in 0..100 {
        assert_eq!(client.decide("RATELIMIT.TB bucket 10 60")[0], 0);
        assert_eq!(client.decide("RATELIMIT.SW log 10 60")[0], 0);
        client.decide("RATELIMIT.PEEK bucket TB 10 60");
        client.decide("RATELIMIT.PEEK log SW 10 60");
        client.call::<i64>("RATELIMIT.REFUND missing 1");
        client.call::<i64>("RATELIMIT.RESET missing");
    }
    assert_eq!(offset(&pair.primary), before);
    client.call::<i64>("RATELIMIT.REFUND log 1");
    assert_ne!(offset(&pair.primary), before);
}

#[test]
fn a_replica_answers_peeks_and_refuses_everything_else() {
    let pair = Pair::start();
    let mut client = pair.primary.client();
    client.decide("RATELIMIT.TB bucket 10 60 COST 4");
    client.decide("RATELIMIT.SW log 10 60 COST 4");
    pair.catch_up();
    let mut client = pair.replica.client();
    assert_eq!(client.decide("RATELIMIT.PEEK bucket TB 10 60"), [1, 10, 6, 0, 24_000]);
    assert_eq!(client.decide("RATELIMIT.PEEK log SW 10 60"), [1, 10, 6, 0, 60_000]);
    for call in [
        "RATELIMIT.TB bucket 10 60",
        "RATELIMIT.SW log 10 60",
        "RATELIMIT.REFUND bucket 1",
        "RATELIMIT.RESET log",
    ] {
        let error = client.refusal(call);
        assert_eq!(error, "READONLY You can't write against a read only replica.", "{call}");
    }
}

#[test]
fn a_promoted_replica_goes_on_where_the_primary_stopped() {
    let mut pair = Pair::start();
    let mut client = pair.primary.client();
    client.decide("RATELIMIT.TB bucket 10 60 COST 10");
    client.decide("RATELIMIT.SW log 10 60 COST 10");
    pair.catch_up();
    pair.primary.kill();
    pair.replica.clock().advance(Duration::from_secs(6));
    let mut client = pair.replica.client();
    client.call::<()>("REPLICAOF NO ONE");
    assert_eq!(client.decide("RATELIMIT.TB bucket 10 60"), [1, 10, 0, 0, 60_000]);
    assert_eq!(client.decide("RATELIMIT.SW log 10 60"), [0, 10, 0, 54_000, 54_000]);
}

/// Changes keys of both types in every way there is, and returns how many changes that were.
fn change(primary: &Server, client: &mut Client) -> u32 {
    for _ in 0..50 {
        client.decide("RATELIMIT.TB bucket 100 600");
        client.decide("RATELIMIT.TB burst 3 1 BURST 1000 COST 7");
        client.decide("RATELIMIT.SW log 1000 60 COST 3");
        client.decide("RATELIMIT.SW refunded 1000 60 COST 2 PARTIAL");
        client.call::<i64>("RATELIMIT.REFUND refunded 1");
        primary.clock().advance(Duration::from_micros(1_234_567));
    }
    client.decide("RATELIMIT.TB bucket 1000 30 BURST 2000");
    client.decide("RATELIMIT.SW log 500 30");
    client.decide("RATELIMIT.TB gone 10 60");
    client.call::<i64>("RATELIMIT.RESET gone");
    client.decide("RATELIMIT.SW gone 10 60");
    client.call::<i64>("RATELIMIT.REFUND gone 1");
    50 * 5 + 6
}

/// The digests of the keys, and when they expire.
fn held(server: &Server) -> Vec<(String, i64)> {
    let mut client = server.client();
    let held = |key| {
        let [digest]: [String; 1] = client.call(&format!("DEBUG DIGEST-VALUE {key}"));
        (digest, client.call(&format!("PEXPIRETIME {key}")))
    };
    KEYS.map(held).into()
}

fn offset(server: &Server) -> String {
    server.client().info("replication", "master_repl_offset")
}

/// The number behind `name` in a line of command statistics.
fn number(stats: &str, name: &str) -> u32 {
    let value = stats.split(',').find_map(|field| field.strip_prefix(name));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {stats}"))
}
