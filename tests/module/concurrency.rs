//! Many clients at once get no more than one client.

use std::sync::Barrier;
use std::thread;

use crate::harness::{NOON, Server};

const CLIENTS: usize = 200;
const CALLS: usize = 25;
const LIMIT: i64 = 1_000;

#[test]
fn concurrent_clients_share_one_bucket() {
    assert_eq!(granted_to_all("RATELIMIT.TB shared 1000 60"), LIMIT);
}

#[test]
fn concurrent_clients_share_one_log() {
    assert_eq!(granted_to_all("RATELIMIT.SW shared 1000 60"), LIMIT);
}

#[test]
fn concurrent_clients_with_partial_grants_leave_nothing_over() {
    assert_eq!(granted_to_all("RATELIMIT.TB shared 1000 60 COST 7 PARTIAL"), LIMIT);
    assert_eq!(granted_to_all("RATELIMIT.SW shared 1000 60 COST 7 PARTIAL"), LIMIT);
}

/// Returns the units that all clients together are granted while the clock stands still.
fn granted_to_all(call: &str) -> i64 {
    let server = Server::at(NOON);
    let start = Barrier::new(CLIENTS);
    let granted_to_one = || {
        let mut client = server.client();
        start.wait();
        (0..CALLS).map(|_| client.decide(call)[0]).sum::<i64>()
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(granted_to_one)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    })
}
