//! Failover by Sentinels: the promoted replica has every acknowledged grant.

use crate::harness::{Load, Sentinels, Server, Snapshot, eventually, is_primary};

const KEYS: usize = 10;

#[test]
fn a_failover_by_sentinels_under_load_keeps_every_acknowledged_grant() {
    let mut primary = Server::start();
    let replicas = [Server::start(), Server::start()];
    for replica in &replicas {
        replica.follow(&primary);
    }
    let sentinels = Sentinels::watch(&primary, replicas.len());
    let former = primary.port();
    // The Sentinels may promote either replica, so only grants that both replicas have are safe.
    let load = Load::on("", KEYS).acknowledged_by(2);
    let ledger = load.during(
        || Some(sentinels.primary_port()).filter(|&port| is_primary(port)),
        || {
            primary.kill();
            eventually("a replica is promoted", || {
                let port = sentinels.primary_port();
                (port != former && is_primary(port)).then_some(())
            });
            load.more();
            primary.resume();
            eventually("the former primary is a replica", || (!is_primary(former)).then_some(()));
        },
    );
    let port = sentinels.primary_port();
    let (promoted, others): (Vec<&Server>, Vec<&Server>) =
        replicas.iter().chain([&primary]).partition(|server| server.port() == port);
    let mut client = promoted[0].client();
    ledger.assert_no_acknowledged_lost(&mut client);
    for other in others {
        other.catch_up_with(promoted[0]);
        let expected = Snapshot::all(&mut client, load.keys());
        Snapshot::assert_same(&expected, &Snapshot::all(&mut other.client(), load.keys()));
    }
}
