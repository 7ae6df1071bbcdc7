//! Denials of Redis that are told again without asking it.
//!
//! ```text
//!   sent   denied   arrived
//!  ───┼───────┼────────┼───────────────────────────────▶ time
//!     ├── told again for retry_after ──┤
//!                      ├── what is left of retry_after ──┤
//! ```
//!
//! Redis denied at some time between the sending of the check and the arrival of the answer. So a
//! denial is told again as if that had been when the check was sent, less the millisecond by which
//! the wait may have been rounded up: nothing is denied here that Redis would grant. The waits that
//! are told are those that are left as if it had been when the answer arrived: nobody is told to
//! come back too early.
//!
//! Other instances and `redis-cli` can give units back without this one knowing of it; that is what
//! the longest age is for.

#[cfg(test)]
mod tests;

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use limiter::{Algorithm, Instant};
use quick_cache::{Equivalent, sync::Cache};

use super::{Decision, DenyCacheOptions, Source};
use crate::{
    check::{Check, Quota},
    millis::Millis,
};

/// How many identifiers share a count of releases, of all there are: one in so many. Who shares one
/// only has denials forgotten that need not have been.
const RELEASE_COUNTS: usize = 1024;

/// The denials of Redis that still hold.
#[derive(Debug)]
pub(super) struct DenyCache {
    /// Nothing with a size of 0.
    denials: Option<Cache<Key, Denial>>,
    max_age_micros: u64,
    /// How often units were given back, by the hash of the identifier.
    releases: Box<[AtomicU64]>,
    hasher: RandomState,
}

/// What must be known of a check from before it is sent, to remember its denial.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    at: Instant,
    /// A denial from before a release must not be told after it, however late it arrives.
    releases: u64,
}

/// A denial, and the check that it answers.
#[derive(Debug, Clone)]
struct Denial {
    quota: Quota,
    cost: u32,
    decision: Decision,
    arrived: Instant,
    /// The first time at which Redis may grant the same check.
    end: Instant,
    releases: u64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    algorithm: Algorithm,
    identifier: Box<str>,
}

/// A [`Key`] that need not be allocated to be looked up.
#[derive(Debug, PartialEq, Eq, Hash)]
struct KeyRef<'a> {
    algorithm: Algorithm,
    identifier: &'a str,
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.algorithm == key.algorithm && *self.identifier == *key.identifier
    }
}

impl DenyCache {
    /// A cache that remembers nothing yet.
    pub(super) fn new(options: DenyCacheOptions) -> Self {
        let DenyCacheOptions { size, max_age } = options;
        Self {
            denials: (size > 0).then(|| Cache::new(size)),
            max_age_micros: u64::try_from(max_age.as_micros()).unwrap_or(u64::MAX),
            releases: (0..RELEASE_COUNTS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The denial that Redis would answer a check with at `now` as well, if it is known.
    pub(super) fn denial(&self, check: &Check, now: Instant) -> Option<Decision> {
        let denials = self.denials.as_ref().filter(|_| check.cost > 0)?;
        let key =
            KeyRef { algorithm: check.quota.algorithm, identifier: check.identifier.as_str() };
        let denial = denials.get(&key)?;
        if denial.quota != check.quota {
            // A grant by another quota also changes how fast what is used comes back.
            denials.remove(&key);
            return None;
        }
        let holds = denial.cost == check.cost
            && now < denial.end
            && denial.releases == self.releases(&check.identifier).load(Ordering::Acquire);
        holds.then(|| denial.told_at(now))
    }

    /// To be called before a check is sent at `now`.
    pub(super) fn sent(&self, check: &Check, now: Instant) -> Sent {
        Sent { at: now, releases: self.releases(&check.identifier).load(Ordering::Acquire) }
    }

    /// Remembers a decision that arrived at `now`, if it is a denial of Redis.
    pub(super) fn remember(&self, check: &Check, sent: Sent, decision: &Decision, now: Instant) {
        let Some(denials) = &self.denials else { return };
        if decision.allowed || decision.source != Source::Redis || check.cost == 0 {
            return;
        }
        let wait = decision.retry_after.0.saturating_sub(1).saturating_mul(1_000);
        let end = sent.at.plus_micros(wait.min(self.max_age_micros));
        if end <= now {
            return;
        }
        let Check { identifier, quota, cost } = check;
        let key = Key { algorithm: quota.algorithm, identifier: identifier.as_str().into() };
        let Sent { releases, .. } = sent;
        let denial = Denial {
            quota: quota.clone(),
            cost: *cost,
            decision: *decision,
            arrived: now,
            end,
            releases,
        };
        denials.insert(key, denial);
    }

    /// Forgets the denials of an identifier, also those that have not arrived yet.
    pub(super) fn release(&self, identifier: &str) {
        self.releases(identifier).fetch_add(1, Ordering::AcqRel);
    }

    fn releases(&self, identifier: &str) -> &AtomicU64 {
        let hash = self.hasher.hash_one(identifier) as usize;
        &self.releases[hash % RELEASE_COUNTS]
    }
}

impl Denial {
    /// The decision with the waits that are left.
    fn told_at(&self, now: Instant) -> Decision {
        let passed = now.micros_since(self.arrived) / 1_000;
        let left = |Millis(wait): Millis| Millis(wait.saturating_sub(passed));
        Decision {
            source: Source::Cache,
            retry_after: left(self.decision.retry_after),
            reset_after: left(self.decision.reset_after),
            ..self.decision
        }
    }
}
