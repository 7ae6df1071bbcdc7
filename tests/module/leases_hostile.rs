//! Stored bytes and effects of leases: those of version 2 are read, and damaged ones are refused or
//! leave usable leases.

use std::time::Duration;

use crate::harness::{Client, NOON, Random, Server};
use crate::module::hostile::{
    apply, create_witnesses, damages, dumps, survives_damaged_payloads, use_key,
};
use crate::module::payloads::{restore, version_2};

const EFFECTS: [&str; 4] =
    ["leases-effect", "acquisition-effect", "renewal-effect", "release-effect"];

/// A live lease: holder, cost, milliseconds until the end, fence.
type Held = (String, i64, i64, i64);

fn holders(client: &mut Client, key: &str) -> Vec<Held> {
    client.call(&format!("RATELIMIT.HOLDERS {key}"))
}

fn held(holder: &str, cost: i64, millis: i64, after_noon: i64) -> Held {
    (holder.to_owned(), cost, millis, NOON.cast_signed() + after_noon)
}

/// Starts a server a second and a half after noon, when the committed value was stored.
fn start() -> (Server, Client) {
    let server = Server::builder()
        .clock(NOON + 1_500_000)
        .config("rdbcompression", "no")
        .config("sanitize-dump-payload", "yes")
        .start();
    let client = server.client().acting_as_a_server();
    (server, client)
}

#[test]
fn a_value_and_effects_of_version_2_are_read_and_decide_as_they_did() {
    let (server, mut client) = start();
    let stored = [
        held("worker-3", 1, 250, 1_500_001),
        held("worker-2", 1, 30_500, 1_500_000),
        held("worker-1", 3, 58_500, 0),
    ];
    let value = version_2("leases-value");
    restore(&mut client, "restored", &value).unwrap();
    let dumped: Vec<u8> = client.call("DUMP restored");
    assert_eq!(dumped[..dumped.len() - 10], value);
    client.send::<()>(&[b"RATELIMIT.APPLY", b"leases", &version_2("leases-effect")]);
    for key in ["restored", "leases"] {
        assert_eq!(holders(&mut client, key), stored, "{key}");
    }
    assert_eq!(client.call::<i64>("RATELIMIT.RELEASE leases worker-2"), 1);
    client.send::<()>(&[b"RATELIMIT.APPLY", b"leases", &version_2("acquisition-effect")]);
    assert_eq!(holders(&mut client, "leases"), stored);
    server.clock().advance(Duration::from_secs(1));
    client.send::<()>(&[b"RATELIMIT.APPLY", b"leases", &version_2("renewal-effect")]);
    let renewed = [held("worker-1", 3, 90_000, 0), held("worker-2", 1, 90_000, 1_500_000)];
    assert_eq!(holders(&mut client, "leases"), renewed);
    client.send::<()>(&[b"RATELIMIT.APPLY", b"leases", &version_2("release-effect")]);
    assert_eq!(holders(&mut client, "leases"), renewed[..1]);
    // The fences of the payloads were taken into account: the clock of this server is behind them.
    server.clock().step_back(Duration::from_secs(60));
    let [.., fence, _]: [i64; 7] = client.call("RATELIMIT.ACQUIRE other 1 60 a");
    assert_eq!(fence, NOON.cast_signed() + 1_500_002);
}

#[test]
fn damaged_payloads_of_leases_are_refused_or_usable() {
    let (server, mut client) = start();
    for number in 0..5 {
        let call = format!("RATELIMIT.ACQUIRE original 100 {} worker-{number} COST 7", 60 + number);
        client.call::<[i64; 7]>(&call);
    }
    survives_damaged_payloads(&server);
}

#[test]
fn damaged_effects_on_leases_are_refused_or_usable() {
    let (_server, mut client) = start();
    let witnesses = create_witnesses(&mut client);
    let mut random = Random::new();
    let (mut accepted, mut refused) = (0, 0);
    for name in EFFECTS {
        for damaged in damages(&version_2(name), &mut random) {
            let key = random.pick(&["missing", "leases", "bucket", "text"]);
            client.call::<i64>("RATELIMIT.RESET missing leases bucket");
            client.send::<()>(&[b"RATELIMIT.APPLY", b"leases", &version_2("leases-effect")]);
            client.decide("RATELIMIT.TB bucket 100 60 COST 5");
            let before: Option<Vec<u8>> = client.call(&format!("DUMP {key}"));
            let is_refused = apply(&mut client, key, &damaged).is_err();
            let after: Option<Vec<u8>> = client.call(&format!("DUMP {key}"));
            assert!(!is_refused || after == before, "{key}: {}", damaged.escape_ascii());
            *if is_refused { &mut refused } else { &mut accepted } += 1;
            use_key(&mut client, key);
        }
    }
    assert!(accepted > 50 && refused > 50, "{accepted} accepted, {refused} refused");
    assert_eq!(dumps(&mut client), witnesses);
}

#[test]
fn no_fence_of_a_payload_uses_up_the_fences_of_a_server() {
    const HIGHEST: i64 = (1 << 53) - 1;
    let (_server, mut client) = start();
    // The fence is before the nine bytes of the holder, and takes eight bytes.
    let with_fence = |fence: &[u8]| {
        let mut effect = version_2("acquisition-effect");
        let end = effect.len() - 9;
        effect.splice(end - 8..end, fence.iter().copied());
        effect
    };
    let too_high: [&[u8]; 2] = [
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10],
    ];
    for fence in too_high {
        let effect = with_fence(fence);
        assert!(apply(&mut client, "leases", &effect).is_err());
    }
    assert_eq!(client.call::<i64>("EXISTS leases"), 0);
    let effect = with_fence(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    client.send::<()>(&[b"RATELIMIT.APPLY", b"leases", &effect]);
    assert_eq!(holders(&mut client, "leases")[0].3, HIGHEST);
    let mut last = 0;
    for key in ["other", "another", "third"] {
        let [granted, .., fence, _]: [i64; 7] =
            client.call(&format!("RATELIMIT.ACQUIRE {key} 1 60 a"));
        assert!(granted == 1 && fence > last && fence < HIGHEST, "{fence} after {last}");
        last = fence;
    }
    // The lease of the payload is renewed, taken again and released.
    let [granted, .., fence, _]: [i64; 7] = client.call("RATELIMIT.ACQUIRE leases 1 60 worker-2");
    assert_eq!((granted, fence), (1, HIGHEST));
    assert_eq!(client.call::<i64>(&format!("RATELIMIT.RELEASE leases FENCED worker-2 {fence}")), 1);
}
