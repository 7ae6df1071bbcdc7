//! Buckets and logs against models that are as simple as possible: exact fractions, and a list of
//! grants. The model of a fixed window is in `fixed_window.rs`. The tests compare whole decisions after every call of long and unlikely histories.

#![allow(clippy::unwrap_used, reason = "a helper that panics fails its test")]

#[allow(dead_code, reason = "the properties use the rest")]
mod arbitrary;
#[allow(dead_code, reason = "the properties use the rest")]
mod state;

use std::fmt::Debug;

use arbitrary::{Call, Clock, Limits, calls};
use limiter::{
    Decision, Duration, Encode, Instant, Limit, Limiter, LogLimit, LogOptions, MAX_USED, Mode,
    Refund, Request, RetryAfter, SlidingWindowLog, TokenBucket, Units, Window,
};
use num_rational::BigRational;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseResult};
use state::State;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(500))]

    /// Any limits, costs, refunds and clocks.
    #[test]
    fn every_answer_equals_that_of_the_model(
        calls in calls(Limits::Changing, Clock::Any, 1..60),
        kinds in vec(kind(), 60),
    ) {
        let calls: Vec<_> = calls.into_iter().zip(kinds).collect();
        compare::<TokenBucket>(&calls)?;
        compare::<SlidingWindowLog>(&calls)?;
    }

    /// The same for logs with any resolution and few entries, for forced grants, and for units
    /// that are given back to their own grant.
    #[test]
    fn every_answer_of_a_log_with_options_equals_that_of_the_model(
        calls in calls(Limits::Changing, Clock::Any, 1..60),
        log_calls in vec(log_call(), 60),
    ) {
        let calls: Vec<_> = calls.into_iter().zip(log_calls).collect();
        compare_logs(&calls)?;
    }

    /// A log whose calls give one resolution has at most `ceil(window / resolution) + 1` entries;
    /// and no window grants more than the limit, whatever the resolution.
    #[test]
    fn a_resolution_bounds_the_entries_and_keeps_the_promise(
        calls in calls(Limits::Same, Clock::Forward, 1..150),
        parts in 1..=20_u64,
    ) {
        let quota = calls[0].quota;
        let resolution = Window::from_millis((quota.window.as_millis() / parts).max(1));
        let options = LogOptions { resolution, ..LogOptions::default() };
        let most = options.entries_per_window(quota.window);
        let limit = LogLimit { options, ..SlidingWindowLog::of(&quota) };
        let (mut log, mut grants) = (SlidingWindowLog::new(), Vec::new());
        for Call { now, request, .. } in calls {
            let granted = log.take(&limit, request, now).granted;
            grants.push((now.as_micros(), u64::from(granted)));
            prop_assert!(entries_of(&log).len() as u64 <= most);
        }
        for (index, (first, _)) in grants.iter().enumerate() {
            let end = first + quota.window.as_micros();
            let within = grants[index..].iter().take_while(|(time, _)| *time < end);
            prop_assert!(within.map(|(_, units)| units).sum::<u64>() <= quota.limit.get().into());
        }
    }

    /// A change of the window rounds parts of a unit. The answers are those of exact fractions,
    /// until the window changes a second time before the bucket is empty.
    #[test]
    fn one_change_of_window_is_exact(calls in calls(Limits::Changing, Clock::Any, 1..60)) {
        compare_with_exact_fractions(&calls)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_time: 20_000, ..config(3) })]

    /// Logs of thousands of entries, with large refunds and limits that change.
    #[test]
    fn every_answer_of_a_long_log_equals_that_of_the_model(
        calls in busy_calls(steady_pause(), 12_000),
    ) {
        compare::<SlidingWindowLog>(&calls)?;
    }

    /// Thousands of calls in the same millisecond.
    #[test]
    fn every_answer_within_a_few_ticks_equals_that_of_the_model(
        calls in busy_calls(0..=1_u64, 2_000),
    ) {
        compare::<TokenBucket>(&calls)?;
        compare::<SlidingWindowLog>(&calls)?;
    }
}

/// The kind of a call.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Take,
    Peek,
    /// Takes the cost in every case.
    Force,
    /// Gives back the cost.
    Refund,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        12 => Just(Kind::Take),
        2 => Just(Kind::Peek),
        1 => Just(Kind::Force),
        2 => Just(Kind::Refund),
    ]
}

/// Microseconds between the calls of a busy key: mostly a tick or two, rarely most of a window.
fn steady_pause() -> impl Strategy<Value = u64> {
    prop_oneof![
        3_000 => 0..=1_u64,
        7_000 => 1..=3_000_u64,
        30 => 1..=100_000_u64,
        2 => 1..=5_000_000_u64,
    ]
}

/// A call of a busy key: its cost, its limit and its kind.
fn busy_call() -> impl Strategy<Value = (u64, u64, Kind)> {
    let cost = prop_oneof![80 => Just(1), 20 => 1..=200_u64, 1 => 1..=100_000_u64];
    let limit = prop_oneof![900 => Just(1_000_000), 50 => 1..=100_000_u64, 5 => Just(1)];
    let kind = prop_oneof![
        2_000 => Just(Kind::Take),
        100 => Just(Kind::Peek),
        4 => Just(Kind::Refund),
    ];
    (cost, limit, kind)
}

/// Calls of a busy key with a window of four seconds, and refunds of a hundred times a call's cost.
fn busy_calls(
    pause: impl Strategy<Value = u64>,
    len: usize,
) -> impl Strategy<Value = Vec<(Call, Kind)>> {
    let window = Window::from_millis(4_000).unwrap();
    vec((pause, busy_call(), prop::bool::weighted(0.2)), len).prop_map(move |calls| {
        let mut now = Instant::from_micros(1_800_000_000_000_000);
        let concrete = |(pause, (cost, limit, kind), partial)| {
            now = now.plus_micros(pause);
            let cost = if matches!(kind, Kind::Refund) { cost * 100 } else { cost };
            let cost = Units::new(cost).unwrap();
            let quota = Limit::new(Units::new(limit).unwrap(), window);
            let request = if partial { Request::partial(cost) } else { Request::all(cost) };
            (Call { now, quota, request }, kind)
        };
        calls.into_iter().map(concrete).collect()
    })
}

/// The plain form of an algorithm. Times and windows are in microseconds.
trait Model: Default + Debug {
    /// Returns the units that can be taken at `now`.
    fn available(&self, quota: &Limit, now: u64) -> u32;

    /// Returns the units in use at `now`, any part of a unit as a whole one.
    fn used_up(&self, quota: &Limit, now: u64) -> u32;

    /// Returns the wait in microseconds until at most `room` units are used. More are used now.
    fn wait(&self, quota: &Limit, room: u32, now: u64) -> u128;

    /// Returns the time in microseconds until nothing is used.
    fn reset(&self, quota: &Limit, now: u64) -> u128;

    fn grant(&mut self, quota: &Limit, units: u32, now: u64);

    /// Returns whether the state has ended.
    fn has_ended(&self, now: u64) -> bool;

    /// Gives back up to `amount`. Returns the units given back, and the time until nothing is used.
    fn refund(&mut self, amount: u32, now: u64) -> (u32, u128);

    fn most(quota: &Limit) -> u32;

    fn take(&mut self, quota: &Limit, request: Request, now: u64) -> Decision {
        let (cost, available) = (request.cost.get(), self.available(quota, now));
        let granted = match request.mode {
            _ if cost <= available => cost,
            Mode::Partial => available,
            Mode::All => 0,
            Mode::Force => cost.min(MAX_USED - self.used_up(quota, now)),
        };
        if granted > 0 {
            self.grant(quota, granted, now);
        }
        let missing =
            if request.mode == Mode::Partial && granted == 0 { 1 } else { cost - granted };
        let most = if request.mode == Mode::Force { MAX_USED } else { Self::most(quota) };
        self.answer(quota, granted, missing, most, now)
    }

    fn peek(&self, quota: &Limit, cost: u32, now: u64) -> Decision {
        let granted = if cost <= self.available(quota, now) { cost } else { 0 };
        self.answer(quota, granted, cost - granted, Self::most(quota), now)
    }

    fn answer(&self, quota: &Limit, granted: u32, missing: u32, most: u32, now: u64) -> Decision {
        let retry_after = match missing {
            0 => RetryAfter::Granted,
            missing if missing > most => RetryAfter::Never,
            _ => RetryAfter::Wait(Duration::from_micros(self.wait(quota, most - missing, now))),
        };
        Decision {
            granted,
            capacity: Self::most(quota),
            remaining: self.available(quota, now),
            retry_after,
            reset_after: Duration::from_micros(self.reset(quota, now)),
        }
    }
}

/// A state with its model.
trait ModelledState: State {
    type Model: Model;
}

impl ModelledState for TokenBucket {
    type Model = BucketModel;
}

impl ModelledState for SlidingWindowLog {
    type Model = LogModel;
}

/// Makes the same calls on a model and on a state, and applies their effects to a copy.
fn compare<A: ModelledState>(calls: &[(Call, Kind)]) -> TestCaseResult {
    let (mut model, mut real, mut copy) = (A::Model::default(), A::default(), A::default());
    for &(call, kind) in calls {
        let Call { now, quota, request } = call;
        let micros = now.as_micros();
        prop_assert_eq!(real.has_ended(now), model.has_ended(micros), "before {:?}", call);
        match kind {
            Kind::Take | Kind::Force => {
                let force = matches!(kind, Kind::Force);
                let request = if force { Request::force(request.cost) } else { request };
                let expected = model.take(&quota, request, micros);
                let decision = real.take(&A::of(&quota), request, now);
                prop_assert_eq!(&decision, &expected, "{:?}", call);
                if let Some(units) = Units::new(decision.granted.into()) {
                    replicate(
                        &mut copy,
                        &real.effect_of_grant(&A::of(&quota), request, units, now),
                    )?;
                }
            }
            Kind::Peek => {
                let expected = model.peek(&quota, request.cost.get(), micros);
                prop_assert_eq!(
                    real.peek(&A::of(&quota), request.cost, now),
                    expected,
                    "{:?}",
                    call
                );
            }
            Kind::Refund => {
                let (refunded, reset) = model.refund(request.cost.get(), micros);
                let refund = real.refund(request.cost, now);
                is_refund(&refund, refunded, reset)?;
                replicate_refund(&mut copy, &real, &refund, now)?;
            }
        }
        prop_assert_eq!(&copy, &real, "{:?}", call);
    }
    Ok(())
}

fn is_refund(refund: &Refund, refunded: u32, reset: u128) -> TestCaseResult {
    let reset = if refunded > 0 { reset } else { 0 };
    prop_assert_eq!((refund.refunded, refund.reset_after.as_micros()), (refunded, reset));
    Ok(())
}

/// Applies an effect to a copy, as a replica does that receives its bytes.
fn replicate<A: State>(copy: &mut A, effect: &A::Effect) -> TestCaseResult {
    let mut bytes = Vec::new();
    effect.encode(&mut bytes);
    prop_assert!(bytes.len() <= A::MAX_EFFECT_BYTES, "{:?}", effect);
    let received = A::Effect::decode(&bytes).map(|effect| copy.apply(effect));
    prop_assert_eq!(received, Ok(Ok(())), "{:?}", effect);
    Ok(())
}

fn replicate_refund<A: State>(
    copy: &mut A,
    real: &A,
    refund: &Refund,
    now: Instant,
) -> TestCaseResult {
    match Units::new(refund.refunded.into()) {
        None => Ok(()),
        // A server deletes the key.
        Some(_) if refund.reset_after == Duration::ZERO => {
            *copy = A::default();
            Ok(())
        }
        Some(units) => replicate(copy, &real.effect_of_refund(units, now)),
    }
}

/// The kind of a call of a log, and its options.
#[derive(Clone, Copy, Debug)]
struct LogCall {
    options: LogOptions,
    kind: Kind,
    /// The number of the grant to whose entry units are given back instead, counted from the
    /// latest.
    to: Option<usize>,
}

fn log_call() -> impl Strategy<Value = LogCall> {
    let resolution = prop_oneof![1 => Just(0), 2 => 1..=20_u64, 2 => 1..=31_622_400_000_u64];
    let kind = prop_oneof![4 => Just(Kind::Take), 2 => Just(Kind::Force), 1 => Just(Kind::Refund)];
    (resolution, 1..=6_u32, kind, prop::option::weighted(0.3, 0..4_usize)).prop_map(
        |(resolution, max_entries, kind, to)| {
            let resolution = Window::from_millis(resolution);
            LogCall { options: LogOptions { resolution, max_entries }, kind, to }
        },
    )
}

/// As [`compare`], with the options of a log, and units that are given back to a grant.
fn compare_logs(calls: &[(Call, LogCall)]) -> TestCaseResult {
    let (mut model, mut real) = (LogModel::default(), SlidingWindowLog::new());
    let (mut copy, mut times) = (SlidingWindowLog::new(), Vec::new());
    for &(Call { now, quota, request }, LogCall { options, kind, to }) in calls {
        let micros = now.as_micros();
        if let Kind::Take | Kind::Force = kind {
            let request =
                if let Kind::Force = kind { Request::force(request.cost) } else { request };
            (model.options, model.forced) = (options, request.mode == Mode::Force);
            let expected = model.take(&quota, request, micros);
            let limit = LogLimit { options, ..SlidingWindowLog::of(&quota) };
            let decision = real.take(&limit, request, now);
            prop_assert_eq!(&decision, &expected);
            if let Some(units) = Units::new(decision.granted.into()) {
                times.insert(0, real.newest_time());
                let effect = real.effect_of_grant(&limit, request, units, now);
                replicate(&mut copy, &effect)?;
            }
        } else if let Some(&granted_at) = to.and_then(|to| times.get(to)) {
            let (refunded, reset) =
                model.give_back(granted_at.as_micros(), request.cost.get(), micros);
            let refund = real.give_back(granted_at, request.cost, now);
            is_refund(&refund, refunded, reset)?;
            match Units::new(refund.refunded.into()) {
                Some(units) if real != SlidingWindowLog::new() => {
                    let effect = SlidingWindowLog::effect_of_return(granted_at, units, now);
                    prop_assert!(real.is_refund(&effect));
                    replicate(&mut copy, &effect)?;
                }
                _ => copy = real.clone(),
            }
        } else {
            let (refunded, reset) = model.refund(request.cost.get(), micros);
            let refund = real.refund(request.cost, now);
            is_refund(&refund, refunded, reset)?;
            replicate_refund(&mut copy, &real, &refund, now)?;
        }
        prop_assert_eq!(&copy, &real);
        prop_assert_eq!(
            SlidingWindowLog::decoded(&real.encoded()).unwrap_or_default(),
            real.clone()
        );
        let entries = model.entries.iter().map(|entry| (entry.time, entry.units));
        prop_assert_eq!(entries_of(&real), entries.collect::<Vec<_>>());
    }
    Ok(())
}

/// The times and units in the bytes of a log.
fn entries_of(log: &SlidingWindowLog) -> Vec<(u64, u32)> {
    let bytes = log.encoded();
    let (mut fields, mut value, mut shift) = (Vec::new(), 0, 0);
    for byte in &bytes[2..] {
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if *byte < 0x80 {
            fields.push(value);
            (value, shift) = (0, 0);
        }
    }
    let before = if bytes[1] == 2 { 1 } else { 2 };
    let mut time = 0;
    let entries = fields[before..].chunks(2).map(|entry| {
        time += entry[0];
        (time, entry[1] as u32)
    });
    entries.collect()
}

/// A number of units, or of microseconds, as an exact fraction.
fn exact(number: impl Into<u128>) -> BigRational {
    BigRational::from_integer(number.into().into())
}

/// `limit / window`, in units per microsecond.
fn rate(quota: &Limit) -> BigRational {
    exact(quota.limit.get()) / exact(quota.window.as_micros())
}

/// A token bucket as a fraction that drains.
#[derive(Clone, Debug)]
struct BucketModel {
    used: BigRational,
    /// The time of the used amount.
    time: u64,
    /// The limit of the latest grant.
    quota: Limit,
    /// True if a change of window rounds parts of a unit up.
    rounds: bool,
}

impl Default for BucketModel {
    fn default() -> Self {
        let quota = Limit::new(Units::MIN, Window::MIN);
        Self { used: exact(0_u32), time: 0, quota, rounds: true }
    }
}

impl BucketModel {
    /// Returns an amount in the parts of another window, rounded up: `window_us * 2^d` parts per
    /// unit, with the smallest `d` such that this is at least 2^45.
    fn in_parts_of(&self, used: BigRational, window: Window) -> BigRational {
        let parts = (0..64).map(|doublings| u128::from(window.as_micros()) << doublings);
        let parts = exact(parts.into_iter().find(|&parts| parts >= 1 << 45).unwrap());
        if self.rounds && self.quota.window != window {
            return (used * &parts).ceil() / &parts;
        }
        used
    }

    /// Returns the faster of the rates of the latest grant and of a call.
    fn rate(&self, quota: &Limit) -> BigRational {
        rate(&self.quota).max(rate(quota))
    }

    /// Returns the used amount at the state's own time, in the parts of the faster rate.
    fn used_before(&self, quota: &Limit) -> BigRational {
        if rate(quota) > rate(&self.quota) {
            return self.in_parts_of(self.used.clone(), quota.window);
        }
        self.used.clone()
    }

    /// Returns whether the state is so far ahead that the distance drains it.
    fn is_far_ahead(&self, quota: &Limit, now: u64) -> bool {
        self.time > now && self.time - now > quota.window.as_micros()
    }

    fn used(&self, quota: &Limit, now: u64) -> BigRational {
        let drained = if self.is_far_ahead(quota, now) {
            self.time - now
        } else {
            now.saturating_sub(self.time)
        };
        let used = self.used_before(quota) - self.rate(quota) * exact(drained);
        used.max(exact(0_u32))
    }

    /// Returns the time until at most `units` are used. More units are used now. When the clock has
    /// reached the state's own time, the amount of that time drains.
    fn time_to_drain_to(&self, units: u32, quota: &Limit, now: u64) -> u128 {
        let excess = self.used_before(quota) - exact(units);
        let drained_at = exact(self.time) + excess / self.rate(quota);
        u128::try_from((drained_at - exact(now)).ceil().to_integer()).unwrap()
    }
}

impl Model for BucketModel {
    fn most(quota: &Limit) -> u32 {
        quota.capacity.get()
    }

    fn available(&self, quota: &Limit, now: u64) -> u32 {
        let available = exact(quota.capacity.get()) - self.used(quota, now);
        u32::try_from(available.floor().to_integer()).unwrap_or(0)
    }

    fn used_up(&self, quota: &Limit, now: u64) -> u32 {
        u32::try_from(self.used(quota, now).ceil().to_integer()).unwrap()
    }

    fn wait(&self, quota: &Limit, room: u32, now: u64) -> u128 {
        self.time_to_drain_to(room, quota, now)
    }

    fn reset(&self, quota: &Limit, now: u64) -> u128 {
        if self.used(quota, now) == exact(0_u32) {
            return 0;
        }
        self.time_to_drain_to(0, quota, now)
    }

    fn grant(&mut self, quota: &Limit, units: u32, now: u64) {
        self.used = self.in_parts_of(self.used(quota, now), quota.window) + exact(units);
        if self.time < now || self.is_far_ahead(quota, now) {
            self.time = now;
        }
        self.quota = *quota;
    }

    fn has_ended(&self, now: u64) -> bool {
        exact(self.time) + &self.used / rate(&self.quota) <= exact(now)
    }

    fn refund(&mut self, amount: u32, now: u64) -> (u32, u128) {
        let quota = self.quota;
        let used = self.used(&quota, now).ceil().to_integer();
        let refunded = amount.min(u32::try_from(used).unwrap());
        if refunded == 0 {
            return (0, 0);
        }
        self.used -= exact(refunded);
        if self.used(&quota, now) == exact(0_u32) {
            *self = Self { rounds: self.rounds, ..Self::default() };
        }
        (refunded, self.reset(&quota, now))
    }
}

/// A bucket of exact fractions decides as the real one does, as long as the window has changed at
/// most once since the bucket was empty, the window of this call included.
fn compare_with_exact_fractions(calls: &[Call]) -> TestCaseResult {
    let mut real = TokenBucket::new();
    let mut model = BucketModel { rounds: false, ..BucketModel::default() };
    let mut changes = 0;
    for call in calls {
        let Call { now, quota, request } = *call;
        let micros = now.as_micros();
        let changes_now = if real.used(&quota, now) == 0 {
            0
        } else {
            changes + u32::from(model.quota.window != quota.window)
        };
        let decision = real.take(&quota, request, now);
        if changes_now <= 1 {
            let expected = model.clone().take(&quota, request, micros);
            prop_assert_eq!(decision, expected, "{:?}", call);
        }
        if decision.granted > 0 {
            model.grant(&quota, decision.granted, micros);
            changes = changes_now;
        }
    }
    Ok(())
}

/// A sliding window log as a list of entries.
#[derive(Debug)]
struct LogModel {
    entries: Vec<Entry>,
    /// The window of the latest grant.
    window: u64,
    /// The options of the present call.
    options: LogOptions,
    /// True if the present call takes its cost in every case.
    forced: bool,
}

/// Grants that count from the same time. Times are in microseconds.
#[derive(Debug)]
struct Entry {
    /// The time of its first grant, while no entry is newer.
    first: Option<u64>,
    /// The time of its latest grant.
    time: u64,
    units: u32,
}

impl Default for LogModel {
    fn default() -> Self {
        let window = Window::MIN.as_micros();
        Self { entries: Vec::new(), window, options: LogOptions::default(), forced: false }
    }
}

impl LogModel {
    /// Returns the time at which the newest grant leaves the window of the latest grant.
    fn end(&self) -> u64 {
        self.entries.last().map_or(0, |newest| newest.time + self.window)
    }

    /// Returns the time from which a grant at `time` does not count for a call with this window.
    fn leaves_at(&self, time: u64, window: u64) -> u64 {
        self.end().min(time + window)
    }

    /// Returns whether a grant counts: it has not left the window, and it is at most a window ahead
    /// of the clock.
    fn counts(&self, time: u64, window: u64, now: u64) -> bool {
        now < self.leaves_at(time, window) && time <= now + window
    }

    fn used(&self, window: u64, now: u64) -> u32 {
        let counted = self.entries.iter().filter(|entry| self.counts(entry.time, window, now));
        counted.map(|entry| entry.units).sum()
    }

    /// Gives units back to the first entry that is not before this time, if it counts.
    fn give_back(&mut self, granted_at: u64, amount: u32, now: u64) -> (u32, u128) {
        let window = self.window;
        let Some(index) = self.entries.iter().position(|entry| entry.time >= granted_at) else {
            return (0, 0);
        };
        if !self.counts(self.entries[index].time, window, now) {
            return (0, 0);
        }
        let refunded = amount.min(self.entries[index].units);
        self.entries[index].units -= refunded;
        if self.entries[index].units == 0 {
            self.entries.remove(index);
            if let Some(newest) = self.entries[..index].last_mut() {
                newest.first = None;
            }
        }
        if self.used(window, now) == 0 {
            *self = Self::default();
        }
        (refunded, self.time_until_newest_left(window, now))
    }

    fn time_until_newest_left(&self, window: u64, now: u64) -> u128 {
        match self.entries.last() {
            Some(newest) if self.used(window, now) > 0 => {
                u128::from(self.leaves_at(newest.time, window) - now)
            }
            _ => 0,
        }
    }
}

impl Model for LogModel {
    fn most(quota: &Limit) -> u32 {
        quota.limit.get()
    }

    fn available(&self, quota: &Limit, now: u64) -> u32 {
        quota.limit.get().saturating_sub(self.used(quota.window.as_micros(), now))
    }

    fn used_up(&self, quota: &Limit, now: u64) -> u32 {
        self.used(quota.window.as_micros(), now)
    }

    /// The oldest grants leave one after the other. Grants ahead of the clock count by then.
    fn wait(&self, quota: &Limit, room: u32, now: u64) -> u128 {
        let window = quota.window.as_micros();
        let left_at = |entry: &Entry| self.leaves_at(entry.time, window);
        let not_left: Vec<_> = self.entries.iter().filter(|entry| now < left_at(entry)).collect();
        let mut used: u32 = not_left.iter().map(|entry| entry.units).sum();
        for entry in not_left {
            used -= entry.units;
            if used <= room {
                return u128::from(left_at(entry) - now);
            }
        }
        0
    }

    fn reset(&self, quota: &Limit, now: u64) -> u128 {
        self.time_until_newest_left(quota.window.as_micros(), now)
    }

    /// A grant shares the newest entry if it lies in the same tick as the entry's first grant, or
    /// if the entry is ahead of the clock; the entry then counts from the later time of both.
    fn grant(&mut self, quota: &Limit, units: u32, now: u64) {
        let window = quota.window.as_micros();
        let resolution = self.options.resolution.map(|resolution| resolution.as_micros());
        let tick = resolution.unwrap_or((window / 1_000).min(1_000)).min(window);
        let counts: Vec<_> =
            self.entries.iter().map(|entry| self.counts(entry.time, window, now)).collect();
        let mut counts = counts.into_iter();
        self.entries.retain(|_| counts.next().unwrap());
        self.window = window;
        let is_full = self.entries.len() >= self.options.max_entries as usize;
        match self.entries.last_mut() {
            Some(newest)
                if self.forced && is_full
                    || now <= newest.time
                    || newest.first.is_some_and(|first| now / tick == first / tick) =>
            {
                newest.time = now.max(newest.time);
                newest.units += units;
            }
            newest => {
                if let Some(newest) = newest {
                    newest.first = None;
                }
                self.entries.push(Entry { first: Some(now), time: now, units });
            }
        }
    }

    fn has_ended(&self, now: u64) -> bool {
        self.end() <= now
    }

    fn refund(&mut self, amount: u32, now: u64) -> (u32, u128) {
        let used = self.used(self.window, now);
        let refunded = amount.min(used);
        if refunded == used {
            if used > 0 {
                *self = Self::default();
            }
            return (refunded, 0);
        }
        let (window, mut left) = (self.window, refunded);
        while let Some(mut newest) = self.entries.pop() {
            if newest.time > now + window {
                continue;
            }
            if newest.units > left {
                newest.units -= left;
                self.entries.push(newest);
                break;
            }
            left -= newest.units;
        }
        (refunded, self.time_until_newest_left(self.window, now))
    }
}
