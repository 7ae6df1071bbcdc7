//! Decisions of this process alone, by the limiter of the module.
//!
//! Each answer is the answer of the module to the same calls: times are rounded up to the same
//! milliseconds, and the same arguments are refused.

pub(super) mod all_or_none;
mod eviction_order;
mod limits;
mod shard;
mod states;
#[cfg(test)]
mod tests;

use std::{
    sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time,
};

use limiter::{
    Algorithm, Duration, FixedWindow, Instant, LogLimit, Quota, Request, RetryAfter,
    SlidingWindowLog, TokenBucket, Units,
};

use self::{shard::NoRoom, states::States};
use crate::{
    check::{Check, Refund},
    decision::{Decision, RefundOutcome, Source},
    error::{Argument, StoreError, cost_above_capacity},
    log_throttle::{LogThrottle, Sums},
    metrics::count_no_room,
    millis::Millis,
    quota_rule::{DatedQuota, QuotaRule},
};

/// The most entries of a log: the default of Redis.
pub(super) const MOST_ENTRIES: Units = Units::new(1_000_000).unwrap();

/// The states of this process.
#[derive(Debug)]
pub(super) struct LocalStore {
    buckets: States<TokenBucket>,
    logs: States<SlidingWindowLog>,
    fixed_windows: States<FixedWindow>,
    /// Excludes other calls during a call over several states.
    exclusion: RwLock<()>,
    /// The times of the lines about a store without room.
    no_room: Mutex<LogThrottle>,
}

/// Evaluates an expression with the states of an algorithm: `with_states!(store, algorithm, states => …)`.
macro_rules! with_states {
    ($store:expr, $algorithm:expr, $states:ident => $body:expr) => {
        match $algorithm {
            Algorithm::TokenBucket => {
                let $states = &$store.buckets;
                $body
            }
            Algorithm::SlidingWindow => {
                let $states = &$store.logs;
                $body
            }
            Algorithm::FixedWindow => {
                let $states = &$store.fixed_windows;
                $body
            }
        }
    };
}

/// Evaluates an expression with the states and the limit of a quota: `with_limit!(store, quota, states,
/// limit => …)`.
macro_rules! with_limit {
    ($store:expr, $quota:expr, $states:ident, $limit:ident => $body:expr) => {
        match $quota {
            Quota::TokenBucket($limit) => {
                let $states = &$store.buckets;
                $body
            }
            Quota::SlidingWindow($limit) => {
                let $states = &$store.logs;
                $body
            }
            Quota::FixedWindow($limit) => {
                let $states = &$store.fixed_windows;
                $body
            }
        }
    };
}

use {with_limit, with_states};

impl LocalStore {
    /// Returns a store with room for `max_keys` states of each algorithm.
    pub(super) fn new(max_keys: usize) -> Self {
        Self {
            buckets: States::new(max_keys),
            logs: States::new(max_keys),
            fixed_windows: States::new(max_keys),
            exclusion: RwLock::default(),
            no_room: Mutex::default(),
        }
    }

    /// Takes the cost of a check, all or none; takes nothing when the cost is 0.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] where the module would refuse an argument as well.
    pub(super) fn check(&self, check: &Check, now: Instant) -> Result<Decision, StoreError> {
        let Check { identifier, quota, cost, .. } = check;
        let dated = quota.at(|| now)?;
        if *cost == 0 {
            return decision(&dated, None, self.look(identifier, &dated.quota, now)?);
        }
        let request = request(units(*cost)?, check.force);
        let forced_cost = check.forced_cost();
        check_entries(&dated.quota)?;
        let _shared = self.share();
        let outcome = with_limit!(self, &dated.quota, states, limit => {
            states.take(identifier, limit, request, now)
        });
        if outcome.is_err() {
            self.report_no_room();
        }
        decision(&dated, forced_cost, outcome)
    }

    /// Returns the answer to a check of one unit. Takes nothing. A quota for which there is no room is
    /// unused, although a unit of it would be denied.
    ///
    /// # Errors
    ///
    /// As [`LocalStore::check`].
    pub(super) fn peek(
        &self,
        identifier: &str,
        rule: &QuotaRule,
        now: Instant,
    ) -> Result<Decision, StoreError> {
        let dated = rule.at(|| now)?;
        let outcome = self.look(identifier, &dated.quota, now)?;
        let has_room = outcome.is_ok();
        let decision = decision(&dated, None, outcome)?;
        if has_room {
            return Ok(decision);
        }
        Ok(Decision { remaining: decision.capacity, reset_after: Millis(0), ..decision })
    }

    fn look(
        &self,
        identifier: &str,
        quota: &Quota,
        now: Instant,
    ) -> Result<Result<limiter::Decision, NoRoom>, StoreError> {
        check_entries(quota)?;
        let _shared = self.share();
        Ok(with_limit!(self, quota, states, limit => {
            states.peek(identifier, limit, Units::MIN, now)
        }))
    }

    /// Gives back units, at most those that count.
    pub(super) fn refund(&self, refund: &Refund, now: Instant) -> RefundOutcome {
        let Refund { identifier, algorithm, amount } = refund;
        let _shared = self.share();
        let units = with_states!(self, algorithm, states => {
            states.refund(identifier, *amount, now)
        });
        RefundOutcome { source: Source::Local, units }
    }

    /// Deletes a state. Returns whether there was one.
    pub(super) fn reset(&self, identifier: &str, algorithm: Algorithm, now: Instant) -> bool {
        let _shared = self.share();
        with_states!(self, algorithm, states => states.remove(identifier, now))
    }

    /// Excludes calls over several states during a call over one.
    fn share(&self) -> RwLockReadGuard<'_, ()> {
        self.exclusion.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Excludes all other calls.
    fn exclude_all(&self) -> RwLockWriteGuard<'_, ()> {
        self.exclusion.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts and logs a check that was denied for lack of room.
    pub(super) fn report_no_room(&self) {
        count_no_room();
        let mut no_room = self.no_room.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Sums { count, seconds }) = no_room.record_without_end(time::Instant::now()) {
            let advice = NO_ROOM_ADVICE;
            tracing::warn!(checks = count, seconds, advice, "no room for another quota");
        }
    }
}

/// The advice of the line about a store without room.
pub(super) const NO_ROOM_ADVICE: &str =
    "raise LOCAL_MAX_KEYS: it is taken by quotas that deny, and new ones are denied";

/// Returns the error with which the module would refuse a log that may have too many entries.
fn check_entries(quota: &Quota) -> Result<(), StoreError> {
    match quota {
        Quota::SlidingWindow(limit) if !is_short(limit) => {
            let most = MOST_ENTRIES.get();
            let rule =
                format!("limit must be an integer between 1 and {most} with this resolution");
            Err(StoreError::Refused { argument: Argument::Limit, rule })
        }
        _ => Ok(()),
    }
}

/// Returns whether the log of a limit has no more entries than this process stores for a key.
pub(super) fn is_short(limit: &LogLimit) -> bool {
    limit.most_entries() <= MOST_ENTRIES.get().into()
}

/// Returns a number of units, which the caller of the store has checked to be in its range.
fn units(units: u32) -> Result<Units, StoreError> {
    Units::new(units.into()).ok_or(StoreError::Internal)
}

fn request(cost: Units, force: bool) -> Request {
    if force { Request::force(cost) } else { Request::all(cost) }
}

/// Returns a decision on a check, which has a `forced_cost` if it takes its cost in every case.
fn decision(
    DatedQuota { quota, window }: &DatedQuota,
    forced_cost: Option<u32>,
    outcome: Result<limiter::Decision, NoRoom>,
) -> Result<Decision, StoreError> {
    let decision = outcome.unwrap_or_else(|NoRoom { wait }| limiter::Decision {
        granted: 0,
        capacity: quota.capacity().get(),
        remaining: 0,
        retry_after: RetryAfter::Wait(wait),
        reset_after: wait,
    });
    let retry_after = match decision.retry_after {
        RetryAfter::Granted => Millis(0),
        RetryAfter::Wait(time) => millis(time),
        // The limiter counts no more debt, and will again at the latest when all of it has gone.
        RetryAfter::Never if forced_cost.is_some() => millis(decision.reset_after),
        RetryAfter::Never => return Err(cost_above_capacity(decision.capacity.into())),
    };
    Ok(Decision {
        source: Source::Local,
        allowed: decision.granted >= forced_cost.unwrap_or(1),
        limit: quota.limit().get(),
        window: Some(*window),
        capacity: decision.capacity.into(),
        remaining: decision.remaining.into(),
        retry_after,
        reset_after: millis(decision.reset_after),
    })
}

fn millis(time: Duration) -> Millis {
    Millis(time.ceil_millis().unsigned_abs())
}
