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
    /// The window of the latest change, which says how many parts a unit is.
    pub(crate) window: Window,
    /// Parts used beyond the whole units: fewer than a unit is.
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

/// Every call has a constant cost. A refund gives back whole units.
impl Algorithm for TokenBucket {
    type Limit = BucketLimit;

    #[inline(always)]
    fn take(&mut self, limit: &Self::Limit, demand: Demand, now: Instant) -> Decision {
        let before = self.level(*limit, now);
        let granted = demand.granted_of(before.available());
        let missing = demand.cost.get().saturating_sub(granted);
        if granted == 0 {
            return self.unchanged(before, granted, missing, now);
        }
        // The sum cannot saturate, as a grant fits below the capacity.
        let after = Level { units: before.units.saturating_add(granted), ..before };
        *self = after.into_bucket();
        after.decision(granted, missing, now)
    }

    fn peek(&self, limit: &Self::Limit, cost: Units, now: Instant) -> Decision {
        let level = self.level(*limit, now);
        let granted = Demand::all(cost).granted_of(level.available());
        self.unchanged(level, granted, cost.get().saturating_sub(granted), now)
    }

    fn refund(&mut self, amount: Units, now: Instant) -> Refund {
        let before = self.level(BucketLimit::new(self.limit, self.window), now);
        let refunded = amount.get().min(before.units);
        if refunded == 0 {
            return Refund::NOTHING;
        }
        let after = Level { units: before.units.saturating_sub(refunded), ..before };
        *self = after.into_bucket();
        Refund { refunded, reset_after: after.reset_after(now) }
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

    /// The answer to a call at `now` that finds this level and leaves the state as it is.
    #[inline(always)]
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
    #[inline(always)]
    fn level(&self, limit: BucketLimit, now: Instant) -> Level {
        let ahead = self.time.micros_since(now);
        let (elapsed, time) = match ahead {
            0 => (now.micros_since(self.time), now),
            _ if ahead <= limit.window.as_micros() => (0, self.time),
            _ => (ahead, now),
        };
        let drained = product(elapsed, u64::from(limit.limit.get()));
        let (drained_units, rest) = divide(drained, limit.window.nonzero_micros());
        let drained_parts = rest << doublings(limit.window);
        let (units, parts) = match limit.window {
            same if same == self.window => (self.units, self.parts),
            another => self.used_by_another(another),
        };
        let borrowed = parts < drained_parts;
        match units.checked_sub(drained_units.saturating_add(u32::from(borrowed))) {
            Some(units) => {
                let borrowed = if borrowed { parts_per_unit(limit.window).get() } else { 0 };
                let parts = parts.wrapping_add(borrowed).wrapping_sub(drained_parts);
                Level { units, parts, time, limit }
            }
            None => Level { units: 0, parts: 0, time, limit },
        }
    }

    /// Whole units used, and parts beyond them of another window, rounded up.
    fn used_by_another(&self, window: Window) -> (u32, u64) {
        let (from, to) = (parts_per_unit(self.window), parts_per_unit(window));
        let parts = product(self.parts, to.get()).div_ceil(u128::from(from.get()));
        let (carried, parts) = divide(parts, to);
        (self.units.saturating_add(carried), parts)
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
mod tests {
    use super::*;

    const SECOND: u128 = 1_000_000;

    /// `limit` units per `millis`, and at most `capacity` at once.
    fn quota(limit: u64, millis: u64, capacity: u64) -> BucketLimit {
        let window = Window::from_millis(millis).unwrap();
        BucketLimit { limit: units(limit), window, capacity: units(capacity) }
    }

    fn units(units: u64) -> Units {
        Units::new(units).unwrap()
    }

    fn all(cost: u64) -> Demand {
        Demand::all(units(cost))
    }

    fn at_micros(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    fn at_secs(secs: u64) -> Instant {
        at_micros(secs * 1_000_000)
    }

    fn wait(micros: u128) -> RetryAfter {
        RetryAfter::Wait(Duration::from_micros(micros))
    }

    #[test]
    fn a_full_bucket_grants_its_capacity_and_then_its_rate() {
        let (limit, mut bucket) = (quota(2, 1_000, 5), TokenBucket::new());
        assert_eq!(bucket.take(&limit, all(5), at_secs(0)).granted, 5);
        let denied = bucket.take(&limit, all(1), at_secs(0));
        assert_eq!((denied.granted, denied.remaining, denied.limit), (0, 0, 5));
        assert_eq!(denied.retry_after, wait(SECOND / 2));
        assert_eq!(denied.reset_after.as_micros(), SECOND * 5 / 2);

        assert_eq!(bucket.take(&limit, all(1), at_micros(499_999)).granted, 0);
        assert_eq!(bucket.take(&limit, all(1), at_micros(500_000)).granted, 1);
        assert_eq!(bucket.take(&limit, all(1), at_micros(500_000)).retry_after, wait(SECOND / 2));
    }

    #[test]
    fn a_bucket_never_holds_more_than_its_capacity() {
        let (limit, mut bucket) = (quota(2, 1_000, 5), TokenBucket::new());
        bucket.take(&limit, all(1), at_secs(0));
        assert_eq!(bucket.take(&limit, all(5), at_secs(1_000)).remaining, 0);
    }

    #[test]
    fn a_fraction_of_a_microsecond_is_not_lost() {
        let (limit, mut bucket) = (quota(3, 1_000, 2), TokenBucket::new());
        bucket.take(&limit, all(2), at_secs(0));
        // Units come back after 333333 1/3, 666666 2/3 and 1000000 microseconds.
        for (millionths, next) in [(0, 333_334), (333_334, 333_333), (666_667, 333_333)] {
            let denied = bucket.take(&limit, all(1), at_micros(millionths));
            assert_eq!(denied.retry_after, wait(next));
            let later = at_micros(millionths + next as u64);
            assert_eq!(bucket.take(&limit, all(1), later).granted, 1);
        }
    }

    #[test]
    fn the_slowest_and_the_fastest_rate_are_exact() {
        let (slowest, year) = (quota(1, Window::MAX.as_millis(), 1_000_000_000), 31_622_400);
        let mut bucket = TokenBucket::new();
        let decision = bucket.take(&slowest, all(1_000_000_000), at_secs(0));
        assert_eq!(decision.reset_after.as_micros(), 1_000_000_000 * year * SECOND);
        let denied = bucket.take(&slowest, all(1), at_micros(1));
        assert_eq!(denied.retry_after, wait(year * SECOND - 1));

        let fastest = quota(1_000_000_000, 1, 1_000_000_000);
        let mut bucket = TokenBucket::new();
        bucket.take(&fastest, all(1_000_000_000), at_micros(0));
        let denied = bucket.take(&fastest, all(1), at_micros(0));
        assert_eq!((denied.retry_after, denied.reset_after.as_micros()), (wait(1), 1_000));
        let all_but_one = bucket.take(&fastest, all(999_999_999), at_micros(1_000));
        assert_eq!((all_but_one.granted, all_but_one.remaining), (999_999_999, 1));
    }

    #[test]
    fn a_partial_call_takes_what_there_is_and_waits_for_the_rest() {
        let (limit, mut bucket) = (quota(10, 1_000, 10), TokenBucket::new());
        let partial = bucket.take(&limit, Demand::up_to(units(12)), at_secs(0));
        assert_eq!((partial.granted, partial.remaining), (10, 0));
        assert_eq!(partial.retry_after, wait(SECOND / 5));
        let nothing = bucket.take(&limit, Demand::up_to(units(10)), at_secs(0));
        assert_eq!((nothing.granted, nothing.retry_after), (0, wait(SECOND)));
    }

    #[test]
    fn more_than_the_capacity_is_never_granted() {
        let (limit, mut bucket) = (quota(10, 1_000, 5), TokenBucket::new());
        let denied = bucket.take(&limit, all(6), at_secs(0));
        assert_eq!((denied.granted, denied.remaining), (0, 5));
        assert_eq!((denied.retry_after, denied.reset_after), (RetryAfter::Never, Duration::ZERO));
    }

    #[test]
    fn an_upgrade_keeps_what_was_used() {
        let mut bucket = TokenBucket::new();
        bucket.take(&quota(100, 60_000, 100), all(100), at_secs(0));
        let upgraded = quota(1_000, 60_000, 1_000);
        assert_eq!(bucket.peek(&upgraded, units(900), at_secs(0)).granted, 900);
        assert_eq!(bucket.peek(&upgraded, units(901), at_secs(0)).granted, 0);
    }

    #[test]
    fn a_downgrade_waits_until_use_is_below_the_new_capacity() {
        let mut bucket = TokenBucket::new();
        bucket.take(&quota(100, 1_000, 100), all(100), at_secs(0));
        let denied = bucket.take(&quota(10, 1_000, 10), all(1), at_secs(0));
        assert_eq!((denied.remaining, denied.retry_after), (0, wait(91 * SECOND / 10)));
    }

    #[test]
    fn a_refund_gives_back_whole_units_only() {
        let (limit, mut bucket) = (quota(1, 1_000, 10), TokenBucket::new());
        bucket.take(&limit, all(3), at_secs(0));
        let refund = bucket.refund(units(5), at_micros(500_000));
        assert_eq!((refund.refunded, refund.reset_after.as_micros()), (2, SECOND / 2));
        assert_eq!(bucket.refund(units(5), at_micros(500_000)).refunded, 0);
        let whole = bucket.peek(&limit, units(10), at_secs(1));
        assert_eq!((whole.granted, whole.reset_after), (10, Duration::ZERO));
    }

    #[test]
    fn a_refund_that_makes_the_bucket_whole_says_so() {
        let (limit, mut bucket) = (quota(1, 1_000, 10), TokenBucket::new());
        bucket.take(&limit, all(3), at_secs(0));
        let refund = bucket.refund(units(3), at_secs(0));
        assert_eq!(refund, Refund { refunded: 3, reset_after: Duration::ZERO });
    }

    /// A bucket of which 1 6999/7000 units are used in windows of 7 ms, and the time of that.
    fn bucket_with_sevenths() -> (TokenBucket, Instant) {
        let (limit, mut bucket) = (quota(1, 7, 3), TokenBucket::new());
        bucket.take(&limit, all(1), at_micros(0));
        bucket.take(&limit, all(1), at_micros(1));
        (bucket, at_micros(1))
    }

    #[test]
    fn one_change_of_window_waits_as_long_as_the_exact_fraction() {
        let (bucket, now) = bucket_with_sevenths();
        for (limit, millis, micros) in [(1, 1, 2_000), (10, 1, 200), (1, 1_000_000, 1_999_857_143)]
        {
            let limit = quota(limit, millis, 3);
            assert_eq!(bucket.peek(&limit, units(3), now).retry_after, wait(micros));
        }
    }

    #[test]
    fn a_second_change_of_window_waits_at_most_a_microsecond_too_long() {
        let (mut bucket, now) = bucket_with_sevenths();
        bucket.take(&quota(1, 1, 3), all(1), now);
        // 6999/7000 of a unit are to drain, at the slowest rate that there is.
        let denied = bucket.take(&quota(1, 31_622_400_000, 3), all(1), now);
        let exact = 31_617_882_514_286;
        assert!([wait(exact), wait(exact + 1)].contains(&denied.retry_after), "{denied:?}");
    }

    #[test]
    fn a_state_up_to_a_window_ahead_waits_for_the_clock() {
        let (limit, mut bucket) = (quota(1, 1_000, 3), TokenBucket::new());
        bucket.take(&limit, all(3), at_secs(100));
        let denied = bucket.take(&limit, all(1), at_secs(99));
        assert_eq!((denied.granted, denied.retry_after), (0, wait(2 * SECOND)));
        assert_eq!(bucket.refund(units(1), at_secs(99)).reset_after.as_micros(), 3 * SECOND);
        assert_eq!(bucket.time, at_secs(100));
    }

    #[test]
    fn a_state_from_more_than_a_window_ahead_drains_by_the_distance() {
        let (limit, mut bucket) = (quota(1, 1_000, 3), TokenBucket::new());
        bucket.take(&limit, all(3), at_secs(100));
        let granted = bucket.take(&limit, all(1), at_micros(98_999_999));
        assert_eq!((granted.granted, granted.remaining), (1, 0));
        assert_eq!(bucket.time, at_micros(98_999_999));
    }

    #[test]
    fn a_wait_counts_the_way_back_to_a_state_from_far_ahead() {
        let (limit, mut bucket) = (quota(1, 1_000, 10), TokenBucket::new());
        bucket.take(&limit, all(10), at_secs(100));

        // Five windows ahead: five units have drained, but the next call will find fewer drained.
        let denied = bucket.take(&limit, all(6), at_secs(95));
        assert_eq!((denied.granted, denied.remaining), (0, 5));
        assert_eq!(denied.retry_after, wait(11 * SECOND));
        assert_eq!(denied.reset_after.as_micros(), 15 * SECOND);
        assert_eq!(bucket.peek(&limit, units(6), at_secs(105)).granted, 0);
        assert_eq!(bucket.peek(&limit, units(6), at_secs(106)).granted, 6);
    }

    #[test]
    fn a_state_takes_32_bytes() {
        assert_eq!(size_of::<TokenBucket>(), 32);
    }
}
