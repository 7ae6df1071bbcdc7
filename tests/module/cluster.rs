//! Clusters: the node of a key serves it, and slots that move under load keep every grant.

use std::time::Instant;

use crate::harness::{Client, Cluster, Ledger, Load, Server, Snapshot, eventually, is_primary};

/// The number of keys of each type.
const KEYS: usize = 10;

#[test]
fn commands_go_where_their_keys_are() {
    let cluster = Cluster::start();
    let (own, others) = (cluster.tag(0), cluster.tag(1));
    let mut client = cluster.node(0).client();
    let slot: i64 = client.call(&format!("CLUSTER KEYSLOT {others}"));
    let moved = format!("MOVED {slot} 127.0.0.1:{}", cluster.node(1).port());
    for call in [
        "RATELIMIT.TB KEY 10 60",
        "RATELIMIT.SW KEY 10 60",
        "RATELIMIT.PEEK KEY TB 10 60",
        "RATELIMIT.REFUND KEY 1",
        "RATELIMIT.RESET KEY KEY",
        "RATELIMIT.MULTI 2 KEYa KEYb TB 10 60 SW 10 60",
    ] {
        assert_eq!(client.refusal(&call.replace("KEY", &others)), moved, "{call}");
        // The node has all of its own keys, so it answers the call without a redirection.
        let reply = client.try_call(&call.replace("KEY", &own));
        assert!(!reply.is_err_and(|error| error.redirect_node().is_some()), "{call}");
    }
    for call in [
        format!("RATELIMIT.RESET {own} {others}"),
        format!("RATELIMIT.MULTI 2 {own} {others} TB 10 60 SW 10 60"),
    ] {
        let refusal = client.refusal(&call);
        assert_eq!(refusal, "CROSSSLOT Keys in request don't hash to the same slot", "{call}");
    }
    assert_eq!(client.call::<i64>(&format!("RATELIMIT.RESET {own}a {own}b")), 2);
    a_value_can_be_taken_to_another_node(&cluster);
}

/// Moves a value with DUMP and RESTORE: its bytes and its expiry replace the target's key.
fn a_value_can_be_taken_to_another_node(cluster: &Cluster) {
    let (from, to) = (cluster.tag(1), cluster.tag(2));
    let (mut source, mut target) = (cluster.node(1).client(), cluster.node(2).client());
    for (call, key) in [("RATELIMIT.TB", "dumped-bucket"), ("RATELIMIT.SW", "dumped-log")] {
        let (from, to) = (format!("{from}{key}"), format!("{to}{key}"));
        source.decide(&format!("{call} {from} 1000 3600 COST 123"));
        target.decide(&format!("{call} {to} 10 60"));
        let held = Snapshot::of(&mut source, &from);
        let payload: Vec<u8> = source.call(&format!("DUMP {from}"));
        let expiry = held.expiry.to_string();
        let restore: [&[u8]; 5] =
            [b"RESTORE", to.as_bytes(), expiry.as_bytes(), &payload, b"ABSTTL"];
        assert_eq!(target.refusal_of(&restore), "BUSYKEY Target key name already exists.");
        target.send::<()>(&[&restore[..], &[b"REPLACE"]].concat());
        let expected = Snapshot { key: to.clone(), ..held };
        assert_eq!(Snapshot::of(&mut target, &to), expected);
        cluster.node(5).catch_up_with(cluster.node(2));
        assert_eq!(Snapshot::of(&mut cluster.node(5).reader(), &to), expected);
    }
}

#[test]
fn a_slot_that_is_moved_key_by_key_under_load_loses_and_doubles_nothing() {
    let cluster = Cluster::start();
    let (source, target) = (cluster.node(0), cluster.node(1));
    let slot = Slot::with_idle_keys(&cluster);
    let load = Load::on(&slot.tag, KEYS);
    let ports = [source.port(), target.port()];
    let before = slot.idle(&mut source.client());
    let start = Instant::now();
    let ledger = load.during(
        || Some(ports[0]),
        || {
            let (from, to) = (source.node_id(), target.node_id());
            let number = slot.number;
            let mut source = source.client();
            target.client().call::<()>(&format!("CLUSTER SETSLOT {number} IMPORTING {from}"));
            source.call::<()>(&format!("CLUSTER SETSLOT {number} MIGRATING {to}"));
            migrate(&mut source, target, &load.keys()[..KEYS]);
            load.more();
            let both = format!("RATELIMIT.RESET {} {}", load.keys()[0], before[0].key);
            assert!(source.refusal(&both).starts_with("TRYAGAIN "), "one of two keys is here");
            while let keys @ [_, ..] = &slot.some_keys(&mut source)[..] {
                migrate(&mut source, target, keys);
            }
            for client in [&mut target.client(), &mut source] {
                client.call::<()>(&format!("CLUSTER SETSLOT {number} NODE {to}"));
            }
        },
    );
    let millis = i64::try_from(start.elapsed().as_millis()).unwrap();
    let errors: String = source.client().call("INFO errorstats");
    assert!(errors.contains("errorstat_ASK"), "some grants were made while the slot moved");
    assert_moved(&cluster, &slot, &load, &ledger);
    for (before, after) in before.iter().zip(slot.idle(&mut target.client())) {
        assert_eq!(before.digest, after.digest, "{}", before.key);
        // The servers send the remaining time to live, which counts from the arrival of the key.
        let late = after.expiry - before.expiry;
        assert!((0..=millis).contains(&late), "{} expires {late} ms late", before.key);
    }
}

#[test]
fn a_slot_that_is_moved_at_once_under_load_loses_and_doubles_nothing() {
    let Some(command) = Handover::of(&mut Server::start().client()) else {
        return;
    };
    // The new owner of the slot is the only node that the old owner has to notify.
    let mut cluster = Cluster::start();
    cluster.leave_alone(0);
    let (source, target) = (cluster.node(0), cluster.node(1));
    let slot = Slot::with_idle_keys(&cluster);
    let load = Load::on(&slot.tag, KEYS);
    let before = slot.idle(&mut source.client());
    let ledger = load.during(
        || Some(source.port()),
        || {
            command.hand_over(slot.number, source, target);
            let peek = format!("RATELIMIT.PEEK {} TB 10 60", load.keys()[0]);
            eventually("the slot is the target's", || target.client().try_call(&peek).ok());
        },
    );
    assert_moved(&cluster, &slot, &load, &ledger);
    Snapshot::assert_same(&before, &slot.idle(&mut target.client()));
}

#[test]
fn a_shard_keeps_its_limits_when_a_replica_takes_over() {
    let mut cluster = Cluster::start();
    let tag = cluster.tag(0);
    let ports: Vec<u16> = [0, 3].map(|number| cluster.node(number).port()).into();

    // CLUSTER FAILOVER pauses writers until the replica has every change.
    let load = Load::on(&format!("{tag}planned:"), KEYS);
    let ledger = load.during(
        || Some(ports[0]),
        || {
            cluster.node(3).client().call::<()>("CLUSTER FAILOVER");
            take_over(&cluster, 3);
        },
    );
    ledger.assert_none_lost(&mut cluster.node(3).client());
    cluster.agree();
    assert_in_step(cluster.node(3), cluster.node(0), load.keys());

    // When the primary is killed, the replica has every change that the replica has acknowledged.
    for number in 0..6 {
        cluster.node(number).client().call::<()>("CONFIG SET cluster-node-timeout 2000");
    }
    let load = Load::on(&format!("{tag}dead:"), KEYS).acknowledged_by(1);
    let ledger = load.during(
        || ports.iter().copied().find(|&port| is_primary(port)),
        || {
            cluster.node_mut(3).kill();
            take_over(&cluster, 0);
        },
    );
    ledger.assert_no_acknowledged_lost(&mut cluster.node(0).client());
    cluster.node_mut(3).resume();
    cluster.agree();
    assert_in_step(cluster.node(0), cluster.node(3), load.keys());
}

/// A slot of the first primary.
struct Slot {
    /// The hash tag of the keys of the slot.
    tag: String,
    number: u32,
}

impl Slot {
    /// Creates keys in a slot that no load touches, and returns the slot.
    fn with_idle_keys(cluster: &Cluster) -> Self {
        let tag = cluster.tag(0);
        let mut client = cluster.node(0).client();
        for _ in 0..3 {
            client.decide(&format!("RATELIMIT.TB {tag}idle:bucket 1000 3600 COST 7"));
            client.decide(&format!("RATELIMIT.SW {tag}idle:log 1000 3600 COST 7"));
        }
        client.call::<[i64; 7]>(&format!("RATELIMIT.ACQUIRE {tag}idle:leases 5 3600 a"));
        let number = client.call(&format!("CLUSTER KEYSLOT {tag}"));
        Self { tag, number }
    }

    fn idle(&self, client: &mut Client) -> Vec<Snapshot> {
        let keys = ["idle:bucket", "idle:log", "idle:leases"];
        Snapshot::all(client, &keys.map(|key| format!("{}{key}", self.tag)))
    }

    fn some_keys(&self, client: &mut Client) -> Vec<String> {
        client.call(&format!("CLUSTER GETKEYSINSLOT {} 3", self.number))
    }
}

/// The command by which a server hands over a whole slot.
#[derive(Clone, Copy)]
enum Handover {
    /// CLUSTER MIGRATESLOTS, sent to the source.
    Given,
    /// CLUSTER MIGRATION IMPORT, sent to the target.
    Taken,
}

impl Handover {
    /// Returns the command that this server has, or `None`.
    fn of(client: &mut Client) -> Option<Self> {
        let mut knows = |command| {
            let [info]: [Option<Vec<redis::Value>>; 1] =
                client.call(&format!("COMMAND INFO cluster|{command}"));
            info.is_some()
        };
        match [knows("migrateslots"), knows("migration")] {
            [true, _] => Some(Self::Given),
            [_, true] => Some(Self::Taken),
            _ => None,
        }
    }

    fn hand_over(self, slot: u32, source: &Server, target: &Server) {
        match self {
            Self::Given => {
                let target = target.node_id();
                let migrate =
                    format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {target}");
                source.client().call::<()>(&migrate);
            }
            Self::Taken => {
                let import = format!("CLUSTER MIGRATION IMPORT {slot} {slot}");
                target.client().call::<String>(&import);
            }
        }
    }
}

/// Moves keys to another node.
fn migrate<K: AsRef<str>>(source: &mut Client, target: &Server, keys: &[K]) {
    let port = target.port().to_string();
    let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "30000", "KEYS"];
    words.extend(keys.iter().map(AsRef::as_ref));
    let words: Vec<&[u8]> = words.into_iter().map(str::as_bytes).collect();
    // The server answers NOKEY when none of the keys exists any more.
    source.send::<String>(&words);
}

/// Waits until a replica is a primary.
fn take_over(cluster: &Cluster, number: usize) {
    eventually("the replica takes over", || is_primary(cluster.node(number).port()).then_some(()));
}

/// Asserts that the second primary has the slot, with exactly the granted units.
fn assert_moved(cluster: &Cluster, slot: &Slot, load: &Load, ledger: &Ledger) {
    let (source, target, replica) = (cluster.node(0), cluster.node(1), cluster.node(4));
    let left: i64 = source.client().call(&format!("CLUSTER COUNTKEYSINSLOT {}", slot.number));
    assert_eq!(left, 0);
    ledger.assert_none_lost(&mut target.client());
    let idle = slot.idle(&mut target.client()).into_iter().map(|held| held.key);
    let keys: Vec<String> = load.keys().iter().cloned().chain(idle).collect();
    assert_in_step(target, replica, &keys);
}

fn assert_in_step(primary: &Server, replica: &Server, keys: &[String]) {
    replica.catch_up_with(primary);
    let expected = Snapshot::all(&mut primary.client(), keys);
    Snapshot::assert_same(&expected, &Snapshot::all(&mut replica.reader(), keys));
}
