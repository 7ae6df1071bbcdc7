use alloc::vec;

use super::*;
use crate::calendar::Period;
use crate::codec::{DecodeError, Encode};

const SECOND: u64 = 1_000_000;

fn units(units: u64) -> Units {
    Units::new(units).unwrap()
}

fn window(secs: u64) -> Window {
    Window::from_millis(secs * 1_000).unwrap()
}

fn at(secs: u64) -> Instant {
    Instant::from_micros(secs * SECOND)
}

fn secs(secs: u64) -> Duration {
    Duration::from_micros(u128::from(secs * SECOND))
}

fn all(cost: u64) -> Request {
    Request::all(units(cost))
}

fn estimate(cost: u64, origin: Origin) -> Estimate {
    Estimate { key: b"key".to_vec(), cost: units(cost), origin }
}

/// Reserves units of a bucket at `now`.
fn of_bucket(bucket: &mut TokenBucket, limit: Limit, cost: u64, now: Instant) -> Estimate {
    assert_eq!(u64::from(bucket.take(&limit, all(cost), now).granted), cost);
    estimate(cost, Origin::TokenBucket { limit })
}

/// Returns a limit as that of a log.
fn logged(limit: &Limit) -> LogLimit {
    LogLimit::new(limit.limit, limit.window)
}

/// Reserves units of a log at `now`.
fn of_log(log: &mut SlidingWindowLog, limit: Limit, cost: u64, now: Instant) -> Estimate {
    assert_eq!(u64::from(log.take(&logged(&limit), all(cost), now).granted), cost);
    let granted_at = log.newest_time();
    estimate(cost, Origin::SlidingWindowLog { limit, resolution: None, granted_at })
}

/// Reserves units of a fixed window at `now`.
fn of_window(state: &mut FixedWindow, limit: FixedLimit, cost: u64, now: Instant) -> Estimate {
    assert_eq!(u64::from(state.take(&limit, all(cost), now).granted), cost);
    estimate(cost, Origin::FixedWindow { limit, bounds: state.bounds().unwrap() })
}

/// Settles an estimate, and makes the effect to a copy of the state before.
fn settle<S: Settle + PartialEq + core::fmt::Debug>(
    state: &mut S,
    estimate: &Estimate,
    actual: u32,
    now: Instant,
) -> i64 {
    let mut copy = state.clone();
    let settlement = state.settle(estimate, estimate.correction(actual), 1_000, now).unwrap();
    match settlement.effect {
        Some(effect) => assert_eq!(copy.apply(effect), Ok(())),
        None if settlement.units < 0 => copy = S::default(),
        None => {}
    }
    assert_eq!(&copy, state);
    settlement.units
}

#[test]
fn a_correction_is_the_difference_of_the_estimate() {
    let estimate = estimate(10, Origin::TokenBucket { limit: Limit::new(units(1), window(1)) });
    for (actual, correction) in [
        (10, Correction::Nothing),
        (3, Correction::Return(units(7))),
        (0, Correction::Return(units(10))),
        (11, Correction::Charge(units(1))),
        (1_000_000_000, Correction::Charge(units(999_999_990))),
    ] {
        assert_eq!(estimate.correction(actual), correction, "{actual}");
    }
}

#[test]
fn a_log_gets_its_surplus_back_in_the_entry_of_the_reservation() {
    // Two thousand are reserved at 0, another caller takes 1500 at 29, and 500 were used.
    let (limit, mut log) = (Limit::new(units(3_500), window(60)), SlidingWindowLog::new());
    let estimate = of_log(&mut log, limit, 2_000, at(0));
    log.take(&logged(&limit), all(1_500), at(29));
    assert_eq!(settle(&mut log, &estimate, 500, at(30)), -1_500);
    assert_eq!(log.take(&logged(&limit), Request::partial(Units::MAX), at(31)).granted, 1_500);
    assert_eq!(log.take(&logged(&limit), Request::partial(Units::MAX), at(60)).granted, 500);
}

#[test]
fn the_surplus_of_an_entry_that_has_left_is_nothing() {
    let (limit, mut log) = (Limit::new(units(10), window(60)), SlidingWindowLog::new());
    let estimate = of_log(&mut log, limit, 5, at(0));
    log.take(&logged(&limit), all(5), at(50));
    assert_eq!(settle(&mut log, &estimate, 0, at(60)), 0);
    assert_eq!(log.peek(&logged(&limit), units(1), at(60)).remaining, 5);
    // The key has expired: nothing returns, and missing units use the limit of the reservation.
    let mut log = SlidingWindowLog::new();
    assert_eq!(settle(&mut log, &estimate, 0, at(61)), 0);
    assert_eq!(settle(&mut log, &estimate, 8, at(61)), 3);
    assert_eq!(log.peek(&logged(&limit), units(1), at(61)).reset_after, secs(60));
}

#[test]
fn a_fixed_window_gets_its_surplus_back_only_in_its_own_window() {
    let month = FixedLimit { limit: units(5_000), period: Period::Month };
    let (january, february) = (31 * 86_400 - 60, 31 * 86_400);
    let mut state = FixedWindow::new();
    let estimate = of_window(&mut state, month, 3_000, at(january));
    let mut settled = state;
    assert_eq!(settle(&mut settled, &estimate, 100, at(january + 1)), -2_900);
    assert_eq!(settled.peek(&month, units(1), at(january + 1)).remaining, 4_900);
    state.take(&month, all(4_000), at(february));
    assert_eq!(settle(&mut state, &estimate, 100, at(february + 1)), 0);
    assert_eq!(state.peek(&month, units(1), at(february + 1)).remaining, 1_000);
    assert_eq!(settle(&mut state, &estimate, 5_000, at(february + 1)), 2_000);
    assert_eq!(state.peek(&month, units(1), at(february + 1)).remaining, 0);
}

#[test]
fn a_bucket_gets_back_at_most_what_is_used() {
    let (limit, mut bucket) = (Limit::new(units(10), window(10)), TokenBucket::new());
    let estimate = of_bucket(&mut bucket, limit, 10, at(0));
    assert_eq!(settle(&mut bucket, &estimate, 0, at(7)), -3);
    assert_eq!(bucket, TokenBucket::new());
}

#[test]
fn a_settlement_keeps_the_rate_and_the_window_of_a_present_state() {
    // Reserved with 100 per second; the plan is now 10,000 per day.
    let (old, new) = (Limit::new(units(100), window(1)), Limit::new(units(10_000), window(86_400)));
    let mut log = SlidingWindowLog::new();
    let estimate = of_log(&mut log, old, 50, at(0));
    let mut log = SlidingWindowLog::new();
    log.take(&logged(&new), all(9_000), at(0));
    assert_eq!(settle(&mut log, &estimate, 60, at(3_600)), 10);
    assert_eq!(log.peek(&logged(&new), units(1), at(3_600)).remaining, 990);
    assert!(!log.has_ended(at(86_400)));

    let mut bucket = TokenBucket::new();
    let estimate = of_bucket(&mut bucket, old, 50, at(0));
    let mut bucket = TokenBucket::new();
    bucket.take(&new, all(9_000), at(0));
    assert_eq!(settle(&mut bucket, &estimate, 150, at(1)), 100);
    assert_eq!(bucket.latest_rate(), new);

    let (day, hour) = (
        FixedLimit { limit: units(10), period: Period::Day },
        FixedLimit { limit: units(10), period: Period::every(window(3_600)) },
    );
    let mut state = FixedWindow::new();
    let estimate = of_window(&mut state, hour, 5, at(0));
    let mut state = FixedWindow::new();
    state.take(&day, all(5), at(3_601));
    let bounds = state.bounds();
    assert_eq!(settle(&mut state, &estimate, 45, at(3_602)), 40);
    assert_eq!((state.bounds(), settle(&mut state, &estimate, 0, at(3_602))), (bounds, 0));
}

#[test]
fn missing_units_without_a_state_use_the_limit_of_the_reservation() {
    let limit = Limit { capacity: units(20), ..Limit::new(units(10), window(10)) };
    let estimate = of_bucket(&mut TokenBucket::new(), limit, 10, at(0));
    let mut missing = TokenBucket::new();
    assert_eq!(settle(&mut missing, &estimate, 3, at(50)), 0);
    assert_eq!(settle(&mut missing, &estimate, 35, at(50)), 25);
    assert_eq!(missing.peek(&limit, units(1), at(50)).retry_after, {
        crate::RetryAfter::Wait(secs(6))
    });
    // Bounds of the caller that are over take nothing: what they counted is over.
    let bounds = Bounds::from_millis(0, 10_000).unwrap();
    let given = FixedLimit { limit: units(10), period: Period::Bounds(bounds) };
    let mut state = FixedWindow::new();
    let estimate = of_window(&mut state, given, 5, at(0));
    assert_eq!(settle(&mut FixedWindow::new(), &estimate, 9, at(9)), 4);
    assert_eq!(settle(&mut FixedWindow::new(), &estimate, 9, at(10)), 0);
}

#[test]
fn an_estimate_of_another_kind_is_not_settled() {
    let limit = Limit::new(units(10), window(10));
    let (mut bucket, mut log) = (TokenBucket::new(), SlidingWindowLog::new());
    let estimate = of_bucket(&mut bucket, limit, 10, at(0));
    let correction = estimate.correction(20);
    assert_eq!(log.settle(&estimate, correction, 1, at(0)), None);
    assert_eq!(FixedWindow::new().settle(&estimate, correction, 1, at(0)), None);
    let estimate = of_log(&mut log, limit, 10, at(0));
    assert_eq!(bucket.settle(&estimate, correction, 1, at(0)), None);
}

fn reservation() -> Reservation {
    let limit = Limit { capacity: units(9), ..Limit::new(units(7), window(60)) };
    let bounds = Bounds::from_millis(5, 9).unwrap();
    let fixed =
        |period| Origin::FixedWindow { limit: FixedLimit { limit: units(3), period }, bounds };
    let log = |resolution| Origin::SlidingWindowLog {
        limit: Limit::new(units(7), window(60)),
        resolution,
        granted_at: at(1),
    };
    let origins = [
        Origin::TokenBucket { limit },
        log(None),
        log(Some(window(1))),
        fixed(Period::every(window(5))),
        fixed(Period::Day),
        fixed(Period::Week),
        fixed(Period::Month),
        fixed(Period::Year),
        fixed(Period::Bounds(bounds)),
    ];
    let estimates = (0..).zip(origins).map(|(number, origin)| Estimate {
        key: vec![b'k'; number],
        cost: units(1 + number as u64),
        origin,
    });
    Reservation::new(estimates.collect(), window(60), at(0)).unwrap()
}

#[test]
fn a_repeated_call_moves_the_end_and_never_back() {
    let mut reservation = reservation();
    let before = reservation.clone();
    assert_eq!(reservation.extend(window(1), at(10)), None);
    let effect = reservation.extend(window(60), at(10)).unwrap();
    assert_eq!(reservation.end(), at(70));
    let mut copy = before.clone();
    assert_eq!(copy.apply(effect.clone()), Ok(()));
    assert_eq!(copy, reservation);
    assert_eq!(copy.apply(effect.clone()), Err(Refused));
    assert_eq!(Reservation::default().apply(effect), Err(Refused));
    let late = ReservationEffect::Extension { time: at(60), end: at(90) };
    assert_eq!(before.clone().apply(late), Err(Refused));
    assert!(!before.has_ended(at(59)) && before.has_ended(at(60)));
}

#[test]
fn a_repeated_call_has_the_same_keys_limits_and_costs() {
    /// A key, a cost and a limit.
    type Call = (Vec<u8>, Units, Quota);
    let reservation = reservation();
    let calls: Vec<Call> = reservation.estimates().iter().map(call_of).collect();
    let is_of = |calls: &[Call]| {
        reservation.is_of(calls.iter().map(|(key, cost, quota)| (&key[..], *cost, quota)))
    };
    assert!(is_of(&calls));
    let changes: [fn(&mut Vec<Call>); 7] = [
        |calls| calls[0].0.push(b'x'),
        |calls| calls[2].1 = units(77),
        |calls| drop(calls.pop()),
        |calls| calls.push(calls[0].clone()),
        |calls| calls.swap(4, 5),
        |calls| calls[4].2 = calls[5].2,
        |calls| calls[1].2 = calls[2].2,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut other = calls.clone();
        change(&mut other);
        assert!(!is_of(&other), "change {number}");
    }
}

/// Returns the call that has reserved an estimate.
fn call_of(estimate: &Estimate) -> (Vec<u8>, Units, Quota) {
    let quota = match estimate.origin {
        Origin::TokenBucket { limit } => Quota::TokenBucket(limit),
        Origin::SlidingWindowLog { limit: Limit { limit, window, .. }, resolution, .. } => {
            let options = LogOptions { resolution, max_entries: 9 };
            Quota::SlidingWindow(LogLimit { limit, window, options })
        }
        Origin::FixedWindow { limit, .. } => Quota::FixedWindow(limit),
    };
    (estimate.key.clone(), estimate.cost, quota)
}

#[test]
fn a_reservation_has_at_least_one_key_and_each_once() {
    let mut estimates = reservation().estimates().to_vec();
    assert_eq!(Reservation::new(Vec::new(), window(1), at(0)), None);
    estimates[3].key = estimates[5].key.clone();
    assert_eq!(Reservation::new(estimates, window(1), at(0)), None);
}

#[test]
fn a_reservation_is_written_and_read_and_damaged_bytes_are_refused_or_usable() {
    let reservation = reservation();
    let mut bytes = Vec::new();
    reservation.encode(&mut bytes);
    assert_eq!(bytes[..2], [2, 16]);
    assert_eq!(Reservation::decode(&bytes), Ok(reservation.clone()));
    let extension = ReservationEffect::Extension { time: Instant::MAX, end: Instant::MAX };
    let mut longest = Vec::new();
    extension.encode(&mut longest);
    assert_eq!(longest.len(), 2 + 9 + 9);
    assert_eq!(ReservationEffect::decode(&longest), Ok(extension));
    for len in 0..bytes.len() {
        let _read = Reservation::decode(&bytes[..len]);
    }
    for place in 0..bytes.len() {
        for change in 1..=255 {
            let mut changed = bytes.clone();
            changed[place] ^= change;
            let Ok(read) = Reservation::decode(&changed) else { continue };
            let mut again = Vec::new();
            read.encode(&mut again);
            assert!(again.len() <= changed.len());
            assert_eq!(Reservation::decode(&again), Ok(read.clone()));
            for estimate in read.estimates() {
                for actual in [0, 1_000_000_000] {
                    let correction = estimate.correction(actual);
                    let _bucket = TokenBucket::new().settle(estimate, correction, 1, at(2));
                    let _log = SlidingWindowLog::new().settle(estimate, correction, 1, at(2));
                    let _window = FixedWindow::new().settle(estimate, correction, 1, at(2));
                }
            }
        }
    }
    let mut nothing = Vec::new();
    Reservation::default().encode(&mut nothing);
    assert_eq!(Reservation::decode(&nothing), Err(DecodeError::Malformed));
}

#[test]
fn buffers_can_be_moved() {
    struct Mover(usize);
    impl BufferVisitor for Mover {
        fn visit<T>(&mut self, buffer: Vec<T>) -> Vec<T> {
            assert!(buffer.capacity() > 0, "every buffer is allocated");
            self.0 += 1;
            let mut moved = Vec::with_capacity(buffer.capacity());
            moved.extend(buffer);
            moved
        }
    }
    let (mut moved, mut mover) = (reservation(), Mover(0));
    for number in 0..moved.buffers() {
        moved.visit_buffers(number..number + 1, &mut mover);
    }
    // The first key is empty.
    assert_eq!((mover.0, &moved), (9, &reservation()));
}

#[test]
fn a_log_gives_nothing_back_to_the_entries_of_other_grants() {
    let limit = LogLimit::new(units(100), window(60));
    let estimate = |log: &SlidingWindowLog| Estimate {
        key: Vec::new(),
        cost: units(60),
        origin: log.origin(&limit).unwrap(),
    };
    let returned = |log: &mut SlidingWindowLog, estimate: &Estimate, now| {
        log.settle(estimate, Correction::Return(units(60)), 9, now).unwrap().units
    };
    // The grant of the reservation has left, and a later grant has removed its entry.
    let mut log = SlidingWindowLog::new();
    log.take(&limit, Request::all(units(60)), at(0));
    let left = estimate(&log);
    log.take(&limit, Request::all(units(90)), at(60));
    assert_eq!(returned(&mut log, &left, at(61)), 0);
    log.take(&limit, Request::all(units(10)), at(62));
    assert_eq!(returned(&mut log, &left, at(63)), 0);
    // The grant has been given back by another call.
    let mut log = SlidingWindowLog::new();
    log.take(&limit, Request::all(units(60)), at(0));
    let given_back = estimate(&log);
    assert_eq!(log.refund(units(59), at(1)).refunded, 59);
    log.take(&limit, Request::all(units(30)), at(2));
    assert_eq!(returned(&mut log.clone(), &given_back, at(3)), -1);
    assert_eq!(log.refund(units(31), at(3)).refunded, 31);
    log.take(&limit, Request::all(units(30)), at(4));
    log.take(&limit, Request::all(units(30)), at(5));
    assert_eq!(returned(&mut log, &given_back, at(6)), 0);
}
