//! The calls of tests: limits, costs and clocks, with the extremes of every bound.

use std::fmt;

use limiter::{Instant, Limit, Mode, Request, Units, Window};
use proptest::collection::{SizeRange, vec};
use proptest::prelude::*;

/// One call of a history.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) now: Instant,
    pub(crate) quota: Limit,
    pub(crate) request: Request,
}

/// Writes one line, so that a history that breaks a promise is readable.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { now, quota: Limit { limit, window, capacity }, request } = self;
        let partial = if request.mode == Mode::Partial { "up to " } else { "" };
        write!(f, "at {} µs {partial}{}", now.as_micros(), request.cost.get())?;
        write!(f, " of {} in {} ms, burst {}", limit.get(), window.as_millis(), capacity.get())
    }
}

/// The limits of the calls of a history.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limits {
    Same,
    Changing,
}

/// The steps of the clock between the calls of a history.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// The clock stands still or goes forward.
    Forward,
    /// The clock also steps back, and to any time.
    Any,
}

/// Histories of calls. Costs and pauses are relative to the limit of the call, so that grants and
/// denials, and both sides of every bound, are about equally likely.
pub(crate) fn calls(
    limits: Limits,
    clock: Clock,
    len: impl Into<SizeRange>,
) -> impl Strategy<Value = Vec<Call>> {
    let change = match limits {
        Limits::Same => Just(None).boxed(),
        Limits::Changing => prop_oneof![2 => Just(None), 1 => quota().prop_map(Some)].boxed(),
    };
    let step = match clock {
        Clock::Forward => pause().prop_map(Step::Forward).boxed(),
        Clock::Any => step().boxed(),
    };
    let call = (change, step, cost(), prop::bool::weighted(0.3));
    (instant(), quota(), vec(call, len)).prop_map(|(mut now, mut quota, calls)| {
        let concrete = |(change, step, cost, partial): (Option<Limit>, Step, Cost, bool)| {
            quota = change.unwrap_or(quota);
            now = step.from(now, &quota);
            let cost = cost.of(&quota);
            let request = if partial { Request::partial(cost) } else { Request::all(cost) };
            Call { now, quota, request }
        };
        calls.into_iter().map(concrete).collect()
    })
}

/// Units, from one to a billion.
pub(crate) fn units() -> impl Strategy<Value = Units> {
    const MAX: u64 = Units::MAX.get() as u64;
    prop_oneof![
        2 => Just(1),
        3 => 1..=10_u64,
        3 => 1..=1_000_u64,
        1 => 1..=MAX,
        1 => MAX - 1..=MAX,
    ]
    .prop_map(|units| Units::new(units).unwrap())
}

/// Windows, from a millisecond to 366 days. From a thousand milliseconds on, the tick of a log is
/// constant.
pub(crate) fn window() -> impl Strategy<Value = Window> {
    let max = Window::MAX.as_millis();
    prop_oneof![
        1 => Just(1),
        2 => 1..=20_u64,
        1 => 999..=1_001_u64,
        2 => 1..=100_000_u64,
        1 => 1..=max,
        1 => max - 1..=max,
    ]
    .prop_map(|millis| Window::from_millis(millis).unwrap())
}

/// Limits: every second one has a capacity of its own.
pub(crate) fn quota() -> impl Strategy<Value = Limit> {
    let quota = (units(), window(), prop::option::of(units()));
    quota.prop_map(|(limit, window, capacity)| Limit {
        limit,
        window,
        capacity: capacity.unwrap_or(limit),
    })
}

/// Instants: mostly of this century, sometimes near the epoch or the latest instant.
pub(crate) fn instant() -> impl Strategy<Value = Instant> {
    let max = Instant::MAX.as_micros();
    let today = 1_800_000_000_000_000_u64;
    prop_oneof![
        8 => today..=today + 10_000_000,
        1 => 0..=1_u64,
        1 => 0..=1_000_000_u64,
        1 => max - 100_000_000..=max,
        1 => 0..=max,
    ]
    .prop_map(Instant::from_micros)
}

/// A length of time in terms of a limit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pause {
    Micros(u64),
    /// The time in which this many units drain, and some microseconds more or less.
    Units(u64, i64),
    /// Thousandths of the window, and some microseconds more or less.
    Window(u64, i64),
}

impl Pause {
    pub(crate) fn micros(self, quota: &Limit) -> u64 {
        let window = quota.window.as_micros();
        match self {
            Self::Micros(micros) => micros,
            Self::Units(units, more) => {
                (units * window / u64::from(quota.limit.get())).saturating_add_signed(more)
            }
            Self::Window(thousandths, more) => {
                (window / 1_000 * thousandths).saturating_add_signed(more)
            }
        }
    }
}

pub(crate) fn pause() -> impl Strategy<Value = Pause> {
    prop_oneof![
        4 => Just(Pause::Micros(0)),
        2 => (1..=3_000_u64).prop_map(Pause::Micros),
        3 => (1..=10_u64, -1..=1_i64).prop_map(|(units, more)| Pause::Units(units, more)),
        2 => (1..=1_000_u64, -1..=1_i64).prop_map(|(part, more)| Pause::Window(part, more)),
        1 => (1_u64..=3, -1..=1_i64).prop_map(|(many, more)| Pause::Window(many * 1_000, more)),
    ]
}

/// The step of the clock before a call.
#[derive(Clone, Copy, Debug)]
enum Step {
    Forward(Pause),
    Back(Pause),
    To(Instant),
}

impl Step {
    fn from(self, now: Instant, quota: &Limit) -> Instant {
        match self {
            Self::Forward(pause) => now.plus_micros(pause.micros(quota)),
            Self::Back(pause) => {
                Instant::from_micros(now.as_micros().saturating_sub(pause.micros(quota)))
            }
            Self::To(instant) => instant,
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => pause().prop_map(Step::Forward),
        3 => pause().prop_map(Step::Back),
        1 => instant().prop_map(Step::To),
    ]
}

/// A number of units in terms of a limit.
#[derive(Clone, Copy, Debug)]
enum Cost {
    Units(Units),
    ThousandthsOfLimit(u64),
    ThousandthsOfCapacity(u64),
}

impl Cost {
    fn of(self, quota: &Limit) -> Units {
        let part = |whole: Units, thousandths| u64::from(whole.get()) * thousandths / 1_000;
        let units = match self {
            Self::Units(units) => return units,
            Self::ThousandthsOfLimit(thousandths) => part(quota.limit, thousandths),
            Self::ThousandthsOfCapacity(thousandths) => part(quota.capacity, thousandths),
        };
        Units::new(units.clamp(1, u64::from(Units::MAX.get()))).unwrap()
    }
}

fn cost() -> impl Strategy<Value = Cost> {
    prop_oneof![
        4 => Just(Cost::Units(Units::MIN)),
        1 => units().prop_map(Cost::Units),
        2 => (1..=1_010_u64).prop_map(Cost::ThousandthsOfLimit),
        2 => (1..=1_010_u64).prop_map(Cost::ThousandthsOfCapacity),
        1 => Just(Cost::ThousandthsOfCapacity(1_000)),
    ]
}
