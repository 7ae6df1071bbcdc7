//! The expiry of keys: after the end of their state, and set only when it must move.

use std::time::Duration;

use limiter::{Effect, Instant, LogEffect, Units, Window};

use crate::harness::{Client, NOON, Server, effect};

const NOON_MILLIS: i64 = (NOON / 1_000).cast_signed();
/// Calls on a state that ends after 0.6 seconds.
const CALLS: [&str; 2] = ["RATELIMIT.TB key 100 60", "RATELIMIT.SW key 1000 0.6"];

/// Returns the expiry of the key, in milliseconds after noon.
fn expiry(client: &mut Client) -> i64 {
    client.call::<i64>("PEXPIRETIME key") - NOON_MILLIS
}

#[test]
fn a_key_that_is_called_once_expires_a_second_after_its_state_has_ended() {
    for call in CALLS {
        let server = Server::at(NOON);
        let mut client = server.client();
        client.decide(call);
        assert_eq!(expiry(&mut client), 1_600, "{call}");
        server.clock().advance(Duration::from_millis(1_601));
        assert_eq!(client.call::<i64>("EXISTS key"), 0, "{call}");
    }
}

#[test]
fn a_key_that_is_called_once_a_second_gets_a_new_expiry_every_nine_calls() {
    for call in CALLS {
        let server = Server::at(NOON);
        let mut client = server.client();
        client.decide(call);
        let mut expiries = Vec::new();
        for _ in 0..20 {
            server.clock().advance(Duration::from_secs(1));
            assert_eq!(client.decide(call)[4], 600, "{call}");
            expiries.push(expiry(&mut client) / 1_000);
        }
        let expected = [[11; 9].as_slice(), &[20; 9], &[29; 2]].concat();
        assert_eq!(expiries, expected, "{call}: seconds after noon");
        assert_eq!(client.info("stats", "expired_keys"), "0", "no deletion to replicate");
    }
}

#[test]
fn an_expiry_moves_when_the_state_ends_later_or_much_earlier() {
    let server = Server::at(NOON);
    let mut client = server.client();
    client.decide("RATELIMIT.TB key 100 100");
    client.decide("RATELIMIT.TB key 100 100");
    assert_eq!(expiry(&mut client), 11_000, "2 units, a second, and eight more");
    client.decide("RATELIMIT.TB key 100 100 COST 8");
    assert_eq!(expiry(&mut client), 11_000, "10 units and a second");
    client.call::<i64>("RATELIMIT.REFUND key 8");
    assert_eq!(expiry(&mut client), 11_000);
    client.decide("RATELIMIT.TB key 100 100 COST 9");
    assert_eq!(expiry(&mut client), 20_000, "11 units, a second, and eight more");
    client.call::<i64>("RATELIMIT.REFUND key 1");
    assert_eq!(expiry(&mut client), 19_000, "at most eight more");
}

#[test]
fn the_first_grant_on_a_restored_value_sets_the_expiry() {
    for call in CALLS {
        let server = Server::at(NOON);
        let mut client = server.client();
        client.decide(call);
        client.decide(call);
        let set = expiry(&mut client);
        let value: Vec<u8> = client.call("DUMP key");
        client.send::<()>(&[b"RESTORE", b"key", b"1", &value, b"REPLACE"]);
        assert_eq!(expiry(&mut client), 1, "{call}");
        client.decide(call);
        assert!(expiry(&mut client) >= set, "{call}");
    }
}

/// A server that was a primary, then a replica, and is a primary again.
#[test]
fn the_first_grant_after_an_effect_sets_the_expiry() {
    let server = Server::at(NOON);
    let mut client = server.client().acting_as_a_server();
    let call = "RATELIMIT.SW key 1000 0.6";
    client.decide(call);
    client.decide(call);
    let set = expiry(&mut client);
    let window = Window::from_millis(600).unwrap();
    let (time, units) = (Instant::from_micros(NOON), Units::MIN);
    let grant = Effect::SlidingWindowLog(LogEffect::Grant { time, window, units });
    client.send::<()>(&[b"RATELIMIT.APPLY", b"key", &effect(NOON / 1_000 + 700, &grant)]);
    assert_eq!(expiry(&mut client), 700);
    client.decide(call);
    assert_eq!(expiry(&mut client), set);
}

/// An expiry so far ahead is not kept: the state has no room for it.
#[test]
fn the_expiry_of_a_long_lived_key_is_exact() {
    for call in ["RATELIMIT.TB key 1 2592000 BURST 100", "RATELIMIT.SW key 100 2592000"] {
        let server = Server::at(NOON);
        let mut client = server.client();
        for _ in 0..3 {
            let reply = client.decide(call);
            assert_eq!(client.call::<i64>("PTTL key"), reply[4] + 1_000, "{call}");
            server.clock().advance(Duration::from_millis(1));
        }
    }
}

/// The state of a fixed window ends at the same time after every grant.
#[test]
fn the_expiry_of_a_fixed_window_is_set_by_two_calls_and_moves_with_the_window() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let call = "RATELIMIT.FW key 100 60";
    for _ in 0..4 {
        client.decide(call);
        assert_eq!(expiry(&mut client), 61_000);
        server.clock().advance(Duration::from_secs(1));
    }
    // The third call has set nothing, so that the expiry of a client holds.
    client.call::<i64>("PEXPIRE key 30000");
    client.decide(call);
    assert_eq!(expiry(&mut client), 34_000);
    client.call::<i64>("RATELIMIT.REFUND key 1");
    assert_eq!(expiry(&mut client), 34_000);
    client.decide("RATELIMIT.FW key 100 120");
    assert_eq!(expiry(&mut client), 121_000, "a call with another window sets it");
    let value: Vec<u8> = client.call("DUMP key");
    client.send::<()>(&[b"RESTORE", b"key", b"1", &value, b"REPLACE"]);
    client.decide("RATELIMIT.FW key 100 120");
    assert_eq!(expiry(&mut client), 121_000, "the first grant on a restored value sets it");
}

#[test]
fn the_expiry_of_leases_moves_when_the_last_one_ends_later_or_much_earlier() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let mut acquire = |call: &str| {
        let [granted, ..]: [i64; 7] = client.call(&format!("RATELIMIT.ACQUIRE key {call}"));
        assert_eq!(granted, 1, "{call}");
        client.call::<i64>("PEXPIRETIME key") - NOON_MILLIS
    };
    assert_eq!(acquire("9 10 a"), 11_000, "a second after the last lease");
    assert_eq!(acquire("9 10 b"), 19_000, "and eight more");
    assert_eq!(acquire("9 18 c"), 19_000);
    assert_eq!(acquire("9 19 d"), 28_000);
    server.clock().advance(Duration::from_secs(1));
    client.call::<[[i64; 2]; 1]>("RATELIMIT.RENEW key 18.5 d");
    assert_eq!(expiry(&mut client), 28_000);
    client.call::<[[i64; 2]; 1]>("RATELIMIT.RENEW key 30 d");
    assert_eq!(expiry(&mut client), 40_000);
    assert_eq!(client.call::<i64>("RATELIMIT.RELEASE key a"), 1);
    assert_eq!(expiry(&mut client), 40_000);
    assert_eq!(client.call::<i64>("RATELIMIT.RELEASE key d"), 1);
    assert_eq!(expiry(&mut client), 27_000, "at most eight more");
}
