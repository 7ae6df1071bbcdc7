//! The fixed window against a model that is as simple as possible, and its promises as properties
//! that try to break them.

#![allow(clippy::unwrap_used, reason = "a helper that panics fails its test")]

use limiter::{
    Anchor, Bounds, Decision, Duration, Encode, FixedLimit, FixedWindow, Instant, Limiter,
    MAX_USED, Mode, Period, Refund, Request, RetryAfter, Stored, Units, Window,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

/// Microseconds of the last instant at which the clock of a fixed window stands still.
const LAST: u64 = Bounds::MAX_MILLIS * 1_000 - 1;
const DAY: u64 = 86_400_000_000;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Any limits, windows, costs, modes, refunds and clocks. A replica that receives the effects
    /// has the same state, also when the state is stored and loaded again.
    #[test]
    fn every_answer_is_the_models(calls in calls(Change::Anything, Clock::Any, 1..60)) {
        let (mut model, mut real, mut copy) = (Model::default(), FixedWindow::new(), FixedWindow::new());
        for call in calls {
            let before = real;
            prop_assert_eq!(real.has_ended(call.now), model.has_ended(call.now), "{:?}", call);
            let changed = match call.action {
                Action::Take => {
                    let taken = real.take(&call.limit, call.request, call.now);
                    prop_assert_eq!(&taken, &model.take(&call), "{:?}", call);
                    taken.granted > 0
                }
                Action::Peek => {
                    let expected = model.clone().take(&Call { request: Request::all(call.request.cost), ..call });
                    let peeked = real.peek(&call.limit, call.request.cost, call.now);
                    prop_assert_eq!((peeked.granted, peeked.retry_after), (expected.granted, expected.retry_after));
                    prop_assert_eq!(peeked.remaining, model.remaining(&call));
                    prop_assert_eq!(peeked.reset_after, model.reset(&call));
                    false
                }
                Action::Refund => {
                    let refund = real.refund(call.request.cost, call.now);
                    prop_assert_eq!(refund, model.refund(&call), "{:?}", call);
                    refund.refunded > 0
                }
            };
            if changed {
                prop_assert_eq!(before.is_refund(&real), matches!(call.action, Action::Refund) && real != FixedWindow::new());
                copy = if real == FixedWindow::new() { real } else { received(&real)? };
            } else {
                prop_assert_eq!(real, before, "nothing was granted: {:?}", call);
            }
            prop_assert_eq!(copy, real);
        }
    }

    /// Promise 10: in every window, granted units are at most the limit, if all calls name the same
    /// windows. Returned units count as negative grants.
    #[test]
    fn no_window_grants_more_than_the_limit(calls in calls(Change::Nothing, Clock::Forward, 1..100)) {
        let (mut state, mut windows) = (FixedWindow::new(), std::collections::BTreeMap::new());
        for call in calls {
            let window = naive_window(call.limit.period, call.now.as_micros());
            let granted = windows.entry(window).or_insert(0_i64);
            match call.action {
                Action::Refund => {
                    *granted -= i64::from(state.refund(call.request.cost, call.now).refunded);
                    prop_assert!(*granted >= 0);
                }
                _ => *granted += i64::from(state.take(&call.limit, unforced(call.request), call.now).granted),
            }
            prop_assert!(*granted <= i64::from(call.limit.limit.get()), "{:?}", call);
        }
    }

    /// Promises 3 and 5: after any history a denied call is granted after `retry_after` and not
    /// before; and no time in an answer lies beyond the end of the state.
    #[test]
    fn waits_are_tight(calls in calls(Change::Anything, Clock::Any, 1..40)) {
        let mut state = FixedWindow::new();
        for call in calls {
            let decision = state.take(&call.limit, call.request, call.now);
            if call.limit.period.bounds_at(call.now).is_none() || call.now.as_micros() >= LAST - 10_000 * DAY {
                continue;
            }
            let RetryAfter::Wait(wait) = decision.retry_after else {
                let fits = call.request.cost <= call.limit.limit;
                prop_assert!(decision.granted > 0 || !fits || decision.retry_after == RetryAfter::Granted);
                continue;
            };
            let missing = match (decision.granted, call.request.mode) {
                (0, Mode::Partial) => Units::MIN,
                (granted, _) => Units::new(u64::from(call.request.cost.get() - granted)).unwrap(),
            };
            // The calendar window of a caller may end before the wait; the later call has other
            // bounds.
            let limit = FixedLimit { period: Period::Day, ..call.limit };
            let granted_after = |micros: u128| {
                let then = call.now.plus_micros(u64::try_from(micros).unwrap());
                state.peek(&limit, missing, then).granted == missing.get()
            };
            prop_assert!(granted_after(wait.as_micros()), "{:?} {:?}", call, decision);
            prop_assert!(!granted_after(wait.as_micros() - 1), "{:?} {:?}", call, decision);
            prop_assert!(state.has_ended(call.now.plus_micros(wait.as_micros() as u64)));
            prop_assert!(!state.has_ended(call.now.plus_micros(wait.as_micros() as u64 - 1)));
            prop_assert!(decision.reset_after == wait);
        }
    }

    /// Promise 6: a step back of at most one window grants nothing that a clock that stood still
    /// would not have granted.
    #[test]
    fn a_step_back_of_up_to_a_window_grants_nothing_extra(
        calls in calls(Change::Nothing, Clock::Any, 1..60),
    ) {
        let (mut state, mut newest) = (FixedWindow::new(), Instant::EPOCH);
        for mut call in calls {
            let length = state.bounds().map_or(0, |bounds| bounds.end_millis() - bounds.begin_millis());
            let begin = state.bounds().map_or(0, |bounds| bounds.begin_millis() * 1_000);
            call.now = call.now.max(Instant::from_micros(begin.saturating_sub(length * 1_000)));
            let request = unforced(call.request);
            let stood_still = state.clone().take(&call.limit, request, call.now.max(newest));
            let decision = state.take(&call.limit, request, call.now);
            prop_assert!(decision.granted <= stood_still.granted, "{:?}", call);
            if decision.granted > 0 {
                newest = newest.max(call.now);
            }
        }
    }

    /// Promise 6, the other half: at any instant, or two windows later, one unit is granted,
    /// whatever the clock was before.
    #[test]
    fn no_clock_blocks_a_key_for_more_than_two_windows(
        calls in calls(Change::Nothing, Clock::Any, 1..40),
        right in instant(),
        behind in 0..=800 * DAY,
        near in any::<bool>(),
    ) {
        let mut state = FixedWindow::new();
        for call in &calls {
            state.take(&call.limit, unforced(call.request), call.now);
        }
        let last = calls.last().unwrap();
        let right = if near { Instant::from_micros(last.now.as_micros().saturating_sub(behind)) } else { right };
        let Some(bounds) = state.bounds() else { return Ok(()) };
        let two_windows = 2 * 1_000 * (bounds.end_millis() - bounds.begin_millis());
        prop_assume!(right.as_micros() + two_windows < LAST);
        let granted = |now| state.peek(&last.limit, Units::MIN, now).granted == 1;
        prop_assert!(granted(right) || granted(right.plus_micros(two_windows)));
    }

    /// No bytes make the decoder panic, nor any call on a decoded state; and the bytes of a decoded
    /// state decode to the same state.
    #[test]
    fn any_bytes_are_harmless(
        fields in vec(prop_oneof![0..=127_u8, any::<u8>()], 0..24),
        calls in calls(Change::Anything, Clock::Any, 1..10),
    ) {
        bytes_are_harmless(&[&[2, 7], &fields[..]].concat(), &calls)?;
    }

    /// The same for every truncation and every flipped bit of encoded bytes.
    #[test]
    fn damaged_bytes_are_harmless(calls in calls(Change::Anything, Clock::Any, 1..10)) {
        let mut state = FixedWindow::new();
        for call in &calls {
            state.take(&call.limit, call.request, call.now);
        }
        let bytes = encoded(&state);
        for len in 0..bytes.len() {
            bytes_are_harmless(&bytes[..len], &calls)?;
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            bytes_are_harmless(&flipped, &calls)?;
        }
    }
}

fn encoded(state: &FixedWindow) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    bytes
}

/// Returns the state of a replica that receives an effect, after the state was stored and loaded.
fn received(effect: &FixedWindow) -> Result<FixedWindow, TestCaseError> {
    let bytes = encoded(effect);
    prop_assert!(bytes.len() <= FixedWindow::MAX_EFFECT_BYTES);
    let mut copy = FixedWindow::new();
    copy.apply(FixedWindow::decode(&bytes).unwrap()).unwrap();
    Ok(FixedWindow::decode(&encoded(&copy)).unwrap())
}

fn bytes_are_harmless(bytes: &[u8], calls: &[Call]) -> TestCaseResult {
    let Ok(mut state) = FixedWindow::decode(bytes) else { return Ok(()) };
    prop_assert_eq!(FixedWindow::decode(&encoded(&state)), Ok(state));
    prop_assert!(encoded(&state).len() <= bytes.len());
    for call in calls {
        let taken = state.take(&call.limit, call.request, call.now);
        prop_assert!(taken.granted <= call.request.cost.get());
        state.refund(call.request.cost, call.now);
        let _peeked = state.peek(&call.limit, call.request.cost, call.now);
    }
    Ok(())
}

fn unforced(request: Request) -> Request {
    if request.mode == Mode::Force { Request::all(request.cost) } else { request }
}

/// The plain form of a fixed window: units, begin and end, in microseconds.
#[derive(Clone, Debug, Default)]
struct Model {
    used: u32,
    begin: u64,
    end: u64,
}

impl Model {
    fn has_ended(&self, now: Instant) -> bool {
        self.end <= now.as_micros().min(LAST)
    }

    /// Returns the units that count, and the time for which a call is decided.
    fn at(&self, now: Instant) -> (u32, u64) {
        let now = now.as_micros().min(LAST);
        if now >= self.end || self.begin > now && self.begin - now > self.end - self.begin {
            return (0, now);
        }
        (self.used, now.max(self.begin))
    }

    fn remaining(&self, call: &Call) -> u32 {
        call.limit.limit.get().saturating_sub(self.at(call.now).0)
    }

    fn reset(&self, call: &Call) -> Duration {
        let time = call.now.as_micros().min(LAST);
        let reset = if self.at(call.now).0 > 0 { self.end - time } else { 0 };
        Duration::from_micros(u128::from(reset))
    }

    fn take(&mut self, call: &Call) -> Decision {
        let Call { now, limit, request, .. } = *call;
        let (used, time) = self.at(now);
        let (cost, most) = (request.cost.get(), limit.limit.get());
        let granted = match request.mode {
            _ if used.checked_add(cost).is_some_and(|sum| sum <= most) => cost,
            Mode::All => 0,
            Mode::Partial => most.saturating_sub(used),
            Mode::Force => cost.min(MAX_USED - used),
        };
        let outside = match limit.period {
            Period::Bounds(bounds) => !bounds.contains(now),
            _ => false,
        };
        if outside && granted > 0 {
            return Decision {
                granted: 0,
                capacity: most,
                remaining: self.remaining(call),
                retry_after: RetryAfter::Never,
                reset_after: self.reset(call),
            };
        }
        if granted > 0 {
            let (begin, end) = naive_window(limit.period, time);
            let now = now.as_micros().min(LAST);
            // A state ahead of the clock keeps its window, unless the other one contains its begin
            // and counts now.
            let replaces = time == now
                || (begin..end).contains(&time) && begin.saturating_sub(now) <= end - begin;
            let (begin, end) = if replaces { (begin, end) } else { (self.begin, self.end) };
            *self = Self { used: used + granted, begin, end };
        }
        let missing = match (granted, request.mode) {
            (0, Mode::Partial) => 1,
            _ => cost - granted,
        };
        let wait =
            Duration::from_micros(u128::from(self.end.saturating_sub(now.as_micros().min(LAST))));
        Decision {
            granted,
            capacity: most,
            remaining: self.remaining(call),
            retry_after: match missing {
                0 => RetryAfter::Granted,
                missing if missing > most && request.mode != Mode::Force => RetryAfter::Never,
                _ => RetryAfter::Wait(wait),
            },
            reset_after: self.reset(call),
        }
    }

    fn refund(&mut self, call: &Call) -> Refund {
        let refunded = call.request.cost.get().min(self.at(call.now).0);
        if refunded > 0 {
            self.used -= refunded;
            if self.used == 0 {
                *self = Self::default();
            }
        }
        let reset_after = if refunded > 0 { self.reset(call) } else { Duration::ZERO };
        Refund { refunded, reset_after }
    }
}

/// Returns the window in which a time lies, counted from the epoch.
fn naive_window(period: Period, micros: u64) -> (u64, u64) {
    const MAX: u64 = Bounds::MAX_MILLIS * 1_000;
    let micros = micros.min(LAST);
    let day = micros / DAY;
    let (begin, end) = match period {
        Period::Length(length, anchor) => {
            let (length, anchor) =
                (i128::from(length.as_micros()), i128::from(anchor.as_secs()) * 1_000_000);
            let begin = anchor + (i128::from(micros) - anchor).div_euclid(length) * length;
            return (begin.max(0) as u64, ((begin + length) as u64).min(MAX));
        }
        Period::Day => (day, day + 1),
        Period::Week if day < 4 => (0, 4),
        Period::Week => (day - (day - 4) % 7, day - (day - 4) % 7 + 7),
        Period::Month | Period::Year => {
            let (mut first, mut year) = (0, 1970);
            let leap = |year: u64| {
                year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
            };
            while first + 365 + u64::from(leap(year)) <= day {
                first += 365 + u64::from(leap(year));
                year += 1;
            }
            let february = 28 + u64::from(leap(year));
            let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            if period == Period::Year {
                (first, first + months.iter().sum::<u64>())
            } else {
                let mut month = 0;
                while first + months[month] <= day {
                    first += months[month];
                    month += 1;
                }
                (first, first + months[month])
            }
        }
        Period::Bounds(bounds) => {
            return (bounds.begin_millis() * 1_000, bounds.end_millis() * 1_000);
        }
    };
    (begin * DAY, (end * DAY).min(MAX))
}

/// One call of a history.
#[derive(Clone, Copy, Debug)]
struct Call {
    now: Instant,
    limit: FixedLimit,
    request: Request,
    action: Action,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Take,
    Peek,
    Refund,
}

/// The parts of a call that change within a history: limit and windows, or neither.
#[derive(Clone, Copy)]
enum Change {
    Nothing,
    Anything,
}

/// The movement of the clock between the calls of a history.
#[derive(Clone, Copy)]
enum Clock {
    Forward,
    Any,
}

/// A step of the clock.
#[derive(Clone, Copy, Debug)]
enum Step {
    Forward(u64),
    Back(u64),
    To(Instant),
    /// To the end of the present window, and some microseconds more or less.
    ToEnd(i64),
    /// To one window before the begin of the present window, and some microseconds more or less.
    WindowBefore(i64),
}

/// The parts of a call: the limit if it changes, the step of the clock, the mode, the cost in
/// thousandths of the limit, the action, and the bounds of the caller relative to the time.
type Raw = (Option<FixedLimit>, Step, Mode, u64, Action, Option<(u64, u64, u64)>);

fn calls(
    change: Change,
    clock: Clock,
    len: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<Call>> {
    let limits = match change {
        Change::Nothing => Just(None).boxed(),
        Change::Anything => prop_oneof![2 => Just(None), 1 => limit().prop_map(Some)].boxed(),
    };
    let forward = prop_oneof![
        3 => Just(Step::Forward(0)),
        2 => (0..=2_000_u64).prop_map(Step::Forward),
        2 => (0..=DAY).prop_map(Step::Forward),
        1 => (0..=40 * DAY).prop_map(Step::Forward),
        2 => (-1..=1_i64).prop_map(Step::ToEnd),
    ];
    let step = match clock {
        Clock::Forward => forward.boxed(),
        Clock::Any => prop_oneof![
            6 => forward,
            1 => (0..=DAY).prop_map(Step::Back),
            1 => (0..=400 * DAY).prop_map(Step::Back),
            1 => (-1..=1_i64).prop_map(Step::WindowBefore),
            1 => instant().prop_map(Step::To),
        ]
        .boxed(),
    };
    let mode = prop_oneof![4 => Just(Mode::All), 2 => Just(Mode::Partial), 1 => Just(Mode::Force)];
    let action =
        prop_oneof![5 => Just(Action::Take), 1 => Just(Action::Peek), 1 => Just(Action::Refund)];
    let cost = prop_oneof![3 => Just(1), 3 => 1..=1_100_u64];
    let given = prop::option::weighted(0.2, (0..=DAY / 1_000, 0..=DAY / 1_000, 0..=2_u64));
    let call = (limits, step, mode, cost, action, given);
    (instant(), limit(), vec(call, len)).prop_map(move |(mut now, mut limit, calls)| {
        let concrete = |(next, step, mode, cost, action, given): Raw| {
            limit = next.unwrap_or(limit);
            now = moved(now, step, limit.period);
            if let (Change::Anything, Some((before, after, shift))) = (change, given) {
                // Bounds around the time, or just beside it.
                let millis =
                    (now.as_micros().min(LAST) / 1_000).saturating_add(shift).saturating_sub(1);
                let end = (millis + after).min(Bounds::MAX_MILLIS);
                let given = Bounds::from_millis(millis.saturating_sub(before), end);
                limit.period = given.map_or(limit.period, Period::Bounds);
            }
            let cost = match cost {
                1 => 1,
                thousandths => {
                    (u64::from(limit.limit.get()) * thousandths / 1_000).clamp(1, 1_000_000_000)
                }
            };
            let request = Request { cost: Units::new(cost).unwrap(), mode };
            Call { now, limit, request, action }
        };
        calls.into_iter().map(concrete).collect()
    })
}

fn moved(now: Instant, step: Step, period: Period) -> Instant {
    let (begin, end) = naive_window(period, now.as_micros());
    let micros = match step {
        Step::Forward(micros) => now.as_micros().saturating_add(micros),
        Step::Back(micros) => now.as_micros().saturating_sub(micros),
        Step::To(instant) => instant.as_micros(),
        Step::ToEnd(more) => end.saturating_add_signed(more),
        Step::WindowBefore(more) => (2 * begin).saturating_sub(end).saturating_add_signed(more),
    };
    Instant::from_micros(micros)
}

fn limit() -> impl Strategy<Value = FixedLimit> {
    let limit = prop_oneof![3 => 1..=10_u64, 2 => 1..=1_000_u64, 1 => Just(1_000_000_000)];
    (limit, period())
        .prop_map(|(limit, period)| FixedLimit { limit: Units::new(limit).unwrap(), period })
}

fn period() -> impl Strategy<Value = Period> {
    let length =
        prop_oneof![1..=1_000_u64, 1..=100_000_000_u64, 31_622_399_000..=31_622_400_000_u64];
    let anchor = prop_oneof![2 => Just(0), 1 => 0..=253_402_300_799_u64];
    prop_oneof![
        3 => (length, anchor).prop_map(|(length, anchor)| {
            Period::Length(Window::from_millis(length).unwrap(), Anchor::from_secs(anchor).unwrap())
        }),
        1 => Just(Period::Day),
        1 => Just(Period::Week),
        1 => Just(Period::Month),
        1 => Just(Period::Year),
    ]
}

fn instant() -> impl Strategy<Value = Instant> {
    let today = 1_800_000_000_000_000_u64;
    prop_oneof![
        8 => today..=today + 400 * DAY,
        2 => 0..=today * 7,
        1 => 0..=10 * DAY,
        1 => LAST - DAY..=LAST + DAY,
        1 => Just(Instant::MAX.as_micros()),
    ]
    .prop_map(Instant::from_micros)
}
