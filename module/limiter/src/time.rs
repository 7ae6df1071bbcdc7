//! Instants and durations, in microseconds, and the only places where time is rounded.

use core::num::NonZeroU64;

use crate::limits::Window;

/// A point in time: microseconds since the Unix epoch, at most [`Instant::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// The epoch itself, and the earliest instant there is.
    pub const EPOCH: Self = Self(0);

    /// 2^62 microseconds, some 146,000 years after the epoch: far enough that no clock reaches it,
    /// and near enough that adding any window to it still fits into 64 bits.
    pub const MAX: Self = Self(1 << 62);

    /// The instant `micros` microseconds after the epoch, or [`Instant::MAX`] if that is later.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        if micros > Self::MAX.0 { Self::MAX } else { Self(micros) }
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Microseconds from `earlier` to this instant, 0 if `earlier` is in fact later.
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This instant moved later by `micros`, at most to [`Instant::MAX`].
    #[must_use]
    pub const fn plus_micros(self, micros: u64) -> Self {
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// The instant one window earlier, or `None` if that is before the epoch.
    pub(crate) const fn checked_sub(self, window: Window) -> Option<Self> {
        match self.0.checked_sub(window.as_micros()) {
            Some(micros) => Some(Self(micros)),
            None => None,
        }
    }

    /// The number of the tick of that length in which this instant lies.
    pub(crate) fn tick(self, tick_micros: NonZeroU64) -> u64 {
        self.0 / tick_micros
    }

    /// The Unix time in milliseconds at which a key that is needed for `lifetime` more expires.
    ///
    /// This instant is rounded down and the lifetime up, so that the time to live which a server
    /// shows within this millisecond is exactly the `reset_after` that the caller was told. A
    /// server removes a key when its clock has *passed* the expiry, that is a whole millisecond
    /// later, so the key never goes early. At most 2^62, which leaves servers room to calculate.
    #[must_use]
    pub const fn expiry_millis(self, lifetime: Duration) -> u64 {
        const MAX: u64 = 1 << 62;
        let expiry = (self.0 / 1_000).saturating_add(lifetime.ceil_millis().unsigned_abs());
        if expiry > MAX { MAX } else { expiry }
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

    /// A duration of `micros` microseconds.
    #[must_use]
    pub const fn from_micros(micros: u128) -> Self {
        Self(micros)
    }

    /// The whole duration in microseconds.
    #[must_use]
    pub const fn as_micros(self) -> u128 {
        self.0
    }

    /// The duration in milliseconds, rounded up so that whoever waits as told has waited enough;
    /// `i64::MAX` (292 million years) for anything longer than that.
    #[must_use]
    pub const fn ceil_millis(self) -> i64 {
        // Nearly every duration fits into 64 bits, where dividing is cheap.
        if self.0 <= u64::MAX as u128 {
            return (self.0 as u64).div_ceil(1_000).cast_signed();
        }
        let millis = self.0.div_ceil(1_000);
        if millis > i64::MAX as u128 { i64::MAX } else { millis as i64 }
    }
}
