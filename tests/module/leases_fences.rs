//! Fences rise over restarts, promotion and moved keys; and leases keep their bytes there.

use std::time::Duration;

use crate::harness::{Client, NOON, Server, Snapshot};

/// Takes a lease on a key of its own, and returns its fence.
fn next_fence(client: &mut Client, key: &str) -> i64 {
    let [granted, .., fence, _]: [i64; 7] =
        client.call(&format!("RATELIMIT.ACQUIRE {key} 1 3600 holder"));
    assert_eq!(granted, 1, "{key} is free");
    fence
}

fn expects_a_higher_fence(server: &Server, key: &str, last: &mut i64) {
    let fence = next_fence(&mut server.client(), key);
    assert!(fence > *last, "{fence} after {last}: {key}");
    *last = fence;
}

#[test]
fn fences_rise_over_restarts_although_the_clock_steps_back() {
    let mut server = Server::builder().clock(NOON).config("appendonly", "yes").start();
    let mut last = 0;
    expects_a_higher_fence(&server, "first", &mut last);
    // The highest fence is that of a lease that was released: the append-only file has it.
    expects_a_higher_fence(&server, "released", &mut last);
    server.client().call::<i64>("RATELIMIT.RELEASE released holder");
    for (key, is_killed) in [("after a crash", true), ("after a restart", false)] {
        server.clock().step_back(Duration::from_secs(60));
        if is_killed {
            server.kill();
            server.resume();
        } else {
            server.restart();
        }
        expects_a_higher_fence(&server, &key.replace(' ', "-"), &mut last);
    }
    for preamble in ["yes", "no"] {
        let mut client = server.client();
        client.call::<()>(&format!("CONFIG SET aof-use-rdb-preamble {preamble}"));
        client.call::<redis::Value>("BGREWRITEAOF");
        crate::harness::eventually("the file is rewritten", || {
            (client.info("persistence", "aof_rewrite_in_progress") == "0"
                && client.info("persistence", "aof_rewrite_scheduled") == "0")
                .then_some(())
        });
        server.clock().step_back(Duration::from_secs(60));
        server.restart();
        expects_a_higher_fence(&server, &format!("rewritten-{preamble}"), &mut last);
    }
}

#[test]
fn fences_rise_over_a_snapshot_a_promotion_and_a_moved_key() {
    let mut primary = Server::at(NOON);
    let mut last = 0;
    expects_a_higher_fence(&primary, "first", &mut last);
    primary.client().call::<()>("SAVE");
    primary.clock().step_back(Duration::from_secs(60));
    primary.restart();
    expects_a_higher_fence(&primary, "after-a-snapshot", &mut last);
    // A replica whose clock is a minute behind has loaded one fence, and received another one.
    let replica = Server::at(primary.clock().micros() - 60_000_000);
    replica.follow(&primary);
    expects_a_higher_fence(&primary, "received", &mut last);
    replica.catch_up_with(&primary);
    let keys = ["first", "after-a-snapshot", "received"];
    let expected = Snapshot::all(&mut primary.client(), &keys);
    assert_eq!(Snapshot::all(&mut replica.client(), &keys), expected);
    primary.kill();
    replica.client().call::<()>("REPLICAOF NO ONE");
    expects_a_higher_fence(&replica, "promoted", &mut last);
    // A server to which a key is moved has taken its fence into account.
    let target = Server::at(replica.clock().micros() - 60_000_000);
    let dump: Vec<u8> = replica.client().call("DUMP promoted");
    target.client().send::<()>(&[b"RESTORE", b"promoted", b"3600000", &dump]);
    expects_a_higher_fence(&target, "on-the-target", &mut last);
}

#[test]
fn a_copy_and_a_restored_dump_have_the_same_leases() {
    let server = Server::at(NOON);
    let mut client = server.client();
    for number in 0..200 {
        let call = format!("RATELIMIT.ACQUIRE jobs 1000 {} worker-{number} COST 2", 60 + number);
        client.call::<[i64; 7]>(&call);
    }
    assert_eq!(client.call::<i64>("COPY jobs copied"), 1);
    let dump: Vec<u8> = client.call("DUMP jobs");
    client.send::<()>(&[b"RESTORE", b"restored", b"60000", &dump]);
    let digest = |client: &mut Client, key: &str| {
        client.call::<[String; 1]>(&format!("DEBUG DIGEST-VALUE {key}"))
    };
    let [jobs, copied, restored] =
        ["jobs", "copied", "restored"].map(|key| digest(&mut client, key));
    assert_eq!((&copied, &restored), (&jobs, &jobs));
    // The copy has leases of its own.
    assert_eq!(client.call::<i64>("RATELIMIT.RELEASE copied worker-0"), 1);
    assert_eq!(digest(&mut client, "jobs"), jobs);
    client.call::<()>("DEBUG RELOAD");
    assert_eq!(digest(&mut client, "jobs"), jobs);
}

#[test]
fn one_effect_carries_the_changes_of_all_holders_of_a_call() {
    let primary = Server::at(NOON);
    let replica = Server::builder()
        .clock_of(&primary)
        .config("propagation-error-behavior", "panic")
        .replica_of(&primary)
        .start();
    replica.catch_up_with(&primary);
    let mut client = primary.client();
    let names: Vec<String> = (0..100).map(|number| format!("worker-{number}")).collect();
    for name in &names {
        client.call::<[i64; 7]>(&format!("RATELIMIT.ACQUIRE jobs 1000 60 {name}"));
    }
    client.call::<Vec<[i64; 2]>>(&format!("RATELIMIT.RENEW jobs 90 {} lost", names.join(" ")));
    let released = format!("RATELIMIT.RELEASE jobs lost {}", names[1..].join(" "));
    assert_eq!(client.call::<i64>(&released), 99);
    replica.catch_up_with(&primary);
    let expected = Snapshot::of(&mut client, "jobs");
    assert_eq!(Snapshot::of(&mut replica.client(), "jobs"), expected);
    let stats: String = replica.client().call("INFO commandstats");
    assert!(stats.contains("cmdstat_ratelimit.apply:calls=102,"), "{stats}");
    assert!(!stats.contains("cmdstat_ratelimit.renew"), "a replica decides nothing: {stats}");
    let mut reader = replica.client();
    let listed: Vec<redis::Value> = reader.call("RATELIMIT.HOLDERS jobs");
    assert_eq!(listed.len(), 1);
    for call in ["ACQUIRE jobs 1 60 a", "RENEW jobs 60 a", "RELEASE jobs a"] {
        let error = reader.refusal(&format!("RATELIMIT.{call}"));
        assert_eq!(error, "READONLY You can't write against a read only replica.", "{call}");
    }
    assert_eq!(client.call::<i64>("RATELIMIT.RELEASE jobs worker-0"), 1);
    replica.catch_up_with(&primary);
    assert_eq!(reader.call::<i64>("EXISTS jobs"), 0);
}

#[test]
fn an_effect_on_a_lease_is_short() {
    const CALLS: u64 = 100;
    let primary = Server::builder().clock(NOON).config("repl-ping-replica-period", "86400").start();
    let replica = Server::builder().clock_of(&primary).replica_of(&primary).start();
    replica.catch_up_with(&primary);
    let mut client = primary.client();
    let offset =
        || -> u64 { primary.client().info("replication", "master_repl_offset").parse().unwrap() };
    for number in 0..200 {
        client.call::<[i64; 7]>(&format!("RATELIMIT.ACQUIRE user:1234 1000 60 {number:08}"));
    }
    let mut before = offset();
    for (call, most) in [("RENEW user:1234 9{} 00000001", 90), ("RELEASE user:1234 {:08}", 90)] {
        for number in 10..10 + CALLS {
            let number =
                if call.starts_with("RENEW") { number.to_string() } else { format!("{number:08}") };
            let call = call.replace("{:08}", &number).replace("{}", &number);
            client.call::<redis::Value>(&format!("RATELIMIT.{call}"));
        }
        let after = offset();
        let bytes = (after - before).div_ceil(CALLS);
        assert!(bytes <= most, "{call} sends {bytes} bytes");
        before = after;
    }
}
