//! Instants and durations, in microseconds, and the only places where time is rounded.

use core::num::NonZeroU64;

use crate::limits::Window;
use crate::math::Exact;

/// A point in time: microseconds since the Unix epoch, at most [`Instant::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// The epoch itself, and the earliest instant there is.
    pub const EPOCH: Self = Self(0);

    /// 2^62 microseconds, some 146,000 years after the epoch: far enough that no clock reaches it,
    /// and near enough that adding any window to it still fits into 64 bits.
    pub const MAX: Self = Self(1 << 62);

    /// A mark that is later than every instant, for a field whose instant can be unknown.
    pub(crate) const AFTER_MAX: Self = Self(u64::MAX);

    /// Returns the instant `micros` microseconds after the epoch, at most [`Instant::MAX`].
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        if micros > Self::MAX.0 { Self::MAX } else { Self(micros) }
    }

    /// Returns microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns microseconds from `earlier` to this instant, or 0 if `earlier` is later.
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the instant `micros` microseconds later, at most [`Instant::MAX`].
    #[must_use]
    pub const fn plus_micros(self, micros: u64) -> Self {
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// Returns the instant one window earlier, or `None` if that is before the epoch.
    pub(crate) const fn checked_sub(self, window: Window) -> Option<Self> {
        match self.0.checked_sub(window.as_micros()) {
            Some(micros) => Some(Self(micros)),
            None => None,
        }
    }

    /// Returns the number of the tick of that length in which this instant lies.
    pub(crate) fn tick(self, tick_micros: NonZeroU64) -> u64 {
        self.0 / tick_micros
    }

    /// Returns the expiry, in Unix milliseconds, of a key that is needed for `lifetime` more.
    ///
    /// Rounded up, so that the key is never removed while it is needed: some servers remove a key
    /// when their clock, in whole milliseconds, has reached the expiry (Redis 8 does so in the
    /// background), others when it has passed it. At most 2^62, which leaves servers room to
    /// calculate.
    #[must_use]
    pub fn expiry_millis(self, lifetime: Duration) -> u64 {
        const MAX: u64 = 1 << 62;
        // A caller can pass any lifetime, so that the sum saturates.
        let end = lifetime.0.saturating_add(u128::from(self.0));
        // Nearly every instant fits into 63 bits, where calculating is cheap.
        if end < 1 << 63 {
            return (end as u64).plus(999) / 1_000;
        }
        let expiry = end.div_ceil(1_000);
        if expiry > MAX as u128 { MAX } else { expiry as u64 }
    }
}

/// A length of time in microseconds.
///
/// 128 bits wide because the longest wait, a billion units at one unit in 366 days, takes 2^75
/// microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(u128);

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Returns a duration of `micros` microseconds.
    #[must_use]
    pub const fn from_micros(micros: u128) -> Self {
        Self(micros)
    }

    /// Returns the duration in microseconds.
    #[must_use]
    pub const fn as_micros(self) -> u128 {
        self.0
    }

    /// Returns the duration in milliseconds for replies: rounded up, so that a caller that waits
    /// this long waits long enough, and at most [`Duration::MAX_MILLIS`].
    #[must_use]
    pub fn ceil_millis(self) -> i64 {
        const LONGEST: u128 = Duration::MAX_MILLIS.unsigned_abs() as u128 * 1_000;
        if self.0 > LONGEST {
            return Self::MAX_MILLIS;
        }
        ((self.0 as u64).plus(999) / 1_000).cast_signed()
    }

    /// Returns the duration in milliseconds as a reply to the holder of a lease: rounded down, so
    /// that a holder never relies on a lease that has ended, and at most [`Duration::MAX_MILLIS`].
    #[must_use]
    pub fn floor_millis(self) -> i64 {
        const LONGEST: u128 = Duration::MAX_MILLIS.unsigned_abs() as u128;
        ((self.0 / 1_000).min(LONGEST) as u64).cast_signed()
    }

    /// The longest time in a reply, some 285,000 years: 2^53 - 1 milliseconds, the largest integer
    /// up to which Lua, JavaScript and JSON represent every integer.
    pub const MAX_MILLIS: i64 = (1 << 53) - 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_end_where_a_window_more_still_fits() {
        assert_eq!(Instant::from_micros(u64::MAX), Instant::MAX);
        assert_eq!(Instant::MAX.plus_micros(u64::MAX), Instant::MAX);
        assert_eq!(Instant::MAX.as_micros(), 1 << 62);
        assert_eq!(Instant::EPOCH.micros_since(Instant::MAX), 0);
        assert_eq!(Instant::MAX.micros_since(Instant::EPOCH), 1 << 62);
    }

    #[test]
    fn nothing_is_a_window_before_the_first_window_is_over() {
        let early = Instant::from_micros(999);
        assert_eq!(early.checked_sub(Window::MIN), None);
        let later = Instant::from_micros(1_000);
        assert_eq!(later.checked_sub(Window::MIN), Some(Instant::EPOCH));
    }

    #[test]
    fn milliseconds_are_rounded_up() {
        let longest = 9_007_199_254_740_991_000;
        for (micros, millis) in [
            (0, 0),
            (1, 1),
            (999, 1),
            (1_000, 1),
            (1_001, 2),
            (longest - 1_000, Duration::MAX_MILLIS - 1),
            (longest - 999, Duration::MAX_MILLIS),
            (longest, Duration::MAX_MILLIS),
            (longest + 1, Duration::MAX_MILLIS),
            (u128::from(u64::MAX), Duration::MAX_MILLIS),
            (u128::from(u64::MAX) + 1, Duration::MAX_MILLIS),
            (u128::MAX, Duration::MAX_MILLIS),
        ] {
            assert_eq!(Duration::from_micros(micros).ceil_millis(), millis, "{micros}");
        }
    }

    #[test]
    fn the_end_of_a_lease_is_rounded_down() {
        for (micros, millis) in [(0, 0), (999, 0), (1_000, 1), (1_999, 1)] {
            assert_eq!(Duration::from_micros(micros).floor_millis(), millis, "{micros}");
        }
        assert_eq!(Duration::from_micros(u128::MAX).floor_millis(), Duration::MAX_MILLIS);
    }

    #[test]
    fn a_key_expires_less_than_a_millisecond_late_and_never_early() {
        for (now, lifetime, expiry) in [
            (0, 1, 1),
            (999, 1, 1),
            (1_000, 1_000, 2),
            (1_999, 1_000, 3),
            (1_999, 1_001, 3),
            (1_999, 1_002, 4),
            (10_700, 1_500, 13),
        ] {
            let whole_at = now + lifetime;
            let lifetime = Duration::from_micros(u128::from(lifetime));
            assert_eq!(Instant::from_micros(now).expiry_millis(lifetime), expiry);
            let reached_at = expiry * 1_000;
            assert!((whole_at..whole_at + 1_000).contains(&reached_at), "{reached_at}");
        }
    }

    #[test]
    fn an_expiry_leaves_room_to_calculate() {
        let longest = Duration::from_micros(u128::MAX);
        assert_eq!(Instant::MAX.expiry_millis(longest), 1 << 62);
        assert_eq!(Instant::EPOCH.expiry_millis(longest), 1 << 62);
        // Longer than any time that callers are answered, and exact all the same.
        let lifetime = Duration::from_micros(1 << 70);
        assert_eq!(Instant::from_micros(1).expiry_millis(lifetime), 1_180_591_620_717_411_304);
    }

    #[test]
    fn ticks_are_counted_from_the_epoch() {
        let tick = NonZeroU64::new(20).unwrap();
        for (micros, number) in [(0, 0), (19, 0), (20, 1), (39, 1), (40, 2)] {
            assert_eq!(Instant::from_micros(micros).tick(tick), number);
        }
    }
}
