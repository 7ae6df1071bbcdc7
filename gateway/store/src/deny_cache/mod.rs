//! Denials of Redis that are repeated without a call to Redis.
//!
//! ```text
//!   sent   denied   arrived
//!  ───┼───────┼────────┼───────────────────────────────▶ time
//!     ├── repeated for retry_after ────┤
//!                      ├── remaining retry_after ────────┤
//! ```
//!
//! Redis denied the check at some time between its sending and the arrival of the answer. The cache
//! uses the end of this interval that is safe:
//!
//! * A denial is repeated for `retry_after` from the sending, less the millisecond by which the wait
//!   may be rounded up. So the cache denies nothing that Redis would grant.
//! * The remaining waits are counted from the arrival, so that no client retries too early.
//!
//! Other instances and `redis-cli` can give units back without a notice to this process. The maximum
//! age bounds the time for which a denial is repeated after that.

#[cfg(test)]
mod list_tests;
mod lists;
#[cfg(test)]
mod tests;

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use limiter::{Algorithm, Instant};
use quick_cache::{Equivalent, sync::Cache};

use self::lists::ListDenials;
use crate::{
    check::Check,
    decision::{Decision, Source},
    limit_check::{LimitCheck, LimitsDecision},
    millis::Millis,
    options::DenyCacheOptions,
    quota_rule::QuotaRule,
};

/// Number of release counters. Identifiers are hashed onto them; a collision only evicts a cached
/// denial needlessly.
const RELEASE_COUNTERS: usize = 1024;

/// The denials of Redis that still hold.
#[derive(Debug)]
pub(crate) struct DenyCache {
    /// `None` with a size of 0.
    denials: Option<Cache<Key, Denial>>,
    /// The denials of lists of limits.
    lists: ListDenials,
    max_age_micros: u64,
    /// The numbers of refunds and resets, by the hash of the identifier or key.
    releases: Box<[AtomicU64]>,
    hasher: RandomState,
}

/// The facts about a check that are taken before it is sent, and needed to cache its denial.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    sent_at: Instant,
    /// The release counter, or the sum of those of all keys. A denial from before a release must not
    /// be repeated after the release, however late the denial arrives.
    releases: u64,
}

/// A denial, with its check.
#[derive(Debug, Clone)]
struct Denial {
    quota: QuotaRule,
    cost: u32,
    decision: Decision,
    arrived_at: Instant,
    /// The first time at which Redis may grant the same check.
    end: Instant,
    releases: u64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    algorithm: Algorithm,
    identifier: Box<str>,
}

/// A [`Key`] for a lookup, which needs no allocation.
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
    /// Returns an empty cache.
    pub(crate) fn new(options: DenyCacheOptions) -> Self {
        let DenyCacheOptions { size, max_age } = options;
        Self {
            denials: (size > 0).then(|| Cache::new(size)),
            lists: ListDenials::new(size),
            max_age_micros: u64::try_from(max_age.as_micros()).unwrap_or(u64::MAX),
            releases: (0..RELEASE_COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Returns a denial if Redis would deny the check at `now` as well.
    pub(crate) fn denial(&self, check: &Check, now: Instant) -> Option<Decision> {
        let denials = self.denials.as_ref().filter(|_| is_repeated(check))?;
        let key =
            KeyRef { algorithm: check.quota.algorithm(), identifier: check.identifier.as_str() };
        let denial = denials.get(&key)?;
        if denial.quota != check.quota {
            // A grant by another quota also changes the rate at which used units come back.
            denials.remove(&key);
            return None;
        }
        let holds = denial.cost == check.cost
            && now < denial.end
            && denial.releases == self.releases(&check.identifier).load(Ordering::Acquire);
        holds.then(|| denial.decision_at(now))
    }

    /// Returns the ticket of a check that is sent at `now`.
    pub(crate) fn ticket(&self, check: &Check, now: Instant) -> Ticket {
        Ticket { sent_at: now, releases: self.releases(&check.identifier).load(Ordering::Acquire) }
    }

    /// Stores a decision that arrived at `now`, if the decision is a denial of Redis.
    pub(crate) fn remember(
        &self,
        check: &Check,
        ticket: Ticket,
        decision: &Decision,
        now: Instant,
    ) {
        let Some(denials) = &self.denials else { return };
        if decision.allowed || decision.source != Source::Redis || !is_repeated(check) {
            return;
        }
        let end = self.end(ticket, decision.retry_after);
        if end <= now {
            return;
        }
        let Check { identifier, quota, cost, .. } = check;
        let key = Key { algorithm: quota.algorithm(), identifier: identifier.as_str().into() };
        let Ticket { releases, .. } = ticket;
        let denial = Denial {
            quota: quota.clone(),
            cost: *cost,
            decision: *decision,
            arrived_at: now,
            end,
            releases,
        };
        denials.insert(key, denial);
    }

    /// Returns a denial if Redis would deny a check of exactly these limits at `now` as well.
    pub(crate) fn list_denial(
        &self,
        limits: &[LimitCheck],
        now: Instant,
    ) -> Option<LimitsDecision> {
        self.lists.denial(limits, || self.releases_of(limits), now)
    }

    /// Returns the ticket of a check of limits that is sent at `now`.
    pub(crate) fn list_ticket(&self, limits: &[LimitCheck], now: Instant) -> Ticket {
        Ticket { sent_at: now, releases: self.releases_of(limits) }
    }

    /// Stores a decision that arrived at `now`, if the decision is a denial of Redis that has taken
    /// nothing.
    pub(crate) fn remember_list(
        &self,
        limits: &[LimitCheck],
        ticket: Ticket,
        decision: &LimitsDecision,
        now: Instant,
    ) {
        let end = |retry_after| self.end(ticket, retry_after);
        self.lists.remember(limits, decision, ticket.releases, end, now);
    }

    /// Returns the sum of the release counters, each of which only grows: the sum of the same keys is
    /// the same exactly when no counter has changed.
    fn releases_of(&self, limits: &[LimitCheck]) -> u64 {
        let of = |limit: &LimitCheck| self.releases(&limit.key).load(Ordering::Acquire);
        limits.iter().map(of).fold(0, u64::wrapping_add)
    }

    /// Returns the time until which a denial is repeated.
    fn end(&self, ticket: Ticket, retry_after: Millis) -> Instant {
        let wait = retry_after.0.saturating_sub(1).saturating_mul(1_000);
        ticket.sent_at.plus_micros(wait.min(self.max_age_micros))
    }

    /// Evicts the denials of an identifier or of a key, also those that have not arrived yet.
    pub(crate) fn release(&self, identifier: &str) {
        self.releases(identifier).fetch_add(1, Ordering::AcqRel);
    }

    fn releases(&self, identifier: &str) -> &AtomicU64 {
        let hash = self.hasher.hash_one(identifier) as usize;
        &self.releases[hash % RELEASE_COUNTERS]
    }
}

/// Returns whether the denial of a check is repeated: not that of a forced one, which takes its cost
/// also where Redis denies others.
fn is_repeated(check: &Check) -> bool {
    check.cost > 0 && !check.force
}

impl Denial {
    /// Returns the decision with the waits that remain at `now`.
    fn decision_at(&self, now: Instant) -> Decision {
        self.decision.repeated_after(now.micros_since(self.arrived_at))
    }
}
