//! The token bucket: bursts up to a capacity, and a steady rate beyond them.
//!
//! ```text
//!  used
//!  capacity ┤      ╭╮  a call is granted when its cost
//!           │     ╭╯╰╮ still fits below the capacity ...
//!           │    ╭╯  ╰╮      ╭╮
//!           │   ╭╯    ╰╮    ╭╯╰╮
//!           │  ╭╯      ╰╮  ╭╯  ╰╮  ... and what was used drains
//!         0 ┼──╯        ╰──╯    ╰──  at exactly limit / window
//!              time ──────────────▶
//! ```
//!
//! It is the leaky bucket as a meter (Turner 1986; ITU-T I.371, where its other form is called the
//! generic cell rate algorithm): the bucket remembers what was *used*, which is what carries over
//! when a caller changes the limit, the window or the capacity.
//!
//! # Exactness
//!
//! What is used is an integer number of parts, a part being 1/window (in microseconds) of a unit:
//! one unit is `window` parts, and in one microsecond exactly `limit` parts drain. Neither a grant
//! nor the passing of time ever rounds. Only a call with *another* window has to convert parts,
//! and rounds up. Every decision depends on multiples of the new part only (whole units, and
//! `limit` parts a microsecond), so that rounding cannot be seen in any answer; a second change of
//! window before the bucket is empty again may deny for up to a microsecond longer than the exact
//! fraction would, never shorter.
//!
//! # Clocks that step
//!
//! A state from the future is taken as it is, without draining, until the clock has caught up: a
//! step back grants nothing. A state from more than a window in the future cannot be trusted to be
//! caught up with, so there the distance drains the bucket as time does; that is how a key which
//! saw a clock far off is usable again within two windows of the clock being right.

use core::num::{NonZeroU32, NonZeroU64, NonZeroU128};

use crate::decision::{Decision, Refund, RetryAfter};
use crate::limits::{BucketLimit, Demand, Units, Window};
use crate::time::{Duration, Instant};

/// The state of a token bucket, in 32 bytes: what was used, when, and how it drains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// The time at which the use below was true.
    pub(crate) time: Instant,
    /// The window of the latest change: a unit is as many parts as it has microseconds.
    pub(crate) window: Window,
    /// Parts used beyond the whole units: fewer than the window has microseconds.
    pub(crate) parts: u64,
    /// Whole units used.
    pub(crate) units: u32,
    /// The limit of the latest change, by which a refund knows how much has drained.
    pub(crate) limit: Units,
}

impl Default for TokenBucket {
    fn default() -> Self {
        Self::new()
    }
}

impl TokenBucket {
    /// A full bucket: nothing used.
    #[must_use]
    pub const fn new() -> Self {
        Self { time: Instant::EPOCH, window: Window::MIN, parts: 0, units: 0, limit: Units::MIN }
    }

    /// Decides a call at `now`, and records what it was granted. A denied call changes nothing.
    /// Constant cost.
    pub fn take(&mut self, limit: &BucketLimit, demand: Demand, now: Instant) -> Decision {
        let before = self.level(*limit, now);
        let after = before.after(demand);
        let granted = after.units.saturating_sub(before.units);
        let missing = demand.cost.get().saturating_sub(granted);
        if granted == 0 {
            return self.unchanged(before, granted, missing, now);
        }
        *self = after.into_bucket();
        after.decision(granted, missing, now)
    }

    /// What [`TokenBucket::take`] would grant of `cost` at `now`, and when; `remaining` and
    /// `reset_after` are those of the bucket as it is. Constant cost.
    #[must_use]
    pub fn peek(&self, limit: &BucketLimit, cost: Units, now: Instant) -> Decision {
        let level = self.level(*limit, now);
        let granted = Demand::all(cost).granted_of(level.available());
        self.unchanged(level, granted, cost.get().saturating_sub(granted), now)
    }

    /// Gives back up to `amount` of the whole units that are used at `now`, at the limit and
    /// window of the latest grant. Constant cost.
    pub fn refund(&mut self, amount: Units, now: Instant) -> Refund {
        let before = self.level(BucketLimit::new(self.limit, self.window), now);
        let refunded = amount.get().min(before.units);
        if refunded == 0 {
            return Refund::NOTHING;
        }
        let after = Level { units: before.units.saturating_sub(refunded), ..before };
        *self = after.into_bucket();
        Refund { refunded, reset_after: after.reset_after(now) }
    }

    /// The answer to a call at `now` that finds this level and leaves the state as it is.
    fn unchanged(&self, level: Level, granted: u32, missing: u32, now: Instant) -> Decision {
        let decision = level.decision(granted, missing, now);
        match self.time.checked_sub(level.limit.window) {
            // The distance to a state from far ahead drains less and less as the clock comes
            // closer: whoever waits will find the bucket as it is a window before that state.
            Some(later) if later > now => {
                let then = self.level(level.limit, later);
                let reset_after =
                    if level.is_empty() { Duration::ZERO } else { then.reset_after(now) };
                Decision { retry_after: then.retry_after(missing, now), reset_after, ..decision }
            }
            _ => decision,
        }
    }

    /// What is used at `now` as seen by a call with this limit.
    fn level(&self, limit: BucketLimit, now: Instant) -> Level {
        let window = limit.window.as_micros();
        let ahead = self.time.micros_since(now);
        let (elapsed, time) = match ahead {
            0 => (now.micros_since(self.time), now),
            _ if ahead <= window => (0, self.time),
            _ => (ahead, now),
        };
        let used = product(u64::from(self.units), window)
            .saturating_add(self.parts_of(limit.window))
            .saturating_sub(product(elapsed, u64::from(limit.limit.get())));
        let (units, parts) = divide(used, limit.window.nonzero_micros());
        Level { units, parts, time, limit }
    }

    /// The parts beyond whole units as parts of another window, rounded up.
    fn parts_of(&self, window: Window) -> u128 {
        if self.window == window {
            return u128::from(self.parts);
        }
        product(self.parts, window.as_micros()).div_ceil(u128::from(self.window.as_micros()))
    }
}

/// What is used at some time, in the parts of the call's own window.
#[derive(Clone, Copy)]
struct Level {
    units: u32,
    parts: u64,
    /// When this is true: now, or the state's own time when that lies (not far) ahead of now.
    time: Instant,
    limit: BucketLimit,
}

impl Level {
    /// Whole units that could be taken: a unit of which any part is used cannot.
    fn available(&self) -> u32 {
        let capacity = self.limit.capacity.get();
        capacity.saturating_sub(self.units).saturating_sub(u32::from(self.parts > 0))
    }

    /// The level after what is granted of `demand`; the sum cannot saturate, as a grant fits
    /// below the capacity.
    fn after(self, demand: Demand) -> Self {
        Self { units: self.units.saturating_add(demand.granted_of(self.available())), ..self }
    }

    fn into_bucket(self) -> TokenBucket {
        let Self { units, parts, time, limit: BucketLimit { limit, window, .. } } = self;
        TokenBucket { time, window, parts, units, limit }
    }

    /// The answer to a call that leaves this level and is `missing` some of its units.
    fn decision(&self, granted: u32, missing: u32, now: Instant) -> Decision {
        Decision {
            granted,
            limit: self.limit.capacity.get(),
            remaining: self.available(),
            retry_after: self.retry_after(missing, now),
            reset_after: self.reset_after(now),
        }
    }

    /// The wait until the missing units could be taken from this level.
    fn retry_after(&self, missing: u32, now: Instant) -> RetryAfter {
        match self.limit.capacity.get().checked_sub(missing) {
            _ if missing == 0 => RetryAfter::Granted,
            None => RetryAfter::Never,
            Some(room) => RetryAfter::Wait(self.time_to_drain_to(room, now)),
        }
    }

    fn is_empty(&self) -> bool {
        self.units == 0 && self.parts == 0
    }

    fn reset_after(&self, now: Instant) -> Duration {
        if self.is_empty() {
            return Duration::ZERO;
        }
        self.time_to_drain_to(0, now)
    }

    /// Time from `now` until at most `units` are used, of which more are used now.
    fn time_to_drain_to(&self, units: u32, now: Instant) -> Duration {
        let window = self.limit.window.as_micros();
        let excess = product(u64::from(self.units.saturating_sub(units)), window)
            .saturating_add(u128::from(self.parts));
        let drain = divide_up(excess, self.limit.limit.nonzero());
        Duration::from_micros(drain.saturating_add(u128::from(self.time.micros_since(now))))
    }
}

/// The product of two 64-bit numbers, which always fits.
const fn product(a: u64, b: u64) -> u128 {
    (a as u128).wrapping_mul(b as u128)
}

/// Whole units and parts of a number of parts.
///
/// The units always fit: a state never holds more than 2^32 of them, and draining makes it less.
fn divide(parts: u128, window: NonZeroU64) -> (u32, u64) {
    // Most levels fit into 64 bits, where dividing is cheap.
    if let Ok(parts) = u64::try_from(parts) {
        return (u32::try_from(parts / window).unwrap_or(u32::MAX), parts % window);
    }
    let window = NonZeroU128::from(window);
    let rest = u64::try_from(parts % window).unwrap_or(0);
    (u32::try_from(parts / window).unwrap_or(u32::MAX), rest)
}

/// The time in which `parts` drain at `rate` parts a microsecond, rounded up.
fn divide_up(parts: u128, rate: NonZeroU32) -> u128 {
    match u64::try_from(parts) {
        Ok(parts) => u128::from(parts.div_ceil(u64::from(rate.get()))),
        Err(_) => parts.div_ceil(u128::from(rate.get())),
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use super::*;

    /// `limit` units per second, and at most `capacity` at once.
    fn per_second(limit: u64, capacity: u64) -> BucketLimit {
        let window = Window::from_millis(1_000).unwrap();
        BucketLimit { limit: units(limit), window, capacity: units(capacity) }
    }

    fn units(units: u64) -> Units {
        Units::new(units).unwrap()
    }

    fn at_secs(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    fn secs(secs: u128) -> Duration {
        Duration::from_micros(secs * 1_000_000)
    }

    #[test]
    fn a_wait_counts_the_way_back_to_a_state_from_far_ahead() {
        let limit = per_second(1, 10);
        let mut bucket = TokenBucket::new();
        bucket.take(&limit, Demand::all(units(10)), at_secs(100));

        // Five windows ahead: five units have drained, but the next call will find fewer drained.
        let denied = bucket.take(&limit, Demand::all(units(6)), at_secs(95));
        assert_eq!((denied.granted, denied.remaining), (0, 5));
        assert_eq!(denied.retry_after, RetryAfter::Wait(secs(11)));
        assert_eq!(denied.reset_after, secs(15));
        assert_eq!(bucket.peek(&limit, units(6), at_secs(105)).granted, 0);
        assert_eq!(bucket.peek(&limit, units(6), at_secs(106)).granted, 6);
    }
}
