//! The sliding window log: never more than the limit in any window, wherever the window is laid.
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
//! The log is exact (it keeps what was granted and when, not an average), and small: an entry takes
//! three to six bytes, and grants of the same tick share one. A tick is a thousandth of the
//! window, at most 1 ms; a shared entry counts from its latest grant, so that none of its grants
//! counts for less than the window, and a grant joins it only within the tick of its first one, so
//! that none counts for a whole tick more. Memory is bounded by the limit and by the ticks in a
//! window, whichever is less.
//!
//! # The end of a log
//!
//! When its newest grant has left the window of the latest grant, a log counts for nothing, also
//! for a call with a wider window. No call waits beyond this end.
//!
//! # Clocks that step
//!
//! When time steps back, new grants are logged at the newest time there is, as if the clock stood
//! still. Grants from more than a window in the future do not count: they come from a clock that
//! was wrong, and would otherwise block the key until that time comes.

use core::num::NonZeroU64;
use core::ops::Range;

use crate::algorithm::{Algorithm, BufferVisitor};
use crate::codec::{self, Change, DecodeError};
use crate::decision::{Decision, Refund, RetryAfter};
use crate::grants::Grants;
use crate::limits::{Demand, Units, Window, WindowLimit};
use crate::time::{Duration, Instant};

/// The state of a sliding window log: the times and units of the grants that still count.
#[derive(Clone, Debug)]
pub struct SlidingWindowLog {
    pub(crate) grants: Grants,
    /// The window of the latest grant, which says when the log ends.
    pub(crate) window: Window,
}

impl Default for SlidingWindowLog {
    fn default() -> Self {
        Self::new()
    }
}

/// Two logs are equal when they hold the same grants, however these are laid out in memory.
impl PartialEq for SlidingWindowLog {
    fn eq(&self, other: &Self) -> bool {
        self.window == other.window
            && self.grants.newest_first() == other.grants.newest_first()
            && self.grants.iter().eq(other.grants.iter())
    }
}

impl Eq for SlidingWindowLog {}

/// A grant and a refund have a constant cost, amortised over the grants; a denial and a peek
/// search, at logarithmic cost. A refund gives back the newest grants first.
impl Algorithm for SlidingWindowLog {
    type Limit = WindowLimit;

    #[inline(always)]
    fn take(&mut self, limit: &Self::Limit, demand: Demand, now: Instant) -> Decision {
        let before = self.view(limit.window, now);
        let granted = demand.granted_of(before.available(limit.limit));
        let after = match Units::new(u64::from(granted)) {
            Some(units) => {
                self.log(&before, units);
                let used = before.used.saturating_add(granted);
                View { left: 0, used, held: used, ..before }
            }
            None => before,
        };
        self.decision(limit.limit, &after, granted, demand.missing_after(granted))
    }

    fn peek(&self, limit: &Self::Limit, cost: Units, now: Instant) -> Decision {
        let (view, demand) = (self.view(limit.window, now), Demand::all(cost));
        let granted = demand.granted_of(view.available(limit.limit));
        self.decision(limit.limit, &view, granted, demand.missing_after(granted))
    }

    fn refund(&mut self, amount: Units, now: Instant) -> Refund {
        let before = self.view(self.window, now);
        let refunded = amount.get().min(before.used);
        if refunded == 0 {
            return Refund::NOTHING;
        }
        let used = before.used.saturating_sub(refunded);
        if used == 0 {
            *self = Self::new();
            return Refund { refunded, reset_after: Duration::ZERO };
        }
        // Grants that have left stay: they may still count for a call with a wider window.
        self.grants.truncate(before.left.saturating_add(used));
        let after = View { used, held: used, ..before };
        Refund { refunded, reset_after: self.reset_after(&after) }
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.is_empty() || self.end_micros() <= now.as_micros()
    }

    /// A whole log would be too long to send for every grant: replaying the grant on the same log
    /// gives the same log.
    fn granted(&self, limit: &WindowLimit, units: Units, now: Instant) -> Change {
        Change::Grant { time: now, window: limit.window, units }
    }

    fn refunded(&self, units: Units, now: Instant) -> Change {
        Change::Refund { time: now, units }
    }

    fn encode(&self, bytes: &mut impl Extend<u8>) {
        codec::put_sliding_window_log(self, bytes);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match Change::decode(bytes)? {
            Change::SlidingWindowLog(log) => Ok(log),
            _ => Err(DecodeError::Malformed),
        }
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
        Self { grants: Grants::new(), window: Window::MIN }
    }

    /// Logs a grant that was decided elsewhere, and leaves the same log as the decision did there.
    ///
    /// Returns `false`, with the log unchanged, when that many units cannot have been granted.
    pub fn replay(&mut self, window: Window, units: Units, now: Instant) -> bool {
        let before = self.view(window, now);
        let fits = before.used.saturating_add(units.get()) <= Units::MAX.get();
        if fits {
            self.log(&before, units);
        }
        fits
    }

    /// Units that a refund at `now` could give back. Logarithmic cost.
    #[must_use]
    pub fn refundable(&self, now: Instant) -> u32 {
        self.view(self.window, now).used
    }

    /// Whether the log holds no grants.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// Forgets what does not count and logs a new grant.
    fn log(&mut self, before: &View, units: Units) {
        self.forget(before);
        let View { now, window, .. } = *before;
        let tick = tick_micros(window);
        let first = self.grants.newest_first();
        if first.is_some_and(|first| first.tick(tick) == now.tick(tick)) {
            self.grants.join_newest(now, units.get());
        } else {
            self.grants.push(now, units.get());
        }
        self.window = window;
    }

    /// Drops the grants that do not count: those that have left the window, and those from a clock
    /// that was wrong.
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
            held: self.grants.units().saturating_sub(left),
        }
    }

    /// The end of the log, which may be after the last instant there is.
    #[inline(always)]
    fn end_micros(&self) -> u64 {
        self.grants.newest_time().as_micros().saturating_add(self.window.as_micros())
    }

    #[inline(always)]
    fn decision(&self, limit: Units, view: &View, granted: u32, missing: u32) -> Decision {
        Decision {
            granted,
            limit: limit.get(),
            remaining: view.available(limit),
            retry_after: self.retry_after(limit, view, missing),
            reset_after: self.reset_after(view),
        }
    }

    /// Time until enough of the oldest grants have left for the missing units to fit.
    #[inline(always)]
    fn retry_after(&self, limit: Units, view: &View, missing: u32) -> RetryAfter {
        match limit.get().checked_sub(missing) {
            _ if missing == 0 => RetryAfter::Granted,
            None => RetryAfter::Never,
            Some(room) => {
                // Grants ahead of the clock do not count now, but will when it reaches them.
                let must_leave = view.held.saturating_sub(room);
                let last = self.grants.time_of_unit(view.left.saturating_add(must_leave));
                RetryAfter::Wait(self.time_until_left(view, last))
            }
        }
    }

    /// Time until the newest grant has left.
    fn reset_after(&self, view: &View) -> Duration {
        if view.used == 0 {
            return Duration::ZERO;
        }
        self.time_until_left(view, self.grants.newest_time())
    }

    /// Time until a grant made at `granted` no longer counts: it has left the window of the call,
    /// or the log has ended.
    fn time_until_left(&self, view: &View, granted: Instant) -> Duration {
        // This may be after the last instant there is, and is answered all the same.
        let left = granted.as_micros().saturating_add(view.window.as_micros());
        let left = left.min(self.end_micros()).saturating_sub(view.now.as_micros());
        Duration::from_micros(u128::from(left))
    }
}

/// What a log holds as seen by a call.
#[derive(Clone, Copy)]
struct View {
    now: Instant,
    window: Window,
    /// Grants at or before this time have left the window, or all of them the log that has ended.
    left_until: Option<Instant>,
    /// Units that have left but are still in the log.
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
}

/// The time within which grants share an entry: a thousandth of the window, 1 ms at most.
fn tick_micros(window: Window) -> NonZeroU64 {
    const MAX: NonZeroU64 = match NonZeroU64::new(1_000) {
        Some(micros) => micros,
        None => NonZeroU64::MIN,
    };
    // A window in milliseconds is as long as its thousandths are in microseconds.
    NonZeroU64::new(window.as_millis()).map_or(MAX, |micros| micros.min(MAX))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
