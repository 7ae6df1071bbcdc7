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
//! counts for less than the window. Memory is bounded by the limit and by the ticks in a window,
//! whichever is less.
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
        let missing = demand.cost.get().saturating_sub(granted);
        self.decision(limit.limit, &after, granted, missing)
    }

    fn peek(&self, limit: &Self::Limit, cost: Units, now: Instant) -> Decision {
        let view = self.view(limit.window, now);
        let granted = Demand::all(cost).granted_of(view.available(limit.limit));
        self.decision(limit.limit, &view, granted, cost.get().saturating_sub(granted))
    }

    fn refund(&mut self, amount: Units, now: Instant) -> Refund {
        let before = self.view(self.window, now);
        let refunded = amount.get().min(before.used);
        if refunded == 0 {
            return Refund::NOTHING;
        }
        self.forget(&before);
        let used = before.used.saturating_sub(refunded);
        self.grants.truncate(used);
        let after = View { left: 0, used, held: used, ..before };
        Refund { refunded, reset_after: self.reset_after(&after) }
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
        if self.grants.newest_time().tick(tick) == now.tick(tick) {
            self.grants.join_newest(now, units.get());
        } else {
            self.grants.push(now, units.get());
        }
        self.window = window;
    }

    /// Drops the grants that do not count: those that have left the window, and those from a clock
    /// that was wrong.
    fn forget(&mut self, view: &View) {
        if let Some(left) = view.now.checked_sub(view.window).filter(|_| view.left > 0) {
            self.grants.drop_until(left);
        }
        if view.held > view.used {
            self.grants.truncate(view.used);
        }
    }

    #[inline(always)]
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
    use alloc::vec::Vec;

    use super::*;

    /// `limit` units per second.
    fn per_second(limit: u64) -> WindowLimit {
        WindowLimit { limit: units(limit), window: Window::from_millis(1_000).unwrap() }
    }

    fn units(units: u64) -> Units {
        Units::new(units).unwrap()
    }

    fn all(cost: u64) -> Demand {
        Demand::all(units(cost))
    }

    fn at_micros(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    fn at_millis(millis: u64) -> Instant {
        at_micros(millis * 1_000)
    }

    fn millis(millis: u128) -> Duration {
        Duration::from_micros(millis * 1_000)
    }

    /// A log with these grants, in milliseconds and units.
    fn log_of(grants: &[(u64, u64)]) -> SlidingWindowLog {
        let mut log = SlidingWindowLog::new();
        for &(time, units) in grants {
            assert!(log.take(&per_second(1_000), all(units), at_millis(time)).granted > 0);
        }
        log
    }

    /// The times in microseconds and the units of all entries.
    fn entries(log: &SlidingWindowLog) -> Vec<(u64, u32)> {
        log.grants.iter().map(|grant| (grant.time.as_micros(), grant.units)).collect()
    }

    #[test]
    fn a_grant_counts_until_just_before_its_time_plus_the_window() {
        let mut log = log_of(&[(0, 2), (400, 1)]);
        let denied = log.take(&per_second(3), all(1), at_micros(999_999));
        assert_eq!((denied.granted, denied.remaining, denied.limit), (0, 0, 3));
        assert_eq!(denied.retry_after, RetryAfter::Wait(Duration::from_micros(1)));
        assert_eq!(denied.reset_after, Duration::from_micros(400_001));
        assert_eq!(log.take(&per_second(3), all(2), at_millis(1_000)).granted, 2);
    }

    #[test]
    fn a_wait_lasts_until_enough_of_the_oldest_grants_have_left() {
        let log = log_of(&[(0, 1), (100, 1), (200, 3), (300, 1)]);
        let now = at_millis(300);
        for (limit, cost, wait) in
            [(6, 1, 700), (6, 2, 800), (6, 3, 900), (6, 5, 900), (6, 6, 1_000)]
        {
            let retry_after = log.peek(&per_second(limit), units(cost), now).retry_after;
            assert_eq!(retry_after, RetryAfter::Wait(millis(wait)), "{cost} of {limit}");
        }
    }

    #[test]
    fn a_lowered_limit_waits_for_as_many_more_to_leave() {
        let log = log_of(&[(0, 1), (100, 1), (200, 3), (300, 1)]);
        let denied = log.peek(&per_second(2), units(1), at_millis(300));
        assert_eq!((denied.remaining, denied.limit), (0, 2));
        assert_eq!(denied.retry_after, RetryAfter::Wait(millis(900)));
    }

    #[test]
    fn a_raised_limit_keeps_what_was_used() {
        let mut log = SlidingWindowLog::new();
        log.take(&per_second(100), all(100), at_millis(0));
        assert_eq!(log.take(&per_second(1_000), all(1), at_millis(0)).remaining, 899);
    }

    #[test]
    fn a_partial_call_takes_what_there_is_and_waits_for_the_rest() {
        let mut log = log_of(&[(0, 4)]);
        let partial = log.take(&per_second(10), Demand::up_to(units(8)), at_millis(500));
        assert_eq!((partial.granted, partial.remaining), (6, 0));
        assert_eq!(partial.retry_after, RetryAfter::Wait(millis(500)));
        assert_eq!(partial.reset_after, millis(1_000));
    }

    #[test]
    fn more_than_the_limit_is_never_granted() {
        let denied = SlidingWindowLog::new().take(&per_second(5), all(6), at_millis(0));
        assert_eq!((denied.granted, denied.remaining), (0, 5));
        assert_eq!((denied.retry_after, denied.reset_after), (RetryAfter::Never, Duration::ZERO));
    }

    #[test]
    fn grants_of_one_tick_count_from_the_latest_and_others_from_their_own_time() {
        let mut log = SlidingWindowLog::new();
        for micros in [7_000, 7_999, 8_000, 9_500] {
            log.take(&per_second(10), all(1), at_micros(micros));
        }
        assert_eq!(entries(&log), [(7_999, 2), (8_000, 1), (9_500, 1)]);
    }

    #[test]
    fn a_tick_is_a_thousandth_of_the_window_and_at_most_a_millisecond() {
        for (window, tick) in [(1, 1), (20, 20), (999, 999), (1_000, 1_000), (1_001, 1_000)] {
            assert_eq!(tick_micros(Window::from_millis(window).unwrap()).get(), tick);
        }
        assert_eq!(tick_micros(Window::MAX).get(), 1_000);
    }

    #[test]
    fn a_refund_takes_the_newest_grants_first() {
        let mut log = log_of(&[(0, 5), (100, 5), (200, 5)]);
        let refund = log.refund(units(7), at_millis(300));
        assert_eq!(refund, Refund { refunded: 7, reset_after: millis(800) });
        assert_eq!(entries(&log), [(0, 5), (100_000, 3)]);
    }

    #[test]
    fn a_refund_gives_back_only_what_still_counts() {
        let mut log = log_of(&[(0, 5), (100, 5)]);
        assert_eq!((log.refundable(at_millis(999)), log.refundable(at_millis(1_000))), (10, 5));
        assert_eq!(log.refund(units(20), at_millis(1_000)).refunded, 5);
        assert!(log.is_empty());
        assert_eq!(log.refund(units(1), at_millis(1_000)), Refund::NOTHING);
    }

    #[test]
    fn a_clock_that_stepped_back_logs_at_the_newest_time_there_is() {
        let mut log = log_of(&[(5_000, 1)]);
        let decision = log.take(&per_second(2), all(1), at_millis(4_000));
        assert_eq!((decision.granted, decision.reset_after), (1, millis(2_000)));
        assert_eq!(entries(&log), [(5_000_000, 2)]);
        let denied = log.take(&per_second(2), all(1), at_millis(4_000));
        assert_eq!(denied.retry_after, RetryAfter::Wait(millis(2_000)));
    }

    #[test]
    fn a_grant_from_more_than_a_window_ahead_does_not_count_and_is_forgotten_by_the_next() {
        let mut log = log_of(&[(5_000, 1)]);
        let now = at_micros(3_999_999);
        assert_eq!(log.take(&per_second(1), all(2), now).retry_after, RetryAfter::Never);
        assert_eq!(entries(&log), [(5_000_000, 1)]);
        assert_eq!(log.take(&per_second(1), all(1), now).granted, 1);
        assert_eq!(entries(&log), [(3_999_999, 1)]);
    }

    #[test]
    fn a_wait_counts_grants_that_the_clock_will_catch_up_with() {
        let log = log_of(&[(5_000, 1), (5_500, 1)]);
        let denied = log.peek(&per_second(1), units(1), at_millis(4_200));
        assert_eq!((denied.granted, denied.retry_after), (0, RetryAfter::Wait(millis(2_300))));
    }

    #[test]
    fn waits_reach_beyond_the_last_instant() {
        let mut log = SlidingWindowLog::new();
        let granted = log.take(&per_second(1), all(1), Instant::MAX);
        let denied = log.take(&per_second(1), all(1), Instant::MAX);
        assert_eq!((granted.granted, granted.reset_after), (1, millis(1_000)));
        assert_eq!((denied.granted, denied.retry_after), (0, RetryAfter::Wait(millis(1_000))));
    }

    #[test]
    fn a_replayed_grant_need_not_fit_the_limit_but_the_log() {
        let mut log = SlidingWindowLog::new();
        let window = Window::from_millis(1_000).unwrap();
        assert!(log.replay(window, units(999_999_999), at_millis(0)));
        assert!(!log.replay(window, units(2), at_millis(999)));
        assert_eq!(entries(&log), [(0, 999_999_999)]);
        assert!(log.replay(window, units(1), at_millis(999)));
        assert!(log.replay(window, Units::MAX, at_millis(1_999)));
        assert_eq!(entries(&log), [(1_999_000, 1_000_000_000)]);
    }

    #[test]
    fn logs_of_the_same_grants_are_equal_however_they_came_about() {
        let (mut log, mut other) = (SlidingWindowLog::new(), SlidingWindowLog::new());
        for time in 0..1_000 {
            log.take(&per_second(2_000), all(1), at_millis(time));
        }
        for time in 100..1_000 {
            other.take(&per_second(2_000), all(1), at_millis(time));
        }
        assert_ne!(log, other);
        log.take(&per_second(2_000), all(1), at_millis(1_099));
        other.take(&per_second(2_000), all(1), at_millis(1_099));
        assert_eq!(log, other);
    }

    #[test]
    fn an_empty_log_holds_no_memory() {
        let log = SlidingWindowLog::new();
        assert!(log.is_empty());
        assert_eq!(log.buffers(), 0);
        // One entry needs none either.
        assert_eq!(log_of(&[(0, 5)]).buffers(), 0);
    }
}
