//! The token bucket: bursts up to a capacity, and a steady rate beyond them.
//!
//! ```text
//!  used
//!  capacity ┤      ╭╮  a call is granted if its cost
//!           │     ╭╯╰╮ fits below the capacity ...
//!           │    ╭╯  ╰╮      ╭╮
//!           │   ╭╯    ╰╮    ╭╯╰╮
//!           │  ╭╯      ╰╮  ╭╯  ╰╮  ... and used units drain
//!         0 ┼──╯        ╰──╯    ╰──  at exactly limit / window
//!              time ──────────────▶
//! ```
//!
//! It is the leaky bucket as a meter (Turner 1986; ITU-T I.371, where its other form is called the
//! generic cell rate algorithm). The state is the *used* amount, because that amount stays the same
//! when a caller changes the limit, the window or the capacity.
//!
//! # Exactness
//!
//! The used amount is an integer number of parts. `parts_per_unit = window_us * 2^d`, with the
//! smallest `d` such that it is at least 2^45. In one microsecond `limit * 2^d` parts drain, which
//! is an integer. So neither a grant nor the passing of time ever rounds.
//!
//! Only a call with *another* window converts parts, and rounds up. Every decision depends on
//! multiples of the new part only (whole units, and the parts that drain in a microsecond), so that
//! no answer contains the rounding. Only when grants change the window a second time before the
//! bucket is empty can the bucket count too much: by less than one part of the window in between
//! (2^-45 of a unit, which even at one unit in 366 days drains in a microsecond). It never counts
//! too little.
//!
//! # Calls at other rates
//!
//! Since the latest grant, the bucket drains at the rate of that grant or at the rate of the call,
//! whichever is faster, in parts of the faster one. So no call waits beyond the end of the state:
//! the time at which the whole used amount has drained at the rate of the latest grant. From its
//! end on, a state does not affect any call.
//!
//! A grant sets the time and the rate of the state. A refund leaves both, so that it gives back the
//! same number of units to calls at every rate.
//!
//! # Debt
//!
//! A call with [`Mode::Force`](crate::Mode::Force) takes its cost also above the capacity, up to
//! [`MAX_USED`]. Units above the capacity drain at the same rate, and calls are denied until enough
//! units have drained.
//!
//! # Clocks that step
//!
//! A state from the future does not drain until the clock has reached its time: a step back grants
//! nothing. The time of a state from more than a window in the future may be wrong, so the distance
//! to it drains the bucket as time does. So a key that was used while the clock was far ahead is
//! usable again at most two windows after the clock has been corrected.

mod debt;

use core::num::{NonZeroU32, NonZeroU64, NonZeroU128};
use core::ops::Range;

use crate::algorithm::Algorithm;
use crate::buffers::BufferVisitor;
use crate::codec::{self, DecodeError, Encode, Fields, Kind};
use crate::decision::{Decision, Refund, RetryAfter};
use crate::limits::{Limit, MAX_USED, Missing, Request, Units, Window};
use crate::math::Exact;
use crate::noted_window::NotedWindow;
use crate::state::Limiter;
use crate::stored::{Refused, Stored};
use crate::time::{Duration, Instant};

/// The state of a token bucket, in 32 bytes: the used amount, its time, and the rate of its drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// The time at which the used amount was measured.
    pub(crate) time: Instant,
    /// The window of the latest grant, which determines the parts per unit.
    pub(crate) window: NotedWindow,
    /// Used parts beyond the whole units: fewer than the parts per unit.
    pub(crate) parts: u64,
    /// Used whole units.
    pub(crate) units: u32,
    /// The limit of the latest grant. Limit and window are its rate.
    pub(crate) limit: Units,
}

impl Default for TokenBucket {
    fn default() -> Self {
        Self::new()
    }
}

/// Every call has a constant cost.
impl Limiter for TokenBucket {
    type Limit = Limit;

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
        *self = after.into_bucket(self.window);
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

    fn effect_of_grant(&self, _: &Limit, _: Request, _: Units, _: Instant) -> Self {
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
    /// The whole bucket after the change, because no description of the change is shorter.
    type Effect = Self;

    const MAX_NOTE: u32 = NotedWindow::MAX_NOTE;

    fn note(&self) -> u32 {
        self.window.note()
    }

    #[inline(always)]
    fn set_note(&mut self, note: u32) {
        self.window.set_note(note);
    }

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
        let window = window.window().as_millis();
        let fields = [time.as_micros(), window, limit, units, parts];
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
    /// A bucket of which nothing is used.
    #[must_use]
    pub const fn new() -> Self {
        let window = NotedWindow::new(Window::MIN);
        Self { time: Instant::EPOCH, window, parts: 0, units: 0, limit: Units::MIN }
    }

    /// Returns the time at which the used amount was measured: that of the latest grant, unless the
    /// clock had stepped back.
    #[must_use]
    pub const fn time(&self) -> Instant {
        self.time
    }

    /// Reads the fields of a bucket. Returns `None` if they are out of their bounds.
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (time, window, limit) = (fields.time()?, fields.window()?, fields.units()?);
        let (units, parts) = (u32::try_from(fields.integer()?).ok()?, fields.integer()?);
        let used = units.checked_add(u32::from(parts > 0))?;
        let is_in_bounds = used > 0 && parts < parts_per_unit(window).get();
        let window = NotedWindow::new(window);
        is_in_bounds.then_some(Self { time, window, parts, units, limit })
    }

    /// Returns whether more units are used than a capacity can be, which only a forced grant does.
    fn is_in_debt(&self) -> bool {
        self.units >= Units::MAX.get() && (self.units > Units::MAX.get() || self.parts > 0)
    }

    /// The rate of the latest grant.
    pub(crate) fn latest_rate(&self) -> Limit {
        Limit::new(self.limit, self.window.window())
    }

    /// Returns the answer to a call with this limit at `now` that finds this level and does not
    /// change the state.
    #[inline(always)]
    fn unchanged(
        &self,
        limit: &Limit,
        level: Level,
        granted: u32,
        missing: Missing,
        now: Instant,
    ) -> Decision {
        let decision = level.decision(granted, missing, now);
        match self.time.checked_sub(limit.window) {
            // The distance to a state from far ahead drains the less, the closer the clock comes.
            // So the wait ends when the level of one window before the time of the state has
            // drained.
            Some(later) if later > now => {
                let then = self.level(*limit, later);
                let reset_after =
                    if level.is_empty() { Duration::ZERO } else { then.reset_after(now) };
                Decision { retry_after: then.retry_after(missing, now), reset_after, ..decision }
            }
            _ => decision,
        }
    }

    /// Returns the level at `now` for a call with this limit, in parts of the faster rate.
    #[inline(always)]
    fn level(&self, limit: Limit, now: Instant) -> Level {
        let ahead = self.time.micros_since(now);
        let (elapsed, time) = match ahead {
            0 => (now.micros_since(self.time), now),
            _ if ahead <= limit.window.as_micros() => (0, self.time),
            _ => (ahead, now),
        };
        if limit.window.as_micros() == self.window.as_micros() && limit.limit == self.limit {
            return Level { units: self.units, parts: self.parts, time, limit }.drained(elapsed);
        }
        self.level_at_another_rate(limit, time, elapsed)
    }

    /// Returns the level for a call at another rate than that of the latest grant. Not inlined, as
    /// most calls have the same rate.
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

/// The used amount at some time, in the parts of the window by which it drains.
#[derive(Clone, Copy)]
struct Level {
    units: u32,
    parts: u64,
    /// The time of the level: now, or the state's own time if that is at most a window ahead of
    /// now.
    time: Instant,
    /// The rate at which the level drains, and the capacity of the call.
    limit: Limit,
}

impl Level {
    /// Returns this level after `elapsed` microseconds.
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

    /// Returns the same amount in the parts of this limit's window, rounded up, to drain at its
    /// rate.
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

    /// Returns the used units, any part of a unit as a whole one.
    fn units_up(&self) -> u32 {
        self.units.plus(u32::from(self.parts > 0))
    }

    /// Returns the whole units that a call can take: no unit of which a part is used.
    fn available(&self) -> u32 {
        let capacity = self.limit.capacity.get();
        capacity.saturating_sub(self.units).saturating_sub(u32::from(self.parts > 0))
    }

    /// Returns the bucket of this level, with the note of the bucket before.
    fn into_bucket(self, before: NotedWindow) -> TokenBucket {
        let Self { units, parts, time, limit: Limit { limit, window, .. } } = self;
        TokenBucket { time, window: before.with(window), parts, units, limit }
    }

    /// Returns the answer to a call that leaves this level and still lacks `missing` units.
    #[inline(always)]
    fn decision(&self, granted: u32, missing: Missing, now: Instant) -> Decision {
        Decision {
            granted,
            capacity: self.limit.capacity.get(),
            remaining: self.available(),
            retry_after: self.retry_after(missing, now),
            reset_after: self.reset_after(now),
        }
    }

    /// Returns the wait until the missing units can be taken from this level.
    #[inline(always)]
    fn retry_after(&self, missing: Missing, now: Instant) -> RetryAfter {
        match missing.room(self.limit.capacity) {
            _ if missing.is_nothing() => RetryAfter::Granted,
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

    /// Returns the time from `now` until at most `units` are used. More units are used now.
    #[inline(always)]
    fn time_to_drain_to(&self, units: u32, now: Instant) -> Duration {
        let Limit { limit, window, .. } = self.limit;
        // Dividing by `2^d` first keeps the numbers small; rounding up twice is rounding up once.
        let doublings = doublings(window);
        let parts = self.parts.plus((1_u64 << doublings).minus(1)) >> doublings;
        let excess = product(u64::from(self.units.saturating_sub(units)), window.as_micros())
            .plus(u128::from(parts));
        let drain = divide_up(excess, limit.nonzero());
        Duration::from_micros(drain.plus(u128::from(self.time.micros_since(now))))
    }
}

/// Returns whether the first rate is lower than the second.
fn is_slower(first: &Limit, second: &Limit) -> bool {
    let crossed = |a: &Limit, b: &Limit| product(u64::from(a.limit.get()), b.window.as_micros());
    crossed(first, second) < crossed(second, first)
}

/// Returns `window_us * 2^d`, with the smallest `d` such that it is at least 2^45.
///
/// With so many parts per unit, at least one part drains in a microsecond at any limit and window.
pub(crate) fn parts_per_unit(window: Window) -> NonZeroU64 {
    let micros = window.nonzero_micros();
    NonZeroU64::new(micros.get() << doublings(window)).unwrap_or(micros)
}

/// Returns `d` of a window: 1 to 36, as a window in microseconds has 10 to 45 bits.
fn doublings(window: Window) -> u32 {
    window.nonzero_micros().leading_zeros().minus(18)
}

/// Returns the product of two 64-bit numbers.
fn product(a: u64, b: u64) -> u128 {
    u128::from(a).times(u128::from(b))
}

/// Divides a number of parts by the parts per unit. Returns the whole units and the rest.
///
/// A quotient that does not fit is at least the units of any state: it becomes [`MAX_USED`],
/// without a rest.
fn divide(parts: u128, unit: NonZeroU64) -> (u32, u64) {
    let (units, rest) = match u64::try_from(parts) {
        // Nearly all numbers fit into 64 bits, where division is cheap.
        Ok(parts) => (parts / unit, parts % unit),
        Err(_) => {
            let unit = NonZeroU128::from(unit);
            let rest = u64::try_from(parts % unit).unwrap_or(0);
            (u64::try_from(parts / unit).unwrap_or(u64::MAX), rest)
        }
    };
    if units < u64::from(MAX_USED) { (units as u32, rest) } else { (MAX_USED, 0) }
}

/// Returns the time in which `parts` drain at `rate` parts per microsecond, rounded up.
fn divide_up(parts: u128, rate: NonZeroU32) -> u128 {
    match u64::try_from(parts) {
        Ok(parts) => u128::from(parts.div_ceil(u64::from(rate.get()))),
        Err(_) => parts.div_ceil(u128::from(rate.get())),
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
