//! Windows that return at known instants: fixed lengths, and days, weeks, months and years of UTC.
//!
//! ```text
//!  ──┬─────────┬─────────┬─────────┬──▶ time
//!    begin     end = begin of the next window
//! ```
//!
//! Every window counts from its begin until just before its end, both whole milliseconds. The
//! windows of one [`Period`] follow each other without a gap, so that each instant lies in exactly
//! one of them.
//!
//! Dates are those of the proleptic Gregorian calendar. A day is converted to a date and back as
//! by Hinnant (chrono-Compatible Low-Level Date Algorithms, 2013): years are counted from March, so
//! that a leap day is the last day of its year, and in eras of 400 years, which all have 146,097
//! days. Every operation has a constant cost: a few integer divisions.

use crate::limits::Window;
use crate::math::Exact;
use crate::time::Instant;

/// The begin and the end of one window, in milliseconds since the epoch.
///
/// A window is 1 ms to 366 days long, and ends at [`Bounds::MAX_MILLIS`] at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    begin: u64,
    end: u64,
}

impl Bounds {
    /// 2^48 - 1, in the year 10889: the largest number of milliseconds that fits into six bytes.
    pub const MAX_MILLIS: u64 = (1 << 48) - 1;

    /// Returns the window with these bounds in milliseconds, or `None` unless it is 1 ms to 366
    /// days long and ends at [`Bounds::MAX_MILLIS`] at the latest.
    #[must_use]
    pub fn from_millis(begin: u64, end: u64) -> Option<Self> {
        let _length = Window::from_millis(end.checked_sub(begin)?)?;
        (end <= Self::MAX_MILLIS).then_some(Self { begin, end })
    }

    /// The begin, in milliseconds since the epoch.
    #[must_use]
    pub const fn begin_millis(self) -> u64 {
        self.begin
    }

    /// The end, in milliseconds since the epoch: the first one that is not in the window.
    #[must_use]
    pub const fn end_millis(self) -> u64 {
        self.end
    }

    /// The begin as an instant.
    pub(crate) fn begin(self) -> Instant {
        Instant::from_micros(self.begin.times(1_000))
    }

    /// The end as an instant.
    pub(crate) fn end(self) -> Instant {
        Instant::from_micros(self.end.times(1_000))
    }

    /// Returns whether an instant lies in the window.
    #[must_use]
    pub fn contains(self, now: Instant) -> bool {
        let millis = millis_of(now);
        self.begin <= millis && millis < self.end
    }

    /// Returns the window with this begin and this length. A begin before the epoch and an end
    /// after [`Bounds::MAX_MILLIS`] are cut off.
    fn around(millis: u64, since_begin: u64, length: u64) -> Self {
        let end = millis.plus(length).minus(since_begin).min(Self::MAX_MILLIS);
        // Saturating, as the window that contains the epoch may begin before it.
        Self { begin: millis.saturating_sub(since_begin), end }
    }

    /// Returns the window of whole days from the first to just before the second of these.
    fn of_days(first: u64, next: u64) -> Self {
        Self { begin: first.times(DAY), end: next.times(DAY).min(Self::MAX_MILLIS) }
    }
}

/// A whole second from 1970 to 9999 at which a window of a fixed length begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor(u64);

impl Anchor {
    /// The epoch.
    pub const MIN: Self = Self(0);
    /// 9999-12-31T23:59:59Z.
    pub const MAX: Self = Self(253_402_300_799);

    /// Returns this Unix time as an anchor, or `None` if it is after [`Anchor::MAX`].
    #[must_use]
    pub const fn from_secs(secs: u64) -> Option<Self> {
        if secs > Self::MAX.0 { None } else { Some(Self(secs)) }
    }

    /// The Unix time in seconds.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }
}

/// The rule that lays the windows of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Windows of this length, one of which begins at the anchor.
    Length(Window, Anchor),
    /// Days of UTC.
    Day,
    /// Weeks of UTC, from Monday.
    Week,
    /// Months of UTC.
    Month,
    /// Years of UTC.
    Year,
    /// The one window that the caller has computed.
    Bounds(Bounds),
}

impl Period {
    /// Returns windows of this length, counted from the epoch.
    #[must_use]
    pub const fn every(length: Window) -> Self {
        Self::Length(length, Anchor::MIN)
    }

    /// The length of every window, or `None` if months or years differ in length.
    #[must_use]
    pub fn length(self) -> Option<Window> {
        match self {
            Self::Length(length, _) => Some(length),
            Self::Day => Window::from_millis(DAY),
            Self::Week => Window::from_millis(7 * DAY),
            Self::Month | Self::Year => None,
            Self::Bounds(Bounds { begin, end }) => Window::from_millis(end.minus(begin)),
        }
    }

    /// Returns the window that contains `now`, or `None` if the caller has given another one.
    ///
    /// From [`Bounds::MAX_MILLIS`] on, time stands still.
    #[must_use]
    #[inline(always)]
    pub fn bounds_at(self, now: Instant) -> Option<Bounds> {
        let millis = millis_of(now);
        Some(match self {
            Self::Length(length, anchor) => {
                let length = length.as_millis();
                let offset = match anchor {
                    Anchor::MIN => 0,
                    Anchor(secs) => length.minus(rest(secs.times(1_000), length)),
                };
                Bounds::around(millis, rest(millis.plus(offset), length), length)
            }
            Self::Day => Bounds::of_days(millis / DAY, (millis / DAY).plus(1)),
            Self::Week => {
                // The epoch is a Thursday: three days after a Monday.
                Bounds::around(millis, millis.plus(3 * DAY) % (7 * DAY), 7 * DAY)
            }
            Self::Month => {
                let Date { year, month } = Date::of_day(millis / DAY);
                let next = if month == 12 { (year.plus(1), 1) } else { (year, month.plus(1)) };
                Bounds::of_days(first_day(year, month), first_day(next.0, next.1))
            }
            Self::Year => {
                let Date { year, .. } = Date::of_day(millis / DAY);
                Bounds::of_days(first_day(year, 1), first_day(year.plus(1), 1))
            }
            Self::Bounds(bounds) => return Some(bounds).filter(|bounds| bounds.contains(now)),
        })
    }
}

/// Milliseconds in a day: UTC has no other days.
const DAY: u64 = 24 * 60 * 60 * 1_000;

/// The whole milliseconds since the epoch, before [`Bounds::MAX_MILLIS`].
fn millis_of(now: Instant) -> u64 {
    (now.as_micros() / 1_000).min(Bounds::MAX_MILLIS - 1)
}

/// The rest of a division by a length that is at least 1.
fn rest(millis: u64, length: u64) -> u64 {
    millis.checked_rem(length).unwrap_or(0)
}

/// A month of a year.
struct Date {
    year: u64,
    /// 1 to 12.
    month: u64,
}

/// Days from the first of March of the year 0 to the epoch.
const DAYS_TO_EPOCH: u64 = 719_468;
/// Days in 400 years.
const DAYS_PER_ERA: u64 = 146_097;

impl Date {
    /// Returns the month in which a day lies; day 0 is the first of January 1970.
    fn of_day(day: u64) -> Self {
        let day = day.plus(DAYS_TO_EPOCH);
        let (era, day_of_era) = (day / DAYS_PER_ERA, day % DAYS_PER_ERA);
        let leap_days = (day_of_era / 1_460).plus(day_of_era / 146_096);
        let year_of_era = day_of_era.plus(day_of_era / 36_524).minus(leap_days) / 365;
        let day_of_year = day_of_era.minus(days_in_years(year_of_era));
        let month = day_of_year.times(5).plus(2) / 153;
        let year = year_of_era.plus(era.times(400));
        // Months 10 and 11, counted from March, are January and February of the next year.
        match month {
            0..10 => Self { year, month: month.plus(3) },
            _ => Self { year: year.plus(1), month: month.minus(9) },
        }
    }
}

/// Returns the number of the first day of a month, not before the epoch.
fn first_day(year: u64, month: u64) -> u64 {
    let (year, month) =
        if month > 2 { (year, month.minus(3)) } else { (year.minus(1), month.plus(9)) };
    let day_of_year = month.times(153).plus(2) / 5;
    let day_of_era = days_in_years(year % 400).plus(day_of_year);
    (year / 400).times(DAYS_PER_ERA).plus(day_of_era).minus(DAYS_TO_EPOCH)
}

/// Days in the first so many years of an era, fewer than 400.
fn days_in_years(years: u64) -> u64 {
    years.times(365).plus(years / 4).minus(years / 100)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
