use alloc::vec::Vec;

use super::*;
use crate::codec::Encode;

/// `limit` units per second.
fn per_second(limit: u64) -> LogLimit {
    LogLimit::new(units(limit), Window::from_millis(1_000).unwrap())
}

fn units(units: u64) -> Units {
    Units::new(units).unwrap()
}

fn all(cost: u64) -> Request {
    Request::all(units(cost))
}

fn at_micros(micros: u64) -> Instant {
    Instant::from_micros(micros)
}

fn at_millis(millis: u64) -> Instant {
    at_micros(millis * 1_000)
}

fn millis(millis: u128) -> Duration {
    Duration::from_micros(millis * 1_000)
}

/// A log with these grants, in milliseconds and units.
fn log_of(grants: &[(u64, u64)]) -> SlidingWindowLog {
    let mut log = SlidingWindowLog::new();
    for &(time, units) in grants {
        assert!(log.take(&per_second(1_000), all(units), at_millis(time)).granted > 0);
    }
    log
}

/// The times in microseconds and the units of all entries.
fn entries(log: &SlidingWindowLog) -> Vec<(u64, u32)> {
    log.grants.iter().map(|grant| (grant.time.as_micros(), grant.units)).collect()
}

#[test]
fn a_grant_counts_until_just_before_its_time_plus_the_window() {
    let mut log = log_of(&[(0, 2), (400, 1)]);
    let denied = log.take(&per_second(3), all(1), at_micros(999_999));
    assert_eq!((denied.granted, denied.remaining, denied.capacity), (0, 0, 3));
    assert_eq!(denied.retry_after, RetryAfter::Wait(Duration::from_micros(1)));
    assert_eq!(denied.reset_after, Duration::from_micros(400_001));
    assert_eq!(log.take(&per_second(3), all(2), at_millis(1_000)).granted, 2);
}

#[test]
fn a_wait_lasts_until_enough_of_the_oldest_grants_have_left() {
    let log = log_of(&[(0, 1), (100, 1), (200, 3), (300, 1)]);
    let now = at_millis(300);
    for (limit, cost, wait) in [(6, 1, 700), (6, 2, 800), (6, 3, 900), (6, 5, 900), (6, 6, 1_000)] {
        let retry_after = log.peek(&per_second(limit), units(cost), now).retry_after;
        assert_eq!(retry_after, RetryAfter::Wait(millis(wait)), "{cost} of {limit}");
    }
}

#[test]
fn a_lowered_limit_waits_for_as_many_more_to_leave() {
    let log = log_of(&[(0, 1), (100, 1), (200, 3), (300, 1)]);
    let denied = log.peek(&per_second(2), units(1), at_millis(300));
    assert_eq!((denied.remaining, denied.capacity), (0, 2));
    assert_eq!(denied.retry_after, RetryAfter::Wait(millis(900)));
}

#[test]
fn a_raised_limit_keeps_what_was_used() {
    let mut log = SlidingWindowLog::new();
    log.take(&per_second(100), all(100), at_millis(0));
    assert_eq!(log.take(&per_second(1_000), all(1), at_millis(0)).remaining, 899);
}

#[test]
fn a_partial_call_takes_what_there_is_and_waits_for_the_rest() {
    let mut log = log_of(&[(0, 4)]);
    let partial = log.take(&per_second(10), Request::partial(units(8)), at_millis(500));
    assert_eq!((partial.granted, partial.remaining), (6, 0));
    assert_eq!(partial.retry_after, RetryAfter::Wait(millis(500)));
    assert_eq!(partial.reset_after, millis(1_000));
}

#[test]
fn more_than_the_limit_is_never_granted() {
    let denied = SlidingWindowLog::new().take(&per_second(5), all(6), at_millis(0));
    assert_eq!((denied.granted, denied.remaining), (0, 5));
    assert_eq!((denied.retry_after, denied.reset_after), (RetryAfter::Never, Duration::ZERO));
}

#[test]
fn grants_of_one_tick_count_from_the_latest_and_others_from_their_own_time() {
    let mut log = SlidingWindowLog::new();
    for micros in [7_000, 7_999, 8_000, 9_500] {
        log.take(&per_second(10), all(1), at_micros(micros));
    }
    assert_eq!(entries(&log), [(7_999, 2), (8_000, 1), (9_500, 1)]);
}

#[test]
fn a_grant_joins_the_newest_entry_only_in_the_tick_of_its_first_grant() {
    // Ticks of 1000 and 999 microseconds, of which each two calls share one.
    let calls = [(10_000, 1_000), (10_900, 1_000), (10_988, 999), (10_989, 1_000)];
    let mut log = SlidingWindowLog::new();
    for (micros, window) in calls {
        let window = Window::from_millis(window).unwrap();
        log.take(&LogLimit::new(units(10), window), all(1), at_micros(micros));
    }
    assert_eq!(entries(&log), [(10_989, 4)]);
    let limit = LogLimit { window: Window::from_millis(999).unwrap(), ..per_second(10) };
    log.take(&limit, all(1), at_micros(10_990));
    assert_eq!(entries(&log), [(10_989, 4), (10_990, 1)]);
}

#[test]
fn alternating_windows_do_not_keep_a_grant_alive() {
    let (mut log, mut now) = (SlidingWindowLog::new(), 0);
    for call in 0..5_000_u64 {
        now = 999_000_000 + call * 400;
        let window = Window::from_millis(999 + call % 2).unwrap();
        log.take(&LogLimit::new(Units::MAX, window), all(1), at_micros(now));
    }
    let newest = log.grants.newest_first().unwrap();
    assert!(now - newest.as_micros() < 1_000, "{newest:?} at {now}");
    assert!(entries(&log).iter().all(|&(_, units)| units <= 3));
}

#[test]
fn an_entry_that_a_refund_has_made_the_newest_is_not_joined() {
    let mut log = SlidingWindowLog::new();
    for micros in [7_000, 7_500, 8_000] {
        log.take(&per_second(10), all(1), at_micros(micros));
    }
    assert_eq!(log.refund(units(1), at_micros(8_000)).refunded, 1);
    // The clock has stepped back to the tick of the entry.
    log.take(&per_second(10), all(1), at_micros(7_600));
    assert_eq!(entries(&log), [(7_500, 2), (7_600, 1)]);
}

#[test]
fn a_log_ends_when_its_newest_grant_has_left_the_window_of_the_latest_grant() {
    let mut log = log_of(&[(0, 10)]);
    let minute = LogLimit { window: Window::from_millis(60_000).unwrap(), ..per_second(10) };
    let denied = log.take(&minute, all(1), at_millis(900));
    assert_eq!(denied.retry_after, RetryAfter::Wait(millis(100)));
    assert_eq!(denied.reset_after, millis(100));
    assert_eq!(log.take(&minute, all(1), at_micros(999_999)).granted, 0);
    assert!(!log.has_ended(at_micros(999_999)));
    assert!(log.has_ended(at_millis(1_000)));
    assert_eq!(log.refund(units(1), at_millis(1_000)), Refund::NOTHING);
    let granted = log.take(&minute, all(10), at_millis(1_000));
    assert_eq!((granted.granted, granted.reset_after), (10, millis(60_000)));
    assert_eq!(entries(&log), [(1_000_000, 10)]);
}

#[test]
fn a_wider_window_counts_what_has_left_the_narrower_one_until_the_end() {
    let mut log = log_of(&[(0, 5), (900, 2)]);
    let minute = LogLimit { window: Window::from_millis(60_000).unwrap(), ..per_second(10) };
    let peek = |log: &SlidingWindowLog| log.peek(&minute, units(9), at_millis(1_500));
    assert_eq!(peek(&log).remaining, 3);
    assert_eq!(peek(&log).retry_after, RetryAfter::Wait(millis(400)));
    // A refund of one is one for it, too.
    assert_eq!(log.refund(units(1), at_millis(1_500)).refunded, 1);
    assert_eq!(peek(&log).remaining, 4);
}

#[test]
fn a_partial_call_that_gets_nothing_waits_for_the_first_unit() {
    let mut log = log_of(&[(0, 4), (100, 6)]);
    let nothing = log.take(&per_second(10), Request::partial(units(1_000)), at_millis(500));
    assert_eq!((nothing.granted, nothing.retry_after), (0, RetryAfter::Wait(millis(500))));
}

#[test]
fn a_tick_is_a_thousandth_of_the_window_and_at_most_a_millisecond() {
    for (window, tick) in [(1, 1), (20, 20), (999, 999), (1_000, 1_000), (1_001, 1_000)] {
        assert_eq!(tick_micros(Window::from_millis(window).unwrap()).get(), tick);
    }
    assert_eq!(tick_micros(Window::MAX).get(), 1_000);
}

#[test]
fn a_refund_takes_the_newest_grants_first() {
    let mut log = log_of(&[(0, 5), (100, 5), (200, 5)]);
    let refund = log.refund(units(7), at_millis(300));
    assert_eq!(refund, Refund { refunded: 7, reset_after: millis(800) });
    assert_eq!(entries(&log), [(0, 5), (100_000, 3)]);
}

#[test]
fn a_refund_gives_back_only_what_still_counts() {
    let mut log = log_of(&[(0, 5), (100, 5)]);
    let used = |millis| log.view(log.window.window(), at_millis(millis)).used;
    assert_eq!((used(999), used(1_000)), (10, 5));
    assert_eq!(log.refund(units(20), at_millis(1_000)).refunded, 5);
    assert!(log.is_empty());
    assert_eq!(log.refund(units(1), at_millis(1_000)), Refund::NOTHING);
}

#[test]
fn a_clock_that_stepped_back_logs_at_the_newest_time_there_is() {
    let mut log = log_of(&[(5_000, 1)]);
    let decision = log.take(&per_second(2), all(1), at_millis(4_000));
    assert_eq!((decision.granted, decision.reset_after), (1, millis(2_000)));
    assert_eq!(entries(&log), [(5_000_000, 2)]);
    let denied = log.take(&per_second(2), all(1), at_millis(4_000));
    assert_eq!(denied.retry_after, RetryAfter::Wait(millis(2_000)));
}

#[test]
fn a_grant_from_more_than_a_window_ahead_does_not_count_and_is_forgotten_by_the_next() {
    let mut log = log_of(&[(5_000, 1)]);
    let now = at_micros(3_999_999);
    assert_eq!(log.take(&per_second(1), all(2), now).retry_after, RetryAfter::Never);
    assert_eq!(entries(&log), [(5_000_000, 1)]);
    assert_eq!(log.take(&per_second(1), all(1), now).granted, 1);
    assert_eq!(entries(&log), [(3_999_999, 1)]);
}

#[test]
fn a_wait_counts_grants_that_the_clock_will_catch_up_with() {
    let log = log_of(&[(5_000, 1), (5_500, 1)]);
    let denied = log.peek(&per_second(1), units(1), at_millis(4_200));
    assert_eq!((denied.granted, denied.retry_after), (0, RetryAfter::Wait(millis(2_300))));
}

#[test]
fn waits_reach_beyond_the_last_instant() {
    let mut log = SlidingWindowLog::new();
    let granted = log.take(&per_second(1), all(1), Instant::MAX);
    let denied = log.take(&per_second(1), all(1), Instant::MAX);
    assert_eq!((granted.granted, granted.reset_after), (1, millis(1_000)));
    assert_eq!((denied.granted, denied.retry_after), (0, RetryAfter::Wait(millis(1_000))));
}

#[test]
fn an_applied_grant_need_not_fit_the_limit_but_the_log() {
    let mut log = SlidingWindowLog::new();
    let window = Window::from_millis(1_000).unwrap();
    let grant = |units, time| LogEffect::Grant { time: at_millis(time), window, units };
    assert_eq!(log.apply(grant(units(999_999_999), 0)), Ok(()));
    assert_eq!(log.apply(grant(units(2), 999)), Err(Refused));
    assert_eq!(entries(&log), [(0, 999_999_999)]);
    assert_eq!(log.apply(grant(units(1), 999)), Ok(()));
    assert_eq!(log.apply(grant(Units::MAX, 1_999)), Ok(()));
    assert_eq!(entries(&log), [(1_999_000, 1_000_000_000)]);
}

#[test]
fn an_applied_refund_must_leave_something() {
    let mut log = log_of(&[(0, 3)]);
    let refund = |units_back| LogEffect::Refund { time: at_millis(1), units: units(units_back) };
    assert_eq!(log.apply(refund(3)), Err(Refused));
    assert_eq!(entries(&log), [(0, 3)]);
    assert_eq!(log.apply(refund(2)), Ok(()));
    assert_eq!(entries(&log), [(0, 1)]);
    assert_eq!(SlidingWindowLog::new().apply(refund(1)), Err(Refused));
}

#[test]
fn logs_of_the_same_grants_are_equal_however_they_came_about() {
    let (mut log, mut other) = (SlidingWindowLog::new(), SlidingWindowLog::new());
    for time in 0..1_000 {
        log.take(&per_second(2_000), all(1), at_millis(time));
    }
    for time in 100..1_000 {
        other.take(&per_second(2_000), all(1), at_millis(time));
    }
    assert_ne!(log, other);
    log.take(&per_second(2_000), all(1), at_millis(1_099));
    other.take(&per_second(2_000), all(1), at_millis(1_099));
    assert_eq!(log, other);
}

#[test]
fn an_empty_log_holds_no_memory() {
    let log = SlidingWindowLog::new();
    assert!(log.is_empty());
    assert_eq!(log.buffers(), 0);
    // One entry needs none either.
    assert_eq!(log_of(&[(0, 5)]).buffers(), 0);
}

#[test]
fn a_forced_call_takes_its_cost_above_the_limit_until_enough_has_left() {
    let mut log = log_of(&[(0, 2)]);
    let forced = log.take(&per_second(3), Request::force(units(5)), at_millis(400));
    assert_eq!((forced.granted, forced.remaining), (5, 0));
    assert_eq!((forced.retry_after, forced.reset_after), (RetryAfter::Granted, millis(1_000)));
    let denied = log.take(&per_second(3), all(1), at_millis(500));
    assert_eq!((denied.granted, denied.retry_after), (0, RetryAfter::Wait(millis(900))));
    assert_eq!(log.refund(units(3), at_millis(500)).refunded, 3);
    assert_eq!(log.take(&per_second(3), all(1), at_millis(1_000)).granted, 1);
}

#[test]
fn a_debt_ends_at_the_largest_number_of_four_bytes() {
    let mut log = SlidingWindowLog::new();
    for (time, granted) in (0..).zip([1_000_000_000; 4].into_iter().chain([294_967_295, 0])) {
        let before = log.clone();
        let forced = log.take(&per_second(1), Request::force(Units::MAX), at_millis(2 * time));
        assert_eq!(forced.granted, granted);
        assert_eq!(granted == 0, log == before);
    }
    // The oldest grant has left, and is dropped before a new one is counted.
    let forced = log.take(&per_second(1), Request::force(Units::MAX), at_millis(1_000));
    assert_eq!(forced.granted, 1_000_000_000);
}

#[test]
fn a_forced_grant_joins_the_newest_entry_of_a_log_with_its_most_entries() {
    let options = LogOptions { resolution: None, max_entries: 2 };
    let mut log = log_of(&[(0, 1), (100, 1)]);
    let limit = LogLimit { options, ..per_second(1) };
    let forced = log.take(&limit, Request::force(units(5)), at_millis(200));
    assert_eq!((forced.granted, forced.reset_after), (5, millis(1_000)));
    assert_eq!(entries(&log), [(0, 1), (200_000, 6)]);
    // An entry has left: there is room for one.
    log.take(&limit, Request::force(units(1)), at_millis(1_000));
    assert_eq!(entries(&log), [(200_000, 6), (1_000_000, 1)]);
}

#[test]
fn a_resolution_is_aligned_to_its_multiples_and_counts_from_the_latest_grant() {
    let quarter = Window::from_millis(250);
    let options = LogOptions { resolution: quarter, ..LogOptions::default() };
    let mut log = SlidingWindowLog::new();
    for time in [10, 249, 250, 499, 500] {
        log.take(&LogLimit { options, ..per_second(9) }, all(1), at_millis(time));
    }
    assert_eq!(entries(&log), [(249_000, 2), (499_000, 2), (500_000, 1)]);
    let entries_per_window =
        |resolution| LogOptions { resolution, ..options }.entries_per_window(per_second(1).window);
    assert_eq!(entries_per_window(quarter), 5);
    assert_eq!(entries_per_window(None), 1_001);
    assert_eq!(entries_per_window(Some(Window::MAX)), 2);
}

#[test]
fn a_return_takes_units_out_of_their_own_entry() {
    // Two thousand are reserved at 0, another caller takes 1500 at 29 s, 1500 of the first return.
    let minute = Window::from_millis(60_000).unwrap();
    let (limit, mut log) = (LogLimit::new(units(3_500), minute), SlidingWindowLog::new());
    log.take(&limit, all(2_000), at_millis(0));
    let granted_at = log.newest_time();
    log.take(&limit, all(1_500), at_millis(29_000));
    let refund = log.give_back(granted_at, units(1_500), at_millis(30_000));
    assert_eq!((refund.refunded, refund.reset_after), (1_500, millis(59_000)));
    assert_eq!(entries(&log), [(0, 500), (29_000_000, 1_500)]);
    assert_eq!(log.take(&limit, all(1_501), at_millis(31_000)).granted, 0);
    assert_eq!(log.take(&limit, all(1_500), at_millis(31_000)).granted, 1_500);
    assert_eq!(log.take(&limit, all(501), at_millis(60_000)).granted, 0);
    // The entry has left: nothing returns.
    assert_eq!(log.give_back(granted_at, units(1), at_millis(60_000)).refunded, 0);
}

#[test]
fn a_return_of_all_that_counts_leaves_an_empty_log() {
    let mut log = log_of(&[(0, 5)]);
    assert_eq!(log.give_back(at_millis(1), units(9), at_millis(2)), Refund::NOTHING);
    let refund = log.give_back(at_millis(0), units(9), at_millis(2));
    assert_eq!(refund, Refund { refunded: 5, reset_after: Duration::ZERO });
    assert_eq!(log, SlidingWindowLog::new());
}

#[test]
fn a_grant_whose_entry_a_later_grant_has_joined_is_found_there() {
    let mut log = log_of(&[(0, 5)]);
    let granted_at = log.newest_time();
    log.take(&per_second(1_000), all(2), at_micros(900));
    log.take(&per_second(1_000), all(3), at_millis(700));
    assert_eq!(log.give_back(granted_at, units(4), at_millis(800)).refunded, 4);
    assert_eq!(entries(&log), [(900, 3), (700_000, 3)]);
}

#[test]
fn an_applied_return_must_find_its_units_and_leave_something() {
    let mut log = log_of(&[(0, 3), (100, 1)]);
    let returned = |time, granted_at, back| {
        SlidingWindowLog::effect_of_return(at_millis(granted_at), units(back), at_millis(time))
    };
    for refused in [returned(200, 0, 4), returned(200, 101, 1), returned(1_000, 0, 1)] {
        assert_eq!(log.apply(refused), Err(Refused));
        assert_eq!(entries(&log), [(0, 3), (100_000, 1)]);
    }
    assert_eq!(log.apply(returned(200, 0, 3)), Ok(()));
    assert_eq!(log.apply(returned(200, 100, 1)), Err(Refused));
    assert_eq!(entries(&log), [(100_000, 1)]);
}

#[test]
fn a_log_in_debt_is_written_as_a_kind_that_older_modules_refuse() {
    let mut log = SlidingWindowLog::new();
    let force = |log: &mut SlidingWindowLog, cost, micros| {
        let (limit, request, now) = (per_second(1), Request::force(units(cost)), at_micros(micros));
        log.take(&limit, request, now);
        log.effect_of_grant(&limit, request, units(cost), now)
    };
    let (within, beyond) = (force(&mut log, 1_000_000_000, 0), force(&mut log, 1, 5));
    for (effect, kind) in [(within, [1, 3]), (beyond, [2, 10])] {
        let mut bytes = Vec::new();
        effect.encode(&mut bytes);
        assert_eq!(bytes[..2], kind);
        assert_eq!(LogEffect::decode(&bytes), Ok(effect));
    }
    for _ in 0..2 {
        let mut bytes = Vec::new();
        log.encode(&mut bytes);
        assert_eq!(bytes[..2], [2, 9]);
        assert_eq!(SlidingWindowLog::decode(&bytes), Ok(log.clone()));
        // The entry becomes the newest one again, and the time of its first grant is lost.
        log.take(&per_second(1), Request::force(units(1)), at_millis(7));
        log.refund(units(1), at_millis(7));
    }
}
