//! The states of all algorithms behind one trait, so that a promise of all of them is written once.

use std::fmt::Debug;

use limiter::{Instant, Limit, Limiter, LogOptions, Request, SlidingWindowLog, TokenBucket, Units};

/// The state of any algorithm.
pub(crate) trait State: Limiter + Debug + PartialEq {
    /// Returns whether grants at these times may be recorded as if both were made at the later one.
    fn share_an_entry(limit: &Limit, earlier: Instant, later: Instant) -> bool;

    /// Returns the most units that a limit allows at once.
    fn most(limit: &Limit) -> Units {
        if Self::ALGORITHM.facts().takes_capacity { limit.capacity } else { limit.limit }
    }

    /// Returns the same limit with the highest bound on the units that are used at once.
    fn unbounded(limit: &Limit) -> Limit {
        if Self::ALGORITHM.facts().takes_capacity {
            Limit { capacity: Units::MAX, ..*limit }
        } else {
            Limit { limit: Units::MAX, ..*limit }
        }
    }

    /// Returns the units that are used at `now`, any part of a unit as a whole one.
    fn used(&self, limit: &Limit, now: Instant) -> u32 {
        let peek = self.peek(&Self::unbounded(limit), Units::MIN, now);
        Units::MAX.get() - peek.remaining
    }

    /// Returns the effect of a call in any mode; `self` is the state after the call.
    fn effect_of(&self, limit: &Limit, _: Request, units: Units, now: Instant) -> Self::Effect {
        self.effect_of_grant(limit, units, now)
    }

    fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes
    }

    fn decoded(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok()
    }
}

impl State for TokenBucket {
    fn share_an_entry(_limit: &Limit, _earlier: Instant, _later: Instant) -> bool {
        false
    }
}

impl State for SlidingWindowLog {
    fn share_an_entry(limit: &Limit, earlier: Instant, later: Instant) -> bool {
        let tick = limit.window.as_millis().min(1_000);
        earlier.as_micros() / tick == later.as_micros() / tick
    }

    fn effect_of(
        &self,
        limit: &Limit,
        request: Request,
        units: Units,
        now: Instant,
    ) -> Self::Effect {
        self.effect_of_grant_with(limit, LogOptions::default(), request, units, now)
    }
}

/// Checks a promise on the states of all algorithms with the same arguments.
#[allow(unused_macros, reason = "the module serves tests that have no use for it")]
macro_rules! for_each_state {
    ($check:ident($($argument:expr),*)) => {
        for algorithm in limiter::Algorithm::ALL {
            match algorithm {
                limiter::Algorithm::TokenBucket => $check::<limiter::TokenBucket>($($argument),*)?,
                limiter::Algorithm::SlidingWindow => {
                    $check::<limiter::SlidingWindowLog>($($argument),*)?;
                }
            }
        }
    };
}
#[allow(unused_imports, reason = "the module serves tests that have no use for it")]
pub(crate) use for_each_state;
