//! Grants that a failover may lose, on pairs under load: none when the failover is planned, and
//! none that a replica has acknowledged when it is not planned.
//!
//! Clients count every unit. A client whose call got no reply cannot determine whether the call was
//! granted, so the units used in the end lie between two sums, which are nearly always equal.

use crate::harness::{Load, Server, Snapshot, eventually, is_primary};

const KEYS: usize = 10;

#[test]
fn a_rolling_restart_of_a_pair_under_load_loses_nothing() {
    // With save points a server saves a snapshot when it stops, and catches up from the snapshot.
    let start = || Server::builder().config("save", "3600 1").start();
    let (mut first, mut second) = (start(), start());
    second.follow(&first);
    let ports = [first.port(), second.port()];
    let load = Load::on("", KEYS);
    let ledger = load.during(
        || ports.into_iter().find(|&port| is_primary(port)),
        || {
            second.stop();
            second.resume_as_replica_of(&first);
            fail_over(&first, &second);
            load.more();
            first.stop();
            first.resume_as_replica_of(&second);
            load.more();
            fail_over(&second, &first);
        },
    );
    second.catch_up_with(&first);
    let mut client = first.client();
    ledger.assert_none_lost(&mut client);
    let expected = Snapshot::all(&mut client, load.keys());
    Snapshot::assert_same(&expected, &Snapshot::all(&mut second.client(), load.keys()));
}

#[test]
fn a_primary_that_dies_under_load_takes_no_acknowledged_grant_with_it() {
    let mut primary = Server::start();
    let replica = Server::start();
    replica.follow(&primary);
    let ports = [primary.port(), replica.port()];
    let load = Load::on("", KEYS).acknowledged_by(1);
    let ledger = load.during(
        || ports.into_iter().find(|&port| is_primary(port)),
        || {
            primary.kill();
            replica.client().call::<()>("REPLICAOF NO ONE");
        },
    );
    ledger.assert_no_acknowledged_lost(&mut replica.client());
}

/// Fails over from a primary to its replica: the primary pauses writers until the replica has every
/// change.
fn fail_over(primary: &Server, replica: &Server) {
    replica.catch_up_with(primary);
    let mut client = primary.client();
    eventually("the primary believes its replica to be in step", || {
        client.reply(&[b"FAILOVER"]).ok()
    });
    eventually("the replica is promoted", || is_primary(replica.port()).then_some(()));
    primary.catch_up_with(replica);
}
