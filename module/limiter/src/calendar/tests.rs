use super::*;

fn bounds(begin: u64, end: u64) -> Bounds {
    Bounds::from_millis(begin, end).unwrap()
}

fn at_millis(millis: u64) -> Instant {
    Instant::from_micros(millis * 1_000)
}

fn secs(secs: u64) -> Window {
    Window::from_millis(secs * 1_000).unwrap()
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Calls `check` with each day and the bounds, in days, of its week, month and year.
fn for_each_day_until_2400(mut check: impl FnMut(u64, [(u64, u64); 3])) {
    let mut first_of_year = 0;
    for year in 1970..=2400 {
        let days_in_year = if is_leap(year) { 366 } else { 365 };
        let mut first_of_month = first_of_year;
        for month in 1..=12 {
            let next_month = first_of_month + days_in_month(year, month);
            for day in first_of_month..next_month {
                // Day 4 is the first Monday. The week of the epoch is cut off at the epoch.
                let monday = if day < 4 { 0 } else { day - (day - 4) % 7 };
                let next_monday = if day < 4 { 4 } else { monday + 7 };
                check(
                    day,
                    [
                        (monday, next_monday),
                        (first_of_month, next_month),
                        (first_of_year, first_of_year + days_in_year),
                    ],
                );
            }
            first_of_month = next_month;
        }
        first_of_year += days_in_year;
        assert_eq!(first_of_month, first_of_year);
    }
}

#[test]
fn every_day_from_1970_to_2400_is_that_of_a_naive_calendar() {
    let mut days = 0;
    for_each_day_until_2400(|day, [week, month, year]| {
        assert_eq!(day, days);
        days += 1;
        for millis in [day * DAY, day * DAY + DAY / 2, (day + 1) * DAY - 1] {
            for (period, (first, next)) in [
                (Period::Day, (day, day + 1)),
                (Period::Week, week),
                (Period::Month, month),
                (Period::Year, year),
            ] {
                let expected = Some(bounds(first * DAY, next * DAY));
                assert_eq!(period.bounds_at(at_millis(millis)), expected, "{period:?} {day}");
            }
        }
    });
    // The thirty years before 2000, the four hundred from 2000 to 2399, and 2400.
    assert_eq!(days, 30 * 365 + 7 + 146_097 + 366);
}

#[test]
fn known_dates_are_the_bounds_of_their_periods() {
    // 2027-03-28 is the Sunday on which summer time begins in Europe: a day of UTC like all others.
    let sunday = at_millis(1_806_192_000_000);
    for (period, begin, end) in [
        (Period::Day, 1_806_192_000, 1_806_278_400),
        (Period::Week, 1_805_673_600, 1_806_278_400),
        (Period::Month, 1_803_859_200, 1_806_537_600),
        (Period::Year, 1_798_761_600, 1_830_297_600),
    ] {
        let expected = bounds(begin * 1_000, end * 1_000);
        assert_eq!(period.bounds_at(sunday), Some(expected), "{period:?}");
    }
}

#[test]
fn an_instant_belongs_to_the_window_that_begins_with_it() {
    let new_year = 1_830_297_600_000_000;
    for period in [Period::Day, Period::Month, Period::Year] {
        let last = period.bounds_at(Instant::from_micros(new_year - 1)).unwrap();
        let first = period.bounds_at(Instant::from_micros(new_year)).unwrap();
        assert_eq!(last.end_millis(), first.begin_millis(), "{period:?}");
        assert_eq!(first.begin(), Instant::from_micros(new_year));
    }
}

#[test]
fn windows_of_a_length_are_counted_from_the_epoch() {
    let week = Period::every(secs(604_800));
    // They begin on Thursdays, weeks of the calendar on Mondays.
    assert_eq!(week.bounds_at(Instant::EPOCH), Some(bounds(0, 604_800_000)));
    let quarter = Period::every(Window::from_millis(250).unwrap());
    assert_eq!(quarter.bounds_at(at_millis(999)), Some(bounds(750, 1_000)));
    assert_eq!(quarter.bounds_at(at_millis(1_000)), Some(bounds(1_000, 1_250)));
}

#[test]
fn an_anchor_is_the_begin_of_a_window_and_so_is_every_length_from_it() {
    for secs_of_anchor in [0, 1, 59, 60, 61, 86_399, 1_800_000_007, Anchor::MAX.as_secs()] {
        let anchor = Anchor::from_secs(secs_of_anchor).unwrap();
        for length in [1, 7, 60_000, 86_400_000, Window::MAX.as_millis()] {
            let period = Period::Length(Window::from_millis(length).unwrap(), anchor);
            let anchor = secs_of_anchor * 1_000;
            assert_eq!(
                period.bounds_at(at_millis(anchor)),
                Some(bounds(anchor, anchor + length)),
                "{period:?}"
            );
            for millis in [0, 1, length, 12_345_678, 1_800_000_000_000] {
                let found = period.bounds_at(at_millis(millis)).unwrap();
                let (begin, end) = (found.begin_millis(), found.end_millis());
                assert!(begin <= millis && millis < end, "{period:?} at {millis}");
                assert_eq!(i128::from(end).rem_euclid(length.into()), {
                    i128::from(anchor).rem_euclid(length.into())
                });
                assert!(begin == 0 || end - begin == length, "{period:?} at {millis}");
            }
        }
    }
}

#[test]
fn bounds_of_a_caller_are_a_window_only_while_they_contain_the_time() {
    let given = bounds(1_000, 2_000);
    let period = Period::Bounds(given);
    for (micros, contained) in
        [(999_999, false), (1_000_000, true), (1_999_999, true), (2_000_000, false)]
    {
        let now = Instant::from_micros(micros);
        assert_eq!(period.bounds_at(now), contained.then_some(given), "{micros}");
        assert_eq!(given.contains(now), contained);
    }
}

#[test]
fn bounds_are_between_a_millisecond_and_366_days_apart() {
    let year = Window::MAX.as_millis();
    for (begin, end, valid) in [
        (0, 0, false),
        (1, 0, false),
        (0, 1, true),
        (5, 5 + year, true),
        (5, 6 + year, false),
        (Bounds::MAX_MILLIS - 1, Bounds::MAX_MILLIS, true),
        (Bounds::MAX_MILLIS, Bounds::MAX_MILLIS + 1, false),
        (0, u64::MAX, false),
    ] {
        assert_eq!(Bounds::from_millis(begin, end).is_some(), valid, "{begin} to {end}");
    }
}

#[test]
fn an_anchor_is_a_second_until_9999() {
    for (secs, valid) in [(0, true), (253_402_300_799, true), (253_402_300_800, false)] {
        assert_eq!(Anchor::from_secs(secs).is_some(), valid, "{secs}");
    }
}

#[test]
fn time_stands_still_at_the_end_of_time() {
    let length = Period::Length(Window::MAX, Anchor::MAX);
    for period in [Period::Day, Period::Week, Period::Month, Period::Year, length] {
        let last = period.bounds_at(Instant::MAX).unwrap();
        assert_eq!(last.end_millis(), Bounds::MAX_MILLIS, "{period:?}");
        let before = Instant::from_micros(Bounds::MAX_MILLIS * 1_000 - 1);
        assert_eq!(period.bounds_at(before), Some(last));
        assert!(last.contains(Instant::MAX));
    }
}
