//! The sliding window log: at most `limit` units in any interval as long as the window.
//!
//! ```text
//!                 ╭─────────── window ───────────╮
//!  ──●───●●───────┼──●────●●●──────●──────●●─────┤──▶ time
//!     left        │          still count         now
//!                 now − window
//!
//!  ● a grant: counts from its own time until just before its time + window
//! ```
//!
//! The log is exact: it stores units and times of grants, not an average. It is small: an entry
//! takes three to six bytes, and grants of the same tick share an entry. A tick is a thousandth of
//! the window, at most 1 ms. A shared entry counts from its latest grant, so that none of its
//! grants counts for less than the window. A grant joins an entry only within the tick of the first
//! grant of the entry, so that no grant counts for a whole tick longer. The number of entries is at
//! most the limit, and at most the number of ticks in a window.
//!
//! # Resolution
//!
//! A call may give a longer tick ([`LogOptions::resolution`]), so that a log of any limit has at
//! most `ceil(window / resolution) + 1` entries. A grant then counts for less than one resolution
//! longer than the window, and never for less than the window.
//!
//! # Debt
//!
//! A call with [`Mode::Force`] is logged also above the limit, up to [`MAX_USED`] units. A log that
//! has its most entries ([`LogOptions::max_entries`]) gets no new one from such a call: the grant
//! joins the newest entry, which counts from its time.
//!
//! # The end of a log
//!
//! A log ends when its newest grant has left the window of the latest grant. From then on it does
//! not affect any call, also one with a wider window. No call waits beyond this end.
//!
//! # Clocks that step
//!
//! When time steps back, new grants are logged at the time of the newest entry, as if the clock
//! stood still. Grants from more than a window in the future do not count: they come from a clock
//! that was wrong, and would otherwise block the key until that time.

mod bytes;
mod options;

use core::num::NonZeroU64;
use core::ops::Range;

use crate::algorithm::Algorithm;
use crate::buffers::BufferVisitor;
use crate::decision::{Decision, Refund, RetryAfter};
use crate::grants::Grants;
use crate::limits::{MAX_USED, Missing, Mode, Request, Units, Window};
use crate::log_options::{LogLimit, LogOptions, tick_micros};
use crate::math::Exact;
use crate::noted_window::NotedWindow;
use crate::state::Limiter;
use crate::stored::{Refused, Stored};
use crate::time::{Duration, Instant};

/// The state of a sliding window log: the times and units of the grants that still count.
#[derive(Clone, Debug)]
pub struct SlidingWindowLog {
    pub(crate) grants: Grants,
    /// The window of the latest grant, which determines the end of the log.
    pub(crate) window: NotedWindow,
}

impl Default for SlidingWindowLog {
    fn default() -> Self {
        Self::new()
    }
}

/// Two logs are equal if they have the same grants, whatever their layout in memory.
impl PartialEq for SlidingWindowLog {
    fn eq(&self, other: &Self) -> bool {
        self.window == other.window
            && self.grants.newest_first() == other.grants.newest_first()
            && self.grants.iter().eq(other.grants.iter())
    }
}

impl Eq for SlidingWindowLog {}

/// A grant and a refund have a constant cost, amortised over the grants. A denial and a peek have a
/// logarithmic cost. A refund gives back the newest grants first.
impl Limiter for SlidingWindowLog {
    type Limit = LogLimit;

    const ALGORITHM: Algorithm = Algorithm::SlidingWindow;

    /// Version, kind, and the time, the window, the units, the resolution and the joining of a
    /// grant.
    const MAX_EFFECT_BYTES: usize = 2 + 9 + 5 + 5 + 5 + 1;

    #[inline(always)]
    fn take(&mut self, limit: &LogLimit, request: Request, now: Instant) -> Decision {
        if request.mode == Mode::Force || limit.options.resolution.is_some() {
            return self.take_with_options(limit, request, now);
        }
        let before = self.view(limit.window, now);
        let granted = request.granted_of(before.available(limit.limit), || before.used);
        let after = match Units::new(u64::from(granted)) {
            Some(units) => {
                self.log(&before, units);
                before.after(granted)
            }
            None => before,
        };
        self.decision(limit.limit, &after, granted, request.missing_after(granted))
    }

    fn peek(&self, limit: &LogLimit, cost: Units, now: Instant) -> Decision {
        let (view, request) = (self.view(limit.window, now), Request::all(cost));
        let granted = request.granted_of(view.available(limit.limit), || view.used);
        self.decision(limit.limit, &view, granted, request.missing_after(granted))
    }

    fn refund(&mut self, amount: Units, now: Instant) -> Refund {
        let before = self.view(self.window.window(), now);
        let refunded = amount.get().min(before.used);
        if refunded == 0 {
            return Refund::NOTHING;
        }
        let used = before.used.minus(refunded);
        if used == 0 {
            *self = Self::new();
            return Refund { refunded, reset_after: Duration::ZERO };
        }
        // Grants that have left the window stay: they may count for a call with a wider window.
        self.grants.truncate(before.left.plus(used));
        let after = View { used, held: used, ..before };
        Refund { refunded, reset_after: self.reset_after(&after) }
    }

    #[inline(always)]
    fn effect_of_grant(
        &self,
        limit: &LogLimit,
        request: Request,
        units: Units,
        now: Instant,
    ) -> LogEffect {
        if request.mode == Mode::Force || limit.options.resolution.is_some() {
            return self.effect_with_options(limit, request, units, now);
        }
        LogEffect::Grant { time: now, window: limit.window, units }
    }

    fn effect_of_refund(&self, units: Units, now: Instant) -> LogEffect {
        LogEffect::Refund { time: now, units }
    }

    fn is_refund(&self, effect: &LogEffect) -> bool {
        matches!(effect, LogEffect::Refund { .. } | LogEffect::Return { .. })
    }
}

/// A change to a log. A grant is enough: the same grant in the same log gives the same log, and a
/// whole log would be too long to send for every grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEffect {
    /// The log is now this one.
    Whole(SlidingWindowLog),
    /// The log granted units.
    Grant {
        /// The time of the grant.
        time: Instant,
        /// The window of the call.
        window: Window,
        /// The number of units.
        units: Units,
    },
    /// The log granted units with options, or is in debt.
    OtherGrant {
        /// The time of the grant.
        time: Instant,
        /// The window of the call.
        window: Window,
        /// The number of units.
        units: Units,
        /// The resolution of the call.
        resolution: Option<Window>,
        /// True when the grant joined the newest entry, in any tick.
        joins: bool,
    },
    /// Units were given back to the entry of a grant.
    Return {
        /// The time of the return.
        time: Instant,
        /// The time that the log has recorded for the grant.
        granted_at: Instant,
        /// The number of units.
        units: Units,
    },
    /// Units were given back to the log.
    Refund {
        /// The time of the refund.
        time: Instant,
        /// The number of units.
        units: Units,
    },
}

impl LogEffect {
    /// Returns the time of the change, or the epoch for a whole log, which does not have it.
    #[must_use]
    pub const fn time(&self) -> Instant {
        match self {
            Self::Whole(_) => Instant::EPOCH,
            Self::Grant { time, .. }
            | Self::OtherGrant { time, .. }
            | Self::Return { time, .. }
            | Self::Refund { time, .. } => *time,
        }
    }
}

impl Stored for SlidingWindowLog {
    type Effect = LogEffect;

    const MAX_NOTE: u32 = NotedWindow::MAX_NOTE;

    fn note(&self) -> u32 {
        self.window.note()
    }

    #[inline(always)]
    fn set_note(&mut self, note: u32) {
        self.window.set_note(note);
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.is_empty() || self.end_micros() <= now.as_micros()
    }

    /// Refuses a grant of more units than a log can hold, and a refund or a return that leaves
    /// nothing: a server that makes such a change deletes the key.
    fn apply(&mut self, effect: LogEffect) -> Result<(), Refused> {
        match effect {
            LogEffect::Whole(log) => *self = log,
            LogEffect::Grant { time, window, units } => {
                let before = self.view(window, time);
                if before.used > Units::MAX.get().minus(units.get()) {
                    return Err(Refused);
                }
                self.log(&before, units);
            }
            LogEffect::OtherGrant { time, window, units, resolution, joins } => {
                let before = self.view(window, time);
                if before.used > MAX_USED.minus(units.get()) {
                    return Err(Refused);
                }
                let options = LogOptions { resolution, ..LogOptions::default() };
                self.forget(&before);
                if joins {
                    self.join(&before, units);
                } else {
                    self.record(&before, units, options.tick_micros(window));
                }
            }
            LogEffect::Return { time, granted_at, units } => {
                let mut after = self.clone();
                let refund = after.give_back(granted_at, units, time);
                if refund.refunded != units.get() || after.is_empty() {
                    return Err(Refused);
                }
                *self = after;
            }
            LogEffect::Refund { time, units } => {
                if self.view(self.window.window(), time).used <= units.get() {
                    return Err(Refused);
                }
                self.refund(units, time);
            }
        }
        Ok(())
    }

    fn buffers(&self) -> usize {
        self.grants.buffers()
    }

    fn visit_buffers(&mut self, numbers: Range<usize>, visitor: &mut impl BufferVisitor) {
        self.grants.visit_buffers(numbers, visitor);
    }
}

impl SlidingWindowLog {
    /// An empty log. Allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { grants: Grants::new(), window: NotedWindow::new(Window::MIN) }
    }

    /// Returns whether the log holds more units than a limit can be, which only forced grants do.
    fn is_in_debt(&self) -> bool {
        self.grants.units() > Units::MAX.get()
    }

    /// Returns whether the log has no grants.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// Drops the grants that do not count, and logs a new one. Out of line together with all that
    /// it calls, so that other callers of the same functions do not make a grant slower.
    #[inline(never)]
    fn log(&mut self, before: &View, units: Units) {
        self.forget(before);
        self.record(before, units, tick_micros(before.window));
    }

    /// Adds a new grant, which shares the newest entry if the first grant of this entry lies in the
    /// same tick.
    #[inline(always)]
    fn record(&mut self, before: &View, units: Units, tick: NonZeroU64) {
        let first = self.grants.newest_first();
        if first.is_some_and(|first| first.tick(tick) == before.now.tick(tick)) {
            self.join(before, units);
        } else {
            self.grants.push(before.now, units.get());
            self.window = self.window.with(before.window);
        }
    }

    /// Adds a new grant to the newest entry.
    #[inline(always)]
    fn join(&mut self, before: &View, units: Units) {
        self.grants.join_newest(before.now, units.get());
        self.window = self.window.with(before.window);
    }

    /// Drops the grants that do not count: those that have left the window, and those from a clock
    /// that was wrong.
    #[inline(always)]
    fn forget(&mut self, view: &View) {
        if let Some(left) = view.left_until.filter(|_| view.left > 0) {
            self.grants.drop_until(left);
        }
        if view.held > view.used {
            self.grants.truncate(view.used);
        }
    }

    #[inline(always)]
    fn view(&self, window: Window, now: Instant) -> View {
        let left_until = match self.end_micros() <= now.as_micros() {
            true => Some(Instant::MAX),
            false => now.checked_sub(window),
        };
        let left = left_until.map_or(0, |left| self.grants.units_until(left));
        let counted = self.grants.units_until(now.plus_micros(window.as_micros()));
        View {
            now,
            window,
            left_until,
            left,
            used: counted.saturating_sub(left),
            held: self.grants.units().minus(left),
        }
    }

    /// Returns the end of the log, which may be after [`Instant::MAX`].
    #[inline(always)]
    fn end_micros(&self) -> u64 {
        self.grants.newest_time().as_micros().plus(self.window.as_micros())
    }

    #[inline(always)]
    fn decision(&self, limit: Units, view: &View, granted: u32, missing: Missing) -> Decision {
        Decision {
            granted,
            capacity: limit.get(),
            remaining: view.available(limit),
            retry_after: self.retry_after(limit, view, missing),
            reset_after: self.reset_after(view),
        }
    }

    /// Returns the time until enough of the oldest grants have left for the missing units to fit.
    #[inline(always)]
    fn retry_after(&self, limit: Units, view: &View, missing: Missing) -> RetryAfter {
        match missing.room(limit) {
            _ if missing.is_nothing() => RetryAfter::Granted,
            None => RetryAfter::Never,
            Some(room) => {
                // Grants ahead of the clock do not count now, but they will when it reaches them.
                let must_leave = view.held.saturating_sub(room);
                let last = self.grants.time_of_unit(view.left.plus(must_leave));
                RetryAfter::Wait(self.time_until_left(view, last))
            }
        }
    }

    /// Returns the time until the newest grant has left.
    fn reset_after(&self, view: &View) -> Duration {
        if view.used == 0 {
            return Duration::ZERO;
        }
        self.time_until_left(view, self.grants.newest_time())
    }

    /// Returns the time until a grant made at `granted` no longer counts, because it has left the
    /// window of the call or the log has ended.
    fn time_until_left(&self, view: &View, granted: Instant) -> Duration {
        // This may be after `Instant::MAX`: the answer is the exact time nevertheless.
        let left = granted.as_micros().plus(view.window.as_micros());
        let left = left.min(self.end_micros()).saturating_sub(view.now.as_micros());
        Duration::from_micros(u128::from(left))
    }
}

/// The units of a log for one call.
#[derive(Clone, Copy)]
struct View {
    now: Instant,
    window: Window,
    /// Grants at or before this time have left the window. All have left a log that has ended.
    left_until: Option<Instant>,
    /// Units that have left the window and are still in the log.
    left: u32,
    /// Units that count.
    used: u32,
    /// Units that count or are ahead of the clock.
    held: u32,
}

impl View {
    fn available(&self, limit: Units) -> u32 {
        limit.get().saturating_sub(self.used)
    }

    /// Returns the view after a grant of `granted` units, which has dropped grants that do not
    /// count.
    #[inline(always)]
    fn after(&self, granted: u32) -> Self {
        let used = self.used.plus(granted);
        Self { left: 0, used, held: used, ..*self }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
