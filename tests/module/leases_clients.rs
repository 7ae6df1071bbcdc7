//! Many clients on one key of leases, some of which end without a release: the limit holds at every
//! instant, and no slot is lost for longer than its ttl.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Client, NOON, Random, Server};

const CLIENTS: usize = 200;
const ROUNDS: usize = 12;
const LIMIT: i64 = 40;
const TTL_MILLIS: u64 = 1_000;

/// The leases that their holders rely on, recorded by the clients themselves.
///
/// A client records a grant after the answer, and a release before the call. So the costs that are
/// recorded are at no instant more than those of the leases that count.
#[derive(Default)]
struct Ledger {
    costs: AtomicI64,
    highest: AtomicI64,
    /// Cost and time of expiry of each lease that was not released, by holder.
    left: Mutex<HashMap<String, (i64, u64)>>,
    fences: Mutex<Vec<i64>>,
    denied: AtomicI64,
}

impl Ledger {
    fn take(&self, cost: i64, fence: i64) {
        let costs = self.costs.fetch_add(cost, Ordering::SeqCst) + cost;
        self.highest.fetch_max(costs, Ordering::SeqCst);
        self.fences.lock().unwrap().push(fence);
    }

    fn give_back(&self, cost: i64) {
        self.costs.fetch_sub(cost, Ordering::SeqCst);
    }

    /// Forgets the leases that have expired by `now`.
    fn expire(&self, now: u64) {
        self.left.lock().unwrap().retain(|_, &mut (cost, expiry)| {
            if expiry <= now {
                self.give_back(cost);
            }
            expiry > now
        });
    }

    /// Returns holder, cost and milliseconds until the end of each lease, in the order of holders.
    fn held(&self, now: u64) -> Vec<(String, i64, i64)> {
        let row = |(holder, &(cost, expiry)): (&String, &(i64, u64))| {
            (holder.clone(), cost, ((expiry - now) / 1_000).cast_signed())
        };
        let mut held: Vec<_> = self.left.lock().unwrap().iter().map(row).collect();
        held.sort();
        held
    }
}

/// Takes leases in one round, while the clock stands still, and ends some of them.
fn work(client: &mut Client, name: &str, ledger: &Ledger, random: &mut Random, now: u64) {
    for attempt in 0..3 {
        let holder = format!("{name}-{attempt}");
        let cost = 1 + random.below(3) as i64;
        let millis = TTL_MILLIS / (1 + random.below(3) as u64);
        let call = format!("RATELIMIT.ACQUIRE jobs {LIMIT} 0.{millis:03} {holder} COST {cost}");
        let call = call.replace("0.1000", "1");
        let [granted, .., fence, _]: [i64; 7] = client.call(&call);
        if granted == 0 {
            ledger.denied.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        assert_eq!(granted, cost);
        ledger.take(cost, fence);
        // A lost answer: the repeated call takes no second slot.
        if random.once_in(4) {
            let [again, .., same, _]: [i64; 7] = client.call(&call);
            assert_eq!((again, same), (cost, fence));
        }
        if random.once_in(3) {
            // The client dies, or its work lasts beyond this round.
            ledger.left.lock().unwrap().insert(holder, (cost, now + millis * 1_000));
        } else {
            ledger.give_back(cost);
            assert_eq!(client.call::<i64>(&format!("RATELIMIT.RELEASE jobs {holder}")), 1);
        }
    }
}

#[test]
fn clients_that_die_without_a_release_never_break_the_limit_nor_lose_a_slot() {
    let server = Server::at(NOON);
    let ledger = Ledger::default();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| (server.client(), Random::new())).collect();
    let mut highest_fence = 0;
    for round in 0..ROUNDS {
        let now = server.clock().micros();
        thread::scope(|scope| {
            for (number, (client, random)) in clients.iter_mut().enumerate() {
                let (name, ledger) = (format!("{number}-{round}"), &ledger);
                scope.spawn(move || work(client, &name, ledger, random, now));
            }
        });
        assert_holds(&server, &ledger);
        let mut fences = std::mem::take(&mut *ledger.fences.lock().unwrap());
        fences.sort_unstable();
        assert!(fences.is_sorted_by(|before, after| before < after), "a fence was given twice");
        // Leases that were not released can take all units, so that a round has no grant.
        assert!(fences.first().is_none_or(|&first| first > highest_fence), "a fence out of order");
        highest_fence = fences.last().copied().unwrap_or(highest_fence);
        server.clock().advance(Duration::from_millis(TTL_MILLIS / 4));
        ledger.expire(server.clock().micros());
        assert_holds(&server, &ledger);
    }
    assert!(ledger.denied.into_inner() > 100, "the clients compete");
    assert_eq!(ledger.highest.into_inner(), LIMIT, "the limit is reached, and never exceeded");
    // After the longest ttl all units are free.
    server.clock().advance(Duration::from_millis(TTL_MILLIS * 3 / 4));
    let [granted, ..]: [i64; 7] =
        server.client().call(&format!("RATELIMIT.ACQUIRE jobs {LIMIT} 1 last COST {LIMIT}"));
    assert_eq!(granted, LIMIT);
}

/// Asserts that the server has the leases that were not released and have not expired, and no
/// others, while no client makes a call.
fn assert_holds(server: &Server, ledger: &Ledger) {
    let found: Vec<(String, i64, i64, i64)> =
        server.client().call("RATELIMIT.HOLDERS jobs COUNT 10000");
    let mut found: Vec<_> =
        found.into_iter().map(|(holder, cost, millis, _)| (holder, cost, millis)).collect();
    found.sort();
    let held = ledger.held(server.clock().micros());
    assert_eq!(found, held);
    assert!(held.iter().map(|(_, cost, _)| cost).sum::<i64>() <= LIMIT);
}
