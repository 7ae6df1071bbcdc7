//! The debt of a token bucket: what is used above a capacity.

use super::TokenBucket;
use crate::limits::Limit;
use crate::time::{Duration, Instant};

impl TokenBucket {
    /// Returns the time until at most the capacity is used; zero if no more is used at `now`.
    #[must_use]
    pub fn debt_ends_after(&self, limit: &Limit, now: Instant) -> Duration {
        let (level, capacity) = (self.level(*limit, now), limit.capacity.get());
        if level.units_up() <= capacity {
            return Duration::ZERO;
        }
        // The distance to a state from far ahead drains the less, the closer the clock comes.
        let level = match self.time.checked_sub(limit.window) {
            Some(later) if later > now => self.level(*limit, later),
            _ => level,
        };
        level.time_to_drain_to(capacity, now)
    }
}
