//! The states of one algorithm, by identifier.
//!
//! A state is the value that Redis would have under a key. A state that has ended counts as missing.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use limiter::{Correction, Decision, Estimate, Instant, Limiter, Origin, Request, Settle, Units};

use super::shard::{Key, LONGEST_LOG, NoRoom, Shard};

/// The states of one algorithm. An identifier is always in the same shard.
#[derive(Debug)]
pub(super) struct States<A: Limiter> {
    shards: Box<[Mutex<Shard<A>>]>,
    hasher: RandomState,
}

impl<A: Limiter> States<A> {
    /// Most shards. Further shards make no difference, because each lock lasts about a microsecond.
    const MAX_SHARDS: usize = 16;

    /// Returns states with room for a weight of `room`, which is at least 1. Each of several shards
    /// has room for the longest log.
    pub(super) fn new(room: usize) -> Self {
        let count = (room / LONGEST_LOG).clamp(1, Self::MAX_SHARDS);
        let shard = |number| Shard::new(room / count + usize::from(number < room % count));
        Self { shards: (0..count).map(shard).map(Mutex::new).collect(), hasher: RandomState::new() }
    }

    /// As [`Shard::take`].
    pub(super) fn take(
        &self,
        identifier: &str,
        limit: &A::Limit,
        request: Request,
        now: Instant,
    ) -> Result<Decision, NoRoom> {
        let (mut shard, key) = self.find(identifier);
        shard.take(key, limit, request, now)
    }

    /// As [`Shard::peek`].
    pub(super) fn peek(
        &self,
        identifier: &str,
        limit: &A::Limit,
        cost: Units,
        now: Instant,
    ) -> Result<Decision, NoRoom> {
        let (mut shard, key) = self.find(identifier);
        shard.peek(key, limit, cost, now)
    }

    /// As [`Shard::refund`].
    pub(super) fn refund(&self, identifier: &str, amount: Units, now: Instant) -> u32 {
        let (mut shard, key) = self.find(identifier);
        shard.refund(key, amount, now)
    }

    /// As [`Shard::remove`].
    pub(super) fn remove(&self, identifier: &str, now: Instant) -> bool {
        let (mut shard, key) = self.find(identifier);
        shard.remove(key, now)
    }

    /// As [`Shard::origin`].
    pub(super) fn origin(&self, identifier: &str, limit: &A::Limit, now: Instant) -> Option<Origin>
    where
        A: Settle,
    {
        let (mut shard, key) = self.find(identifier);
        shard.origin(key, limit, now)
    }

    /// As [`Shard::settle`].
    pub(super) fn settle(
        &self,
        identifier: &str,
        limit: &A::Limit,
        estimate: &Estimate,
        correction: Correction,
        now: Instant,
    ) -> Option<i64>
    where
        A: Settle,
    {
        let (mut shard, key) = self.find(identifier);
        shard.settle(key, limit, estimate, correction, now)
    }

    fn find<'a>(&self, identifier: &'a str) -> (MutexGuard<'_, Shard<A>>, Key<'a>) {
        let hash = self.hasher.hash_one(identifier);
        // The table of the shard takes the lowest and the highest bits.
        let index = (hash >> 32) as usize % self.shards.len();
        // A shard that panics has not changed anything yet, so that a poisoned lock is sound.
        let shard = self.shards[index].lock().unwrap_or_else(PoisonError::into_inner);
        (shard, Key { identifier, hash })
    }
}
