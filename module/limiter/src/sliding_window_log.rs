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
//! three to five bytes, and grants of the same tick share one. A tick is a thousandth of the
//! window, at most 1 ms; a shared entry counts from its latest grant, so that none of its grants
//! counts for less than the window. Memory is bounded by the limit and by the ticks in a window,
//! whichever is less.
//!
//! # Clocks that step
//!
//! When time steps back, new grants are logged at the newest time there is, as if the clock stood
//! still. Grants from more than a window in the future do not count: they come from a clock that
//! was wrong, and would otherwise block the key until that time comes.

use core::num::NonZeroU64;

use crate::decision::{Decision, Refund, RetryAfter};
use crate::grants::Grants;
use crate::limits::{Demand, Units, Window, WindowLimit};
use crate::time::{Duration, Instant};

/// The state of a sliding window log: the times and units of the grants that still count.
#[derive(Clone, Debug)]
pub struct SlidingWindowLog {
    pub(crate) grants: Grants,
    /// The window of the latest grant, by which a refund knows what still counts.
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
        self.window == other.window && self.grants.iter().eq(other.grants.iter())
    }
}

impl Eq for SlidingWindowLog {}

impl SlidingWindowLog {
    /// An empty log. Allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { grants: Grants::new(), window: Window::MIN }
    }

    /// Decides a call at `now`, and logs what it was granted. A denied call changes nothing.
    /// Constant cost amortised over the grants; a denial searches, at logarithmic cost.
    pub fn take(&mut self, limit: &WindowLimit, demand: Demand, now: Instant) -> Decision {
        let before = self.view(limit.window, now);
        let granted = demand.granted_of(before.available(limit.limit));
        let after = match Units::new(u64::from(granted)) {
            Some(units) => {
                self.log(limit.window, units, now);
                let used = before.used.saturating_add(granted);
                View { left: 0, used, held: used, ..before }
            }
            None => before,
        };
        let missing = demand.cost.get().saturating_sub(granted);
        self.decision(limit.limit, &after, granted, missing)
    }

    /// What [`SlidingWindowLog::take`] would grant of `cost` at `now`, and when; `remaining` and
    /// `reset_after` are those of the log as it is. Logarithmic cost.
    #[must_use]
    pub fn peek(&self, limit: &WindowLimit, cost: Units, now: Instant) -> Decision {
        let view = self.view(limit.window, now);
        let granted = Demand::all(cost).granted_of(view.available(limit.limit));
        self.decision(limit.limit, &view, granted, cost.get().saturating_sub(granted))
    }

    /// Gives back up to `amount` of the units that count at `now`, the newest grants first.
    /// Constant cost amortised over the grants.
    pub fn refund(&mut self, amount: Units, now: Instant) -> Refund {
        let before = self.view(self.window, now);
        let refunded = amount.get().min(before.used);
        if refunded == 0 {
            return Refund::NOTHING;
        }
        self.forget(self.window, now);
        let used = before.used.saturating_sub(refunded);
        self.grants.truncate(used);
        let after = View { left: 0, used, held: used, ..before };
        Refund { refunded, reset_after: self.reset_after(&after) }
    }

    /// Logs a grant that was decided elsewhere, and leaves the same log as the decision did there.
    ///
    /// Returns `false`, with the log unchanged, when that many units cannot have been granted.
    pub fn replay(&mut self, window: Window, units: Units, now: Instant) -> bool {
        let held = self.view(window, now).used;
        let fits = held.saturating_add(units.get()) <= Units::MAX.get();
        if fits {
            self.log(window, units, now);
        }
        fits
    }

    /// Whether the log holds no grants.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// Bytes that the log holds on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.grants.heap_bytes()
    }

    /// Number of allocations that the log holds.
    #[must_use]
    pub fn allocations(&self) -> usize {
        self.grants.allocations()
    }

    /// Forgets what does not count and logs a new grant.
    fn log(&mut self, window: Window, units: Units, now: Instant) {
        self.forget(window, now);
        let tick = tick_micros(window);
        if self.grants.newest_time().tick(tick) == now.tick(tick) {
            self.grants.join_newest(now, units.get());
        } else {
            self.grants.push(now, units.get());
        }
        self.window = window;
    }

    /// Drops the grants that do not count at `now`: those that have left the window, and those
    /// from a clock that was wrong.
    fn forget(&mut self, window: Window, now: Instant) {
        if let Some(left) = now.checked_sub(window) {
            self.grants.drop_until(left);
        }
        let horizon = now.plus_micros(window.as_micros());
        if self.grants.newest_time() > horizon {
            self.grants.truncate(self.grants.units_until(horizon));
        }
    }

    fn view(&self, window: Window, now: Instant) -> View {
        let left = now.checked_sub(window).map_or(0, |left| self.grants.units_until(left));
        let counted = self.grants.units_until(now.plus_micros(window.as_micros()));
        View {
            now,
            window,
            left,
            used: counted.saturating_sub(left),
            held: self.grants.units().saturating_sub(left),
        }
    }

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
    fn retry_after(&self, limit: Units, view: &View, missing: u32) -> RetryAfter {
        match limit.get().checked_sub(missing) {
            _ if missing == 0 => RetryAfter::Granted,
            None => RetryAfter::Never,
            Some(room) => {
                // Grants ahead of the clock do not count now, but will when it reaches them.
                let must_leave = view.held.saturating_sub(room);
                let last = self.grants.time_of_unit(view.left.saturating_add(must_leave));
                RetryAfter::Wait(view.time_until_left(last))
            }
        }
    }

    /// Time until the newest grant has left.
    fn reset_after(&self, view: &View) -> Duration {
        if view.used == 0 {
            return Duration::ZERO;
        }
        view.time_until_left(self.grants.newest_time())
    }
}

/// What a log holds as seen by a call.
#[derive(Clone, Copy)]
struct View {
    now: Instant,
    window: Window,
    /// Units that have left the window but are still in the log.
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

    /// Time until a grant made at `granted` no longer counts.
    fn time_until_left(&self, granted: Instant) -> Duration {
        // This may be after the last instant there is, and is told all the same.
        let left = granted.as_micros().saturating_add(self.window.as_micros());
        Duration::from_micros(u128::from(left.saturating_sub(self.now.as_micros())))
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
mod tests {
    use super::*;

    /// `limit` units per second.
    fn per_second(limit: u64) -> WindowLimit {
        WindowLimit { limit: units(limit), window: Window::from_millis(1_000).unwrap() }
    }

    fn units(units: u64) -> Units {
        Units::new(units).unwrap()
    }

    fn millis(millis: u128) -> Duration {
        Duration::from_micros(millis * 1_000)
    }

    #[test]
    fn waits_reach_beyond_the_last_instant() {
        let mut log = SlidingWindowLog::new();
        let granted = log.take(&per_second(1), Demand::all(Units::MIN), Instant::MAX);
        let denied = log.take(&per_second(1), Demand::all(Units::MIN), Instant::MAX);
        assert_eq!((granted.granted, granted.reset_after), (1, millis(1_000)));
        assert_eq!((denied.granted, denied.retry_after), (0, RetryAfter::Wait(millis(1_000))));
    }
}
