//! Decisions of this process alone, by the same limiter that the module has.
//!
//! Every answer is the one that the module would give: the same times are rounded up to the same
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
    Algorithm, Duration, Instant, Limit, RetryAfter, SlidingWindowLog, TokenBucket, Units, Window,
};

use self::{shard::NoRoom, states::States};
use super::{Argument, Decision, Refunded, Source, StoreError};
use crate::{
    check::{Check, Quota, Refund},
    log_throttle::{LogThrottle, Sums},
    metrics::count_no_room,
    millis::Millis,
};

/// The largest limit of an algorithm whose memory grows with the limit: the default of Redis.
pub(super) const MAX_BOUNDED_LIMIT: u32 = 1_000_000;

/// Quotas that this process decides by itself.
#[derive(Debug)]
pub(super) struct LocalStore {
    buckets: States<TokenBucket>,
    logs: States<SlidingWindowLog>,
    /// Says when a line about a store without room is due.
    no_room: Mutex<LogThrottle>,
}

/// Runs an expression with the states of an algorithm: `with_states!(store, algorithm, states => …)`.
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
    /// A store with room for `max_keys` states of each algorithm.
    pub(super) fn new(max_keys: usize) -> Self {
        Self {
            buckets: States::new(max_keys),
            logs: States::new(max_keys),
            no_room: Mutex::default(),
        }
    }

    /// Takes what a check asks for, all or none; just looks when its cost is 0.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] where the module would refuse an argument as well.
    pub(super) fn check(&self, check: &Check, now: Instant) -> Result<Decision, StoreError> {
        let Check { identifier, quota, cost } = check;
        if *cost == 0 {
            return decision(quota, self.look(identifier, quota, now)?);
        }
        let (limit, cost) = (limit(quota)?, units(*cost));
        let decided = with_states!(self, quota.algorithm, states => {
            states.take(identifier, &limit, cost, now)
        });
        if decided.is_err() {
            self.report_no_room();
        }
        decision(quota, decided)
    }

    /// What taking one unit would answer. Takes nothing. Nothing is used of a quota for which there is
    /// no room, although a unit of it would be denied.
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
        let looked = self.look(identifier, quota, now)?;
        let has_room = looked.is_ok();
        let decision = decision(quota, looked)?;
        Ok(match has_room {
            true => decision,
            false => Decision { remaining: decision.limit, reset_after: Millis(0), ..decision },
        })
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

    /// Gives back units, as many of them as were used.
    pub(super) fn refund(&self, units_back: &Refund, now: Instant) -> Refunded {
        let Refund { identifier, algorithm, amount } = units_back;
        let units = with_states!(self, algorithm, states => {
            states.refund(identifier, units(*amount), now)
        });
        Refunded { source: Source::Local, units }
    }

    /// Forgets what was used. Answers whether there was anything.
    pub(super) fn reset(&self, identifier: &str, algorithm: Algorithm, now: Instant) -> bool {
        with_states!(self, algorithm, states => states.remove(identifier, now))
    }

    /// Counts and logs a check that was denied for want of room.
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

fn limit(quota: &Quota) -> Result<Limit, StoreError> {
    if quota.algorithm.facts().has_bounded_limit && quota.limit > MAX_BOUNDED_LIMIT {
        let rule = format!("limit must be an integer between 1 and {MAX_BOUNDED_LIMIT}");
        return Err(StoreError::Refused { argument: Argument::Limit, rule });
    }
    let (limit, capacity) = (units(quota.limit), units(quota.capacity()));
    Ok(Limit { limit, window: window(quota), capacity })
}

/// A number of units that was checked to be in its range.
fn units(units: u32) -> Units {
    Units::new(units.into()).unwrap_or(Units::MIN)
}

/// A window that was checked to be in its range.
fn window(quota: &Quota) -> Window {
    Window::from_millis(quota.window.0).unwrap_or(Window::MAX)
}

fn decision(
    quota: &Quota,
    decided: Result<limiter::Decision, NoRoom>,
) -> Result<Decision, StoreError> {
    let decided = decided.unwrap_or_else(|NoRoom { wait }| limiter::Decision {
        granted: 0,
        capacity: quota.capacity(),
        remaining: 0,
        retry_after: RetryAfter::Wait(wait),
        reset_after: wait,
    });
    let retry_after = match decided.retry_after {
        RetryAfter::Granted => Millis(0),
        RetryAfter::Wait(time) => millis(time),
        RetryAfter::Never => {
            let rule = format!("cost must be at most the capacity, {}", decided.capacity);
            return Err(StoreError::Refused { argument: Argument::Cost, rule });
        }
    };
    Ok(Decision {
        source: Source::Local,
        allowed: decided.granted > 0,
        rate: quota.limit,
        limit: decided.capacity.into(),
        remaining: decided.remaining.into(),
        retry_after,
        reset_after: millis(decided.reset_after),
    })
}

fn millis(time: Duration) -> Millis {
    Millis(time.ceil_millis().unsigned_abs())
}
