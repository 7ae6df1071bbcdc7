//! The states of one algorithm, as many as there is room for.
//!
//! A state is what Redis would hold under a key: it is gone once the whole quota is back, at the
//! next full millisecond.
//!
//! # Memory
//!
//! A state takes as much room as every other one, or as several when it takes more than 1 KiB: a
//! bucket and a short log count as one, a log of a million entries as some 8,000. When there is no
//! more room, states that were used least are forgotten, and their limits start afresh. A state
//! that is gone stays until it is asked for again or its room is needed. So at most some 1.5 KiB
//! are taken for each state that there is room for: 1 KiB, the identifier, and what the cache
//! itself needs.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use limiter::{Demand, Duration, Instant, Units};
use quick_cache::{Weighter, unsync::Cache};

/// A state, and when Redis would remove it.
#[derive(Debug, Default)]
struct Kept<A> {
    state: A,
    /// Unix time; a state that was never changed has run out.
    expiry_millis: u64,
}

impl<A: limiter::Algorithm> Kept<A> {
    fn is_gone(&self, now: Instant) -> bool {
        self.expiry_millis.saturating_mul(1_000) <= now.as_micros()
    }

    fn take(&mut self, limit: &A::Limit, demand: Demand, now: Instant) -> limiter::Decision {
        if self.is_gone(now) {
            self.state = A::default();
        }
        let decision = self.state.take(limit, demand, now);
        if decision.granted > 0 {
            self.expiry_millis = now.expiry_millis(decision.reset_after);
        }
        decision
    }
}

/// The states of one algorithm, by identifier.
#[derive(Debug)]
pub(super) struct States<A> {
    /// An identifier is always in the same shard.
    shards: Box<[Mutex<Shard<A>>]>,
    hasher: RandomState,
}

type Shard<A> = Cache<Box<str>, Kept<A>, Room>;

impl<A: limiter::Algorithm> States<A> {
    /// A shard has room for the longest log, which would forget itself otherwise.
    const LEAST_ROOM: usize = 10_000;
    /// More make no difference, as each is held for less than a microsecond.
    const MAX_SHARDS: usize = 16;

    pub(super) fn new(max_keys: usize) -> Self {
        let count = (max_keys / Self::LEAST_ROOM).clamp(1, Self::MAX_SHARDS);
        let shard = |number| {
            let room = max_keys / count + usize::from(number < max_keys % count);
            Mutex::new(Cache::with_weighter(room, room as u64, Room))
        };
        Self { shards: (0..count).map(shard).collect(), hasher: RandomState::new() }
    }

    pub(super) fn take(
        &self,
        identifier: &str,
        limit: &A::Limit,
        demand: Demand,
        now: Instant,
    ) -> limiter::Decision {
        let mut shard = self.shard(identifier);
        if let Some(mut kept) = shard.get_mut(identifier) {
            let decision = kept.take(limit, demand, now);
            drop(kept);
            make_room(&mut shard, identifier);
            return decision;
        }
        let mut kept = Kept::<A>::default();
        let decision = kept.take(limit, demand, now);
        if decision.granted > 0 {
            shard.insert(identifier.into(), kept);
        }
        decision
    }

    pub(super) fn peek(
        &self,
        identifier: &str,
        limit: &A::Limit,
        now: Instant,
    ) -> limiter::Decision {
        let shard = self.shard(identifier);
        match shard.get(identifier).filter(|kept| !kept.is_gone(now)) {
            Some(kept) => kept.state.peek(limit, Units::MIN, now),
            None => A::default().peek(limit, Units::MIN, now),
        }
    }

    pub(super) fn refund(&self, identifier: &str, amount: Units, now: Instant) -> u32 {
        let mut shard = self.shard(identifier);
        let Some(mut kept) = shard.get_mut(identifier) else { return 0 };
        if kept.is_gone(now) {
            return 0;
        }
        let refund = kept.state.refund(amount, now);
        if refund.refunded > 0 {
            kept.expiry_millis = match refund.reset_after {
                Duration::ZERO => 0,
                reset_after => now.expiry_millis(reset_after),
            };
        }
        refund.refunded
    }

    pub(super) fn remove(&self, identifier: &str, now: Instant) -> bool {
        let removed = self.shard(identifier).remove(identifier);
        removed.is_some_and(|(_, kept)| !kept.is_gone(now))
    }

    fn shard(&self, identifier: &str) -> MutexGuard<'_, Shard<A>> {
        // Upper bits, since the cache picks its places by the lower ones of a hash of its own.
        let hash = self.hasher.hash_one(identifier) >> 32;
        let index = hash as usize % self.shards.len();
        // Whoever panicked did so outside this module, where nothing is half done.
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has others forgotten when a state has outgrown the room that there is. The cache does so only for
/// what is put into it, not for what grows in its place.
fn make_room<A: limiter::Algorithm>(shard: &mut Shard<A>, grown: &str) {
    if shard.weight() > shard.capacity()
        && let Some((identifier, kept)) = shard.remove(grown)
    {
        shard.insert(identifier, kept);
    }
}

/// How much of the room in a cache a state takes.
#[derive(Debug, Clone)]
struct Room;

impl Room {
    /// What one part of the room stands for.
    const BYTES: usize = 1024;
    /// Most bytes of a buffer of a log, with what points to it.
    const BUFFER_BYTES: usize = 384;
}

impl<A: limiter::Algorithm> Weighter<Box<str>, Kept<A>> for Room {
    fn weight(&self, _: &Box<str>, kept: &Kept<A>) -> u64 {
        let bytes = kept.state.buffers() * Self::BUFFER_BYTES;
        bytes.div_ceil(Self::BYTES).max(1) as u64
    }
}
