//! A replica or an append-only file that joins while grants are made receives every grant.
//!
//! The module sends changes only while there is a receiver, so a change could be lost at the moment
//! at which a receiver joins.

use crate::harness::{Builder, Client, Load, Server, Snapshot, eventually};

/// Enough keys that each is changed many times, and few enough to compare them all.
const KEYS: usize = 25;

/// The ways in which a replica gets its snapshot, as settings of both servers.
const SNAPSHOTS: [&[(&str, &str)]; 6] = [
    &[("repl-diskless-sync", "no"), ("repl-diskless-load", "disabled")],
    &[("repl-diskless-sync", "yes"), ("repl-diskless-load", "disabled")],
    &[("repl-diskless-sync", "yes"), ("repl-diskless-load", "swapdb")],
    // Snapshot and changes travel on two connections at once.
    &[("repl-diskless-load", "disabled"), ("dual-channel-replication-enabled", "yes")],
    &[("repl-diskless-load", "disabled"), ("repl-rdb-channel", "yes")],
    // The primary begins the snapshot a second after the replica has asked for it.
    &[("repl-diskless-load", "disabled"), ("repl-diskless-sync-delay", "1")],
];

#[test]
fn a_replica_that_joins_under_load_misses_nothing() {
    for settings in SNAPSHOTS {
        let (primary, replica) = (slow_to_save().start(), Server::start());
        if !settings.iter().all(|(name, _)| knows(&primary, name)) {
            continue;
        }
        for (name, value) in settings {
            let setting = format!("CONFIG SET {name} {value}");
            primary.client().call::<()>(&setting);
            replica.client().call::<()>(&setting);
        }
        let load = Load::on("", KEYS);
        load.during(to(&primary), || replica.follow(&primary));
        assert_in_step(&primary, &replica, &load);
    }
}

#[test]
fn a_replica_that_comes_back_when_the_backlog_has_gone_misses_nothing() {
    let (primary, replica) = (slow_to_save().start(), Server::start());
    let load = Load::on("", KEYS);
    load.during(to(&primary), || {
        let mut client = primary.client();
        client.call::<()>("CONFIG SET repl-backlog-ttl 1");
        replica.follow(&primary);
        load.more();
        replica.client().call::<()>("REPLICAOF NO ONE");
        eventually("the backlog is freed", || {
            (client.info("replication", "repl_backlog_active") == "0").then_some(())
        });
        // The fork makes the module look for receivers, and the module finds none.
        save(&mut client);
        load.more();
        replica.follow(&primary);
        load.more();
    });
    assert_in_step(&primary, &replica, &load);
}

#[test]
fn a_replica_that_was_its_primary_misses_nothing_when_it_catches_up() {
    let (first, second) = (with_backlog().start(), with_backlog().start());
    let load = Load::on("", KEYS);
    let first_if_primary = || {
        let role = first.client().info("replication", "role");
        (role == "master").then(|| first.port())
    };
    load.during(first_if_primary, || {
        // The grants of the first server that no replica has received are lost here.
        first.follow(&second);
        first.client().call::<()>("REPLICAOF NO ONE");
        load.more();
        second.follow(&first);
        let snapshots = first.client().info("stats", "sync_full");
        assert_eq!(snapshots, "0", "the backlog of the former replica is enough");
        load.more();
    });
    assert_in_step(&first, &second, &load);
}

#[test]
fn a_replica_of_a_restarted_primary_misses_nothing_when_it_catches_up() {
    let mut primary = with_backlog().config("save", "3600 1").start();
    let replica = Server::builder().replica_of(&primary).start();
    replica.catch_up_with(&primary);
    primary.client().decide("RATELIMIT.TB bucket:0 1000 31622400 BURST 1000000");
    primary.restart();
    let load = Load::on("", KEYS);
    load.during(to(&primary), || replica.follow(&primary));
    let snapshots = primary.client().info("stats", "sync_full");
    assert_eq!(snapshots, "0", "the backlog that the primary was restarted with is enough");
    assert_in_step(&primary, &replica, &load);
}

#[test]
fn a_module_that_is_loaded_into_a_replicated_pair_sends_from_the_first_grant_on() {
    let start =
        || Server::builder().without_module().config("enable-module-command", "yes").start();
    let (primary, replica) = (start(), start());
    replica.follow(&primary);
    replica.load_module();
    primary.load_module();
    let load = Load::on("", KEYS);
    load.during(to(&primary), || {});
    let snapshots = primary.client().info("stats", "sync_full");
    assert_eq!(snapshots, "1", "every change was sent");
    assert_in_step(&primary, &replica, &load);
}

#[test]
fn an_append_only_file_that_is_turned_on_under_load_misses_nothing() {
    let server = slow_to_save().start();
    let load = Load::on("", KEYS);
    load.during(to(&server), || {
        let mut client = server.client();
        // A snapshot in progress delays the snapshot with which the file begins.
        client.call::<String>("BGSAVE");
        client.call::<()>("CONFIG SET appendonly yes");
        load.more();
        wait_until_rewritten(&mut client);
        load.more();
    });
    assert_in_file(&server, &load);
}

#[test]
fn an_append_only_file_that_is_rewritten_under_load_misses_nothing() {
    let server = slow_to_save().config("appendonly", "yes").start();
    // With the preamble the rewritten file begins with a snapshot; without it, with commands.
    for preamble in ["yes", "no"] {
        let load = Load::on(preamble, KEYS);
        load.during(to(&server), || {
            let mut client = server.client();
            client.call::<()>(&format!("CONFIG SET aof-use-rdb-preamble {preamble}"));
            client.call::<String>("BGREWRITEAOF");
            load.more();
            wait_until_rewritten(&mut client);
        });
        assert_in_file(&server, &load);
    }
}

/// Starts a server whose snapshots take a while, so that grants are made meanwhile.
fn slow_to_save() -> Builder {
    // Microseconds for each key.
    Server::builder().config("rdb-key-save-delay", "2000")
}

/// Starts a server whose backlog suffices for a replica to catch up. The server sends no pings,
/// since a ping that reached only one of two servers would put that server ahead. The backlog has
/// room for all grants until a replica reconnects, which tries once a second; the default size is
/// too small.
fn with_backlog() -> Builder {
    Server::builder()
        .config("repl-ping-replica-period", "86400")
        .config("repl-backlog-size", "256mb")
}

/// Returns the port of a server, whose role does not change.
fn to(server: &Server) -> impl Fn() -> Option<u16> + Sync {
    let port = server.port();
    move || Some(port)
}

fn knows(server: &Server, setting: &str) -> bool {
    !server.client().call::<Vec<String>>(&format!("CONFIG GET {setting}")).is_empty()
}

/// Saves a snapshot, and waits until it is written.
fn save(client: &mut Client) {
    client.call::<String>("BGSAVE");
    eventually("the snapshot is written", || {
        (client.info("persistence", "rdb_bgsave_in_progress") == "0").then_some(())
    });
}

fn wait_until_rewritten(client: &mut Client) {
    eventually("the file is rewritten", || {
        // In this order, because a scheduled rewrite may begin between the two calls.
        let state = ["aof_rewrite_scheduled", "aof_rewrite_in_progress"];
        state.iter().all(|field| client.info("persistence", field) == "0").then_some(())
    });
    assert_eq!(client.info("persistence", "aof_last_bgrewrite_status"), "ok");
}

fn assert_in_step(primary: &Server, replica: &Server, load: &Load) {
    replica.catch_up_with(primary);
    let expected = Snapshot::all(&mut primary.client(), load.keys());
    Snapshot::assert_same(&expected, &Snapshot::all(&mut replica.client(), load.keys()));
}

/// Asserts that the append-only file has the same keys as the server.
fn assert_in_file(server: &Server, load: &Load) {
    let mut client = server.client();
    let expected = Snapshot::all(&mut client, load.keys());
    client.call::<()>("DEBUG LOADAOF");
    Snapshot::assert_same(&expected, &Snapshot::all(&mut client, load.keys()));
}
