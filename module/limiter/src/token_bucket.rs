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
//! # Debt
//!
//! A call with [`Mode::Force`](crate::Mode::Force) takes its cost also above the capacity, up to
//! [`MAX_USED`]. What is above the capacity drains at the same rate, and calls are denied until
//! enough has drained.
//!
//! # Clocks that step
//!
//! A state from the future is taken as it is, without draining, until the clock has caught up: a
//! step back grants nothing. A state from more than a window in the future cannot be trusted to be
//! caught up with, so there the distance drains the bucket as time does; that is how a key which
//! saw a clock far off is usable again within two windows of the clock being right.

use core::num::{NonZeroU32, NonZeroU64, NonZeroU128};
use core::ops::Range;

use crate::algorithm::Algorithm;
use crate::buffers::BufferVisitor;
use crate::codec::{self, DecodeError, Encode, Fields, Kind};
use crate::decision::{Decision, Refund, RetryAfter};
use crate::limits::{Limit, MAX_USED, Request, Units, Window};
use crate::math::Exact;
use crate::state::Limiter;
use crate::stored::{Refused, Stored};
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
impl Limiter for TokenBucket {
    const ALGORITHM: Algorithm = Algorithm::TokenBucket;

    /// Version, kind and five integers within their bounds.
    const MAX_EFFECT_BYTES: usize = 2 + 9 + 5 + 5 + 5 + 7;

    #[inline(always)]
    fn take(&mut self, limit: &Limit, request: Request, now: Instant) -> Decision {
        let before = self.level(*limit, now);
        let granted = request.granted_of(before.available(), || before.units_up());
        let missing = request.missing_after(granted);
        if granted == 0 {
            return self.unchanged(limit, before, granted, missing, now);
        }
        let after = Level { units: before.units.plus(granted), ..before };
        let after = after.at_rate_of(*limit);
        *self = after.into_bucket();
        after.decision(granted, missing, now)
    }

    fn peek(&self, limit: &Limit, cost: Units, now: Instant) -> Decision {
        let (level, request) = (self.level(*limit, now), Request::all(cost));
        let granted = request.granted_of(level.available(), || level.units_up());
        self.unchanged(limit, level, granted, request.missing_after(granted), now)
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

    fn effect_of_grant(&self, _limit: &Limit, _units: Units, _now: Instant) -> Self {
        self.clone()
    }

    fn effect_of_refund(&self, _units: Units, _now: Instant) -> Self {
        self.clone()
    }

    /// A refund leaves the time and the rate; a grant uses more units, or changes the time.
    fn is_refund(&self, effect: &Self) -> bool {
        effect.units < self.units && *effect == Self { units: effect.units, ..*self }
    }
}

impl Stored for TokenBucket {
    /// The whole bucket after the change, as it is as short as any description of the change.
    type Effect = Self;

    fn has_ended(&self, now: Instant) -> bool {
        self.time <= now && self.level(self.latest_rate(), now).is_empty()
    }

    fn apply(&mut self, effect: Self) -> Result<(), Refused> {
        *self = effect;
        Ok(())
    }

    fn buffers(&self) -> usize {
        0
    }

    fn visit_buffers(&mut self, _numbers: Range<usize>, _visitor: &mut impl BufferVisitor) {}
}

impl Encode for TokenBucket {
    fn encode(&self, bytes: &mut impl Extend<u8>) {
        let Self { time, window, parts, units, limit } = *self;
        let (limit, units) = (u64::from(limit.get()), u64::from(units));
        let fields = [time.as_micros(), window.as_millis(), limit, units, parts];
        let kind = if self.is_in_debt() { Kind::TokenBucketInDebt } else { Kind::TokenBucket };
        codec::put(bytes, kind, &fields);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match codec::read(bytes)? {
            (kind @ (Kind::TokenBucket | Kind::TokenBucketInDebt), mut fields) => {
                let is_in_debt = kind == Kind::TokenBucketInDebt;
                let bucket = Self::read(&mut fields);
                fields.end(bucket.filter(|bucket| bucket.is_in_debt() == is_in_debt))
            }
            _ => Err(DecodeError::Malformed),
        }
    }
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

    /// Returns the bucket of which these are the fields, if they are within their bounds.
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (time, window, limit) = (fields.time()?, fields.window()?, fields.units()?);
        let (units, parts) = (u32::try_from(fields.integer()?).ok()?, fields.integer()?);
        let used = units.checked_add(u32::from(parts > 0))?;
        let is_in_bounds = used > 0 && parts < parts_per_unit(window).get();
        is_in_bounds.then_some(Self { time, window, parts, units, limit })
    }

    /// Returns whether more units are used than a capacity can be, which only a forced grant does.
    fn is_in_debt(&self) -> bool {
        self.units >= Units::MAX.get() && (self.units > Units::MAX.get() || self.parts > 0)
    }

    /// The rate of the latest grant.
    const fn latest_rate(&self) -> Limit {
        Limit::new(self.limit, self.window)
    }

    /// The answer to a call with this limit at `now` that finds this level and leaves the state as
    /// it is.
    #[inline(always)]
    fn unchanged(
        &self,
        limit: &Limit,
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
    fn level(&self, limit: Limit, now: Instant) -> Level {
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
    fn level_at_another_rate(&self, limit: Limit, time: Instant, elapsed: u64) -> Level {
        let stored = Level {
            units: self.units,
            parts: self.parts,
            time,
            limit: Limit { capacity: limit.capacity, ..self.latest_rate() },
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
    limit: Limit,
}

impl Level {
    /// This level after `elapsed` microseconds.
    #[inline(always)]
    fn drained(self, elapsed: u64) -> Self {
        let Limit { limit, window, .. } = self.limit;
        let drained = product(elapsed, u64::from(limit.get()));
        let (drained_units, rest) = divide(drained, window.nonzero_micros());
        let drained_parts = rest << doublings(window);
        let borrowed = self.parts < drained_parts;
        // Saturating, as `drained_units` may stand for more units than any state holds.
        match self.units.checked_sub(drained_units.saturating_add(u32::from(borrowed))) {
            Some(units) => {
                let borrowed = if borrowed { parts_per_unit(window).get() } else { 0 };
                let parts = self.parts.plus(borrowed).minus(drained_parts);
                Self { units, parts, ..self }
            }
            None => Self { units: 0, parts: 0, ..self },
        }
    }

    /// The same use in the parts of this limit's window, rounded up, to drain at its rate.
    #[inline(always)]
    fn at_rate_of(self, limit: Limit) -> Self {
        if limit.window == self.limit.window {
            return Self { limit, ..self };
        }
        let (from, to) = (parts_per_unit(self.limit.window), parts_per_unit(limit.window));
        let parts = product(self.parts, to.get()).div_ceil(u128::from(from.get()));
        let (carried, parts) = divide(parts, to);
        Self { units: self.units.plus(carried), parts, limit, ..self }
    }

    /// Units used, any part of a unit as a whole one.
    fn units_up(&self) -> u32 {
        self.units.plus(u32::from(self.parts > 0))
    }

    /// Whole units that could be taken: a unit of which any part is used cannot.
    fn available(&self) -> u32 {
        let capacity = self.limit.capacity.get();
        capacity.saturating_sub(self.units).saturating_sub(u32::from(self.parts > 0))
    }

    fn into_bucket(self) -> TokenBucket {
        let Self { units, parts, time, limit: Limit { limit, window, .. } } = self;
        TokenBucket { time, window, parts, units, limit }
    }

    /// The answer to a call that leaves this level and is `missing` some of its units.
    #[inline(always)]
    fn decision(&self, granted: u32, missing: u32, now: Instant) -> Decision {
        Decision {
            granted,
            capacity: self.limit.capacity.get(),
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
        let Limit { limit, window, .. } = self.limit;
        // Undoubling first keeps the numbers small; rounding up twice is rounding up once.
        let doublings = doublings(window);
        let parts = self.parts.plus((1_u64 << doublings).minus(1)) >> doublings;
        let excess = product(u64::from(self.units.saturating_sub(units)), window.as_micros())
            .plus(u128::from(parts));
        let drain = divide_up(excess, limit.nonzero());
        Duration::from_micros(drain.plus(u128::from(self.time.micros_since(now))))
    }
}

/// Whether units come back more slowly at the first rate than at the second.
fn is_slower(first: &Limit, second: &Limit) -> bool {
    let crossed = |a: &Limit, b: &Limit| product(u64::from(a.limit.get()), b.window.as_micros());
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
    window.nonzero_micros().leading_zeros().minus(18)
}

/// The product of two 64-bit numbers.
fn product(a: u64, b: u64) -> u128 {
    u128::from(a).times(u128::from(b))
}

/// Whole units and the rest of a number of parts, of which a unit is so many.
///
/// Units that do not fit are as many as any state holds, or more: they are [`MAX_USED`], without a
/// rest.
fn divide(parts: u128, unit: NonZeroU64) -> (u32, u64) {
    let (units, rest) = match u64::try_from(parts) {
        // Nearly all fit into 64 bits, where dividing is cheap.
        Ok(parts) => (parts / unit, parts % unit),
        Err(_) => {
            let unit = NonZeroU128::from(unit);
            let rest = u64::try_from(parts % unit).unwrap_or(0);
            (u64::try_from(parts / unit).unwrap_or(u64::MAX), rest)
        }
    };
    if units < u64::from(MAX_USED) { (units as u32, rest) } else { (MAX_USED, 0) }
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
