//! Decisions of this process alone, by the limiter of the module.
//!
//! Each answer is the answer of the module to the same calls: times are rounded up to the same
//! milliseconds, and the same arguments are refused.

mod eviction_order;
mod shard;
mod states;
#[cfg(test)]
mod tests;

use std::{
    sync::{Mutex, PoisonError},
    time,
};

use limiter::{
    Algorithm, Duration, Instant, Limit, RetryAfter, SlidingWindowLog, TokenBucket, Units,
};

use self::{shard::NoRoom, states::States};
use crate::{
    check::{Check, Quota, Refund},
    decision::{Decision, RefundOutcome, Source},
    error::{Argument, StoreError},
    log_throttle::{LogThrottle, Sums},
    metrics::count_no_room,
    millis::Millis,
};

/// The largest limit of an algorithm whose memory grows with the limit: the default of Redis.
pub(super) const MAX_BOUNDED_LIMIT: Units = Units::new(1_000_000).unwrap();

/// The states of this process.
#[derive(Debug)]
pub(super) struct LocalStore {
    buckets: States<TokenBucket>,
    logs: States<SlidingWindowLog>,
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
        }
    };
}

impl LocalStore {
    /// Returns a store with room for `max_keys` states of each algorithm.
    pub(super) fn new(max_keys: usize) -> Self {
        Self {
            buckets: States::new(max_keys),
            logs: States::new(max_keys),
            no_room: Mutex::default(),
        }
    }

    /// Takes the cost of a check, all or none; takes nothing when the cost is 0.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] where the module would refuse an argument as well.
    pub(super) fn check(&self, check: &Check, now: Instant) -> Result<Decision, StoreError> {
        let Check { identifier, quota, cost } = check;
        if *cost == 0 {
            return decision(quota, self.look(identifier, quota, now)?);
        }
        let (limit, cost) = (limit(quota)?, units(*cost)?);
        let outcome = with_states!(self, quota.algorithm, states => {
            states.take(identifier, &limit, cost, now)
        });
        if outcome.is_err() {
            self.report_no_room();
        }
        decision(quota, outcome)
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
        quota: &Quota,
        now: Instant,
    ) -> Result<Decision, StoreError> {
        let outcome = self.look(identifier, quota, now)?;
        let has_room = outcome.is_ok();
        let decision = decision(quota, outcome)?;
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
        let limit = limit(quota)?;
        Ok(with_states!(self, quota.algorithm, states => states.peek(identifier, &limit, now)))
    }

    /// Gives back units, at most those that count.
    pub(super) fn refund(&self, refund: &Refund, now: Instant) -> RefundOutcome {
        let Refund { identifier, algorithm, amount } = refund;
        let units = with_states!(self, algorithm, states => {
            states.refund(identifier, *amount, now)
        });
        RefundOutcome { source: Source::Local, units }
    }

    /// Deletes a state. Returns whether there was one.
    pub(super) fn reset(&self, identifier: &str, algorithm: Algorithm, now: Instant) -> bool {
        with_states!(self, algorithm, states => states.remove(identifier, now))
    }

    /// Counts and logs a check that was denied for lack of room.
    fn report_no_room(&self) {
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

/// Returns the limit of a quota, or the error with which the module would refuse the limit.
fn limit(quota: &Quota) -> Result<Limit, StoreError> {
    if quota.algorithm.facts().has_bounded_limit && quota.limit.limit > MAX_BOUNDED_LIMIT {
        let rule = format!("limit must be an integer between 1 and {}", MAX_BOUNDED_LIMIT.get());
        return Err(StoreError::Refused { argument: Argument::Limit, rule });
    }
    Ok(quota.limit)
}

/// Returns a number of units, which the caller of the store has checked to be in its range.
fn units(units: u32) -> Result<Units, StoreError> {
    Units::new(units.into()).ok_or(StoreError::Internal)
}

fn decision(
    quota: &Quota,
    outcome: Result<limiter::Decision, NoRoom>,
) -> Result<Decision, StoreError> {
    let decision = outcome.unwrap_or_else(|NoRoom { wait }| limiter::Decision {
        granted: 0,
        capacity: quota.limit.capacity.get(),
        remaining: 0,
        retry_after: RetryAfter::Wait(wait),
        reset_after: wait,
    });
    let retry_after = match decision.retry_after {
        RetryAfter::Granted => Millis(0),
        RetryAfter::Wait(time) => millis(time),
        RetryAfter::Never => {
            let rule = format!("cost must be at most the capacity, {}", decision.capacity);
            return Err(StoreError::Refused { argument: Argument::Cost, rule });
        }
    };
    Ok(Decision {
        source: Source::Local,
        allowed: decision.granted > 0,
        limit: quota.limit.limit.get(),
        capacity: decision.capacity.into(),
        remaining: decision.remaining.into(),
        retry_after,
        reset_after: millis(decision.reset_after),
    })
}

fn millis(time: Duration) -> Millis {
    Millis(time.ceil_millis().unsigned_abs())
}
