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
//! What is used is an integer number of parts. A unit is as many of them as the window has
//! microseconds, doubled until that is at least 2^45, so that in one microsecond exactly `limit`
//! parts, doubled as often, drain. Neither a grant nor the passing of time ever rounds.
//!
//! Only a call with *another* window has to convert parts, and rounds up. Every decision depends on
//! multiples of the new part only (whole units, and what drains in a microsecond), so that rounding
//! cannot be seen in any answer. Only when grants change the window a second time before the bucket
//! is empty may it count too much, by less than one part of the window in between (2^-45 of a unit,
//! which even a unit in 366 days drains in a microsecond), and never too little.
//!
//! # Calls at other rates
//!
//! The time since the latest grant drains at the rate of that grant or at the rate of the call,
//! whichever is faster, in parts of the faster one. So no call waits beyond the end of the state:
//! the time at which all that was used has drained at the rate of the latest grant. From its end
//! on, a state counts for nothing in any call.
//!
//! A grant fixes what it has measured; a refund leaves the time and the rate of the latest grant,
//! so that it gives back the same number of units to calls at every rate.
//!
//! # Clocks that step
//!
//! A state from the future is taken as it is, without draining, until the clock has caught up: a
//! step back grants nothing. A state from more than a window in the future cannot be trusted to be
//! caught up with, so there the distance drains the bucket as time does; that is how a key which
//! saw a clock far off is usable again within two windows of the clock being right.

use core::num::{NonZeroU32, NonZeroU64, NonZeroU128};
use core::ops::Range;

use crate::algorithm::{Algorithm, BufferVisitor};
use crate::codec::{self, Change, DecodeError};
use crate::decision::{Decision, Refund, RetryAfter};
use crate::limits::{BucketLimit, Demand, Units, Window};
use crate::time::{Duration, Instant};

/// The state of a token bucket, in 32 bytes: what was used, when, and how it drains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// The time at which the use below was true.
    pub(crate) time: Instant,
    /// The window of the latest grant, which says how many parts a unit is.
    pub(crate) window: Window,
    /// Parts used beyond the whole units: fewer than a unit is.
    pub(crate) parts: u64,
    /// Whole units used.
    pub(crate) units: u32,
    /// The limit of the latest grant, which is its rate together with the window.
    pub(crate) limit: Units,
}

impl Default for TokenBucket {
    fn default() -> Self {
        Self::new()
    }
}

/// Every call has a constant cost.
impl Algorithm for TokenBucket {
    type Limit = BucketLimit;

    #[inline(always)]
    fn take(&mut self, limit: &Self::Limit, demand: Demand, now: Instant) -> Decision {
        let before = self.level(*limit, now);
        let granted = demand.granted_of(before.available());
        let missing = demand.missing_after(granted);
        if granted == 0 {
            return self.unchanged(limit, before, granted, missing, now);
        }
        // The sum cannot saturate, as a grant fits below the capacity.
        let after = Level { units: before.units.saturating_add(granted), ..before };
        let after = after.at_rate_of(*limit);
        *self = after.into_bucket();
        after.decision(granted, missing, now)
    }

    fn peek(&self, limit: &Self::Limit, cost: Units, now: Instant) -> Decision {
        let (level, demand) = (self.level(*limit, now), Demand::all(cost));
        let granted = demand.granted_of(level.available());
        self.unchanged(limit, level, granted, demand.missing_after(granted), now)
    }

    fn refund(&mut self, amount: Units, now: Instant) -> Refund {
        let rate = self.latest_rate();
        let refunded = amount.get().min(self.level(rate, now).units_up());
        if refunded == 0 {
            return Refund::NOTHING;
        }
        let units = self.units.checked_sub(refunded);
        let after = units.map(|units| Self { units, ..*self });
        *self = after.filter(|after| !after.level(rate, now).is_empty()).unwrap_or_default();
        Refund { refunded, reset_after: self.peek(&rate, Units::MIN, now).reset_after }
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.time <= now && self.level(self.latest_rate(), now).is_empty()
    }

    /// A bucket is as short as its changes would be: it travels whole.
    fn granted(&self, _limit: &BucketLimit, _units: Units, _now: Instant) -> Change {
        Change::TokenBucket(self.clone())
    }

    fn refunded(&self, _units: Units, _now: Instant) -> Change {
        Change::TokenBucket(self.clone())
    }

    fn encode(&self, bytes: &mut impl Extend<u8>) {
        codec::put_token_bucket(self, bytes);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match Change::decode(bytes)? {
            Change::TokenBucket(bucket) => Ok(bucket),
            _ => Err(DecodeError::Malformed),
        }
    }

    fn buffers(&self) -> usize {
        0
    }

    fn visit_buffers(&mut self, _numbers: Range<usize>, _visitor: &mut impl BufferVisitor) {}
}

impl TokenBucket {
    /// A full bucket: nothing used.
    #[must_use]
    pub const fn new() -> Self {
        Self { time: Instant::EPOCH, window: Window::MIN, parts: 0, units: 0, limit: Units::MIN }
    }

    /// The time at which what is used was measured: that of the latest grant, unless the clock had
    /// stepped back.
    #[must_use]
    pub const fn time(&self) -> Instant {
        self.time
    }

    /// Whether this is what a refund has left of another state. A grant uses more units, or changes
    /// the time.
    #[must_use]
    pub fn is_refund_of(&self, before: &Self) -> bool {
        self.units < before.units && *self == Self { units: self.units, ..*before }
    }

    /// The rate of the latest grant.
    const fn latest_rate(&self) -> BucketLimit {
        BucketLimit::new(self.limit, self.window)
    }

    /// The answer to a call with this limit at `now` that finds this level and leaves the state as
    /// it is.
    #[inline(always)]
    fn unchanged(
        &self,
        limit: &BucketLimit,
        level: Level,
        granted: u32,
        missing: u32,
        now: Instant,
    ) -> Decision {
        let decision = level.decision(granted, missing, now);
        match self.time.checked_sub(limit.window) {
            // The distance to a state from far ahead drains less and less as the clock comes
            // closer: a caller that waits will find the bucket as it is a window before that state.
            Some(later) if later > now => {
                let then = self.level(*limit, later);
                let reset_after =
                    if level.is_empty() { Duration::ZERO } else { then.reset_after(now) };
                Decision { retry_after: then.retry_after(missing, now), reset_after, ..decision }
            }
            _ => decision,
        }
    }

    /// What is used at `now` as seen by a call with this limit, in parts of the faster rate.
    #[inline(always)]
    fn level(&self, limit: BucketLimit, now: Instant) -> Level {
        let ahead = self.time.micros_since(now);
        let (elapsed, time) = match ahead {
            0 => (now.micros_since(self.time), now),
            _ if ahead <= limit.window.as_micros() => (0, self.time),
            _ => (ahead, now),
        };
        if limit.window == self.window && limit.limit == self.limit {
            return Level { units: self.units, parts: self.parts, time, limit }.drained(elapsed);
        }
        self.level_at_another_rate(limit, time, elapsed)
    }

    /// The level as seen by a call at another rate than that of the latest grant. Out of line, as
    /// most calls have the same.
    #[inline(never)]
    fn level_at_another_rate(&self, limit: BucketLimit, time: Instant, elapsed: u64) -> Level {
        let stored = Level {
            units: self.units,
            parts: self.parts,
            time,
            limit: BucketLimit { capacity: limit.capacity, ..self.latest_rate() },
        };
        if stored.is_empty() {
            return Level { limit, ..stored };
        }
        let faster = if is_slower(&stored.limit, &limit) { limit } else { stored.limit };
        stored.at_rate_of(faster).drained(elapsed)
    }
}

/// What is used at some time, in the parts of the window by which it drains.
#[derive(Clone, Copy)]
struct Level {
    units: u32,
    parts: u64,
    /// When this is true: now, or the state's own time when that lies (not far) ahead of now.
    time: Instant,
    /// The rate at which the level drains, and the capacity of the call.
    limit: BucketLimit,
}

impl Level {
    /// This level after `elapsed` microseconds.
    #[inline(always)]
    fn drained(self, elapsed: u64) -> Self {
        let BucketLimit { limit, window, .. } = self.limit;
        let drained = product(elapsed, u64::from(limit.get()));
        let (drained_units, rest) = divide(drained, window.nonzero_micros());
        let drained_parts = rest << doublings(window);
        let borrowed = self.parts < drained_parts;
        match self.units.checked_sub(drained_units.saturating_add(u32::from(borrowed))) {
            Some(units) => {
                let borrowed = if borrowed { parts_per_unit(window).get() } else { 0 };
                let parts = self.parts.wrapping_add(borrowed).wrapping_sub(drained_parts);
                Self { units, parts, ..self }
            }
            None => Self { units: 0, parts: 0, ..self },
        }
    }

    /// The same use in the parts of this limit's window, rounded up, to drain at its rate.
    #[inline(always)]
    fn at_rate_of(self, limit: BucketLimit) -> Self {
        if limit.window == self.limit.window {
            return Self { limit, ..self };
        }
        let (from, to) = (parts_per_unit(self.limit.window), parts_per_unit(limit.window));
        let parts = product(self.parts, to.get()).div_ceil(u128::from(from.get()));
        let (carried, parts) = divide(parts, to);
        Self { units: self.units.saturating_add(carried), parts, limit, ..self }
    }

    /// Units used, any part of a unit as a whole one.
    const fn units_up(&self) -> u32 {
        self.units.saturating_add((self.parts > 0) as u32)
    }

    /// Whole units that could be taken: a unit of which any part is used cannot.
    fn available(&self) -> u32 {
        let capacity = self.limit.capacity.get();
        capacity.saturating_sub(self.units).saturating_sub(u32::from(self.parts > 0))
    }

    fn into_bucket(self) -> TokenBucket {
        let Self { units, parts, time, limit: BucketLimit { limit, window, .. } } = self;
        TokenBucket { time, window, parts, units, limit }
    }

    /// The answer to a call that leaves this level and is `missing` some of its units.
    #[inline(always)]
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
    #[inline(always)]
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

    #[inline(always)]
    fn reset_after(&self, now: Instant) -> Duration {
        if self.is_empty() {
            return Duration::ZERO;
        }
        self.time_to_drain_to(0, now)
    }

    /// Time from `now` until at most `units` are used, of which more are used now.
    #[inline(always)]
    fn time_to_drain_to(&self, units: u32, now: Instant) -> Duration {
        let BucketLimit { limit, window, .. } = self.limit;
        // Undoubling first keeps the numbers small; rounding up twice is rounding up once.
        let doublings = doublings(window);
        let parts = self.parts.wrapping_add((1_u64 << doublings).wrapping_sub(1)) >> doublings;
        let excess = product(u64::from(self.units.saturating_sub(units)), window.as_micros())
            .wrapping_add(u128::from(parts));
        let drain = divide_up(excess, limit.nonzero());
        Duration::from_micros(drain.saturating_add(u128::from(self.time.micros_since(now))))
    }
}

/// Whether units come back more slowly at the first rate than at the second.
fn is_slower(first: &BucketLimit, second: &BucketLimit) -> bool {
    let crossed =
        |a: &BucketLimit, b: &BucketLimit| product(u64::from(a.limit.get()), b.window.as_micros());
    crossed(first, second) < crossed(second, first)
}

/// How many parts a unit is: the window in microseconds, doubled until that is at least 2^45.
///
/// So many that a part weighs less than what drains in a microsecond, at any window.
pub(crate) fn parts_per_unit(window: Window) -> NonZeroU64 {
    let micros = window.nonzero_micros();
    NonZeroU64::new(micros.get() << doublings(window)).unwrap_or(micros)
}

/// How often a window in microseconds is doubled: 1 to 36 times, as it has 10 to 45 bits.
fn doublings(window: Window) -> u32 {
    window.nonzero_micros().leading_zeros().saturating_sub(18)
}

/// The product of two 64-bit numbers, which always fits.
const fn product(a: u64, b: u64) -> u128 {
    (a as u128).wrapping_mul(b as u128)
}

/// Whole units and the rest of a number of parts, of which a unit is so many.
///
/// Units that do not fit are more than any state holds.
fn divide(parts: u128, unit: NonZeroU64) -> (u32, u64) {
    let (units, rest) = match u64::try_from(parts) {
        // Nearly all fit into 64 bits, where dividing is cheap.
        Ok(parts) => (u32::try_from(parts / unit), parts % unit),
        Err(_) => {
            let unit = NonZeroU128::from(unit);
            let rest = u64::try_from(parts % unit).unwrap_or(0);
            (u32::try_from(parts / unit), rest)
        }
    };
    (units.unwrap_or(u32::MAX), rest)
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
mod tests;
