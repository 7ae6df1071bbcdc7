//! Both algorithms behind one trait, so that a promise which both make is written once.

use std::fmt::Debug;

use limiter::codec::Change;
use limiter::{
    BucketLimit, Decision, Demand, Instant, Refund, SlidingWindowLog, TokenBucket, Units,
    WindowLimit,
};

/// The state of either algorithm. What a call allows is a bucket's limit for both, of which a
/// sliding window has no use for the capacity.
pub(crate) trait Algorithm: Clone + Debug + Default + PartialEq {
    /// The most units that a quota allows at once.
    fn most(quota: &BucketLimit) -> Units;

    /// The same quota with the highest bound on what is used at once.
    fn unbounded(quota: &BucketLimit) -> BucketLimit;

    /// Whether grants at these times may be recorded as if both were made at the later one.
    fn share_an_entry(quota: &BucketLimit, earlier: Instant, later: Instant) -> bool;

    fn take(&mut self, quota: &BucketLimit, demand: Demand, now: Instant) -> Decision;
    fn peek(&self, quota: &BucketLimit, cost: Units, now: Instant) -> Decision;
    fn refund(&mut self, amount: Units, now: Instant) -> Refund;
    fn has_ended(&self, now: Instant) -> bool;

    /// What a server sends after a call that took `granted`.
    fn granted(&self, quota: &BucketLimit, granted: Units, now: Instant) -> Change;

    /// What a server sends after a refund of `refunded`.
    fn refunded(&self, refunded: Units, now: Instant) -> Change;

    /// Makes a change that was sent; whether that was possible.
    fn make(&mut self, change: Change) -> bool;

    fn encoded(&self) -> Vec<u8>;
    fn decoded(bytes: &[u8]) -> Option<Self>;

    /// Units that are used at `now`, any part of a unit as a whole one.
    fn used(&self, quota: &BucketLimit, now: Instant) -> u32 {
        let peek = self.peek(&Self::unbounded(quota), Units::MIN, now);
        Units::MAX.get() - peek.remaining
    }
}

impl Algorithm for TokenBucket {
    fn most(quota: &BucketLimit) -> Units {
        quota.capacity
    }

    fn unbounded(quota: &BucketLimit) -> BucketLimit {
        BucketLimit { capacity: Units::MAX, ..*quota }
    }

    fn share_an_entry(_quota: &BucketLimit, _earlier: Instant, _later: Instant) -> bool {
        false
    }

    fn take(&mut self, quota: &BucketLimit, demand: Demand, now: Instant) -> Decision {
        limiter::Algorithm::take(self, quota, demand, now)
    }

    fn peek(&self, quota: &BucketLimit, cost: Units, now: Instant) -> Decision {
        limiter::Algorithm::peek(self, quota, cost, now)
    }

    fn refund(&mut self, amount: Units, now: Instant) -> Refund {
        limiter::Algorithm::refund(self, amount, now)
    }

    fn has_ended(&self, now: Instant) -> bool {
        limiter::Algorithm::has_ended(self, now)
    }

    fn granted(&self, quota: &BucketLimit, granted: Units, now: Instant) -> Change {
        limiter::Algorithm::granted(self, quota, granted, now)
    }

    fn refunded(&self, refunded: Units, now: Instant) -> Change {
        limiter::Algorithm::refunded(self, refunded, now)
    }

    fn make(&mut self, change: Change) -> bool {
        match change {
            Change::TokenBucket(bucket) => *self = bucket,
            _ => return false,
        }
        true
    }

    fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        limiter::Algorithm::encode(self, &mut bytes);
        bytes
    }

    fn decoded(bytes: &[u8]) -> Option<Self> {
        limiter::Algorithm::decode(bytes).ok()
    }
}

fn window_limit(quota: &BucketLimit) -> WindowLimit {
    WindowLimit { limit: quota.limit, window: quota.window }
}

impl Algorithm for SlidingWindowLog {
    fn most(quota: &BucketLimit) -> Units {
        quota.limit
    }

    fn unbounded(quota: &BucketLimit) -> BucketLimit {
        BucketLimit { limit: Units::MAX, ..*quota }
    }

    fn share_an_entry(quota: &BucketLimit, earlier: Instant, later: Instant) -> bool {
        let tick = quota.window.as_millis().min(1_000);
        earlier.as_micros() / tick == later.as_micros() / tick
    }

    fn take(&mut self, quota: &BucketLimit, demand: Demand, now: Instant) -> Decision {
        limiter::Algorithm::take(self, &window_limit(quota), demand, now)
    }

    fn peek(&self, quota: &BucketLimit, cost: Units, now: Instant) -> Decision {
        limiter::Algorithm::peek(self, &window_limit(quota), cost, now)
    }

    fn refund(&mut self, amount: Units, now: Instant) -> Refund {
        limiter::Algorithm::refund(self, amount, now)
    }

    fn has_ended(&self, now: Instant) -> bool {
        limiter::Algorithm::has_ended(self, now)
    }

    fn granted(&self, quota: &BucketLimit, granted: Units, now: Instant) -> Change {
        limiter::Algorithm::granted(self, &window_limit(quota), granted, now)
    }

    fn refunded(&self, refunded: Units, now: Instant) -> Change {
        limiter::Algorithm::refunded(self, refunded, now)
    }

    fn make(&mut self, change: Change) -> bool {
        match change {
            Change::SlidingWindowLog(log) => *self = log,
            Change::Grant { time, window, units } => return self.replay(window, units, time),
            Change::Refund { time, units } => {
                return limiter::Algorithm::refund(self, units, time).refunded > 0;
            }
            Change::TokenBucket(_) | Change::Deletion => return false,
        }
        true
    }

    fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        limiter::Algorithm::encode(self, &mut bytes);
        bytes
    }

    fn decoded(bytes: &[u8]) -> Option<Self> {
        limiter::Algorithm::decode(bytes).ok()
    }
}
