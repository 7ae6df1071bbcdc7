//! Reservations over several keys: in any history each is settled at most once, and the promises of
//! the states hold.

#![allow(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use std::collections::BTreeMap;
use std::fmt::Debug;

use limiter::{
    Correction, Encode, Estimate, FixedLimit, FixedWindow, Instant, Limit, Limiter, LogLimit,
    Origin, Period, Request, Reservation, ReservationEffect, Settle, SlidingWindowLog, Stored,
    TokenBucket, Units, Window,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

const LIMIT: u32 = 20;
const WINDOW_MILLIS: u64 = 10_000;
/// The usual resolution of a window of this length.
const TICK_MICROS: u64 = 1_000;
const START: u64 = 1_800_000_000_000_000;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    /// Promise 12: an estimate is corrected at most once, and only while its reservation counts.
    /// Promise 8: a reservation takes from every key or from none. A replica that receives the
    /// effects has the same states.
    #[test]
    fn a_reservation_is_settled_once_and_takes_all_or_nothing(calls in vec(call(), 1..80)) {
        let (mut server, mut now) = (Server::default(), START);
        let mut settled = BTreeMap::<u8, u32>::new();
        for call in calls {
            now += call.pause;
            let time = Instant::from_micros(now);
            match call.action {
                Action::Reserve { name, cost } => {
                    let lived = server.is_live(name, time);
                    if server.reserve(name, cost, time)? && !lived {
                        settled.insert(name, 0);
                    }
                }
                Action::Settle { name, actual } => {
                    let lived = server.is_live(name, time);
                    let result = server.settle(name, actual, time)?;
                    prop_assert_eq!(result.is_some(), lived);
                    if let Some(units) = result {
                        let count = settled.get_mut(&name).unwrap();
                        *count += 1;
                        prop_assert_eq!(*count, 1, "settled twice");
                        let estimate = i64::from(server.last_cost[&name]);
                        for units in units {
                            let difference = actual.map_or(0, |actual| i64::from(actual) - estimate);
                            prop_assert!(units == difference || difference < 0 && units <= 0 && units >= difference);
                        }
                    }
                }
                Action::Take { cost } => server.take(cost, time),
            }
        }
    }

    /// Promise 2 with returns: in every window, granted units without those that were given back in
    /// the same window are at most the limit, if no settlement charges.
    #[test]
    fn returns_keep_the_promise_of_the_log(
        calls in vec((0..=4_000_000_u64, 1..=20_u32, prop::option::of(0..20_usize), 0..=20_u32), 1..80),
    ) {
        let limit = limit();
        let (mut log, mut now) = (SlidingWindowLog::new(), START);
        let (mut events, mut estimates) = (Vec::new(), Vec::<(u64, Estimate)>::new());
        for (pause, cost, settled, actual) in calls {
            now += pause;
            let time = Instant::from_micros(now);
            let due = settled.filter(|index| *index < estimates.len());
            if let Some((granted, estimate)) = due.map(|index| estimates.remove(index)) {
                let actual = actual.min(estimate.cost.get());
                let correction = estimate.correction(actual);
                let units = log.settle(&estimate, correction, 9, time).unwrap().units;
                // The surplus returns while the grant counts, and never afterwards.
                if now < granted + WINDOW_MILLIS * 1_000 {
                    prop_assert_eq!(units, i64::from(actual) - i64::from(estimate.cost.get()));
                } else if now >= granted + WINDOW_MILLIS * 1_000 + TICK_MICROS {
                    prop_assert_eq!(units, 0);
                }
                events.push((now, units));
            } else {
                let cost = Units::new(cost.into()).unwrap();
                if log.take(&log_limit(), Request::all(cost), time).granted > 0 {
                    let origin = Origin::SlidingWindowLog { limit, resolution: None, granted_at: log.newest_time() };
                    estimates.insert(0, (now, Estimate { key: Vec::new(), cost, origin }));
                    events.push((now, i64::from(cost.get())));
                }
            }
        }
        for (index, (first, _)) in events.iter().enumerate() {
            let mut units = 0;
            for (time, change) in &events[index..] {
                if *time < first + WINDOW_MILLIS * 1_000 {
                    units += change;
                    prop_assert!(units <= i64::from(LIMIT), "{units} from {first}");
                }
            }
        }
    }
}

fn limit() -> Limit {
    Limit::new(Units::new(LIMIT.into()).unwrap(), Window::from_millis(WINDOW_MILLIS).unwrap())
}

fn log_limit() -> LogLimit {
    LogLimit::new(limit().limit, limit().window)
}

fn fixed_limit() -> FixedLimit {
    FixedLimit { limit: limit().limit, period: Period::every(limit().window) }
}

/// A server with one key of each kind, and its replica.
#[derive(Default)]
struct Server {
    bucket: TokenBucket,
    log: SlidingWindowLog,
    window: FixedWindow,
    reservations: BTreeMap<u8, Reservation>,
    /// The costs of the latest reservation.
    last_cost: BTreeMap<u8, u32>,
}

impl Server {
    fn is_live(&self, name: u8, now: Instant) -> bool {
        self.reservations.get(&name).is_some_and(|reservation| !reservation.has_ended(now))
    }

    fn take(&mut self, cost: u32, now: Instant) {
        let request = Request::partial(Units::new(cost.into()).unwrap());
        self.bucket.take(&limit(), request, now);
        self.log.take(&log_limit(), request, now);
        self.window.take(&fixed_limit(), request, now);
    }

    /// Takes from all keys or from none; returns whether the reservation exists.
    fn reserve(&mut self, name: u8, cost: u32, now: Instant) -> Result<bool, TestCaseError> {
        let (cost, ttl) = (Units::new(cost.into()).unwrap(), Window::from_millis(15_000).unwrap());
        if self.is_live(name, now) {
            let reservation = self.reservations.get_mut(&name).unwrap();
            let mut copy = reservation.clone();
            if let Some(effect) = reservation.extend(ttl, now) {
                prop_assert_eq!(copy.apply(received(&effect)), Ok(()));
            }
            prop_assert_eq!(&copy, reservation);
            return Ok(true);
        }
        let peeks = [
            self.bucket.peek(&limit(), cost, now),
            self.log.peek(&log_limit(), cost, now),
            self.window.peek(&fixed_limit(), cost, now),
        ];
        if peeks.iter().any(|peek| peek.granted == 0) {
            return Ok(false);
        }
        let request = Request::all(cost);
        let taken = [
            self.bucket.take(&limit(), request, now),
            self.log.take(&log_limit(), request, now),
            self.window.take(&fixed_limit(), request, now),
        ];
        prop_assert!(taken.iter().all(|taken| taken.granted == cost.get()));
        let (bounds, granted_at) = (self.window.bounds().unwrap(), self.log.newest_time());
        let estimate = |key: &[u8], origin| Estimate { key: key.to_vec(), cost, origin };
        let estimates = vec![
            estimate(b"bucket", Origin::TokenBucket { limit: limit() }),
            estimate(
                b"log",
                Origin::SlidingWindowLog { limit: limit(), resolution: None, granted_at },
            ),
            estimate(b"window", Origin::FixedWindow { limit: fixed_limit(), bounds }),
        ];
        let reservation = Reservation::new(estimates, ttl, now).unwrap();
        let whole = received(&ReservationEffect::Whole(reservation.clone()));
        prop_assert_eq!(whole, ReservationEffect::Whole(reservation.clone()));
        self.reservations.insert(name, reservation);
        self.last_cost.insert(name, cost.get());
        Ok(true)
    }

    /// Corrects the estimates of a reservation that counts, and deletes it.
    fn settle(
        &mut self,
        name: u8,
        actual: Option<u32>,
        now: Instant,
    ) -> Result<Option<Vec<i64>>, TestCaseError> {
        if !self.is_live(name, now) {
            return Ok(None);
        }
        let reservation = self.reservations.remove(&name).unwrap();
        let correction = |estimate: &Estimate| match actual {
            Some(actual) => estimate.correction(actual),
            None => Correction::Nothing,
        };
        let [bucket, log, window]: &[Estimate; 3] = reservation.estimates().try_into().unwrap();
        Ok(Some(vec![
            settled(&mut self.bucket, bucket, correction(bucket), now)?,
            settled(&mut self.log, log, correction(log), now)?,
            settled(&mut self.window, window, correction(window), now)?,
        ]))
    }
}

/// Settles an estimate, and applies the effect to a copy.
fn settled<S: Settle + PartialEq + Debug>(
    state: &mut S,
    estimate: &Estimate,
    correction: Correction,
    now: Instant,
) -> Result<i64, TestCaseError> {
    let mut copy = state.clone();
    let settlement = state.settle(estimate, correction, 4, now).unwrap();
    if let Some(effect) = settlement.effect {
        prop_assert_eq!(copy.apply(received(&effect)), Ok(()));
    } else if settlement.units < 0 {
        copy = S::default();
    }
    same(&copy, state)?;
    Ok(settlement.units)
}

fn same<S: PartialEq + Debug>(copy: &S, state: &S) -> TestCaseResult {
    prop_assert_eq!(copy, state);
    Ok(())
}

/// Returns an effect as a replica receives it.
fn received<E: Encode>(effect: &E) -> E {
    let mut bytes = Vec::new();
    effect.encode(&mut bytes);
    E::decode(&bytes).unwrap()
}

/// One call of a history.
#[derive(Clone, Copy, Debug)]
struct Call {
    /// Microseconds since the call before.
    pause: u64,
    action: Action,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Reserve { name: u8, cost: u32 },
    Settle { name: u8, actual: Option<u32> },
    Take { cost: u32 },
}

fn call() -> impl Strategy<Value = Call> {
    let action = prop_oneof![
        3 => (0..4_u8, 1..=LIMIT).prop_map(|(name, cost)| Action::Reserve { name, cost }),
        3 => (0..4_u8, prop::option::weighted(0.8, 0..=2 * LIMIT))
            .prop_map(|(name, actual)| Action::Settle { name, actual }),
        1 => (1..=5_u32).prop_map(|cost| Action::Take { cost }),
    ];
    let pause = prop_oneof![2 => Just(0), 4 => 0..=3_000_000_u64, 1 => 0..=20_000_000_u64];
    (pause, action).prop_map(|(pause, action)| Call { pause, action })
}
