//! The fixed window: at most the limit in each window, and the whole quota back at its end.
//!
//! ```text
//!  used
//!    limit ┤        ╭───────┤           at the end of the window
//!          │    ╭───╯       │   ╭────   nothing is used any more
//!          │ ╭──╯           │ ╭─╯
//!        0 ┼─╯              ╰─╯
//!            ◀─── window ──▶ ◀─── window ──▶  time
//! ```
//!
//! It is the counter that most services keep for quotas (per day, per billing month); a
//! [`Period`] lays the windows. The state is what was used, and the window in which it counts. A
//! call takes constant time, and the state 16 bytes.
//!
//! # Calls that lay other windows
//!
//! A state counts until the end of its own window, whatever window a call has: until then `used`
//! carries over, and a granted call makes its own window that of the state. Two windows therefore
//! need two keys: with one key, the shorter window ends what was counted for the longer one.
//!
//! # Clocks that step
//!
//! If the window of the state begins after now, by at most its own length, a call is decided as if
//! the clock stood at that begin: a step back into an earlier window grants nothing. If it begins
//! later, the state comes from a clock that was wrong, and does not count. A call replaces the
//! window of a state ahead of the clock only by one that counts now and contains that begin.
//!
//! # Debt
//!
//! A call with [`Mode::Force`](crate::Mode::Force) takes its cost also above the limit. The debt
//! ends with the window.

use core::fmt;
use core::ops::Range;

use crate::algorithm::Algorithm;
use crate::buffers::BufferVisitor;
use crate::calendar::{Bounds, Period};
use crate::codec::{self, DecodeError, Encode, Fields, Kind};
use crate::decision::{Decision, Refund, RetryAfter};
use crate::limits::{MAX_USED, Missing, Request, Units, Window};
use crate::math::Exact;
use crate::state::Limiter;
use crate::stored::{Refused, Stored};
use crate::time::{Duration, Instant};

/// The units that callers may take in each window: the limit of a [`FixedWindow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedLimit {
    /// Units per window.
    pub limit: Units,
    /// The rule that lays the windows.
    pub period: Period,
}

/// The state of a fixed window, in 16 bytes: what was used, and the window in which it counts.
///
/// The window and the note share 12 bytes: the end of a window in milliseconds has 48 bits, and its
/// length 35. See [`Stored::note`]: the note is 1 or 0, and is lost with the window.
#[derive(Clone, Copy)]
pub struct FixedWindow {
    /// Units used; none if and only if the state is the default one.
    used: u32,
    /// The low bits of the length of the window.
    length_low: u32,
    /// From the lowest bit on: the end of the window, the high bits of its length, the note.
    end: u64,
}

const END_BITS: u32 = 48;
const LENGTH_HIGH_BITS: u32 = 3;
const NOTE_BIT: u64 = 1 << (END_BITS + LENGTH_HIGH_BITS);
const _: () = assert!(Bounds::MAX_MILLIS >> END_BITS == 0);
const _: () = assert!(Window::MAX.as_millis() >> (u32::BITS + LENGTH_HIGH_BITS) == 0);

/// States with other notes are equal.
impl PartialEq for FixedWindow {
    fn eq(&self, other: &Self) -> bool {
        self.used == other.used && self.has_window_of(other)
    }
}

impl Eq for FixedWindow {}

impl Default for FixedWindow {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FixedWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, begin, end) = (self.used, self.begin_millis(), self.end_millis());
        write!(f, "FixedWindow {{ used: {used}, begin: {begin} ms, end: {end} ms }}")
    }
}

/// Every call has a constant cost.
impl Limiter for FixedWindow {
    type Limit = FixedLimit;

    const ALGORITHM: Algorithm = Algorithm::FixedWindow;

    /// Version, kind, the units, the begin and the length of the window.
    const MAX_EFFECT_BYTES: usize = 2 + 5 + 7 + 5;

    /// Bounds that do not contain `now` grant nothing, and have no wait after which they would.
    #[inline(always)]
    fn is_open(limit: &FixedLimit, now: Instant) -> bool {
        match limit.period {
            Period::Bounds(bounds) => bounds.contains(now),
            _ => true,
        }
    }

    #[inline(always)]
    fn take(&mut self, limit: &FixedLimit, request: Request, now: Instant) -> Decision {
        let view = self.view(now);
        let granted = request.granted_of(view.available(limit.limit), || view.used);
        if granted == 0 {
            return view.decision(limit.limit, 0, request.missing_after(0));
        }
        let Some(bounds) = self.window_of(limit.period, &view) else {
            return view.outside(limit.limit);
        };
        let view = View { used: view.used.plus(granted), end: bounds.end(), ..view };
        *self = Self::with(view.used, bounds).with_note_of(self);
        view.decision(limit.limit, granted, request.missing_after(granted))
    }

    fn peek(&self, limit: &FixedLimit, cost: Units, now: Instant) -> Decision {
        let (view, request) = (self.view(now), Request::all(cost));
        let granted = request.granted_of(view.available(limit.limit), || view.used);
        if granted > 0 && self.window_of(limit.period, &view).is_none() {
            return view.outside(limit.limit);
        }
        view.decision(limit.limit, granted, request.missing_after(granted))
    }

    fn refund(&mut self, amount: Units, now: Instant) -> Refund {
        let before = self.view(now);
        let refunded = amount.get().min(before.used);
        if refunded == 0 {
            return Refund::NOTHING;
        }
        let after = View { used: before.used.minus(refunded), ..before };
        *self = if after.used == 0 { Self::new() } else { Self { used: after.used, ..*self } };
        Refund { refunded, reset_after: after.reset_after() }
    }

    fn effect_of_grant(&self, _: &FixedLimit, _: Request, _: Units, _: Instant) -> Self {
        *self
    }

    fn effect_of_refund(&self, _units: Units, _now: Instant) -> Self {
        *self
    }

    /// A refund leaves the window; a grant uses more units, or changes the window.
    fn is_refund(&self, effect: &Self) -> bool {
        effect.used < self.used && *effect == Self { used: effect.used, ..*self }
    }
}

impl FixedWindow {
    /// A window of which nothing is used.
    #[must_use]
    pub const fn new() -> Self {
        Self { used: 0, length_low: 0, end: 0 }
    }

    /// Takes so many units in every case, up to [`MAX_USED`]: in the window of the state, and
    /// without a state that counts in that of the limit. Returns the units that were taken and the
    /// time until the window ends.
    pub(crate) fn charge(
        &mut self,
        limit: &FixedLimit,
        units: Units,
        now: Instant,
    ) -> (u32, Duration) {
        let view = self.view(now);
        if view.used == 0 {
            let decision = self.take(limit, Request::force(units), now);
            return (decision.granted, decision.reset_after);
        }
        let granted = units.get().min(MAX_USED.minus(view.used));
        self.used = view.used.plus(granted);
        (granted, view.reset_after())
    }

    /// Returns a time after that of the change whose effect is this state: the end of the window.
    #[must_use]
    pub(crate) fn latest_time(&self) -> Instant {
        Instant::from_micros(self.end_millis().times(1_000))
    }

    /// The window in which the state counts, or `None` if nothing is used.
    #[must_use]
    pub fn bounds(&self) -> Option<Bounds> {
        Bounds::from_millis(self.begin_millis(), self.end_millis())
    }

    fn with(used: u32, bounds: Bounds) -> Self {
        let end = bounds.end_millis();
        let length = end.minus(bounds.begin_millis());
        Self { used, length_low: length as u32, end: end | length >> u32::BITS << END_BITS }
    }

    /// Returns the same state with the note of the state before, if both have the same window.
    #[inline(always)]
    fn with_note_of(self, before: &Self) -> Self {
        if self.has_window_of(before) { Self { used: self.used, ..*before } } else { self }
    }

    #[inline(always)]
    fn has_window_of(&self, other: &Self) -> bool {
        let window = |state: &Self| (state.length_low, state.end & !NOTE_BIT);
        window(self) == window(other)
    }

    fn begin_millis(&self) -> u64 {
        self.end_millis().minus(self.length_millis())
    }

    fn end_millis(&self) -> u64 {
        self.end & ((1 << END_BITS) - 1)
    }

    fn length_millis(&self) -> u64 {
        let high = (self.end & !NOTE_BIT) >> END_BITS;
        high << u32::BITS | u64::from(self.length_low)
    }

    /// Returns the units and the window that count at `now`.
    #[inline(always)]
    fn view(&self, now: Instant) -> View {
        let (length, end) = (self.length_millis().times(1_000), self.end_millis().times(1_000));
        let begin = end.minus(length);
        // From the end of time on, the clock stands still.
        let now = now.min(LAST);
        let micros = now.as_micros();
        let ahead = begin.saturating_sub(micros);
        if micros >= end || ahead > length {
            return View { used: 0, now, time: now, end: now };
        }
        let time = if ahead > 0 { Instant::from_micros(begin) } else { now };
        View { used: self.used, now, time, end: Instant::from_micros(end) }
    }

    /// Returns the window that counts after a granted call, or `None` if the caller has given
    /// bounds that do not contain the time.
    #[inline(always)]
    fn window_of(&self, period: Period, view: &View) -> Option<Bounds> {
        let own = period.bounds_at(view.now)?;
        if view.time == view.now { Some(own) } else { self.window_ahead(period, view) }
    }

    /// The same for a state whose window begins after now, as if the clock stood at that begin.
    ///
    /// A window that does not contain that time, or from which the clock is too far away for it to
    /// count, does not replace the window of the state: what was used would be forgotten.
    #[cold]
    fn window_ahead(&self, period: Period, view: &View) -> Option<Bounds> {
        let counts = |own: &Bounds| {
            let (begin, end) = (own.begin().as_micros(), own.end().as_micros());
            begin.saturating_sub(view.now.as_micros()) <= end.minus(begin)
        };
        period.bounds_at(view.time).filter(counts).or_else(|| self.bounds())
    }
}

/// The last microsecond of the last window.
const LAST: Instant = Instant::from_micros(Bounds::MAX_MILLIS * 1_000 - 1);

/// The units of a state that count for a call.
#[derive(Clone, Copy)]
struct View {
    used: u32,
    now: Instant,
    /// The time for which the call is decided: now, or the begin of the window of the state.
    time: Instant,
    /// The end of the window in which the units count.
    end: Instant,
}

impl View {
    fn available(&self, limit: Units) -> u32 {
        limit.get().saturating_sub(self.used)
    }

    #[inline(always)]
    fn decision(&self, limit: Units, granted: u32, missing: Missing) -> Decision {
        Decision {
            granted,
            capacity: limit.get(),
            remaining: self.available(limit),
            retry_after: match missing.room(limit) {
                _ if missing.is_nothing() => RetryAfter::Granted,
                None => RetryAfter::Never,
                Some(_) => RetryAfter::Wait(self.time_to_end()),
            },
            reset_after: self.reset_after(),
        }
    }

    /// The answer to a call with bounds that do not contain the time.
    fn outside(&self, limit: Units) -> Decision {
        Decision { retry_after: RetryAfter::Never, ..self.decision(limit, 0, Missing::NOTHING) }
    }

    fn reset_after(&self) -> Duration {
        if self.used == 0 { Duration::ZERO } else { self.time_to_end() }
    }

    fn time_to_end(&self) -> Duration {
        Duration::from_micros(u128::from(self.end.micros_since(self.now)))
    }
}

impl Stored for FixedWindow {
    /// The whole state after the change, as it is as short as any description of the change.
    type Effect = Self;

    const MAX_NOTE: u32 = 1;

    fn note(&self) -> u32 {
        u32::from(self.end & NOTE_BIT > 0)
    }

    #[inline(always)]
    fn set_note(&mut self, note: u32) {
        self.end = if note > 0 { self.end | NOTE_BIT } else { self.end & !NOTE_BIT };
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.end_millis().times(1_000) <= now.min(LAST).as_micros()
    }

    fn apply(&mut self, effect: Self) -> Result<(), Refused> {
        *self = effect;
        Ok(())
    }

    fn buffers(&self) -> usize {
        0
    }

    fn visit_buffers(&mut self, _numbers: Range<usize>, _visitor: &mut impl BufferVisitor) {}
}

impl Encode for FixedWindow {
    fn encode(&self, bytes: &mut impl Extend<u8>) {
        let fields = [u64::from(self.used), self.begin_millis(), self.length_millis()];
        codec::put(bytes, Kind::FixedWindow, &fields);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match codec::read(bytes)? {
            (Kind::FixedWindow, mut fields) => {
                let state = Self::read(&mut fields);
                fields.end(state)
            }
            _ => Err(DecodeError::Malformed),
        }
    }
}

impl FixedWindow {
    /// Returns the state of which these are the fields, if they are within their bounds.
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let used = fields.used()?;
        let (begin, length) = (fields.integer()?, fields.integer()?);
        Some(Self::with(used, Bounds::from_millis(begin, begin.checked_add(length)?)?))
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
