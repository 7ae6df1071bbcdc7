//! The units of time of Envoy's limits.

use calendar::CalendarUnit;
use limiter::Window;
use store::{Millis, QuotaRule};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
/// The month of Envoy's headers.
const MONTH: u64 = 30 * DAY;
/// The year of Envoy's headers.
const YEAR: u64 = 365 * DAY;

/// A unit of time. The numbers are those of `RateLimitUnit` and of `RateLimitResponse.RateLimit.Unit`,
/// which are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(i32)]
pub enum TimeUnit {
    /// No unit has the length of the window.
    #[default]
    Unknown = 0,
    /// A second.
    Second = 1,
    /// A minute.
    Minute = 2,
    /// An hour.
    Hour = 3,
    /// A day.
    Day = 4,
    /// A month.
    Month = 5,
    /// A year.
    Year = 6,
    /// A week.
    Week = 7,
}

impl TimeUnit {
    /// Every unit with a length.
    pub const ALL: [Self; 7] =
        [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// Returns the unit with this number, and [`TimeUnit::Unknown`] for any other number.
    #[must_use]
    pub fn from_number(number: i32) -> Self {
        Self::ALL.into_iter().find(|unit| *unit as i32 == number).unwrap_or_default()
    }

    /// Returns the window of a limit of this unit, or `None` for [`TimeUnit::Unknown`]. A month has 30
    /// days and a year 365, as in the headers that Envoy writes.
    #[must_use]
    pub const fn window(self) -> Option<Window> {
        Window::from_millis(self.millis())
    }

    const fn millis(self) -> u64 {
        match self {
            Self::Unknown => 0,
            Self::Second => SECOND,
            Self::Minute => MINUTE,
            Self::Hour => HOUR,
            Self::Day => DAY,
            Self::Week => WEEK,
            Self::Month => MONTH,
            Self::Year => YEAR,
        }
    }

    /// Returns the unit that equals the windows of a quota. `window` is the length of the present one.
    #[must_use]
    pub fn of(quota: &QuotaRule, window: Option<Millis>) -> Self {
        if let QuotaRule::Calendar { calendar, .. } = quota {
            // Days, months and years of a calendar differ in length.
            return match calendar.unit() {
                CalendarUnit::Day(_) => Self::Day,
                CalendarUnit::Week(_) => Self::Week,
                CalendarUnit::Month { .. } => Self::Month,
                CalendarUnit::Year { .. } => Self::Year,
            };
        }
        let same = |unit: &Self| window == Some(Millis(unit.millis()));
        Self::ALL.into_iter().find(same).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use calendar::{Calendar, Unit};
    use limiter::{Algorithm, Quota, Units, Window};
    use store::{Millis, QuotaRule};

    use super::TimeUnit;

    fn length(millis: u64) -> TimeUnit {
        let window = Window::from_millis(millis).unwrap();
        let quota = Quota::new(Algorithm::SlidingWindow, Units::MIN, window).into();
        TimeUnit::of(&quota, Some(Millis(millis)))
    }

    #[test]
    fn a_unit_has_one_window_and_any_other_window_has_none() {
        for unit in TimeUnit::ALL {
            let window = unit.window().unwrap().as_millis();
            assert_eq!(length(window), unit);
            assert_eq!(length(window + 1), TimeUnit::Unknown);
            assert_eq!(TimeUnit::from_number(unit as i32), unit);
        }
        assert_eq!(length(15 * 60_000), TimeUnit::Unknown);
        assert_eq!(TimeUnit::Unknown.window(), None);
        for number in [i32::MIN, -1, 0, 8] {
            assert_eq!(TimeUnit::from_number(number), TimeUnit::Unknown);
        }
    }

    #[test]
    fn a_window_of_the_calendar_is_its_unit_however_long_it_is() {
        for (unit, expected) in [
            (Unit::Day, TimeUnit::Day),
            (Unit::Week, TimeUnit::Week),
            (Unit::Month, TimeUnit::Month),
            (Unit::Year, TimeUnit::Year),
        ] {
            let calendar = Calendar::in_utc(unit.with_usual_start());
            let quota = QuotaRule::Calendar { limit: Units::MIN, calendar };
            assert_eq!(TimeUnit::of(&quota, Some(Millis(23 * 3_600_000))), expected);
        }
    }
}
