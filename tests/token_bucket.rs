//! RATELIMIT.TB: exact replies of a live server whose clock the test sets.

use std::time::Duration;

use crate::harness::{NOON, Server};

#[test]
fn a_full_bucket_grants_at_once_and_says_when_it_is_full_again() {
    let server = Server::builder().clock(NOON).start();
    let mut client = server.client();
    assert_eq!(client.decide("RATELIMIT.TB user 100 60"), [1, 100, 99, 0, 600]);
    assert_eq!(client.decide("RATELIMIT.TB user 100 60"), [1, 100, 98, 0, 1_200]);
    server.clock().advance(Duration::from_millis(600));
    assert_eq!(client.decide("RATELIMIT.TB user 100 60"), [1, 100, 98, 0, 1_200]);
}
