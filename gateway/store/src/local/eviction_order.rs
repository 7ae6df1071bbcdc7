//! The order in which the keys of a shard are evicted.
//!
//! A key that would deny its latest call now is never evicted. Among the other keys, the key whose
//! state ends first is evicted first, because the loss for its limit is the smallest.
//!
//! A key that denies becomes a key that grants by the passage of time alone. So there are two sets,
//! and [`EvictionOrder::advance`] moves the keys that grant at `now` from the first to the second. A
//! key moves at most once after each change, so that every operation takes O(log n), amortised.

use std::collections::{BTreeMap, BTreeSet};

use limiter::Instant;

/// The times that determine the place of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    /// The time from which the latest call of the key would be granted if it was repeated.
    pub(super) grants_from: Instant,
    /// The end of the state: from then on the whole quota is available.
    pub(super) end: Instant,
}

/// The keys of a shard, by the numbers that it gives them. Each key is in one of the two sets.
#[derive(Debug)]
pub(super) struct EvictionOrder {
    /// The keys that deny at `now`: the end of the state, by the time from which the key grants.
    denying: BTreeMap<(Instant, usize), Instant>,
    /// The keys that grant at `now`, by the end of the state.
    granting: BTreeSet<(Instant, usize)>,
    /// The latest time that was passed in.
    now: Instant,
}

impl EvictionOrder {
    /// Returns an order without keys.
    pub(super) const fn new() -> Self {
        Self { denying: BTreeMap::new(), granting: BTreeSet::new(), now: Instant::EPOCH }
    }

    /// Sets the time to `now`, unless an earlier call has set a later time.
    pub(super) fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while let Some(entry) = self.denying.first_entry() {
            let (grants_from, key) = *entry.key();
            if grants_from > self.now {
                break;
            }
            self.granting.insert((entry.remove(), key));
        }
    }

    /// Adds a key that is in neither set.
    pub(super) fn insert(&mut self, key: usize, times: Times) {
        let Times { grants_from, end } = times;
        if grants_from > self.now {
            self.denying.insert((grants_from, key), end);
        } else {
            self.granting.insert((end, key));
        }
    }

    /// Removes a key that was inserted with these times.
    pub(super) fn remove(&mut self, key: usize, times: Times) {
        let Times { grants_from, end } = times;
        if !self.granting.remove(&(end, key)) {
            let removed = self.denying.remove(&(grants_from, key));
            debug_assert_eq!(removed, Some(end), "key {key} is in neither set");
        }
    }

    /// Returns the keys that may be evicted, in the order of eviction.
    pub(super) fn granting(&self) -> impl Iterator<Item = usize> {
        self.granting.iter().map(|(_, key)| *key)
    }

    /// Returns the keys that may not be evicted now, each with the microseconds until it may be.
    pub(super) fn denying(&self) -> impl Iterator<Item = (u64, usize)> {
        self.denying.keys().map(|(grants_from, key)| (grants_from.micros_since(self.now), *key))
    }
}
