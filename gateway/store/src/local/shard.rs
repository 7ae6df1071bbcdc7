//! States that share a lock and a bound on their memory.
//!
//! # Room
//!
//! The weight of a state is its memory in KiB, rounded up: 1 for a bucket and a short log, some 8,000
//! for a log of a million entries. The room of a shard is the greatest weight of all its states
//! together. When another key needs room, or a log grows, keys that grant are evicted in the order of
//! [`EvictionOrder`], and their limits start afresh. If these keys do not suffice:
//!
//! 1. A new key is denied. A key that denies is not evicted, because that key would then grant.
//! 2. An existing log grows up to the room of the shard or to [`LONGEST_LOG`], whichever is greater.
//!    So a log that alone exceeds the room is still limited.
//! 3. A log that would grow beyond that is denied.
//!
//! A state that has ended is removed lazily, when its key is used again or when it is evicted first.

mod settlement;
#[cfg(test)]
mod tests;

use hashbrown::HashTable;
use limiter::{Decision, Duration, Instant, Limiter, Mode, Request, RetryAfter, Units};
use slab::Slab;

use super::eviction_order::{EvictionOrder, Times};

/// More than any log weighs: a log of 1,000,000 entries weighs some 8,000.
pub(super) const LONGEST_LOG: usize = 10_000;

/// An identifier with its hash.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) identifier: &'a str,
    pub(super) hash: u64,
}

/// The error of a shard whose room is taken by keys that deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom {
    /// The time until enough of these keys grant, and can be evicted.
    pub(super) wait: Duration,
}

/// States that share a lock.
#[derive(Debug)]
pub(super) struct Shard<A: Limiter> {
    /// The greatest weight of all states, at least 1.
    room: usize,
    /// The greatest weight of all states when a log grows and the other keys deny.
    most: usize,
    /// The weight of all states.
    weight: usize,
    entries: Slab<Entry<A>>,
    /// The indexes of `entries`, by the hash of the identifier.
    places: HashTable<usize>,
    order: EvictionOrder,
}

/// The state of a key.
#[derive(Debug)]
struct Entry<A: Limiter> {
    identifier: Box<str>,
    hash: u64,
    state: A,
    /// The limit and the cost of the latest call, or one unit if that call was forced. A key denies
    /// if it would deny this call now.
    limit: A::Limit,
    cost: Units,
    times: Times,
    weight: usize,
}

impl<A: Limiter> Shard<A> {
    /// Returns a shard without states.
    pub(super) fn new(room: usize) -> Self {
        Self {
            room,
            most: room.max(LONGEST_LOG),
            weight: 0,
            entries: Slab::new(),
            places: HashTable::new(),
            order: EvictionOrder::new(),
        }
    }

    /// Takes the cost of a request.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] when the state grants, but cannot be stored.
    pub(super) fn take(
        &mut self,
        key: Key<'_>,
        limit: &A::Limit,
        request: Request,
        now: Instant,
    ) -> Result<Decision, NoRoom> {
        self.order.advance(now);
        let Some(place) = self.find(key, now) else {
            let mut entry = Entry::new(key, *limit);
            let decision = entry.take(limit, request, now);
            if decision.granted > 0 {
                self.make_room(entry.weight, self.room, None)?;
                self.insert(entry);
            }
            return Ok(decision);
        };
        let entry = &self.entries[place];
        let growth = entry.growth();
        let lacks_room = growth > 0 && self.weight + growth > self.room;
        let grants = || entry.state.peek(limit, request.cost, now).granted > 0;
        if lacks_room && (request.mode == Mode::Force || grants()) {
            self.make_room(growth, self.most, Some(place))?;
        }
        Ok(self.change(place, |entry| entry.take(limit, request, now)))
    }

    /// Returns the answer to a call that takes `cost`.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] when there is no state, and none could be stored.
    pub(super) fn peek(
        &mut self,
        key: Key<'_>,
        limit: &A::Limit,
        cost: Units,
        now: Instant,
    ) -> Result<Decision, NoRoom> {
        self.order.advance(now);
        match self.find(key, now) {
            Some(place) => Ok(self.entries[place].state.peek(limit, cost, now)),
            None => match self.without_room(1, self.room, None) {
                Some(no_room) => Err(no_room),
                None => Ok(A::default().peek(limit, cost, now)),
            },
        }
    }

    /// Gives back units, at most those that count, and returns their number.
    pub(super) fn refund(&mut self, key: Key<'_>, amount: Units, now: Instant) -> u32 {
        self.order.advance(now);
        let Some(place) = self.find(key, now) else { return 0 };
        self.change(place, |entry| entry.refund(amount, now))
    }

    /// Removes a key. Returns whether the key had a state that has not ended.
    pub(super) fn remove(&mut self, key: Key<'_>, now: Instant) -> bool {
        self.order.advance(now);
        match self.find(key, now) {
            Some(place) => {
                self.evict(place);
                true
            }
            None => false,
        }
    }

    /// Returns the place of a key whose state has not ended. Removes a state that has ended.
    fn find(&mut self, key: Key<'_>, now: Instant) -> Option<usize> {
        let is_key = |place: &usize| *self.entries[*place].identifier == *key.identifier;
        let place = *self.places.find(key.hash, is_key)?;
        if self.entries[place].times.end <= now {
            self.evict(place);
            return None;
        }
        Some(place)
    }

    fn insert(&mut self, entry: Entry<A>) {
        self.weight += entry.weight;
        let (hash, times) = (entry.hash, entry.times);
        let place = self.entries.insert(entry);
        self.places.insert_unique(hash, place, |place| self.entries[*place].hash);
        self.order.insert(place, times);
    }

    fn evict(&mut self, place: usize) {
        let entry = self.entries.remove(place);
        if let Ok(found) = self.places.find_entry(entry.hash, |other| *other == place) {
            found.remove();
        }
        self.order.remove(place, entry.times);
        self.weight -= entry.weight;
    }

    /// Changes a state, and updates its place in the order and the weight of all states.
    fn change<T>(&mut self, place: usize, change: impl FnOnce(&mut Entry<A>) -> T) -> T {
        let entry = &mut self.entries[place];
        let (times, weight) = (entry.times, entry.weight);
        let result = change(entry);
        self.weight = self.weight - weight + entry.weight;
        if entry.times != times {
            let times_now = entry.times;
            self.order.remove(place, times);
            self.order.insert(place, times_now);
        }
        result
    }

    /// Evicts keys that grant, other than `exempt`, until `more` fits into the room, or until only keys
    /// that deny remain and `more` fits below `most`.
    fn make_room(&mut self, more: usize, most: usize, exempt: Option<usize>) -> Result<(), NoRoom> {
        if let Some(no_room) = self.without_room(more, most, exempt) {
            return Err(no_room);
        }
        while self.weight + more > self.room {
            let Some(place) = self.order.granting().find(|place| Some(*place) != exempt) else {
                break;
            };
            self.evict(place);
        }
        Ok(())
    }

    /// Returns an error unless `more` fits below `most` once the keys that grant, other than `exempt`,
    /// are evicted.
    fn without_room(&self, more: usize, most: usize, exempt: Option<usize>) -> Option<NoRoom> {
        let mut excess = (self.weight + more).saturating_sub(most);
        if excess == 0 {
            return None;
        }
        for place in self.order.granting().filter(|place| Some(*place) != exempt) {
            excess = excess.saturating_sub(self.entries[place].weight);
            if excess == 0 {
                return None;
            }
        }
        let mut wait = 0;
        for (micros, place) in self.order.denying().filter(|(_, place)| Some(*place) != exempt) {
            wait = micros;
            excess = excess.saturating_sub(self.entries[place].weight);
            if excess == 0 {
                break;
            }
        }
        Some(NoRoom { wait: Duration::from_micros(wait.max(1).into()) })
    }
}

impl<A: Limiter> Entry<A> {
    fn new(key: Key<'_>, limit: A::Limit) -> Self {
        let times = Times { grants_from: Instant::EPOCH, end: Instant::EPOCH };
        let (identifier, hash) = (key.identifier.into(), key.hash);
        let (state, cost) = (A::default(), Units::MIN);
        Self { identifier, hash, state, limit, cost, times, weight: weight(0) }
    }

    fn take(&mut self, limit: &A::Limit, request: Request, now: Instant) -> Decision {
        let decision = self.state.take(limit, request, now);
        if decision.granted == 0 && decision.retry_after == RetryAfter::Never {
            // A call that can never be granted does not show whether the key denies.
            return decision;
        }
        let cost = if request.mode == Mode::Force { Units::MIN } else { request.cost };
        (self.limit, self.cost) = (*limit, cost);
        if decision.granted > 0 {
            self.times.end = end(decision.reset_after, now);
            self.weight = weight(self.state.buffers());
        }
        let again = match decision.granted > 0 && decision.remaining < cost.get() {
            true => self.state.peek(limit, cost, now),
            false => decision,
        };
        self.set_wait(again.retry_after, now);
        decision
    }

    fn refund(&mut self, amount: Units, now: Instant) -> u32 {
        let refund = self.state.refund(amount, now);
        if refund.refunded > 0 {
            self.times.end = end(refund.reset_after, now);
            self.weight = weight(self.state.buffers());
            let again = self.state.peek(&self.limit, self.cost, now);
            self.set_wait(again.retry_after, now);
        }
        refund.refunded
    }

    /// Sets the time from which the latest call would be granted if it was repeated.
    fn set_wait(&mut self, wait: RetryAfter, now: Instant) {
        self.times.grants_from = match wait {
            RetryAfter::Granted | RetryAfter::Never => Instant::EPOCH,
            // At its end the state counts for nothing.
            RetryAfter::Wait(wait) => {
                let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
                now.plus_micros(micros).min(self.times.end)
            }
        };
    }

    /// Returns the greatest growth of the weight in one call, which adds at most one chunk to a log.
    fn growth(&self) -> usize {
        weight(self.state.buffers() + GRANT_BUFFERS) - self.weight
    }
}

/// Most buffers that a grant adds: a chunk, and the list of the chunks.
const GRANT_BUFFERS: usize = 2;

/// Returns the weight of a state with `buffers` buffers.
fn weight(buffers: usize) -> usize {
    /// The most bytes that a buffer of a log takes, with its part of the list of the buffers.
    const BUFFER_BYTES: usize = 384;
    (buffers * BUFFER_BYTES).div_ceil(1024).max(1)
}

/// Returns the end of a state whose whole quota is available after `reset_after`. A state without
/// used units has ended.
fn end(reset_after: Duration, now: Instant) -> Instant {
    match u64::try_from(reset_after.as_micros()) {
        Ok(0) => Instant::EPOCH,
        Ok(micros) => now.plus_micros(micros),
        Err(_) => Instant::MAX,
    }
}
