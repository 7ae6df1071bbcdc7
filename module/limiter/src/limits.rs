//! What a caller may ask for: each value is checked once, here, and cannot be wrong afterwards.

use core::num::{NonZeroU32, NonZeroU64};

/// A number of units that is at least 1: a limit, a capacity, a cost or an amount to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Units(NonZeroU32);

impl Units {
    /// One unit.
    pub const MIN: Self = Self(NonZeroU32::MIN);
    /// A billion units.
    pub const MAX: Self = match NonZeroU32::new(1_000_000_000) {
        Some(units) => Self(units),
        None => Self::MIN,
    };

    /// `units` as a count, or `None` unless it is between [`Units::MIN`] and [`Units::MAX`].
    #[must_use]
    pub fn new(units: u64) -> Option<Self> {
        if units > Self::MAX.get() as u64 {
            return None;
        }
        NonZeroU32::new(units as u32).map(Self)
    }

    /// The count as a plain number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    pub(crate) const fn nonzero(self) -> NonZeroU32 {
        self.0
    }
}

/// The time over which a limit is counted: whole milliseconds from 1 ms to 366 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window(NonZeroU64);

impl Window {
    /// One millisecond.
    pub const MIN: Self = match Self::from_millis(1) {
        Some(window) => window,
        None => Self(NonZeroU64::MAX),
    };
    /// 366 days.
    pub const MAX: Self = match Self::from_millis(Self::MAX_MILLIS) {
        Some(window) => window,
        None => Self::MIN,
    };
    const MAX_MILLIS: u64 = 366 * 24 * 60 * 60 * 1_000;

    /// A window of `millis` milliseconds, or `None` unless that is between [`Window::MIN`] and
    /// [`Window::MAX`].
    #[must_use]
    pub const fn from_millis(millis: u64) -> Option<Self> {
        if millis > Self::MAX_MILLIS {
            return None;
        }
        match NonZeroU64::new(millis.saturating_mul(1_000)) {
            Some(micros) => Some(Self(micros)),
            None => None,
        }
    }

    /// The window in milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0.get() / 1_000
    }

    /// The window in microseconds, at most 2^45.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0.get()
    }

    pub(crate) const fn nonzero_micros(self) -> NonZeroU64 {
        self.0
    }
}

/// What a token bucket allows: `limit` units per `window`, and at most `capacity` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketLimit {
    /// Units that come back in each window.
    pub limit: Units,
    /// The time in which `limit` units come back.
    pub window: Window,
    /// The most units that can be taken at once, when the bucket is full.
    pub capacity: Units,
}

impl BucketLimit {
    /// `limit` units per `window`, all of which can be taken at once.
    #[must_use]
    pub const fn new(limit: Units, window: Window) -> Self {
        Self { limit, window, capacity: limit }
    }
}

/// What a sliding window log allows: `limit` units in any interval as long as `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimit {
    /// The most units in any interval as long as the window.
    pub limit: Units,
    /// The length of that interval.
    pub window: Window,
}

/// What one call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Units asked for.
    pub cost: Units,
    /// Whether the call takes what there is when that is less than `cost`, instead of nothing.
    pub partial: bool,
}

impl Demand {
    /// All of `cost` or nothing.
    #[must_use]
    pub const fn all(cost: Units) -> Self {
        Self { cost, partial: false }
    }

    /// As much of `cost` as there is.
    #[must_use]
    pub const fn up_to(cost: Units) -> Self {
        Self { cost, partial: true }
    }

    /// What is granted of this demand when `available` units could be taken.
    pub(crate) fn granted_of(self, available: u32) -> u32 {
        match self.cost.get() {
            cost if cost <= available => cost,
            _ if self.partial => available,
            _ => 0,
        }
    }

    /// Units that a call waits for after it was granted so many: the rest, and only the first one
    /// if the call would have taken any number of units and there was none.
    pub(crate) fn missing_after(self, granted: u32) -> u32 {
        match granted {
            0 if self.partial => 1,
            _ => self.cost.get().saturating_sub(granted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_between_one_and_a_billion() {
        for (units, valid) in
            [(0, false), (1, true), (1_000_000_000, true), (1_000_000_001, false), (1 << 32, false)]
        {
            assert_eq!(Units::new(units).is_some(), valid, "{units}");
        }
        assert_eq!((Units::MIN.get(), Units::MAX.get()), (1, 1_000_000_000));
    }

    #[test]
    fn windows_are_between_a_millisecond_and_366_days() {
        for (millis, valid) in
            [(0, false), (1, true), (31_622_400_000, true), (31_622_400_001, false)]
        {
            assert_eq!(Window::from_millis(millis).is_some(), valid, "{millis}");
        }
        assert_eq!(Window::from_millis(u64::MAX), None);
        assert_eq!((Window::MIN.as_millis(), Window::MAX.as_millis()), (1, 31_622_400_000));
    }
}
