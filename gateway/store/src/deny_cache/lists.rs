//! Denials of several limits at once.
//!
//! A denial is stored under the key of the limit that waits longest, with all limits of its check: it
//! is repeated for exactly the same limits. When a check asks for another quota of that key, the denial
//! is evicted, because a grant by that quota would change the rate at which used units come back.

use std::sync::Arc;

use limiter::Instant;
use quick_cache::sync::Cache;

use crate::{
    decision::{Decision, Source},
    limit_check::{LimitCheck, LimitsDecision},
    millis::Millis,
};

/// The denials by the keys of the limits that wait longest; `None` with a size of 0.
#[derive(Debug)]
pub(super) struct ListDenials(Option<Cache<Box<str>, Arc<ListDenial>>>);

/// A denial, with its limits.
#[derive(Debug)]
struct ListDenial {
    limits: Vec<LimitCheck>,
    decisions: Vec<Decision>,
    arrived_at: Instant,
    /// The first time at which Redis may grant the limit that waits longest.
    end: Instant,
    releases: u64,
}

impl ListDenials {
    pub(super) fn new(size: usize) -> Self {
        Self((size > 0).then(|| Cache::new(size)))
    }

    /// Returns a denial if Redis would deny a check of exactly these limits at `now` as well.
    /// `releases` returns the sum of the release counters of the limits.
    pub(super) fn denial(
        &self,
        limits: &[LimitCheck],
        releases: impl Fn() -> u64,
        now: Instant,
    ) -> Option<LimitsDecision> {
        let denials = self.0.as_ref()?;
        limits.iter().find_map(|limit| {
            let denial = denials.get(limit.key.as_str())?;
            let stored = denial.limits.iter().find(|stored| stored.key == limit.key)?;
            if stored.quota != limit.quota {
                denials.remove(limit.key.as_str());
                return None;
            }
            let holds =
                denial.limits == limits && now < denial.end && denial.releases == releases();
            holds.then(|| denial.decision_at(now))
        })
    }

    /// Stores a decision that arrived at `now`, if the decision is a denial of Redis that has taken
    /// nothing. `end` returns the time until which a denial with this wait is repeated.
    pub(super) fn remember(
        &self,
        limits: &[LimitCheck],
        decision: &LimitsDecision,
        releases: u64,
        end: impl FnOnce(Millis) -> Instant,
        now: Instant,
    ) {
        let Some(denials) = &self.0 else { return };
        if decision.source != Source::Redis || limits.iter().any(|limit| limit.cost == 0) {
            return;
        }
        let denied = limits.iter().zip(&decision.limits).filter(|(_, decision)| !decision.allowed);
        let Some((limit, binding)) = denied.max_by_key(|(_, decision)| decision.retry_after) else {
            return;
        };
        let end = end(binding.retry_after);
        if end <= now {
            return;
        }
        let denial = ListDenial {
            limits: limits.to_vec(),
            decisions: decision.limits.clone(),
            arrived_at: now,
            end,
            releases,
        };
        denials.insert(limit.key.as_str().into(), Arc::new(denial));
    }
}

impl ListDenial {
    fn decision_at(&self, now: Instant) -> LimitsDecision {
        let passed = now.micros_since(self.arrived_at);
        let limits = self.decisions.iter().map(|decision| decision.repeated_after(passed));
        LimitsDecision::of_limits(Source::Cache, limits.collect())
    }
}
