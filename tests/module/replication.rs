//! Replication: replicas have the same bytes as their primary, and receive changes alone.

use std::time::Duration;

use crate::harness::{Builder, Client, NOON, Server, Snapshot};

const KEYS: [&str; 7] = ["bucket", "burst", "log", "refunded", "window", "month", "coarse"];

/// A primary and a replica that share a clock, and are in step.
struct Pair {
    primary: Server,
    replica: Server,
}

impl Pair {
    fn start() -> Self {
        let primary = Self::builder().clock(NOON).start();
        let replica = Self::replica_of(&primary);
        Self { primary, replica }
    }

    /// Starts a replica, and waits until the replica has caught up.
    fn replica_of(primary: &Server) -> Server {
        let replica = Self::builder()
            .clock_of(primary)
            .config("propagation-error-behavior", "panic")
            .replica_of(primary)
            .start();
        replica.catch_up_with(primary);
        replica
    }

    fn builder() -> Builder {
        // Without a ping to the replica, nothing but the calls can move the replication offset.
        // Without a timeout, a clock that jumps does not cut the connection.
        let day = "86400";
        Server::builder().config("repl-ping-replica-period", day).config("repl-timeout", day)
    }

    /// Waits until the replica has everything that the primary has sent.
    fn catch_up(&self) {
        self.replica.catch_up_with(&self.primary);
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
    assert_eq!(pair.replica.client().call::<i64>("EXISTS gone"), 0);
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
        let own =
            ["tb", "sw", "fw", "peek", "refund", "reset"].map(|name| format!("ratelimit.{name}"));
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

#[test]
fn a_chain_of_replicas_holds_the_same_bytes_also_when_its_middle_is_promoted() {
    let Pair { primary, replica: middle } = Pair::start();
    let last = Pair::replica_of(&middle);
    change(&primary, &mut primary.client());
    middle.catch_up_with(&primary);
    last.catch_up_with(&middle);
    let expected = held(&primary);
    assert_eq!(held(&middle), expected);
    assert_eq!(held(&last), expected);

    let snapshots = middle.client().info("stats", "sync_full");
    middle.client().call::<()>("REPLICAOF NO ONE");
    primary.follow(&middle);
    change(&middle, &mut middle.client());
    primary.catch_up_with(&middle);
    last.catch_up_with(&middle);
    let expected = held(&middle);
    assert_eq!(held(&primary), expected);
    assert_eq!(held(&last), expected);
    // Both servers caught up from the backlog of a server that had been a replica.
    assert_eq!(middle.client().info("stats", "sync_full"), snapshots);
}

#[test]
fn a_grant_takes_few_bytes_of_the_stream() {
    const GRANTS: u64 = 900;
    const KEY: &str = "user:1234";
    let pair = Pair::start();
    let mut client = pair.primary.client();
    for (call, most) in [("TB", 85), ("SW", 75)] {
        let call = format!("RATELIMIT.{call} {KEY} 1000 86400");
        client.decide(&call);
        let before = offset(&pair.primary);
        for _ in 0..GRANTS {
            pair.primary.clock().advance(Duration::from_micros(1_234_567));
            assert_eq!(client.decide(&call)[0], 1);
        }
        let bytes = (offset(&pair.primary) - before).div_ceil(GRANTS);
        assert!(bytes <= most, "{call} sends {bytes} bytes");
        client.call::<i64>(&format!("RATELIMIT.RESET {KEY}"));
    }
}

#[test]
fn a_client_can_wait_until_replicas_have_its_grants() {
    let pair = Pair::start();
    let mut client = pair.primary.client();
    for call in ["RATELIMIT.TB bucket 10 60 COST 4", "RATELIMIT.SW log 10 60 COST 4"] {
        client.decide(call);
        assert_eq!(client.call::<i64>("WAIT 1 0"), 1);
    }
    // The read does not wait: the replica has every acknowledged grant.
    let mut client = pair.replica.client();
    assert_eq!(client.decide("RATELIMIT.PEEK bucket TB 10 60")[2], 6);
    assert_eq!(client.decide("RATELIMIT.PEEK log SW 10 60")[2], 6);
}

#[test]
fn deletions_arrive_where_an_operator_has_renamed_commands_of_the_server() {
    let renamed = |mut builder: Builder| {
        for (name, new_name) in [("UNLINK", ""), ("DEL", "remove"), ("RESTORE", "")] {
            builder = builder.rename_command(name, new_name);
        }
        builder
    };
    let mut primary = renamed(Pair::builder()).clock(NOON).config("appendonly", "yes").start();
    let replica = renamed(Pair::builder())
        .clock_of(&primary)
        .config("propagation-error-behavior", "panic")
        .replica_of(&primary)
        .start();
    replica.catch_up_with(&primary);
    let mut client = primary.client();
    change(&primary, &mut client);
    client.decide("RATELIMIT.TB gone 10 60");
    client.decide("RATELIMIT.SW gone-too 10 60");
    assert_eq!(client.call::<i64>("RATELIMIT.RESET gone gone-too"), 2);
    assert_eq!(client.info("ratelimit", "ratelimit_replication_failures"), "0");
    replica.catch_up_with(&primary);
    let expected = held(&primary);
    assert_eq!(held(&replica), expected);
    assert_eq!(replica.client().call::<i64>("EXISTS gone gone-too"), 0);
    primary.restart();
    assert_eq!(held(&primary), expected);
    assert_eq!(primary.client().call::<i64>("EXISTS gone gone-too"), 0);
}

#[test]
fn a_deletion_leaves_the_denials_that_a_replica_has_counted() {
    let pair = Pair::start();
    pair.replica.client().call::<()>("CONFIG SET replica-read-only no");
    pair.replica.client().decide("RATELIMIT.TB key 1 60 COST 2");
    let mut client = pair.primary.client();
    client.decide("RATELIMIT.SW key 1 60");
    client.call::<i64>("RATELIMIT.RESET key");
    pair.catch_up();
    assert_eq!(pair.replica.client().call::<i64>("EXISTS key"), 0);
    let top: Vec<(String, i64)> = pair.replica.client().call("RATELIMIT.TOP");
    assert_eq!(top, [("key".to_owned(), 1)]);
}

#[test]
fn a_change_that_the_server_refuses_to_replicate_is_counted_and_logged() {
    const LINE: &str = "the server refused to replicate changes of limiter keys";
    // Without receivers of the replication, the module passes the call itself to the server.
    for (function, appendonly) in
        [("RedisModule_Replicate", "yes"), ("RedisModule_ReplicateVerbatim", "no")]
    {
        let server =
            Server::builder().clock(NOON).faults(function).config("appendonly", appendonly).start();
        let mut client = server.client();
        let failures =
            |client: &mut Client| client.info("ratelimit", "ratelimit_replication_failures");
        let lines = || server.log().matches(LINE).count();
        assert_eq!(client.decide("RATELIMIT.PEEK bucket TB 10 60")[0], 1);
        assert_eq!((failures(&mut client).as_str(), lines()), ("0", 0));
        assert_eq!(client.decide("RATELIMIT.TB bucket 10 60")[0], 1);
        assert_eq!((failures(&mut client).as_str(), lines()), ("1", 1));
        client.decide("RATELIMIT.SW log 10 60 COST 2");
        client.call::<i64>("RATELIMIT.REFUND log 1");
        assert_eq!(client.call::<i64>("RATELIMIT.RESET bucket log"), 2);
        assert_eq!((failures(&mut client).as_str(), lines()), ("5", 1));
        server.clock().advance(Duration::from_secs(1));
        client.decide("RATELIMIT.TB bucket 10 60");
        assert_eq!((failures(&mut client).as_str(), lines()), ("6", 2));
        assert!(server.log().contains(&format!("{LINE} (6 so far)")), "{}", server.log());
    }
}

#[test]
fn no_operator_can_rename_the_commands_that_carry_changes() {
    for name in ["ratelimit.apply", "ratelimit.tb"] {
        let log = Server::builder().rename_command(name, "").start_in_vain();
        assert!(log.contains("No such command in rename-command"), "{log}");
    }
}

/// Changes keys of both types in every possible way, and returns the number of changes.
fn change(primary: &Server, client: &mut Client) -> u32 {
    for _ in 0..50 {
        client.decide("RATELIMIT.TB bucket 100 600");
        client.decide("RATELIMIT.TB burst 3 1 BURST 1000 COST 7");
        client.decide("RATELIMIT.SW log 1000 60 COST 3");
        client.decide("RATELIMIT.SW refunded 1000 60 COST 2 PARTIAL");
        client.call::<i64>("RATELIMIT.REFUND refunded 1");
        client.decide("RATELIMIT.FW window 1000 30 COST 9");
        client.decide("RATELIMIT.FW month 1 MONTH COST 70000000 FORCE");
        client.decide("RATELIMIT.SW coarse 10 60 RESOLUTION 7 FORCE");
        primary.clock().advance(Duration::from_micros(1_234_567));
    }
    client.decide("RATELIMIT.TB bucket 1000 30 BURST 2000");
    client.decide("RATELIMIT.SW log 500 30");
    client.decide("RATELIMIT.TB gone 10 60");
    client.call::<i64>("RATELIMIT.RESET gone");
    client.decide("RATELIMIT.SW gone 10 60");
    client.call::<i64>("RATELIMIT.REFUND gone 1");
    50 * 8 + 6
}

fn held(server: &Server) -> Vec<Snapshot> {
    Snapshot::all(&mut server.client(), &KEYS)
}

fn offset(server: &Server) -> u64 {
    server.client().info("replication", "master_repl_offset").parse().expect("an offset")
}

/// Returns the number after `name` in a line of command statistics.
fn number(stats: &str, name: &str) -> u32 {
    let value = stats.split(',').find_map(|field| field.strip_prefix(name));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {stats}"))
}
