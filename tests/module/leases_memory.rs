//! Memory of leases: its exact size, its release without a pause, its defragmentation.

use std::time::Duration;

use crate::harness::{Client, NOON, Random, Server, eventually};

/// The most bytes of a lease without its holder, at 1,000 leases and more.
const MOST_BYTES: f64 = 96.0;

/// Takes leases of one key with holders of ten bytes.
fn fill(client: &mut Client, key: &str, leases: u32, ttl: u32) {
    for batch in (0..leases).collect::<Vec<u32>>().chunks(10_000) {
        let acquire = |number: &u32| format!("RATELIMIT.ACQUIRE {key} 1000000 {ttl} {number:010}");
        client.calls::<[i64; 7]>(&batch.iter().map(acquire).collect::<Vec<_>>());
    }
}

fn usage(client: &mut Client, key: &str) -> f64 {
    client.call(&format!("MEMORY USAGE {key} SAMPLES 0"))
}

#[test]
fn a_lease_takes_at_most_96_bytes_and_its_holder_as_memory_usage_reports() {
    let server = Server::builder().clock(NOON).config("latency-tracking", "no").start();
    let mut client = server.client();
    for (leases, keys) in [(1_000_u32, 20), (3_333, 6), (100_000, 1)] {
        client.call::<()>("FLUSHALL SYNC");
        let before = client.used_memory();
        for key in 0..keys {
            fill(&mut client, &format!("jobs:{key}"), leases, 3_600);
        }
        let grown = (client.used_memory() - before) as f64;
        let reported: f64 = (0..keys).map(|key| usage(&mut client, &format!("jobs:{key}"))).sum();
        // The server's own memory for a key, and the buffers of the client, are apart.
        let error = (reported - grown) / grown;
        assert!(error.abs() < 0.05, "{reported} bytes of {grown}, {leases} leases");
        let each = reported / f64::from(keys * leases);
        assert!(each <= MOST_BYTES + 10.0, "{each} bytes for each of {leases} leases");
    }
    // The bound holds while leases come and go.
    let mut random = Random::new();
    fill(&mut client, "busy", 2_000, 3_600);
    for _ in 0..5_000 {
        let number = random.below(2_000);
        client.call::<i64>(&format!("RATELIMIT.RELEASE busy {number:010}"));
        let call = format!("RATELIMIT.ACQUIRE busy 1000000 3600 {number:010}");
        client.call::<[i64; 7]>(&call);
    }
    let each = usage(&mut client, "busy") / 2_000.0;
    assert!(each <= MOST_BYTES + 10.0, "{each} bytes for each of 2,000 leases that come and go");
}

#[test]
fn released_and_expired_leases_give_their_memory_back() {
    let server = Server::at(NOON);
    let mut client = server.client();
    fill(&mut client, "jobs", 1_000, 3_600);
    let full = usage(&mut client, "jobs");
    let names: Vec<_> = (10..1_000).map(|number| format!("{number:010}")).collect();
    client.call::<i64>(&format!("RATELIMIT.RELEASE jobs {}", names.join(" ")));
    let few = usage(&mut client, "jobs");
    assert!(few < full / 10.0, "{few} bytes of {full}");
    // Each call that changes the leases removes two that have expired.
    fill(&mut client, "mixed", 1_000, 1);
    let full = usage(&mut client, "mixed");
    server.clock().advance(Duration::from_secs(1));
    fill(&mut client, "mixed", 600, 60);
    let half = usage(&mut client, "mixed");
    assert!(half < full * 0.7, "{half} bytes of {full}");
}

#[test]
fn many_leases_are_freed_in_the_background() {
    let server = Server::builder().clock(NOON).config("lazyfree-lazy-user-del", "yes").start();
    let mut client = server.client();
    let freed = |client: &mut Client| {
        eventually("everything is freed", || {
            (client.info("memory", "lazyfree_pending_objects") == "0").then_some(())
        });
        client.info("memory", "lazyfreed_objects").parse::<u64>().unwrap()
    };
    for (number, removal) in
        ["DEL jobs", "RATELIMIT.RESET jobs", "RATELIMIT.RELEASE jobs last"].into_iter().enumerate()
    {
        fill(&mut client, "jobs", 5_000, 1);
        client.call::<[i64; 7]>("RATELIMIT.ACQUIRE jobs 1000000 60 last");
        server.clock().advance(Duration::from_secs(2));
        assert_eq!(client.call::<i64>(removal), 1, "{removal}");
        assert_eq!(client.call::<i64>("EXISTS jobs"), 0, "{removal}");
        assert_eq!(freed(&mut client), 1 + number as u64, "{removal}");
    }
    fill(&mut client, "few", 1, 60);
    client.call::<i64>("DEL few");
    assert_eq!(freed(&mut client), 3, "a few leases are freed at once");
}

#[test]
fn leases_are_moved_by_the_defragmentation_and_stay_the_same() {
    const KEYS: u32 = 400;
    let server = Server::start();
    let mut client = server.client();
    for key in 0..KEYS {
        fill(&mut client, &format!("jobs:{key}"), 130, 86_400);
    }
    let gone = (0..KEYS).filter(|key| key % 4 != 0);
    client.calls::<i64>(&gone.map(|key| format!("DEL jobs:{key}")).collect::<Vec<_>>());
    let before: String = client.call("DEBUG DIGEST");
    for setting in [
        "active-defrag-ignore-bytes 1",
        "active-defrag-threshold-lower 1",
        "active-defrag-threshold-upper 2",
        "active-defrag-cycle-min 10",
        "active-defrag-cycle-max 20",
    ] {
        client.call::<()>(&format!("CONFIG SET {setting}"));
    }
    if client.reply(&[b"CONFIG", b"SET", b"activedefrag", b"yes"]).is_err() {
        // The allocator of this server does not support it.
        return;
    }
    eventually("keys are moved", || {
        let moved: u32 = client.info("stats", "active_defrag_key_hits").parse().unwrap();
        (moved > KEYS / 10).then_some(())
    });
    client.call::<()>("CONFIG SET activedefrag no");
    assert_eq!(client.call::<String>("DEBUG DIGEST"), before);
    for key in (0..KEYS).step_by(4) {
        let [granted, ..]: [i64; 7] =
            client.call(&format!("RATELIMIT.ACQUIRE jobs:{key} 131 60 new"));
        assert_eq!(granted, 1);
        let release = format!("RATELIMIT.RELEASE jobs:{key} new 0000000000 0000000129");
        assert_eq!(client.call::<i64>(&release), 3);
    }
}
