use alloc::vec::Vec;

use super::*;
use crate::calendar::Anchor;
use crate::limits::Window;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// 2027-03-01T00:00:00Z.
const MARCH: u64 = 1_803_859_200;

fn units(units: u64) -> Units {
    Units::new(units).unwrap()
}

fn per(limit: u64, period: Period) -> FixedLimit {
    FixedLimit { limit: units(limit), period }
}

fn bounds(begin: u64, end: u64) -> Period {
    Period::Bounds(Bounds::from_millis(begin * 1_000, end * 1_000).unwrap())
}

fn all(cost: u64) -> Request {
    Request::all(units(cost))
}

fn at(secs: u64) -> Instant {
    Instant::from_micros(secs * 1_000_000)
}

fn secs(secs: u64) -> Duration {
    Duration::from_micros(u128::from(secs) * 1_000_000)
}

fn wait(wait: u64) -> RetryAfter {
    RetryAfter::Wait(secs(wait))
}

#[test]
fn a_state_takes_16_bytes() {
    assert_eq!(size_of::<FixedWindow>(), 16);
}

#[test]
fn the_quota_returns_at_the_end_of_the_window() {
    let (limit, mut state) = (per(10, Period::Day), FixedWindow::new());
    let granted = state.take(&limit, all(10), at(MARCH + 23 * HOUR));
    assert_eq!((granted.granted, granted.remaining, granted.capacity), (10, 0, 10));
    assert_eq!((granted.retry_after, granted.reset_after), (RetryAfter::Granted, secs(HOUR)));
    let denied = state.take(&limit, all(1), at(MARCH + DAY - 1));
    assert_eq!((denied.granted, denied.retry_after, denied.reset_after), (0, wait(1), secs(1)));
    let last = Instant::from_micros((MARCH + DAY) * 1_000_000 - 1);
    assert!(!state.has_ended(last));
    assert_eq!(state.take(&limit, all(1), last).granted, 0);
    assert!(state.has_ended(at(MARCH + DAY)));
    assert_eq!(state.take(&limit, all(10), at(MARCH + DAY)).granted, 10);
}

#[test]
fn nothing_used_is_whole_now_and_a_cost_above_the_limit_is_never_granted() {
    let (limit, mut state) = (per(5, Period::Month), FixedWindow::new());
    let denied = state.take(&limit, all(6), at(MARCH));
    assert_eq!((denied.granted, denied.remaining), (0, 5));
    assert_eq!((denied.retry_after, denied.reset_after), (RetryAfter::Never, Duration::ZERO));
    assert_eq!(state, FixedWindow::new());
    assert!(state.has_ended(at(0)));
}

#[test]
fn a_partial_call_takes_what_there_is_and_waits_for_the_rest() {
    let (limit, mut state) = (per(10, Period::Day), FixedWindow::new());
    let partial = state.take(&limit, Request::partial(units(12)), at(MARCH));
    assert_eq!((partial.granted, partial.retry_after), (10, wait(DAY)));
    let nothing = state.take(&limit, Request::partial(units(1_000)), at(MARCH + 1));
    assert_eq!((nothing.granted, nothing.retry_after), (0, wait(DAY - 1)));
    let mut state = FixedWindow::new();
    let partial = state.take(&limit, Request::partial(units(21)), at(MARCH));
    assert_eq!((partial.granted, partial.retry_after), (10, RetryAfter::Never));
}

#[test]
fn a_denied_call_waits_for_the_end_of_the_state_whatever_window_it_has() {
    let mut state = FixedWindow::new();
    let (month, day) = (per(1_000, Period::Month), per(100, Period::Day));
    state.take(&month, all(100), at(MARCH));
    let tomorrow = MARCH + DAY + HOUR;
    let denied = state.take(&day, all(1), at(tomorrow));
    assert_eq!((denied.granted, denied.retry_after), (0, wait(30 * DAY - HOUR)));
    assert_eq!(denied.reset_after, secs(30 * DAY - HOUR));

    let mut state = FixedWindow::new();
    state.take(&per(5, Period::Day), all(5), at(MARCH + 23 * HOUR));
    let denied = state.peek(&per(5, Period::Month), units(1), at(MARCH + 23 * HOUR + HOUR / 2));
    assert_eq!((denied.granted, denied.retry_after), (0, wait(HOUR / 2)));
}

#[test]
fn a_granted_call_makes_its_own_window_that_of_the_state() {
    let mut state = FixedWindow::new();
    let (month, day) = (per(1_000, Period::Month), per(1_000, Period::Day));
    state.take(&month, all(900), at(MARCH));
    let granted = state.take(&day, all(1), at(MARCH));
    assert_eq!((granted.remaining, granted.reset_after), (99, secs(DAY)));
    // The shorter window has ended what was counted for the month.
    assert_eq!(state.take(&month, all(1_000), at(MARCH + DAY)).granted, 1_000);
}

#[test]
fn what_was_used_carries_over_to_another_limit_within_the_window() {
    let mut state = FixedWindow::new();
    state.take(&per(100, Period::Day), all(100), at(MARCH));
    assert_eq!(state.peek(&per(1_000, Period::Day), units(900), at(MARCH)).granted, 900);
    assert_eq!(state.peek(&per(10, Period::Day), units(1), at(MARCH)).remaining, 0);
}

#[test]
fn a_gateway_whose_clock_is_ahead_gets_an_error_and_moves_nothing() {
    // 23:59:59.9 of the server; the gateway, 0.2 s ahead, has computed the next day.
    let now = Instant::from_micros((MARCH + DAY) * 1_000_000 - 100_000);
    let (today, tomorrow) = (bounds(MARCH, MARCH + DAY), bounds(MARCH + DAY, MARCH + 2 * DAY));
    let mut state = FixedWindow::new();
    state.take(&per(20_000, today), all(19_999), now);
    let before = state;
    assert_eq!(tomorrow.bounds_at(now), None);
    let denied = state.take(&per(20_000, tomorrow), all(1), now);
    assert_eq!((denied.granted, denied.retry_after), (0, RetryAfter::Never));
    assert_eq!((denied.remaining, denied.reset_after), (1, Duration::from_micros(100_000)));
    assert_eq!(state.peek(&per(20_000, tomorrow), units(1), now), denied);
    assert_eq!(state, before);
    // At midnight the whole quota is back.
    let granted = state.take(&per(20_000, tomorrow), all(1), at(MARCH + DAY));
    assert_eq!((granted.granted, granted.remaining), (1, 19_999));
}

#[test]
fn a_day_of_23_hours_ends_at_the_midnight_of_its_zone() {
    // 2027-03-28 in Berlin: from 23:00Z of the day before to 22:00Z.
    let sunday = 1_806_192_000;
    let day = bounds(sunday - HOUR, sunday + 22 * HOUR);
    let next = bounds(sunday + 22 * HOUR, sunday + 46 * HOUR);
    let mut state = FixedWindow::new();
    state.take(&per(20_000, day), all(19_999), at(sunday));
    let monday = state.take(&per(20_000, next), all(1), at(sunday + 22 * HOUR));
    assert_eq!((monday.granted, monday.remaining), (1, 19_999));
}

#[test]
fn a_step_back_into_the_window_before_grants_nothing_extra() {
    for period in [Period::Day, Period::every(Window::from_millis(DAY * 1_000).unwrap())] {
        let (limit, mut state) = (per(10, period), FixedWindow::new());
        state.take(&limit, all(9), at(MARCH + DAY + 5));
        // Up to one window before the begin, the call is decided as at the begin.
        for now in [MARCH + DAY - 1, MARCH] {
            let denied = state.take(&limit, all(2), at(now));
            let until_end = MARCH + 2 * DAY - now;
            assert_eq!((denied.granted, denied.retry_after), (0, wait(until_end)));
        }
        let granted = state.take(&limit, all(1), at(MARCH + DAY - 1));
        assert_eq!((granted.granted, granted.reset_after), (1, secs(DAY + 1)));
        assert_eq!(state.bounds(), period.bounds_at(at(MARCH + DAY)));
        assert_eq!(state.take(&limit, all(1), at(MARCH + DAY + 6)).granted, 0);
        // From further ahead the state does not count.
        let before = Instant::from_micros(MARCH * 1_000_000 - 1);
        assert_eq!(state.take(&limit, all(10), before).granted, 10);
    }
}

#[test]
fn bounds_before_the_window_of_a_state_ahead_do_not_replace_it() {
    let (today, tomorrow) = (bounds(MARCH, MARCH + DAY), bounds(MARCH + DAY, MARCH + 2 * DAY));
    let mut state = FixedWindow::new();
    state.take(&per(10, tomorrow), all(9), at(MARCH + DAY));
    let granted = state.take(&per(10, today), all(1), at(MARCH + DAY - 1));
    assert_eq!((granted.granted, granted.reset_after), (1, secs(DAY + 1)));
    assert_eq!(state.take(&per(10, tomorrow), all(1), at(MARCH + DAY)).granted, 0);
}

#[test]
fn a_state_of_a_clock_that_was_a_year_ahead_does_not_count() {
    let (limit, mut state) = (per(10, Period::Day), FixedWindow::new());
    state.take(&limit, all(10), at(MARCH + 365 * DAY));
    let peek = state.peek(&limit, units(10), at(MARCH));
    assert_eq!((peek.granted, peek.remaining, peek.reset_after), (10, 10, Duration::ZERO));
    assert!(!state.has_ended(at(MARCH)));
    assert_eq!(state.refund(units(1), at(MARCH)), Refund::NOTHING);
}

#[test]
fn a_forced_call_takes_its_cost_above_the_limit_until_the_window_ends() {
    let (limit, mut state) = (per(10, Period::Day), FixedWindow::new());
    let forced = state.take(&limit, Request::force(units(25)), at(MARCH));
    assert_eq!((forced.granted, forced.remaining), (25, 0));
    assert_eq!((forced.retry_after, forced.reset_after), (RetryAfter::Granted, secs(DAY)));
    assert_eq!(state.take(&limit, all(1), at(MARCH + 1)).retry_after, wait(DAY - 1));
    assert_eq!(state.refund(units(15), at(MARCH + 1)).refunded, 15);
    assert_eq!(state.take(&limit, all(1), at(MARCH + 1)).granted, 0);
    assert_eq!(state.refund(units(1), at(MARCH + 1)).refunded, 1);
    assert_eq!(state.take(&limit, all(1), at(MARCH + 1)).granted, 1);
    assert_eq!(state.take(&limit, all(10), at(MARCH + DAY)).granted, 10);
}

#[test]
fn a_debt_ends_at_the_largest_number_of_four_bytes() {
    let (limit, mut state) = (per(10, Period::Day), FixedWindow::new());
    for granted in [1_000_000_000; 4].into_iter().chain([294_967_295, 0]) {
        let before = state;
        let forced = state.take(&limit, Request::force(Units::MAX), at(MARCH));
        assert_eq!(forced.granted, granted);
        assert_eq!(granted == 0, state == before);
    }
    assert_eq!(state.used, MAX_USED);
}

#[test]
fn a_refund_gives_back_what_is_used_in_the_window() {
    let (limit, mut state) = (per(10, Period::Day), FixedWindow::new());
    state.take(&limit, all(8), at(MARCH));
    let before = state;
    let refund = state.refund(units(3), at(MARCH + HOUR));
    assert_eq!((refund.refunded, refund.reset_after), (3, secs(23 * HOUR)));
    assert!(before.is_refund(&state) && !state.is_refund(&before) && !before.is_refund(&before));
    let refund = state.refund(units(100), at(MARCH + HOUR));
    assert_eq!(refund, Refund { refunded: 5, reset_after: Duration::ZERO });
    assert_eq!(state, FixedWindow::new());
    let mut ended = before;
    assert_eq!(ended.refund(units(3), at(MARCH + DAY)), Refund::NOTHING);
    assert_eq!(ended, before);
}

#[test]
fn a_state_is_written_as_units_begin_and_length() {
    let mut state = FixedWindow::new();
    let limit = per(100, Period::Day);
    state.take(&limit, all(42), at(MARCH + HOUR));
    let mut written = Vec::new();
    state.encode(&mut written);
    assert_eq!(written, b"\x02\x07\x2a\x80\x90\x8c\xf3\xbf\x34\x80\xb8\x99\x29");
    assert_eq!(FixedWindow::decode(&written), Ok(state));
}

#[test]
fn fields_out_of_bounds_are_refused_and_the_longest_are_read() {
    let year = Window::MAX.as_millis();
    let most = u64::from(MAX_USED);
    for (fields, valid) in [
        (&[1, 0, 1][..], true),
        (&[most, Bounds::MAX_MILLIS - year, year], true),
        (&[0, 0, 1], false),
        (&[most + 1, 0, 1], false),
        (&[1, 0, 0], false),
        (&[1, 0, year + 1], false),
        (&[1, Bounds::MAX_MILLIS, 1], false),
        (&[1, u64::MAX, 1], false),
        (&[1, 0], false),
        (&[1, 0, 1, 0], false),
    ] {
        let mut bytes = Vec::new();
        codec::put(&mut bytes, Kind::FixedWindow, fields);
        assert_eq!(FixedWindow::decode(&bytes).is_ok(), valid, "{fields:?}");
        assert!(!valid || bytes.len() <= FixedWindow::MAX_EFFECT_BYTES);
    }
    let mut nothing = Vec::new();
    FixedWindow::new().encode(&mut nothing);
    assert_eq!(FixedWindow::decode(&nothing), Err(DecodeError::Malformed));
}

#[test]
fn an_anchored_window_returns_at_its_anchor() {
    let anchor = Anchor::from_secs(MARCH + 6 * HOUR).unwrap();
    let period = Period::Length(Window::from_millis(DAY * 1_000).unwrap(), anchor);
    let (limit, mut state) = (per(1, period), FixedWindow::new());
    state.take(&limit, all(1), at(MARCH));
    assert_eq!(state.take(&limit, all(1), at(MARCH + HOUR)).retry_after, wait(5 * HOUR));
    assert_eq!(state.take(&limit, all(1), at(MARCH + 6 * HOUR)).granted, 1);
}
