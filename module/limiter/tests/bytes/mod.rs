//! What must hold for any bytes that a server is given to load or to apply. A check that fails
//! panics, and so does the code that it checks.

use std::fmt::Debug;

use limiter::codec::Change;
use limiter::{
    BucketLimit, BufferVisitor, Decision, Demand, Instant, RetryAfter, SlidingWindowLog,
    TokenBucket, Units, Window,
};

use crate::algorithm::Algorithm;
use crate::corpus::pieces;

/// Checks bytes that are loaded as a value: they are refused, or make a state which every
/// operation leaves in order.
pub(crate) fn stored(bytes: &[u8]) {
    let Ok(change) = Change::decode(bytes) else {
        assert_eq!(TokenBucket::decoded(bytes), None);
        assert_eq!(SlidingWindowLog::decoded(bytes), None);
        return;
    };
    let again = encoded(&change);
    assert!(again.len() <= bytes.len(), "nothing is added by reading and writing");
    assert_eq!(Change::decode(&again).as_ref(), Ok(&change));
    match change {
        Change::TokenBucket(bucket) => {
            assert_eq!(SlidingWindowLog::decoded(bytes), None);
            usable(&bucket, bytes);
        }
        Change::SlidingWindowLog(log) => {
            assert_eq!(TokenBucket::decoded(bytes), None);
            usable(&log, bytes);
        }
        change @ (Change::Grant { .. } | Change::Refund { .. }) => {
            let mut key = Key::Missing;
            key.apply(change);
            if let Key::Log(log) = key {
                usable(&log, bytes);
            }
        }
        Change::Deletion => {}
    }
}

/// Checks bytes that are loaded as a value, and then used by calls and by the effects of others.
///
/// The first of the input's [`pieces`] is the value. One that begins with `T` or `R` is a call that
/// takes or gives back; any other is an effect.
///
/// A second key gets nothing but effects, and is stored and loaded again after each of them: it
/// must hold the same.
pub(crate) fn applied(input: &[u8]) {
    let mut pieces = pieces(input);
    let mut first = Key::load(pieces.next().unwrap_or_default());
    let mut second = first.clone();
    let mut now = Instant::from_micros(1_800_000_000_000_000);
    for piece in pieces {
        let effect = match piece.split_first() {
            Some((b'T', fields)) => first.take(&mut Fields(fields), &mut now),
            Some((b'R', fields)) => first.refund(&mut Fields(fields), &mut now),
            _ => {
                let Ok(change) = Change::decode(piece) else { continue };
                let before = first.clone();
                if !first.apply(change) {
                    assert_eq!(first, before, "what is refused changes nothing");
                    continue;
                }
                Effect::Sent(piece.to_vec())
            }
        };
        match effect {
            Effect::None => {}
            Effect::Deleted => second = Key::Missing,
            Effect::Sent(bytes) => {
                let change = Change::decode(&bytes).expect("what is sent can be read");
                assert!(second.apply(change), "what one server has granted, the other accepts");
                second = second.stored_and_loaded();
            }
        }
        assert_eq!(first, second);
    }
}

/// Checks what every operation makes of a state that was read from these bytes.
fn usable<S: Algorithm + limiter::Algorithm>(state: &S, bytes: &[u8]) {
    let (most, fixed) = (8 * bytes.len(), 512);
    let held = capacity_bytes(state);
    assert!(held <= most + fixed, "{held} bytes for an input of {}", bytes.len());
    let (window, times) = moments(bytes);
    for &now in &times {
        for quota in quotas(window) {
            for demand in [Demand::all(S::most(&quota)), Demand::up_to(Units::MAX)] {
                takes(state, &quota, demand, now);
            }
            takes(state, &quota, Demand::all(Units::MIN), now);
        }
        for amount in [1, 1_000, 1_000_000_000].map(Units::new).into_iter().flatten() {
            gives_back(state, amount, now);
        }
    }
}

/// What the buffers of a state can hold. Each is replaced, which the state does not notice.
fn capacity_bytes<S: Algorithm + limiter::Algorithm>(state: &S) -> usize {
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

fn takes<S: Algorithm>(state: &S, quota: &BucketLimit, demand: Demand, now: Instant) {
    let mut after = state.clone();
    let taken = after.take(quota, demand, now);
    assert_eq!(taken.limit, S::most(quota).get());
    assert!(taken.granted <= demand.cost.get().min(taken.limit), "{taken:?}");
    assert!(taken.remaining <= taken.limit, "{taken:?}");
    let peeked = state.peek(quota, demand.cost, now);
    if !demand.partial {
        assert_eq!(peeked.granted, taken.granted);
    }
    let Some(granted) = Units::new(u64::from(taken.granted)) else {
        assert_eq!(&after, state, "a denied call changes nothing");
        assert!(demand.partial || peeked == taken, "{taken:?} is not {peeked:?}");
        wait_suffices(state, quota, demand, now, &taken);
        return;
    };
    assert!(taken.reset_after.as_micros() > 0, "something is used");
    makes(state.clone(), &after.granted(quota, granted, now), &after);
}

/// A call that was denied is granted after its wait. It may be granted before, in a state that no
/// calls lead to: a log whose grants span many windows ahead of the clock.
fn wait_suffices<S: Algorithm>(
    state: &S,
    quota: &BucketLimit,
    demand: Demand,
    now: Instant,
    denied: &Decision,
) {
    let RetryAfter::Wait(wait) = denied.retry_after else { return };
    let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
    let then = now.plus_micros(micros);
    let missing = if demand.partial { Units::MIN } else { demand.cost };
    if then < Instant::MAX {
        assert_eq!(state.peek(quota, missing, then).granted, missing.get(), "{denied:?}");
    }
}

fn gives_back<S: Algorithm>(state: &S, amount: Units, now: Instant) {
    let mut after = state.clone();
    let refund = after.refund(amount, now);
    assert!(refund.refunded <= amount.get(), "{refund:?}");
    match Units::new(u64::from(refund.refunded)) {
        None => assert_eq!(&after, state, "a refund of nothing changes nothing"),
        // The key is deleted.
        Some(_) if refund.reset_after.as_micros() == 0 => {}
        Some(units) => makes(state.clone(), &after.refunded(units, now), &after),
    }
}

/// A change that was sent makes of the state before it the state after it, which can be stored.
fn makes<S: Algorithm>(mut before: S, change: &Change, after: &S) {
    let sent = Change::decode(&encoded(change)).expect("what is sent can be read");
    assert!(before.make(sent), "{change:?} is accepted");
    assert_eq!(&before, after);
    assert_eq!(S::decoded(&after.encoded()).as_ref(), Some(after));
}

/// What a server keeps under one key.
#[derive(Clone, Debug, PartialEq)]
enum Key {
    Missing,
    Bucket(TokenBucket),
    Log(SlidingWindowLog),
}

/// What a call leads to elsewhere.
enum Effect {
    None,
    Deleted,
    Sent(Vec<u8>),
}

impl Key {
    fn load(bytes: &[u8]) -> Self {
        let bucket = TokenBucket::decoded(bytes).map(Self::Bucket);
        bucket.or_else(|| SlidingWindowLog::decoded(bytes).map(Self::Log)).unwrap_or(Self::Missing)
    }

    fn stored_and_loaded(self) -> Self {
        let bytes = match &self {
            Self::Missing => return self,
            Self::Bucket(bucket) => bucket.encoded(),
            Self::Log(log) => log.encoded(),
        };
        Self::load(&bytes)
    }

    /// Makes a change as RATELIMIT.APPLY does; whether that was possible.
    fn apply(&mut self, change: Change) -> bool {
        match (&mut *self, change) {
            (Self::Missing | Self::Bucket(_), Change::TokenBucket(bucket)) => {
                *self = Self::Bucket(bucket);
            }
            (Self::Missing | Self::Log(_), Change::SlidingWindowLog(log)) => *self = Self::Log(log),
            (Self::Log(log), grant @ Change::Grant { .. }) => return log.make(grant),
            (Self::Missing, grant @ Change::Grant { .. }) => {
                let mut log = SlidingWindowLog::new();
                if !log.make(grant) {
                    return false;
                }
                *self = Self::Log(log);
            }
            (Self::Log(log), Change::Refund { time, units })
                if log.refundable(time) > units.get() =>
            {
                return log.make(Change::Refund { time, units });
            }
            (_, Change::Deletion) => *self = Self::Missing,
            _ => return false,
        }
        true
    }

    fn take(&mut self, fields: &mut Fields<'_>, now: &mut Instant) -> Effect {
        let (quota, demand) = (fields.quota(), fields.demand());
        *now = fields.moved(*now);
        let key = match &*self {
            Self::Missing if fields.flag() => Self::Log(SlidingWindowLog::new()),
            Self::Missing => Self::Bucket(TokenBucket::new()),
            key => key.clone(),
        };
        let (key, effect) = match key {
            Self::Bucket(mut bucket) => {
                let effect = taken(&mut bucket, &quota, demand, *now);
                (Self::Bucket(bucket), effect)
            }
            Self::Log(mut log) => {
                let effect = taken(&mut log, &quota, demand, *now);
                (Self::Log(log), effect)
            }
            Self::Missing => (key, Effect::None),
        };
        if let Effect::Sent(_) = effect {
            *self = key;
        } else if *self != Self::Missing {
            assert_eq!(*self, key, "a denied call changes nothing");
        }
        effect
    }

    fn refund(&mut self, fields: &mut Fields<'_>, now: &mut Instant) -> Effect {
        let amount = fields.units();
        *now = fields.moved(*now);
        let effect = match self {
            Self::Missing => Effect::None,
            Self::Bucket(bucket) => given_back(bucket, amount, *now),
            Self::Log(log) => given_back(log, amount, *now),
        };
        if let Effect::Deleted = effect {
            *self = Self::Missing;
        }
        effect
    }
}

fn taken<S: Algorithm>(state: &mut S, quota: &BucketLimit, demand: Demand, now: Instant) -> Effect {
    let granted = state.take(quota, demand, now).granted;
    match Units::new(u64::from(granted)) {
        Some(units) => Effect::Sent(encoded(&state.granted(quota, units, now))),
        None => Effect::None,
    }
}

fn given_back<S: Algorithm>(state: &mut S, amount: Units, now: Instant) -> Effect {
    let refund = state.refund(amount, now);
    match Units::new(u64::from(refund.refunded)) {
        None => Effect::None,
        Some(_) if refund.reset_after.as_micros() == 0 => Effect::Deleted,
        Some(units) => Effect::Sent(encoded(&state.refunded(units, now))),
    }
}

fn encoded(change: &Change) -> Vec<u8> {
    let mut bytes = Vec::new();
    change.encode(&mut bytes);
    bytes
}

/// Limits that a state is asked with: in its own window and in others, small and large.
fn quotas(window: Window) -> impl Iterator<Item = BucketLimit> {
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
        Some(BucketLimit { limit: Units::new(limit)?, window, capacity: Units::new(capacity)? })
    })
}

/// The window of a state with these bytes, and times at which something changes for it: those in
/// its fields, the ones just beside them and a window later, and the ends of time.
fn moments(bytes: &[u8]) -> (Window, Vec<Instant>) {
    let mut fields = Fields(bytes.get(2..).unwrap_or_default());
    let [first, second] = [fields.integer(), fields.integer()];
    // A bucket's fields are its time and its window, a log's are its window and a time, between
    // which may be an age.
    let (time, millis) = match *bytes {
        [2, 6, ..] => (fields.integer(), first),
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

/// Integers that bytes are read as: any bytes are some, and nothing is 0.
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

    fn quota(&mut self) -> BucketLimit {
        let millis = 1 + self.integer() % Window::MAX.as_millis();
        let window = Window::from_millis(millis).unwrap_or(Window::MIN);
        let (limit, capacity) = (self.units(), self.units());
        BucketLimit { limit, window, capacity }
    }

    fn demand(&mut self) -> Demand {
        Demand { cost: self.units(), partial: self.flag() }
    }

    /// This time moved by as many microseconds as the next field says, back if that is odd.
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
