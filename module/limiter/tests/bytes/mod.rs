//! The checks on any bytes that a server may have to load or to apply. A failed check panics, and
//! so does the code under test.

use std::fmt::Debug;

use limiter::{
    Acquisition, BufferVisitor, Decision, Effect, Encode, Fences, FixedWindow, Instant, Lease,
    LeaseEffect, Leases, Limit, Mode, Refused, Request, Reservation, RetryAfter, SlidingWindowLog,
    Stored, TokenBucket, Units, Window,
};

use crate::corpus::pieces;
use crate::state::State;

/// Checks bytes that are loaded as a value: they are refused, or decode to a state that stays valid
/// after every operation.
pub(crate) fn stored(bytes: &[u8]) {
    let Ok(effect) = Effect::decode(bytes) else {
        assert_eq!(TokenBucket::decoded(bytes), None);
        assert_eq!(SlidingWindowLog::decoded(bytes), None);
        assert_eq!(FixedWindow::decoded(bytes), None);
        return;
    };
    let again = encoded(&effect);
    assert!(again.len() <= bytes.len(), "nothing is added by reading and writing");
    assert_eq!(Effect::decode(&again).as_ref(), Ok(&effect));
    let mut key = Key::Missing;
    let _applied = key.apply(effect);
    match key {
        Key::Missing => {}
        Key::Bucket(bucket) => {
            assert_eq!(SlidingWindowLog::decoded(bytes), None);
            usable(&bucket, bytes);
        }
        Key::Log(log) => {
            assert_eq!(TokenBucket::decoded(bytes), None);
            usable(&log, bytes);
        }
        Key::Leases(leases) => {
            assert_eq!(TokenBucket::decoded(bytes), None);
            leases_usable(&leases);
        }
        Key::Window(window) => {
            assert_eq!(TokenBucket::decoded(bytes), None);
            usable(&window, bytes);
        }
        Key::Reservation(reservation) => {
            assert_eq!(TokenBucket::decoded(bytes), None);
            assert_eq!(Reservation::decode(&encoded(&reservation)).as_ref(), Ok(&reservation));
        }
    }
}

/// Checks bytes that are loaded as a value, and then changed by calls and by effects.
///
/// The first of the input's [`pieces`] is the value. One that begins with `T` or `R` is a call that
/// takes or gives back; any other is an effect.
///
/// A second key receives effects only, and is stored and loaded again after each of them: it must
/// have the same value.
pub(crate) fn applied(input: &[u8]) {
    let mut pieces = pieces(input);
    let mut first = Key::load(pieces.next().unwrap_or_default());
    let mut second = first.clone();
    let mut now = Instant::from_micros(1_800_000_000_000_000);
    for piece in pieces {
        let replicated = match piece.split_first() {
            Some((b'T', fields)) => first.take(&mut Fields(fields), &mut now),
            Some((b'R', fields)) => first.refund(&mut Fields(fields), &mut now),
            _ => {
                let Ok(effect) = Effect::decode(piece) else { continue };
                let before = first.clone();
                if first.apply(effect).is_err() {
                    assert_eq!(first, before, "a refused effect changes nothing");
                    continue;
                }
                Replicated::Effect(piece.to_vec())
            }
        };
        match replicated {
            Replicated::Nothing => {}
            Replicated::Deletion => second = Key::Missing,
            Replicated::Effect(bytes) => {
                let effect = Effect::decode(&bytes).expect("an effect that was encoded");
                second.apply(effect).expect("an effect that one key accepts");
                second = second.stored_and_loaded();
            }
        }
        assert_eq!(first, second);
    }
}

/// Checks every operation on a state that was decoded from these bytes.
fn usable<S: State>(state: &S, bytes: &[u8]) {
    let (most, fixed) = (8 * bytes.len(), 512);
    let held = capacity_bytes(state);
    assert!(held <= most + fixed, "{held} bytes for an input of {}", bytes.len());
    let (window, times) = moments(bytes);
    for &now in &times {
        for quota in quotas(window) {
            for request in [Request::all(S::most(&quota)), Request::partial(Units::MAX)] {
                takes(state, &quota, request, now);
            }
            takes(state, &quota, Request::all(Units::MIN), now);
        }
        for amount in [1, 1_000, 1_000_000_000].map(Units::new).into_iter().flatten() {
            gives_back(state, amount, now);
        }
    }
}

/// Checks every operation on leases, at the times at which each of them begins and ends to count.
fn leases_usable(leases: &Leases) {
    let mut all: Vec<Lease> = Vec::new();
    let mut fences = Fences::new();
    fences.observe(leases.highest_fence());
    let start = |lease: &Lease| lease.expiry.as_micros().saturating_sub(lease.ttl.as_micros());
    leases.visit_counted(
        Instant::from_micros(leases.end().as_micros().saturating_sub(1)),
        |lease| {
            all.push(*lease);
            all.len() < 8
        },
    );
    for lease in all {
        for now in [start(&lease), lease.expiry.as_micros()].map(Instant::from_micros) {
            lease_usable(leases, &lease, fences, now);
        }
    }
    let (held, stored) = (capacity_bytes(leases), encoded(leases).len());
    assert!(held <= 8 * stored + 8_192, "{held} bytes for {stored} that are stored");
}

fn lease_usable(leases: &Leases, lease: &Lease, mut fences: Fences, now: Instant) {
    let Lease { holder, cost, ttl, .. } = *lease;
    let call = Acquisition { holder, limit: Units::MAX, cost, ttl, max_leases: u32::MAX };
    let mut after = leases.clone();
    if let Ok(acquired) = after.acquire(&call, &mut fences, now)
        && let Some(held) = acquired.lease.filter(|_| acquired.has_changed)
    {
        makes_leases(leases, &LeaseEffect::of_acquisition(&call, held.fence, now), &after);
    }
    let mut after = leases.clone();
    if after.renew(&holder, None, ttl, now).has_changed {
        let effect = LeaseEffect::Renewal { time: now, ttl, holders: vec![holder] };
        makes_leases(leases, &effect, &after);
    }
    let mut after = leases.clone();
    if after.release(&holder, None, now) && !after.has_ended(now) {
        makes_leases(leases, &LeaseEffect::Release { time: now, holders: vec![holder] }, &after);
    }
}

/// Checks that an effect on leases before a call gives those after it, which can be stored.
fn makes_leases(before: &Leases, effect: &LeaseEffect, after: &Leases) {
    let received = LeaseEffect::decode(&encoded(effect)).expect("an effect that was encoded");
    let mut replica = before.clone();
    replica.apply(received).expect("an effect that fits the leases");
    assert_eq!(&replica, after, "{effect:?}");
    assert_eq!(Leases::decode(&encoded(after)).as_ref(), Ok(after));
}

/// Returns the size of the buffers of a state. Replaces each of them, which does not change the
/// state.
fn capacity_bytes<S: Stored + Debug + PartialEq>(state: &S) -> usize {
    struct Replaced(usize);
    impl BufferVisitor for Replaced {
        fn visit<T>(&mut self, buffer: Vec<T>) -> Vec<T> {
            let mut other = Vec::with_capacity(buffer.capacity());
            self.0 += buffer.capacity() * size_of::<T>();
            other.extend(buffer);
            other
        }
    }
    let (mut other, mut replaced) = (state.clone(), Replaced(0));
    other.visit_buffers(0..other.buffers(), &mut replaced);
    assert_eq!(&other, state);
    replaced.0
}

fn takes<S: State>(state: &S, quota: &Limit, request: Request, now: Instant) {
    let mut after = state.clone();
    let taken = after.take(&S::of(quota), request, now);
    assert_eq!(taken.capacity, S::most(quota).get());
    assert!(taken.granted <= request.cost.get().min(taken.capacity), "{taken:?}");
    assert!(taken.remaining <= taken.capacity, "{taken:?}");
    let peeked = state.peek(&S::of(quota), request.cost, now);
    if request.mode == Mode::All {
        assert_eq!(peeked.granted, taken.granted);
    }
    let Some(granted) = Units::new(u64::from(taken.granted)) else {
        assert_eq!(&after, state, "a denied call changes nothing");
        assert!(request.mode == Mode::Partial || peeked == taken, "{taken:?} is not {peeked:?}");
        wait_suffices(state, quota, request, now, &taken);
        return;
    };
    assert!(taken.reset_after.as_micros() > 0, "something is used");
    makes(state.clone(), &after.effect_of_grant(&S::of(quota), request, granted, now), &after);
}

/// Checks that a denied call is granted after its wait. It may be granted earlier by a state that
/// no calls can make: a log whose grants span many windows ahead of the clock.
fn wait_suffices<S: State>(
    state: &S,
    quota: &Limit,
    request: Request,
    now: Instant,
    denied: &Decision,
) {
    let RetryAfter::Wait(wait) = denied.retry_after else { return };
    let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
    let then = now.plus_micros(micros);
    let missing = if request.mode == Mode::Partial { Units::MIN } else { request.cost };
    if then < Instant::MAX && !S::is_beyond_promises(then) {
        assert_eq!(state.peek(&S::of(quota), missing, then).granted, missing.get(), "{denied:?}");
    }
}

fn gives_back<S: State>(state: &S, amount: Units, now: Instant) {
    let mut after = state.clone();
    let refund = after.refund(amount, now);
    assert!(refund.refunded <= amount.get(), "{refund:?}");
    match Units::new(u64::from(refund.refunded)) {
        None => assert_eq!(&after, state, "a refund of nothing changes nothing"),
        // The key is deleted.
        Some(_) if refund.reset_after.as_micros() == 0 => {}
        Some(units) => makes(state.clone(), &after.effect_of_refund(units, now), &after),
    }
}

/// Checks that an effect on the state before a call gives the state after it, which can be stored.
fn makes<S: State>(mut before: S, effect: &S::Effect, after: &S) {
    let received = S::Effect::decode(&encoded(effect)).expect("an effect that was encoded");
    before.apply(received).expect("an effect that fits the state");
    assert_eq!(&before, after, "{effect:?}");
    assert_eq!(S::decoded(&after.encoded()).as_ref(), Some(after));
}

/// The value of one key of a server.
#[derive(Clone, Debug, PartialEq)]
enum Key {
    Missing,
    Bucket(TokenBucket),
    Log(SlidingWindowLog),
    Leases(Leases),
    Window(FixedWindow),
    Reservation(Reservation),
}

/// The bytes that replicas receive after a call.
enum Replicated {
    Nothing,
    Deletion,
    Effect(Vec<u8>),
}

impl Key {
    fn load(bytes: &[u8]) -> Self {
        let bucket = TokenBucket::decoded(bytes).map(Self::Bucket);
        let log = || SlidingWindowLog::decoded(bytes).map(Self::Log);
        let leases = || Leases::decode(bytes).ok().map(Self::Leases);
        let window = || FixedWindow::decoded(bytes).map(Self::Window);
        let reservation = || Reservation::decode(bytes).ok().map(Self::Reservation);
        let key = bucket.or_else(log).or_else(leases).or_else(window).or_else(reservation);
        key.unwrap_or(Self::Missing)
    }

    fn stored_and_loaded(self) -> Self {
        let bytes = match &self {
            Self::Missing => return self,
            Self::Bucket(bucket) => bucket.encoded(),
            Self::Log(log) => log.encoded(),
            Self::Leases(leases) => encoded(leases),
            Self::Window(window) => window.encoded(),
            Self::Reservation(reservation) => encoded(reservation),
        };
        Self::load(&bytes)
    }

    /// Applies an effect as RATELIMIT.APPLY does.
    fn apply(&mut self, effect: Effect) -> Result<(), Refused> {
        let key = match (self.clone(), effect) {
            (Self::Missing, Effect::TokenBucket(effect)) => {
                Self::Bucket(applied_to(TokenBucket::new(), effect)?)
            }
            (Self::Bucket(bucket), Effect::TokenBucket(effect)) => {
                Self::Bucket(applied_to(bucket, effect)?)
            }
            (Self::Missing, Effect::SlidingWindowLog(effect)) => {
                Self::Log(applied_to(SlidingWindowLog::new(), effect)?)
            }
            (Self::Log(log), Effect::SlidingWindowLog(effect)) => {
                Self::Log(applied_to(log, effect)?)
            }
            (Self::Missing, Effect::Leases(effect)) => {
                Self::Leases(applied_to(Leases::new(), effect)?)
            }
            (Self::Leases(leases), Effect::Leases(effect)) => {
                Self::Leases(applied_to(leases, effect)?)
            }
            (Self::Missing, Effect::FixedWindow(effect)) => {
                Self::Window(applied_to(FixedWindow::new(), effect)?)
            }
            (Self::Window(window), Effect::FixedWindow(effect)) => {
                Self::Window(applied_to(window, effect)?)
            }
            (Self::Missing, Effect::Reservation(effect)) => {
                Self::Reservation(applied_to(Reservation::default(), effect)?)
            }
            (Self::Reservation(reservation), Effect::Reservation(effect)) => {
                Self::Reservation(applied_to(reservation, effect)?)
            }
            (_, Effect::Deletion) => Self::Missing,
            (
                _,
                Effect::TokenBucket(_)
                | Effect::SlidingWindowLog(_)
                | Effect::Leases(_)
                | Effect::FixedWindow(_)
                | Effect::Reservation(_),
            ) => {
                return Err(Refused);
            }
        };
        *self = key;
        Ok(())
    }

    fn take(&mut self, fields: &mut Fields<'_>, now: &mut Instant) -> Replicated {
        let (quota, request) = (fields.quota(), fields.request());
        *now = fields.moved(*now);
        let key = match &*self {
            Self::Missing => match fields.integer() % 3 {
                0 => Self::Bucket(TokenBucket::new()),
                1 => Self::Log(SlidingWindowLog::new()),
                _ => Self::Window(FixedWindow::new()),
            },
            key => key.clone(),
        };
        let (key, effect) = match key {
            Self::Bucket(mut bucket) => {
                let effect = taken(&mut bucket, &quota, request, *now);
                (Self::Bucket(bucket), effect)
            }
            Self::Log(mut log) => {
                let effect = taken(&mut log, &quota, request, *now);
                (Self::Log(log), effect)
            }
            Self::Window(mut window) => {
                let effect = taken(&mut window, &quota, request, *now);
                (Self::Window(window), effect)
            }
            Self::Missing | Self::Leases(_) | Self::Reservation(_) => (key, Replicated::Nothing),
        };
        if let Replicated::Effect(_) = effect {
            *self = key;
        } else if *self != Self::Missing {
            assert_eq!(*self, key, "a denied call changes nothing");
        }
        effect
    }

    fn refund(&mut self, fields: &mut Fields<'_>, now: &mut Instant) -> Replicated {
        let amount = fields.units();
        *now = fields.moved(*now);
        let effect = match self {
            Self::Missing | Self::Leases(_) | Self::Reservation(_) => Replicated::Nothing,
            Self::Bucket(bucket) => given_back(bucket, amount, *now),
            Self::Log(log) => given_back(log, amount, *now),
            Self::Window(window) => given_back(window, amount, *now),
        };
        if let Replicated::Deletion = effect {
            *self = Self::Missing;
        }
        effect
    }
}

fn taken<S: State>(state: &mut S, quota: &Limit, request: Request, now: Instant) -> Replicated {
    let granted = state.take(&S::of(quota), request, now).granted;
    match Units::new(u64::from(granted)) {
        Some(units) => {
            Replicated::Effect(encoded(&state.effect_of_grant(&S::of(quota), request, units, now)))
        }
        None => Replicated::Nothing,
    }
}

fn given_back<S: State>(state: &mut S, amount: Units, now: Instant) -> Replicated {
    let refund = state.refund(amount, now);
    match Units::new(u64::from(refund.refunded)) {
        None => Replicated::Nothing,
        Some(_) if refund.reset_after.as_micros() == 0 => Replicated::Deletion,
        Some(units) => Replicated::Effect(encoded(&state.effect_of_refund(units, now))),
    }
}

fn applied_to<S: Stored + Debug + PartialEq>(
    mut state: S,
    effect: S::Effect,
) -> Result<S, Refused> {
    let before = state.clone();
    if let Err(refused) = state.apply(effect) {
        assert_eq!(state, before, "a refused effect changes nothing");
        return Err(refused);
    }
    Ok(state)
}

fn encoded(value: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    bytes
}

/// Limits of calls to a state: in its own window and in others, small and large.
fn quotas(window: Window) -> impl Iterator<Item = Limit> {
    const MAX: u64 = 1_000_000_000;
    [
        (1, window, 1),
        (7, window, 3),
        (3, window, MAX),
        (MAX, window, MAX),
        (1_000, Window::MIN, 1_000),
        (1_000, Window::MAX, 1_000),
    ]
    .into_iter()
    .filter_map(|(limit, window, capacity)| {
        Some(Limit { limit: Units::new(limit)?, window, capacity: Units::new(capacity)? })
    })
}

/// Returns the window of a state with these bytes, and times at which its answers change: those in
/// its fields, the times next to them and a window later, the epoch and the latest instant.
fn moments(bytes: &[u8]) -> (Window, Vec<Instant>) {
    let mut fields = Fields(bytes.get(2..).unwrap_or_default());
    let [first, second] = [fields.integer(), fields.integer()];
    // A bucket's fields are its time and its window, a log's are its window and a time, between
    // which may be an age.
    let (time, millis) = match *bytes {
        [2, 6, ..] => (fields.integer(), first),
        // A fixed window's are its units, its begin and its length.
        [2, 7, ..] => (second.saturating_mul(1_000), fields.integer()),
        [_, 2, ..] => (second, first),
        _ => (first, second),
    };
    let window = Window::from_millis(millis).unwrap_or(Window::MIN);
    let mut last = time;
    while !fields.0.is_empty() {
        fields.integer();
        last = last.saturating_add(fields.integer());
    }
    let mut times = vec![0, u64::MAX];
    for time in [time, time.midpoint(last), last] {
        let later = time.saturating_add(window.as_micros());
        times.extend([time.saturating_sub(window.as_micros()), time, later - 1, later]);
    }
    times.sort_unstable();
    times.dedup();
    (window, times.into_iter().map(Instant::from_micros).collect())
}

/// Integers that are read from any bytes; no bytes are 0.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// An unsigned LEB128 integer, cut down to 64 bits.
    fn integer(&mut self) -> u64 {
        let mut value = 0;
        let mut shift = 0_u32;
        while let Some((&byte, rest)) = self.0.split_first() {
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                break;
            }
            shift += 7;
        }
        value
    }

    fn flag(&mut self) -> bool {
        self.integer() % 2 == 1
    }

    fn units(&mut self) -> Units {
        let units = 1 + self.integer() % u64::from(Units::MAX.get());
        Units::new(units).unwrap_or(Units::MIN)
    }

    fn quota(&mut self) -> Limit {
        let millis = 1 + self.integer() % Window::MAX.as_millis();
        let window = Window::from_millis(millis).unwrap_or(Window::MIN);
        let (limit, capacity) = (self.units(), self.units());
        Limit { limit, window, capacity }
    }

    fn request(&mut self) -> Request {
        let cost = self.units();
        if self.flag() { Request::partial(cost) } else { Request::all(cost) }
    }

    /// Returns this time moved by the microseconds of the next field, back if they are odd.
    fn moved(&mut self, now: Instant) -> Instant {
        let step = self.integer();
        let (micros, back) = (step / 2, step % 2 == 1);
        let moved = match back {
            true => now.as_micros().saturating_sub(micros),
            false => now.as_micros().saturating_add(micros),
        };
        Instant::from_micros(moved)
    }
}
