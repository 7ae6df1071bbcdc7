//! The states of all algorithms behind one trait, so that a promise of all of them is written once.

use std::fmt::Debug;

use limiter::{
    Bounds, FixedLimit, FixedWindow, Instant, Limit, Limiter, LogLimit, Period, SlidingWindowLog,
    TokenBucket, Units, Window,
};

/// The state of any algorithm.
pub(crate) trait State: Limiter + Debug + PartialEq {
    /// The latest time for which promises about times are stated.
    const LATEST: Instant = Instant::MAX;

    /// Returns a limit of this algorithm, without options.
    fn of(quota: &Limit) -> Self::Limit;

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
        let peek = self.peek(&Self::of(&Self::unbounded(limit)), Units::MIN, now);
        Units::MAX.get() - peek.remaining
    }

    /// Returns whether a time is so late that promises about times are not stated for it.
    fn is_beyond_promises(now: Instant) -> bool {
        now > Self::LATEST
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
    fn of(quota: &Limit) -> Limit {
        *quota
    }

    fn share_an_entry(_limit: &Limit, _earlier: Instant, _later: Instant) -> bool {
        false
    }
}

impl State for SlidingWindowLog {
    fn of(quota: &Limit) -> LogLimit {
        LogLimit::new(quota.limit, quota.window)
    }

    fn share_an_entry(limit: &Limit, earlier: Instant, later: Instant) -> bool {
        let tick = limit.window.as_millis().min(1_000);
        earlier.as_micros() / tick == later.as_micros() / tick
    }
}

impl State for FixedWindow {
    /// Two of the longest windows before the last one, in which the clock stands still.
    const LATEST: Instant =
        Instant::from_micros(Bounds::MAX_MILLIS * 1_000 - 3 * Window::MAX.as_micros());

    fn of(quota: &Limit) -> FixedLimit {
        FixedLimit { limit: quota.limit, period: Period::every(quota.window) }
    }

    fn share_an_entry(_limit: &Limit, _earlier: Instant, _later: Instant) -> bool {
        false
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
                limiter::Algorithm::FixedWindow => $check::<limiter::FixedWindow>($($argument),*)?,
            }
        }
    };
}
#[allow(unused_imports, reason = "the module serves tests that have no use for it")]
pub(crate) use for_each_state;
