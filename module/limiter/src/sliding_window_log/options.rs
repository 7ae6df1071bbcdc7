//! Calls of a sliding window log with options, and returns to the entry of one grant.

use super::{LogEffect, SlidingWindowLog, View};
use crate::decision::{Decision, Refund};
use crate::limits::{Mode, Request, Units, Window};
use crate::log_options::{LogLimit, LogOptions};
use crate::math::Exact;
use crate::time::{Duration, Instant};

/// Calls with options. A peek has none, as the entries alone decide.
impl SlidingWindowLog {
    /// Decides a call that is forced or has a resolution. Out of line, as most calls have neither.
    #[inline(never)]
    pub(super) fn take_with_options(
        &mut self,
        limit: &LogLimit,
        request: Request,
        now: Instant,
    ) -> Decision {
        let LogLimit { limit, window, options } = *limit;
        let before = self.view(window, now);
        let granted = request.granted_of(before.available(limit), || before.used);
        let missing = request.missing_after(granted);
        let Some(units) = Units::new(u64::from(granted)) else {
            return self.decision(limit, &before, 0, missing);
        };
        self.forget(&before);
        let tick = options.tick_micros(window);
        if request.mode == Mode::Force && self.grants.has_entries(options.max_entries) {
            self.join(&before, units);
        } else {
            self.record(&before, units, tick);
        }
        self.decision(limit, &before.after(granted), granted, missing)
    }

    /// Returns the effect of a call that was forced or has a resolution, and was granted `units`;
    /// `self` is the state after the call.
    #[inline(never)]
    pub(super) fn effect_with_options(
        &self,
        limit: &LogLimit,
        request: Request,
        units: Units,
        now: Instant,
    ) -> LogEffect {
        let (time, window, resolution) = (now, limit.window, limit.options.resolution);
        let tick = limit.options.tick_micros(window);
        let is_in_tick = |first: Instant| first.tick(tick) == now.tick(tick);
        let joins =
            request.mode == Mode::Force && !self.grants.newest_first().is_some_and(is_in_tick);
        if resolution.is_none() && !joins && !self.is_in_debt() {
            return LogEffect::Grant { time, window, units };
        }
        LogEffect::OtherGrant { time, window, units, resolution, joins }
    }

    /// The time that the log has recorded for the latest grant: now, unless the clock had stepped
    /// back.
    #[must_use]
    pub fn newest_time(&self) -> Instant {
        self.grants.newest_time()
    }

    /// Returns whether the log has the entry of a grant whose recorded time this is, and which had
    /// these options in this window.
    ///
    /// The entry at that time is another one if the entry of the grant has left, or was given back.
    /// If later grants with a longer resolution have joined the entry, this returns false as well.
    pub(crate) fn has_entry_of(
        &self,
        granted_at: Instant,
        options: LogOptions,
        window: Window,
    ) -> bool {
        let Some(entry) = self.grants.entry_at(granted_at) else { return false };
        let newest_first = self.grants.newest_first().filter(|_| entry.time == self.newest_time());
        match newest_first {
            Some(first) => first <= granted_at,
            None => {
                let tick = options.tick_micros(window);
                entry.time.tick(tick) == granted_at.tick(tick)
            }
        }
    }

    /// Gives up to `amount` units back to the entry of a grant whose recorded time this is, and
    /// nothing if that entry does not count at `now` as the latest grant counts it.
    pub fn give_back(&mut self, granted_at: Instant, amount: Units, now: Instant) -> Refund {
        let before = self.view(self.window.window(), now);
        let counts = |time: Instant| {
            before.left_until.is_none_or(|left| time > left)
                && time <= now.plus_micros(self.window.as_micros())
        };
        let Some(entry) = self.grants.entry_at(granted_at).filter(|entry| counts(entry.time))
        else {
            return Refund::NOTHING;
        };
        let refunded = amount.get().min(entry.units);
        let after =
            View { used: before.used.minus(refunded), held: before.held.minus(refunded), ..before };
        if after.used == 0 {
            *self = Self::new();
            return Refund { refunded, reset_after: Duration::ZERO };
        }
        self.grants.take_out(entry.time, refunded);
        Refund { refunded, reset_after: self.reset_after(&after) }
    }

    /// Returns the effect of [`SlidingWindowLog::give_back`] at `now` that gave `units` back.
    #[must_use]
    pub const fn effect_of_return(granted_at: Instant, units: Units, now: Instant) -> LogEffect {
        LogEffect::Return { time: now, granted_at, units }
    }
}
