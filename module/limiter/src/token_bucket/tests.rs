use super::*;

const SECOND: u128 = 1_000_000;

/// `limit` units per `millis`, and at most `capacity` at once.
fn quota(limit: u64, millis: u64, capacity: u64) -> Limit {
    let window = Window::from_millis(millis).unwrap();
    Limit { limit: units(limit), window, capacity: units(capacity) }
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

fn at_secs(secs: u64) -> Instant {
    at_micros(secs * 1_000_000)
}

fn wait(micros: u128) -> RetryAfter {
    RetryAfter::Wait(Duration::from_micros(micros))
}

#[test]
fn a_full_bucket_grants_its_capacity_and_then_its_rate() {
    let (limit, mut bucket) = (quota(2, 1_000, 5), TokenBucket::new());
    assert_eq!(bucket.take(&limit, all(5), at_secs(0)).granted, 5);
    let denied = bucket.take(&limit, all(1), at_secs(0));
    assert_eq!((denied.granted, denied.remaining, denied.capacity), (0, 0, 5));
    assert_eq!(denied.retry_after, wait(SECOND / 2));
    assert_eq!(denied.reset_after.as_micros(), SECOND * 5 / 2);

    assert_eq!(bucket.take(&limit, all(1), at_micros(499_999)).granted, 0);
    assert_eq!(bucket.take(&limit, all(1), at_micros(500_000)).granted, 1);
    assert_eq!(bucket.take(&limit, all(1), at_micros(500_000)).retry_after, wait(SECOND / 2));
}

#[test]
fn a_bucket_never_holds_more_than_its_capacity() {
    let (limit, mut bucket) = (quota(2, 1_000, 5), TokenBucket::new());
    bucket.take(&limit, all(1), at_secs(0));
    assert_eq!(bucket.take(&limit, all(5), at_secs(1_000)).remaining, 0);
}

#[test]
fn a_fraction_of_a_microsecond_is_not_lost() {
    let (limit, mut bucket) = (quota(3, 1_000, 2), TokenBucket::new());
    bucket.take(&limit, all(2), at_secs(0));
    // Units come back after 333333 1/3, 666666 2/3 and 1000000 microseconds.
    for (millionths, next) in [(0, 333_334), (333_334, 333_333), (666_667, 333_333)] {
        let denied = bucket.take(&limit, all(1), at_micros(millionths));
        assert_eq!(denied.retry_after, wait(next));
        let later = at_micros(millionths + next as u64);
        assert_eq!(bucket.take(&limit, all(1), later).granted, 1);
    }
}

#[test]
fn the_slowest_and_the_fastest_rate_are_exact() {
    let (slowest, year) = (quota(1, Window::MAX.as_millis(), 1_000_000_000), 31_622_400);
    let mut bucket = TokenBucket::new();
    let decision = bucket.take(&slowest, all(1_000_000_000), at_secs(0));
    assert_eq!(decision.reset_after.as_micros(), 1_000_000_000 * year * SECOND);
    let denied = bucket.take(&slowest, all(1), at_micros(1));
    assert_eq!(denied.retry_after, wait(year * SECOND - 1));

    let fastest = quota(1_000_000_000, 1, 1_000_000_000);
    let mut bucket = TokenBucket::new();
    bucket.take(&fastest, all(1_000_000_000), at_micros(0));
    let denied = bucket.take(&fastest, all(1), at_micros(0));
    assert_eq!((denied.retry_after, denied.reset_after.as_micros()), (wait(1), 1_000));
    let all_but_one = bucket.take(&fastest, all(999_999_999), at_micros(1_000));
    assert_eq!((all_but_one.granted, all_but_one.remaining), (999_999_999, 1));
}

#[test]
fn a_partial_call_takes_what_there_is_and_waits_for_the_rest() {
    let (limit, mut bucket) = (quota(10, 1_000, 10), TokenBucket::new());
    let partial = bucket.take(&limit, Request::partial(units(12)), at_secs(0));
    assert_eq!((partial.granted, partial.remaining), (10, 0));
    assert_eq!(partial.retry_after, wait(SECOND / 5));
    let nothing = bucket.take(&limit, Request::partial(units(10)), at_secs(0));
    assert_eq!((nothing.granted, nothing.retry_after), (0, wait(SECOND / 10)));
}

#[test]
fn a_partial_call_that_gets_nothing_waits_for_the_first_unit() {
    let (limit, mut bucket) = (quota(10, 1_000, 10), TokenBucket::new());
    bucket.take(&limit, all(10), at_secs(0));
    let nothing = bucket.take(&limit, Request::partial(units(1_000)), at_secs(0));
    assert_eq!((nothing.granted, nothing.retry_after), (0, wait(SECOND / 10)));
    let first = bucket.take(&limit, Request::partial(units(1_000)), at_micros(100_000));
    assert_eq!((first.granted, first.retry_after), (1, RetryAfter::Never));
}

#[test]
fn more_than_the_capacity_is_never_granted() {
    let (limit, mut bucket) = (quota(10, 1_000, 5), TokenBucket::new());
    let denied = bucket.take(&limit, all(6), at_secs(0));
    assert_eq!((denied.granted, denied.remaining), (0, 5));
    assert_eq!((denied.retry_after, denied.reset_after), (RetryAfter::Never, Duration::ZERO));
}

#[test]
fn an_upgrade_keeps_what_was_used() {
    let mut bucket = TokenBucket::new();
    bucket.take(&quota(100, 60_000, 100), all(100), at_secs(0));
    let upgraded = quota(1_000, 60_000, 1_000);
    assert_eq!(bucket.peek(&upgraded, units(900), at_secs(0)).granted, 900);
    assert_eq!(bucket.peek(&upgraded, units(901), at_secs(0)).granted, 0);
}

#[test]
fn a_downgrade_waits_until_use_is_below_the_new_capacity() {
    let mut bucket = TokenBucket::new();
    bucket.take(&quota(100, 1_000, 100), all(100), at_secs(0));
    let denied = bucket.take(&quota(10, 1_000, 10), all(1), at_secs(0));
    assert_eq!((denied.remaining, denied.retry_after), (0, wait(91 * SECOND / 100)));
}

#[test]
fn time_drains_at_the_faster_rate_of_the_latest_grant_and_the_call() {
    let (fast, slow) = (quota(100, 5_000, 100), quota(1, 3_600_000, 1));
    let mut bucket = TokenBucket::new();
    bucket.take(&fast, all(100), at_secs(0));
    let denied = bucket.take(&slow, all(1), at_micros(4_500_000));
    assert_eq!(denied.retry_after, wait(SECOND / 2));
    assert_eq!(denied.reset_after.as_micros(), SECOND / 2);
    assert_eq!(bucket.take(&slow, all(1), at_micros(4_999_999)).granted, 0);
    assert!(!bucket.has_ended(at_micros(4_999_999)));
    assert!(bucket.has_ended(at_secs(5)));
    assert_eq!(bucket.take(&slow, all(1), at_secs(5)).granted, 1);
    // The slow grant fixes what it has measured, and the faster call shortens the wait at once.
    let denied = bucket.take(&slow, all(1), at_secs(5));
    assert_eq!(denied.retry_after, wait(3_600 * SECOND));
    assert_eq!(bucket.peek(&fast, units(100), at_secs(5)).retry_after, wait(SECOND / 20));
}

#[test]
fn a_slow_grant_fixes_what_a_faster_call_would_not_have_seen() {
    let (slow, fast) = (quota(100, 3_600_000, 200), quota(100, 5_000, 200));
    let mut bucket = TokenBucket::new();
    bucket.take(&slow, all(100), at_secs(0));
    assert_eq!(bucket.peek(&fast, units(1), at_secs(5)).remaining, 200);
    // 99 31/36 and one more are used, of which nothing has drained yet.
    bucket.take(&slow, all(1), at_secs(5));
    assert_eq!(bucket.peek(&fast, units(1), at_secs(5)).remaining, 99);
}

#[test]
fn one_rate_in_two_windows_is_one_rate() {
    let (minute, second) = (quota(600, 60_000, 600), quota(10, 1_000, 600));
    let mut bucket = TokenBucket::new();
    bucket.take(&minute, all(600), at_secs(0));
    for limit in [minute, second] {
        let denied = bucket.peek(&limit, units(1), at_micros(33_333));
        assert_eq!(denied.retry_after, wait(66_667));
    }
}

#[test]
fn the_fastest_and_the_slowest_rate_are_distinguished_exactly() {
    // 10^9 units in 366 days, and one millisecond less.
    let (slower, faster) =
        (quota(1_000_000_000, 31_622_400_000, 1), quota(1_000_000_000, 31_622_399_999, 1));
    for [first, second] in [[slower, faster], [faster, slower]] {
        assert_eq!(is_slower(&first, &second), first == slower);
        let mut bucket = TokenBucket::new();
        bucket.take(&Limit { capacity: Units::MAX, ..first }, all(1_000_000_000), at_secs(0));
        let reset = bucket.peek(&second, units(1), at_secs(0)).reset_after;
        assert_eq!(reset.as_micros(), u128::from(faster.window.as_micros()));
    }
}

#[test]
fn a_refund_gives_back_a_part_of_a_unit_as_a_whole_one() {
    let (limit, mut bucket) = (quota(1, 1_000, 10), TokenBucket::new());
    bucket.take(&limit, all(3), at_secs(0));
    let refund = bucket.refund(units(1), at_micros(500_000));
    assert_eq!((refund.refunded, refund.reset_after.as_micros()), (1, SECOND * 3 / 2));
    assert_eq!(bucket.peek(&limit, units(1), at_micros(500_000)).remaining, 8);
    let refund = bucket.refund(units(5), at_micros(500_000));
    assert_eq!((refund.refunded, refund.reset_after), (2, Duration::ZERO));
    assert_eq!(bucket, TokenBucket::new());
}

#[test]
fn a_refund_leaves_the_time_and_the_rate_of_the_latest_grant() {
    let (slow, fast) = (quota(100, 3_600_000, 100), quota(100, 5_000, 100));
    let mut bucket = TokenBucket::new();
    bucket.take(&slow, all(100), at_secs(0));
    let later = at_micros(2_500_000);
    assert_eq!(bucket.peek(&fast, units(1), later).remaining, 50);
    assert_eq!(bucket.refund(units(1), later).refunded, 1);
    assert_eq!(bucket.peek(&fast, units(1), later).remaining, 51);
    assert_eq!((bucket.time, bucket.window.window()), (at_secs(0), slow.window));
    // The fast call sees nothing used, and the latest grant still counts 99 of its units.
    assert_eq!(bucket.peek(&fast, units(1), at_secs(5)).remaining, 100);
    assert_eq!(bucket.refund(units(200), at_secs(5)).refunded, 99);
}

#[test]
fn a_refund_of_an_ended_state_gives_back_nothing() {
    let (limit, mut bucket) = (quota(1, 1_000, 10), TokenBucket::new());
    bucket.take(&limit, all(3), at_secs(0));
    let before = bucket.clone();
    assert_eq!(bucket.refund(units(3), at_secs(3)), Refund::NOTHING);
    assert_eq!(bucket, before);
    assert_eq!(bucket.refund(units(3), at_micros(2_999_999)).refunded, 1);
}

#[test]
fn a_refund_in_a_state_from_far_ahead_returns_the_time_until_all_is_back() {
    let (limit, mut bucket) = (quota(1, 1_000, 10), TokenBucket::new());
    bucket.take(&limit, all(10), at_secs(100));
    // Five windows ahead: five units have drained by the distance.
    let refund = bucket.refund(units(2), at_secs(95));
    assert_eq!((refund.refunded, refund.reset_after.as_micros()), (2, 13 * SECOND));
    assert_eq!(bucket.time, at_secs(100));
    assert!(!bucket.has_ended(at_secs(50)));
}

#[test]
fn a_refund_that_makes_the_bucket_whole_says_so() {
    let (limit, mut bucket) = (quota(1, 1_000, 10), TokenBucket::new());
    bucket.take(&limit, all(3), at_secs(0));
    let refund = bucket.refund(units(3), at_secs(0));
    assert_eq!(refund, Refund { refunded: 3, reset_after: Duration::ZERO });
}

/// A bucket of which 1 6999/7000 units are used in windows of 7 ms, and the time of that.
fn bucket_with_sevenths() -> (TokenBucket, Instant) {
    let (limit, mut bucket) = (quota(1, 7, 3), TokenBucket::new());
    bucket.take(&limit, all(1), at_micros(0));
    bucket.take(&limit, all(1), at_micros(1));
    (bucket, at_micros(1))
}

#[test]
fn one_change_of_window_waits_as_long_as_the_exact_fraction() {
    let (bucket, now) = bucket_with_sevenths();
    for (limit, millis, micros) in [(1, 1, 2_000), (10, 1, 200), (1, 1_000_000, 13_999)] {
        let limit = quota(limit, millis, 3);
        assert_eq!(bucket.peek(&limit, units(3), now).retry_after, wait(micros));
    }
}

#[test]
fn a_second_change_of_window_waits_at_most_a_microsecond_too_long() {
    let (mut bucket, now) = bucket_with_sevenths();
    bucket.take(&quota(1, 1, 3), all(1), now);
    // 6999/7000 of a unit are to drain, at 999 units in 500 milliseconds.
    let denied = bucket.take(&quota(999, 500, 3), all(1), now);
    let exact = 501;
    assert!([wait(exact), wait(exact + 1)].contains(&denied.retry_after), "{denied:?}");
}

#[test]
fn a_state_up_to_a_window_ahead_waits_for_the_clock() {
    let (limit, mut bucket) = (quota(1, 1_000, 3), TokenBucket::new());
    bucket.take(&limit, all(3), at_secs(100));
    let denied = bucket.take(&limit, all(1), at_secs(99));
    assert_eq!((denied.granted, denied.retry_after), (0, wait(2 * SECOND)));
    assert_eq!(bucket.refund(units(1), at_secs(99)).reset_after.as_micros(), 3 * SECOND);
    assert_eq!(bucket.time, at_secs(100));
}

#[test]
fn a_state_from_more_than_a_window_ahead_drains_by_the_distance() {
    let (limit, mut bucket) = (quota(1, 1_000, 3), TokenBucket::new());
    bucket.take(&limit, all(3), at_secs(100));
    let granted = bucket.take(&limit, all(1), at_micros(98_999_999));
    assert_eq!((granted.granted, granted.remaining), (1, 0));
    assert_eq!(bucket.time, at_micros(98_999_999));
}

#[test]
fn a_wait_counts_the_way_back_to_a_state_from_far_ahead() {
    let (limit, mut bucket) = (quota(1, 1_000, 10), TokenBucket::new());
    bucket.take(&limit, all(10), at_secs(100));

    // Five windows ahead: five units have drained, but the next call will find fewer drained.
    let denied = bucket.take(&limit, all(6), at_secs(95));
    assert_eq!((denied.granted, denied.remaining), (0, 5));
    assert_eq!(denied.retry_after, wait(11 * SECOND));
    assert_eq!(denied.reset_after.as_micros(), 15 * SECOND);
    assert_eq!(bucket.peek(&limit, units(6), at_secs(105)).granted, 0);
    assert_eq!(bucket.peek(&limit, units(6), at_secs(106)).granted, 6);
}

#[test]
fn a_state_takes_32_bytes() {
    assert_eq!(size_of::<TokenBucket>(), 32);
}

#[test]
fn a_refund_is_distinguished_from_a_grant_by_the_bucket_after_it() {
    let (limit, mut bucket) = (quota(10, 1_000, 100), TokenBucket::new());
    bucket.take(&limit, all(50), at_secs(0));
    let before = bucket.clone();
    bucket.refund(units(3), at_micros(1));
    assert!(before.is_refund(&bucket) && !bucket.is_refund(&before));
    assert!(!before.is_refund(&before));
    for (limit, time) in [(limit, 0), (limit, 4_000_000), (quota(10, 999, 100), 0)] {
        let mut granted = before.clone();
        granted.take(&limit, all(1), at_micros(time));
        assert!(!before.is_refund(&granted), "{granted:?}");
    }
}

#[test]
fn a_forced_call_takes_its_cost_above_the_capacity_and_the_rest_drains() {
    let (limit, mut bucket) = (quota(10, 1_000, 10), TokenBucket::new());
    let forced = bucket.take(&limit, Request::force(units(25)), at_secs(0));
    assert_eq!((forced.granted, forced.remaining), (25, 0));
    assert_eq!(forced.retry_after, RetryAfter::Granted);
    assert_eq!(forced.reset_after.as_micros(), SECOND * 25 / 10);
    let denied = bucket.take(&limit, all(1), at_secs(0));
    assert_eq!((denied.granted, denied.retry_after), (0, wait(SECOND * 16 / 10)));
    assert_eq!(bucket.take(&limit, all(1), at_micros(1_599_999)).granted, 0);
    assert_eq!(bucket.clone().take(&limit, all(1), at_micros(1_600_000)).granted, 1);
    // A refund gives back units of the debt.
    assert_eq!(bucket.refund(units(15), at_secs(0)).refunded, 15);
    assert_eq!(bucket.take(&limit, all(1), at_micros(99_999)).granted, 0);
    assert_eq!(bucket.take(&limit, all(1), at_micros(100_000)).granted, 1);
}

#[test]
fn a_debt_ends_at_the_largest_number_of_four_bytes() {
    let (limit, mut bucket) = (quota(1, Window::MAX.as_millis(), 1), TokenBucket::new());
    for granted in [1_000_000_000; 4].into_iter().chain([294_967_295, 0]) {
        let before = bucket.clone();
        let forced = bucket.take(&limit, Request::force(Units::MAX), at_secs(0));
        assert_eq!(forced.granted, granted);
        assert_eq!(granted == 0, bucket == before);
    }
    let year = u128::from(Window::MAX.as_micros());
    let peek = bucket.peek(&limit, units(1), at_secs(0));
    assert_eq!(peek.retry_after, wait(u128::from(MAX_USED) * year));
    // Part of a unit has drained: a whole one does not fit before the rest of the unit has.
    let forced = bucket.take(&limit, Request::force(units(1)), at_secs(1));
    assert_eq!((forced.granted, forced.retry_after), (0, wait(year - SECOND)));
}

#[test]
fn the_largest_debt_has_ended_when_it_has_drained() {
    // All but 295 of the units drain in 4,294 967 milliseconds and a fraction of a microsecond.
    for limit in [quota(1_000_000_000, 1, 1), quota(999_999_937, 7, 1)] {
        let mut bucket = TokenBucket::new();
        for _ in 0..5 {
            bucket.take(&limit, Request::force(Units::MAX), at_secs(0));
        }
        let reset = bucket.peek(&limit, units(1), at_secs(0)).reset_after.as_micros() as u64;
        assert!(!bucket.has_ended(at_micros(reset - 1)));
        for later in [reset, reset + 1, reset + 7, 2 * reset, 1 << 61] {
            assert!(bucket.has_ended(at_micros(later)), "{limit:?} after {later} µs");
            assert_eq!(bucket.peek(&limit, units(1), at_micros(later)).granted, 1);
        }
    }
}

#[test]
fn a_bucket_in_debt_is_written_as_a_kind_that_older_modules_refuse() {
    use alloc::vec::Vec;
    let (limit, mut bucket) = (quota(3, 1_000, 10), TokenBucket::new());
    bucket.take(&limit, Request::force(Units::MAX), at_secs(1));
    for (units_more, kind) in [(0, [1, 1]), (1, [2, 8])] {
        if let Some(more) = Units::new(units_more) {
            bucket.take(&limit, Request::force(more), at_secs(1));
        }
        let mut bytes = Vec::new();
        bucket.encode(&mut bytes);
        assert_eq!(bytes[..2], kind);
        assert_eq!(TokenBucket::decode(&bytes), Ok(bucket.clone()));
        bytes[..2].copy_from_slice(if kind == [1, 1] { &[2, 8] } else { &[1, 1] });
        assert_eq!(TokenBucket::decode(&bytes), Err(DecodeError::Malformed));
    }
}
