//! Limits and requests. Each value is checked once, here, and is within its bounds afterwards.

use core::num::{NonZeroU32, NonZeroU64};

use crate::math::Exact;

/// A number of units that is at least 1: a limit, a capacity, a cost or an amount to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Units(NonZeroU32);

impl Units {
    /// One unit.
    pub const MIN: Self = Self(NonZeroU32::MIN);
    /// A billion units.
    pub const MAX: Self = Self(NonZeroU32::new(1_000_000_000).unwrap());

    /// Returns `units` as a count, or `None` unless it is between [`Units::MIN`] and
    /// [`Units::MAX`].
    #[must_use]
    pub const fn new(units: u64) -> Option<Self> {
        if units > Self::MAX.get() as u64 {
            return None;
        }
        match NonZeroU32::new(units as u32) {
            Some(units) => Some(Self(units)),
            None => None,
        }
    }

    /// Returns the count as a plain number.
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
    pub const MIN: Self = Self::from_millis(1).unwrap();
    /// 366 days.
    pub const MAX: Self = Self::from_millis(Self::MAX_MILLIS).unwrap();
    const MAX_MILLIS: u64 = 366 * 24 * 60 * 60 * 1_000;

    /// Returns a window of `millis` milliseconds, or `None` unless that is between [`Window::MIN`]
    /// and [`Window::MAX`].
    #[must_use]
    pub const fn from_millis(millis: u64) -> Option<Self> {
        if millis > Self::MAX_MILLIS {
            return None;
        }
        // At most 2^45, so that the product fits.
        match NonZeroU64::new(millis.wrapping_mul(1_000)) {
            Some(micros) => Some(Self(micros)),
            None => None,
        }
    }

    /// Returns the window in milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0.get() / 1_000
    }

    /// Returns the window in microseconds, at most 2^45.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0.get()
    }

    pub(crate) const fn nonzero_micros(self) -> NonZeroU64 {
        self.0
    }

    /// Returns the window of [`Window::nonzero_micros`].
    pub(crate) const fn from_nonzero_micros(micros: NonZeroU64) -> Self {
        Self(micros)
    }
}

/// The units that callers may take: `limit` per `window`, and at most `capacity` at once.
///
/// A token bucket uses all three. A sliding window log grants `limit` units in any interval as long
/// as `window`, and ignores `capacity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Units per window.
    pub limit: Units,
    /// The time over which `limit` is counted.
    pub window: Window,
    /// The most units that can be taken at once.
    pub capacity: Units,
}

impl Limit {
    /// Returns a limit of `limit` units per `window`, all of which can be taken at once.
    #[must_use]
    pub const fn new(limit: Units, window: Window) -> Self {
        Self { limit, window, capacity: limit }
    }
}

/// The rule for a call that asks for more units than are available.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The call takes all units that it asks for, or none.
    #[default]
    All,
    /// The call takes the available units when those are fewer than it asks for.
    Partial,
    /// The call takes all units that it asks for, also when fewer are available. More than the
    /// capacity can then be used, up to [`MAX_USED`].
    Force,
}

/// The most units that can be used at once: a capacity, and the debt beyond it.
pub const MAX_USED: u32 = u32::MAX;

/// The units that one call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The requested units.
    pub cost: Units,
    /// The units that the call takes when fewer than `cost` are available.
    pub mode: Mode,
}

impl Request {
    /// Returns a request for all of `cost` or nothing.
    #[must_use]
    pub const fn all(cost: Units) -> Self {
        Self { cost, mode: Mode::All }
    }

    /// Returns a request for as much of `cost` as is available.
    #[must_use]
    pub const fn partial(cost: Units) -> Self {
        Self { cost, mode: Mode::Partial }
    }

    /// Returns a request for all of `cost`, whatever is available.
    #[must_use]
    pub const fn force(cost: Units) -> Self {
        Self { cost, mode: Mode::Force }
    }

    /// Returns the units that are granted of this request when `available` units can be taken;
    /// `used` returns the units in use, any part of a unit as a whole one.
    #[inline(always)]
    pub(crate) fn granted_of(self, available: u32, used: impl FnOnce() -> u32) -> u32 {
        match (self.cost.get(), self.mode) {
            (cost, _) if cost <= available => cost,
            (_, Mode::All) => 0,
            (_, Mode::Partial) => available,
            (cost, Mode::Force) => cost.min(MAX_USED.minus(used())),
        }
    }

    /// Returns the units that a call waits for after it was granted `granted`: the rest of its
    /// cost, or only the first unit if the call takes any number of units and none was available.
    #[inline(always)]
    pub(crate) fn missing_after(self, granted: u32) -> Missing {
        let units = match (granted, self.mode) {
            (0, Mode::Partial) => 1,
            _ => self.cost.get().minus(granted),
        };
        Missing { units, is_forced: self.mode == Mode::Force }
    }
}

/// The units that a call waits for.
#[derive(Clone, Copy)]
pub(crate) struct Missing {
    units: u32,
    is_forced: bool,
}

impl Missing {
    pub(crate) const NOTHING: Self = Self { units: 0, is_forced: false };

    #[inline(always)]
    pub(crate) fn is_nothing(self) -> bool {
        self.units == 0
    }

    /// Returns the most units that may be used for the missing ones to be taken: they then are at
    /// most the capacity, or with [`Mode::Force`] at most [`MAX_USED`]. Returns `None` if no wait
    /// helps.
    #[inline(always)]
    pub(crate) fn room(self, capacity: Units) -> Option<u32> {
        let most = if self.is_forced { MAX_USED } else { capacity.get() };
        most.checked_sub(self.units)
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
