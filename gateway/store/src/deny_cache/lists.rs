//! Denials of several limits at once.
//!
//! A denial is stored under the key of the limit that waits longest, with all limits of its check: it
//! is repeated for exactly the same limits. When a check asks for another quota of that key, the denial
//! is evicted, because a grant by that quota would change the rate at which used units come back.

use std::sync::{Arc, atomic::Ordering};

use limiter::Instant;
use quick_cache::sync::Cache;

use super::{DenyCache, Ticket, repeat};
use crate::{
    decision::{Decision, Source},
    limit_check::{LimitCheck, LimitsDecision},
};

/// The denials by the keys of the limits that wait longest.
pub(super) type ListDenials = Cache<Box<str>, Arc<ListDenial>>;

/// A denial, with its limits.
#[derive(Debug)]
pub(super) struct ListDenial {
    limits: Vec<LimitCheck>,
    decisions: Vec<Decision>,
    arrived_at: Instant,
    /// The first time at which Redis may grant the limit that waits longest.
    end: Instant,
    releases: u64,
}

impl DenyCache {
    /// Returns a denial if Redis would deny a check of exactly these limits at `now` as well.
    pub(crate) fn list_denial(
        &self,
        limits: &[LimitCheck],
        now: Instant,
    ) -> Option<LimitsDecision> {
        let denials = self.lists.as_ref()?;
        limits.iter().find_map(|limit| {
            let denial = denials.get(limit.key.as_str())?;
            let stored = denial.limits.iter().find(|stored| stored.key == limit.key)?;
            if stored.quota != limit.quota {
                denials.remove(limit.key.as_str());
                return None;
            }
            let holds = denial.limits == limits
                && now < denial.end
                && denial.releases == self.releases_of(limits);
            holds.then(|| denial.decision_at(now))
        })
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
        let Some(denials) = &self.lists else { return };
        if decision.source != Source::Redis || limits.iter().any(|limit| limit.cost == 0) {
            return;
        }
        let denied = limits.iter().zip(&decision.limits).filter(|(_, decision)| !decision.allowed);
        let Some((limit, binding)) = denied.max_by_key(|(_, decision)| decision.retry_after) else {
            return;
        };
        let end = self.end(ticket, binding.retry_after);
        if end <= now {
            return;
        }
        let denial = ListDenial {
            limits: limits.to_vec(),
            decisions: decision.limits.clone(),
            arrived_at: now,
            end,
            releases: ticket.releases,
        };
        denials.insert(limit.key.as_str().into(), Arc::new(denial));
    }

    /// Returns the sum of the release counters, each of which only grows: the sum of the same keys is
    /// the same exactly when no counter has changed.
    fn releases_of(&self, limits: &[LimitCheck]) -> u64 {
        let of = |limit: &LimitCheck| self.releases(&limit.key).load(Ordering::Acquire);
        limits.iter().map(of).fold(0, u64::wrapping_add)
    }
}

impl ListDenial {
    fn decision_at(&self, now: Instant) -> LimitsDecision {
        let passed = now.micros_since(self.arrived_at);
        let limits = self.decisions.iter().map(|decision| repeat(decision, passed));
        LimitsDecision { source: Source::Cache, limits: limits.collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use limiter::{Algorithm, Instant};

    use super::*;
    use crate::{check::quota, limit_check::Charge, millis::Millis, options::DenyCacheOptions};

    const SENT: Instant = Instant::from_micros(1_800_014_400_000_000);

    fn limit(key: &str, units: u32, cost: u32) -> LimitCheck {
        let quota = quota(Algorithm::TokenBucket, units, 60_000).into();
        LimitCheck { key: key.to_owned(), quota, cost, charge: Charge::Granted }
    }

    /// Returns a cache with a denial: `a` waits for a second, `b` for two, and `c` allows.
    fn cache(limits: &[LimitCheck]) -> DenyCache {
        let max_age = Duration::from_secs(3_600);
        let cache = DenyCache::new(DenyCacheOptions { size: 10, max_age });
        let waits = [1_000, 2_000, 0];
        let decision = |wait| Decision {
            source: Source::Redis,
            allowed: wait == 0,
            limit: 10,
            window: None,
            capacity: 10,
            remaining: 0,
            retry_after: Millis(wait),
            reset_after: Millis(wait),
        };
        let decision =
            LimitsDecision { source: Source::Redis, limits: waits.map(decision).to_vec() };
        cache.remember_list(limits, cache.list_ticket(limits, SENT), &decision, SENT);
        cache
    }

    fn at(millis: u64) -> Instant {
        SENT.plus_micros(millis * 1_000)
    }

    #[test]
    fn a_denial_is_repeated_for_the_same_limits_until_the_longest_wait_ends() {
        let limits = ["a", "b", "c"].map(|key| limit(key, 10, 1));
        let cache = cache(&limits);
        let denial = cache.list_denial(&limits, at(500)).unwrap();
        let waits = denial.limits.iter().map(|limit| (limit.allowed, limit.retry_after.0));
        assert_eq!(waits.collect::<Vec<_>>(), [(false, 500), (false, 1_500), (true, 0)]);
        assert_eq!((denial.source, denial.allowed()), (Source::Cache, false));
        assert!(cache.list_denial(&limits, at(1_998)).is_some());
        assert!(cache.list_denial(&limits, at(1_999)).is_none());
    }

    #[test]
    fn other_limits_go_to_redis() {
        let limits = ["a", "b", "c"].map(|key| limit(key, 10, 1));
        let cache = cache(&limits);
        let [a, b, c] = limits.clone();
        for others in [
            vec![b.clone()],
            vec![b.clone(), a.clone(), c.clone()],
            vec![a.clone(), limit("b", 10, 2), c.clone()],
            vec![limit("a", 11, 1), b.clone(), c.clone()],
            vec![a.clone(), LimitCheck { charge: Charge::Always, ..b.clone() }, c.clone()],
        ] {
            assert_eq!(cache.list_denial(&others, at(1)), None, "{others:?}");
        }
        assert!(cache.list_denial(&limits, at(1)).is_some());
        // A grant by another quota changes the rate of the limit that waits longest.
        assert_eq!(cache.list_denial(&[limit("b", 20, 1)], at(1)), None);
        assert_eq!(cache.list_denial(&limits, at(1)), None);
    }

    #[test]
    fn a_release_of_any_key_forgets_the_denial() {
        let limits = ["a", "b", "c"].map(|key| limit(key, 10, 1));
        for key in ["a", "b", "c"] {
            let cache = cache(&limits);
            cache.release(key);
            assert_eq!(cache.list_denial(&limits, at(1)), None, "{key}");
        }
    }
}
