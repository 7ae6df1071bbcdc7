//! RESOLUTION: logs of any limit in bounded memory.

use std::time::Duration;

use crate::harness::{Client, NOON, Server};

const MILLISECOND: Duration = Duration::from_millis(1);

fn at(server: &Server, seconds: f64) {
    server.clock().set(NOON + (seconds * 1_000.0).round() as u64 * 1_000);
}

#[test]
fn grants_within_a_tick_share_an_entry_that_counts_from_its_latest_grant() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let call = "RATELIMIT.SW user 10 60 RESOLUTION 20";
    for seconds in [1.0, 5.0, 19.999] {
        at(&server, seconds);
        assert_eq!(client.decide(call)[0], 1);
    }
    at(&server, 20.0);
    assert_eq!(
        client.decide("RATELIMIT.SW user 10 60 COST 7 RESOLUTION 20"),
        [7, 10, 0, 0, 60_000]
    );
    // All three units of the first tick leave at once.
    assert_eq!(client.decide(call), [0, 10, 0, 59_999, 60_000]);
    at(&server, 79.998);
    assert_eq!(client.decide(call), [0, 10, 0, 1, 2]);
    at(&server, 79.999);
    assert_eq!(client.decide(call), [1, 10, 2, 0, 60_000]);
}

#[test]
fn a_log_has_at_most_one_entry_for_each_tick_of_a_window_and_one_more() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let limit = "5000000 86400 RESOLUTION 864";
    let mut most = 0;
    // Two days: a grant every 20 seconds.
    for _ in 0..2 * 4_320 {
        assert_eq!(client.decide(&format!("RATELIMIT.SW log {limit}"))[0], 1);
        server.clock().advance(Duration::from_secs(20));
        most = most.max(client.call::<i64>("MEMORY USAGE log"));
    }
    assert!(most < 1_500, "{most} bytes for 101 entries");
    let used = 5_000_000 - client.decide(&format!("RATELIMIT.PEEK log SW {limit}"))[2];
    // Each unit counts for a day, and for less than one tick longer.
    assert!((4_320..4_320 + 44).contains(&used), "{used}");
}

#[test]
fn a_limit_above_the_setting_needs_a_resolution_that_bounds_the_log() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let error = "ERR limit must be an integer between 1 and 1000000 with this resolution";
    let day = "5000000 86400";
    for call in ["RATELIMIT.SW log", "RATELIMIT.PEEK log SW", "RATELIMIT.MULTI 1 log SW"] {
        assert_eq!(client.refusal(&format!("{call} {day}")), error);
        assert_eq!(client.refusal(&format!("{call} {day} RESOLUTION 0.086")), error);
        client.call::<redis::Value>(&format!("{call} {day} RESOLUTION 0.087"));
    }
    // A window of a minute has 60,001 ticks of the usual millisecond.
    assert_eq!(client.decide("RATELIMIT.SW minute 1000000000 60")[1], 1_000_000_000);
    client.call::<()>("CONFIG SET ratelimit.sliding-window-max-limit 60000");
    assert!(client.refusal("RATELIMIT.SW minute 1000000000 60").contains("between 1 and 60000 "));
    assert_eq!(client.decide("RATELIMIT.SW minute 60000 60")[1], 60_000);
}

#[test]
fn two_resolutions_of_one_key_keep_no_unit_alive() {
    let server = Server::at(NOON);
    let mut client = server.client();
    // The first grant of an entry decides the tick: otherwise each call joins the entry before.
    let start = NOON / 1_000_000;
    let origin = (start - start % 3_660) as f64 - start as f64 + 3_660.0;
    at(&server, origin);
    client.decide("RATELIMIT.SW user 1000 60 COST 500");
    for (seconds, resolution) in [(59.9, 60), (60.5, 60), (119.9, 60), (121.9, 60), (179.9, 60)] {
        at(&server, origin + seconds);
        client.decide(&format!("RATELIMIT.SW user 1000 60 RESOLUTION {resolution}"));
    }
    at(&server, origin + 239.0);
    let left = client.decide("RATELIMIT.PEEK user SW 1000 60")[2];
    assert!(left >= 998, "{left} are left");
}

#[test]
fn a_resolution_is_between_a_millisecond_and_the_window() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let error = "ERR resolution must be a number of seconds between 0.001 and the window with at \
                 most three decimals";
    for wrong in ["0", "0.0001", "60.001", "61", "-1", "x", "1e3", "31622401"] {
        let call = format!("RATELIMIT.SW log 10 60 RESOLUTION {wrong}");
        assert_eq!(client.refusal(&call), error, "{wrong}");
    }
    for right in ["0.001", "60", "60.000", "0.25"] {
        let call = format!("RATELIMIT.SW log 10 60 COST 1 RESOLUTION {right} PARTIAL");
        assert_eq!(client.decide(&call)[0], 1, "{right}");
    }
}

#[test]
fn the_same_entries_are_on_a_replica_and_after_a_restart() {
    let mut primary = Server::builder().clock(NOON).config("appendonly", "yes").start();
    let replica = Server::builder()
        .clock_of(&primary)
        .config("propagation-error-behavior", "panic")
        .replica_of(&primary)
        .start();
    let mut client = primary.client();
    for step in 0..200 {
        let resolution = ["", "RESOLUTION 0.1", "RESOLUTION 1", "RESOLUTION 7.5"][step % 4];
        let force = if step % 5 == 0 { "FORCE" } else { "" };
        client.decide(&format!("RATELIMIT.SW log 90 10 {resolution} {force}"));
        primary.clock().advance(37 * MILLISECOND);
    }
    let expected = digest(&mut client);
    replica.catch_up_with(&primary);
    assert_eq!(digest(&mut replica.client()), expected);
    for reload in ["DEBUG RELOAD", "DEBUG LOADAOF"] {
        client.call::<()>(reload);
        assert_eq!(digest(&mut client), expected, "{reload}");
    }
    primary.restart();
    assert_eq!(digest(&mut primary.client()), expected);
}

fn digest(client: &mut Client) -> String {
    let [digest]: [String; 1] = client.call("DEBUG DIGEST-VALUE log");
    digest
}
