//! Windows of the calendar in a time zone: days, weeks, months and years.
//!
//! [`Unit`] reads the words of a file or of a request, and [`zone`] the name of a time zone. A
//! [`Calendar`] of both returns the window that contains a time.
//!
//! A window begins at a local time. Where a clock change skips that time, the window begins at the
//! change; where the time occurs twice, the window begins at the first occurrence. So each instant
//! is in exactly one window, and a day has 23 to 25 hours. The data of all time zones is a part of
//! the program.
//!
//! Nothing here reads a clock or a file.

#![forbid(unsafe_code)]

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};
use limiter::{Bounds, Instant, Period, Window};

/// The unit of a calendar window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A day.
    Day,
    /// A week.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// The unit of a calendar window and the local time at which it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalendarUnit {
    /// A day from this time.
    Day(Time),
    /// A week from this day.
    Week(Weekday),
    /// A month from this day, or from the last day of a shorter month.
    Month {
        /// 1 to 31.
        day: i8,
    },
    /// A year from this day, or from the last day of a shorter month.
    Year {
        /// 1 to 12.
        month: i8,
        /// 1 to 31.
        day: i8,
    },
}

/// Windows of the calendar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    unit: CalendarUnit,
    zone: TimeZone,
}

/// Returns the time zone of an IANA name from the data in the program. The name `Etc/Unknown`
/// stands for no zone.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok().filter(|zone| !zone.is_unknown())
}

/// Returns the names of all time zones.
#[must_use]
pub fn zone_names() -> Vec<String> {
    TimeZoneDatabase::bundled().available().map(|name| name.as_str().to_owned()).collect()
}

impl Calendar {
    /// Returns the windows of a unit in UTC.
    #[must_use]
    pub const fn in_utc(unit: CalendarUnit) -> Self {
        Self { unit, zone: TimeZone::UTC }
    }

    /// Returns the windows of a unit in a time zone.
    #[must_use]
    pub const fn new(unit: CalendarUnit, zone: TimeZone) -> Self {
        Self { unit, zone }
    }

    /// Returns the unit.
    #[must_use]
    pub const fn unit(&self) -> CalendarUnit {
        self.unit
    }

    /// Returns the rule by which the limiter lays the window that contains `now`, or `None` after
    /// the year 9998: the unit of UTC if the windows are those, otherwise the bounds.
    #[must_use]
    pub fn period(&self, now: Instant) -> Option<Period> {
        let period = match self.unit {
            _ if self.zone != TimeZone::UTC => None,
            CalendarUnit::Day(time) => (time == Time::midnight()).then_some(Period::Day),
            CalendarUnit::Week(first) => (first == Weekday::Monday).then_some(Period::Week),
            CalendarUnit::Month { day } => (day == 1).then_some(Period::Month),
            CalendarUnit::Year { month, day } => (month == 1 && day == 1).then_some(Period::Year),
        };
        period.or_else(|| self.window(now).map(Period::Bounds))
    }

    /// Returns the bounds of the window that contains `now`, or `None` after the year 9998. A begin
    /// before the epoch is cut off.
    ///
    /// A leap year in which the zone moves to the west has an hour more than 366 days, the longest window
    /// that Redis accepts. Such a year begins an hour later, and the year before it ends an hour later,
    /// so that no hour has a quota of its own.
    #[must_use]
    pub fn window(&self, now: Instant) -> Option<Bounds> {
        let now_ms = i64::try_from(now.as_micros() / 1_000).ok()?;
        let local = self.zone.to_datetime(Timestamp::from_millisecond(now_ms).ok()?).date();
        let mut number = self.number(local);
        let mut from_ms = self.start(number)?;
        while from_ms > now_ms {
            number -= 1;
            from_ms = self.start(number)?;
        }
        let mut until_ms = self.start(number + 1)?;
        while until_ms <= now_ms {
            number += 1;
            from_ms = until_ms;
            until_ms = self.start(number + 1)?;
        }
        Bounds::from_millis(from_ms.max(0).try_into().ok()?, until_ms.try_into().ok()?)
    }

    /// Returns the number of a window that begins on or shortly before or after `date`.
    fn number(&self, date: Date) -> i32 {
        let days = (date - Date::constant(1970, 1, 1)).get_days();
        match self.unit {
            CalendarUnit::Day(_) => days,
            CalendarUnit::Week(_) => days.div_euclid(7),
            CalendarUnit::Month { .. } => i32::from(date.year()) * 12 + i32::from(date.month()) - 1,
            CalendarUnit::Year { .. } => i32::from(date.year()),
        }
    }

    /// Returns the instant in milliseconds at which the window of this number begins.
    fn start(&self, number: i32) -> Option<i64> {
        let start = self.local_start(number)?;
        let CalendarUnit::Year { .. } = self.unit else { return Some(start) };
        // The last year of the calendar has no end.
        let Some(end) = self.local_start(number + 1) else { return Some(start) };
        let longest = i64::try_from(Window::MAX.as_millis()).ok()?;
        Some(start.max(end - longest))
    }

    /// Returns the instant in milliseconds of the local time at which the window of this number begins.
    fn local_start(&self, number: i32) -> Option<i64> {
        let epoch = Date::constant(1970, 1, 1);
        let at = match self.unit {
            CalendarUnit::Day(time) => epoch.checked_add(number.days()).ok()?.to_datetime(time),
            CalendarUnit::Week(first) => {
                // The epoch was a Thursday.
                let first = i32::from(first.since(Weekday::Thursday));
                midnight(epoch.checked_add((number * 7 + first).days()).ok()?)
            }
            CalendarUnit::Month { day } => {
                let year = i16::try_from(number.div_euclid(12)).ok()?;
                let month = i8::try_from(number.rem_euclid(12) + 1).ok()?;
                midnight(day_of_month(year, month, day)?)
            }
            CalendarUnit::Year { month, day } => {
                midnight(day_of_month(i16::try_from(number).ok()?, month, day)?)
            }
        };
        self.instant(at)
    }

    /// Returns the instant of a local time, the end of the gap if a clock change skips it.
    fn instant(&self, at: DateTime) -> Option<i64> {
        instant(&self.zone, at)
    }
}

fn midnight(date: Date) -> DateTime {
    date.to_datetime(Time::midnight())
}

fn day_of_month(year: i16, month: i8, day: i8) -> Option<Date> {
    let first = Date::new(year, month, 1).ok()?;
    Date::new(year, month, day.min(first.days_in_month())).ok()
}

/// Returns the instant of a local time in milliseconds: the first instant of a time that occurs
/// twice, and the instant of the clock change for a time that is skipped.
fn instant(zone: &TimeZone, at: DateTime) -> Option<i64> {
    let ambiguous = zone.to_ambiguous_timestamp(at);
    let timestamp = match ambiguous.offset() {
        // With the offset after the gap the instant is before the gap, so the next transition is
        // the gap.
        jiff::tz::AmbiguousOffset::Gap { after, .. } => {
            let before = after.to_timestamp(at).ok()?;
            zone.following(before).next()?.timestamp()
        }
        _ => ambiguous.compatible().ok()?,
    };
    Some(timestamp.as_millisecond())
}

/// Returns the end of a day in milliseconds: the first instant of the next day.
#[must_use]
pub fn end_of_day(zone: &TimeZone, date: Date) -> Option<i64> {
    instant(zone, midnight(date.tomorrow().ok()?))
}

impl Unit {
    /// Every unit.
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Year];

    /// Returns the word for the unit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// Returns the unit of a word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }

    /// Returns the unit with the usual start: midnight, Monday, or the first day.
    #[must_use]
    pub const fn with_usual_start(self) -> CalendarUnit {
        match self {
            Self::Day => CalendarUnit::Day(Time::midnight()),
            Self::Week => CalendarUnit::Week(Weekday::Monday),
            Self::Month => CalendarUnit::Month { day: 1 },
            Self::Year => CalendarUnit::Year { month: 1, day: 1 },
        }
    }

    /// Returns the unit with this start, or `None` if the start does not fit the unit.
    #[must_use]
    pub fn with_start(self, start: Start<'_>) -> Option<CalendarUnit> {
        match (self, start) {
            (Self::Day, Start::Text(text)) => {
                let (hour, minute) = two_numbers(text, ':')?;
                Some(CalendarUnit::Day(Time::new(hour, minute, 0, 0).ok()?))
            }
            (Self::Week, Start::Text(text)) => weekday(text).map(CalendarUnit::Week),
            (Self::Month, Start::Day(day @ 1..=31)) => Some(CalendarUnit::Month { day: day as i8 }),
            (Self::Year, Start::Text(text)) => {
                let (month, day) = two_numbers(text, '-')?;
                // A leap year has every date.
                let date = Date::new(2024, month, day).ok()?;
                Some(CalendarUnit::Year { month: date.month(), day: date.day() })
            }
            _ => None,
        }
    }

    /// Returns the accepted starts, for messages.
    #[must_use]
    pub const fn starts(self) -> &'static str {
        match self {
            Self::Day => "a time from \"00:00\" to \"23:59\"",
            Self::Week => "a day from `monday` to `sunday`",
            Self::Month => "a day from 1 to 31",
            Self::Year => "a date from \"01-01\" to \"12-31\"",
        }
    }
}

/// The start of a window as written.
#[derive(Clone, Copy, Debug)]
pub enum Start<'s> {
    /// A time, a day of the week, or a date.
    Text(&'s str),
    /// A day of the month.
    Day(u64),
}

fn two_numbers(text: &str, separator: char) -> Option<(i8, i8)> {
    let (first, second) = text.split_once(separator)?;
    let number = |digits: &str| {
        let two = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        two.then(|| digits.parse().ok()).flatten()
    };
    Some((number(first)?, number(second)?))
}

fn weekday(text: &str) -> Option<Weekday> {
    Some(match text {
        "monday" => Weekday::Monday,
        "tuesday" => Weekday::Tuesday,
        "wednesday" => Weekday::Wednesday,
        "thursday" => Weekday::Thursday,
        "friday" => Weekday::Friday,
        "saturday" => Weekday::Saturday,
        "sunday" => Weekday::Sunday,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(per: &str, start: Option<Start<'_>>) -> Option<CalendarUnit> {
        let unit = Unit::from_name(per)?;
        start.map_or(Some(unit.with_usual_start()), |start| unit.with_start(start))
    }

    fn window(per: &str, starts: Option<Start<'_>>, name: &str, now: &str) -> (String, String) {
        let calendar = Calendar::new(unit(per, starts).unwrap(), zone(name).unwrap());
        let now: Timestamp = now.parse().unwrap();
        let now = Instant::from_micros(now.as_microsecond().try_into().unwrap());
        let bounds = calendar.window(now).unwrap();
        let text =
            |ms: u64| Timestamp::from_millisecond(ms.try_into().unwrap()).unwrap().to_string();
        (text(bounds.begin_millis()), text(bounds.end_millis()))
    }

    #[test]
    fn a_day_of_a_clock_change_has_23_or_25_hours() {
        for (now, from, until) in [
            ("2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ("2026-10-25T00:30:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            ("2026-10-25T22:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            ("2026-10-25T23:00:00Z", "2026-10-25T23:00:00Z", "2026-10-26T23:00:00Z"),
        ] {
            let found = window("day", None, "Europe/Berlin", now);
            assert_eq!(found, (from.to_owned(), until.to_owned()), "{now}");
        }
    }

    #[test]
    fn a_window_that_begins_in_a_gap_begins_at_the_clock_change() {
        let starts = Some(Start::Text("02:30"));
        let found = window("day", starts, "Europe/Berlin", "2026-03-29T05:00:00Z");
        assert_eq!(found.0, "2026-03-29T01:00:00Z");
        // Midnight does not exist on this day.
        let found = window("day", None, "America/Sao_Paulo", "2018-11-04T12:00:00Z");
        assert_eq!(found.0, "2018-11-04T03:00:00Z");
        // This whole day does not exist.
        let found = window("day", None, "Pacific/Apia", "2011-12-30T10:00:00Z");
        assert_eq!(found.0, "2011-12-30T10:00:00Z");
    }

    #[test]
    fn windows_start_when_the_file_says() {
        let now = "2026-04-30T12:00:00Z";
        for (per, starts, from, until) in [
            ("day", Some(Start::Text("18:00")), "2026-04-29T18:00:00Z", "2026-04-30T18:00:00Z"),
            ("week", None, "2026-04-27T00:00:00Z", "2026-05-04T00:00:00Z"),
            ("week", Some(Start::Text("sunday")), "2026-04-26T00:00:00Z", "2026-05-03T00:00:00Z"),
            ("week", Some(Start::Text("friday")), "2026-04-24T00:00:00Z", "2026-05-01T00:00:00Z"),
            ("month", None, "2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z"),
            ("month", Some(Start::Day(15)), "2026-04-15T00:00:00Z", "2026-05-15T00:00:00Z"),
            ("month", Some(Start::Day(31)), "2026-04-30T00:00:00Z", "2026-05-31T00:00:00Z"),
            ("year", None, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("year", Some(Start::Text("04-01")), "2026-04-01T00:00:00Z", "2027-04-01T00:00:00Z"),
            ("year", Some(Start::Text("02-29")), "2026-02-28T00:00:00Z", "2027-02-28T00:00:00Z"),
        ] {
            let found = window(per, starts, "UTC", now);
            assert_eq!(found, (from.to_owned(), until.to_owned()), "{per} {starts:?}");
        }
    }

    #[test]
    fn a_start_must_fit_the_unit() {
        for (per, starts) in [
            ("day", Start::Text("24:00")),
            ("day", Start::Text("6:00")),
            ("day", Start::Day(6)),
            ("week", Start::Text("Monday")),
            ("week", Start::Day(1)),
            ("month", Start::Day(0)),
            ("month", Start::Day(32)),
            ("month", Start::Text("15")),
            ("year", Start::Text("02-30")),
            ("year", Start::Day(4)),
            ("hour", Start::Day(4)),
        ] {
            assert_eq!(unit(per, Some(starts)), None, "{per} {starts:?}");
        }
    }

    /// All units, with starts that meet clock changes and short months.
    fn units() -> [CalendarUnit; 8] {
        [
            CalendarUnit::Day(Time::midnight()),
            CalendarUnit::Day(Time::constant(2, 30, 0, 0)),
            CalendarUnit::Week(Weekday::Monday),
            CalendarUnit::Week(Weekday::Sunday),
            CalendarUnit::Month { day: 1 },
            CalendarUnit::Month { day: 31 },
            CalendarUnit::Year { month: 1, day: 1 },
            CalendarUnit::Year { month: 2, day: 29 },
        ]
    }

    #[test]
    fn windows_around_every_clock_change_of_every_zone_leave_no_gap_and_do_not_overlap() {
        let (first, last) = ("1970-01-02T00:00:00Z", "2100-01-01T00:00:00Z");
        let last: Timestamp = last.parse().unwrap();
        for name in zone_names() {
            let zone = zone(&name).unwrap();
            for change in zone.following(first.parse().unwrap()) {
                let at = change.timestamp();
                if at > last {
                    break;
                }
                for unit in units() {
                    let calendar = Calendar::new(unit, zone.clone());
                    check_around(&calendar, at.as_millisecond().try_into().unwrap(), &name);
                }
            }
        }
    }

    fn check_around(calendar: &Calendar, change_ms: u64, name: &str) {
        let at = |ms: u64| calendar.window(Instant::from_micros(ms * 1_000)).unwrap();
        for now in [change_ms - 1, change_ms, change_ms + 1] {
            let window = at(now);
            let (begin, end) = (window.begin_millis(), window.end_millis());
            assert!(begin <= now && now < end, "{name} {calendar:?} {now}");
            assert_eq!(at(end - 1), window, "{name} {calendar:?} {now}");
            assert_eq!(at(end).begin_millis(), end, "{name} {calendar:?} {now}");
            assert_eq!(at(begin), window, "{name} {calendar:?} {now}");
        }
    }

    #[test]
    fn a_leap_year_with_an_hour_more_begins_an_hour_later() {
        let found = window("year", None, "Asia/Almaty", "2024-07-01T00:00:00Z");
        assert_eq!(found, ("2023-12-31T19:00:00Z".to_owned(), "2024-12-31T19:00:00Z".to_owned()));
        let found = window("year", None, "Asia/Almaty", "2023-12-31T18:30:00Z");
        assert_eq!(found, ("2022-12-31T18:00:00Z".to_owned(), "2023-12-31T19:00:00Z".to_owned()));
        let starts = Some(Start::Text("10-30"));
        for (now, from, until) in [
            ("2027-10-29T22:30:00Z", "2026-10-29T23:00:00Z", "2027-10-29T23:00:00Z"),
            ("2027-10-29T23:30:00Z", "2027-10-29T23:00:00Z", "2028-10-29T23:00:00Z"),
        ] {
            let found = window("year", starts, "Europe/Berlin", now);
            assert_eq!(found, (from.to_owned(), until.to_owned()), "{now}");
        }
    }

    #[test]
    fn units_of_utc_are_those_of_the_limiter() {
        let now = Instant::from_micros(1_800_014_400_000_000);
        for (per, period) in [
            ("day", Period::Day),
            ("week", Period::Week),
            ("month", Period::Month),
            ("year", Period::Year),
        ] {
            let unit = unit(per, None).unwrap();
            let calendar = Calendar::in_utc(unit);
            assert_eq!(calendar.period(now), Some(period));
            assert_eq!(calendar.window(now), period.bounds_at(now));
            let berlin = Calendar::new(unit, zone("Europe/Berlin").unwrap());
            assert_eq!(berlin.period(now), berlin.window(now).map(Period::Bounds));
        }
        for (per, starts) in [
            ("day", Start::Text("00:01")),
            ("week", Start::Text("sunday")),
            ("month", Start::Day(2)),
            ("year", Start::Text("01-02")),
            ("year", Start::Text("02-01")),
        ] {
            let calendar = Calendar::in_utc(unit(per, Some(starts)).unwrap());
            assert_eq!(calendar.period(now), calendar.window(now).map(Period::Bounds), "{per}");
        }
    }

    #[test]
    fn an_unknown_time_zone_has_no_windows() {
        for name in ["Etc/Unknown", "Europe/Berlino", ""] {
            assert_eq!(zone(name), None, "{name}");
        }
        assert_eq!(zone("europe/berlin"), zone("Europe/Berlin"));
    }

    #[test]
    fn a_time_after_the_calendar_has_no_window() {
        let calendar = Calendar::in_utc(CalendarUnit::Month { day: 1 });
        assert_eq!(calendar.window(Instant::MAX), None);
        assert!(calendar.window(Instant::EPOCH).is_some());
    }
}
