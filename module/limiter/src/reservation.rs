//! Reservations: an estimated cost that was taken from several limits, and is corrected once.
//!
//! ```text
//!  RESERVE: takes the estimates          SETTLE: gives the surplus back, or takes
//!           and stores what it took              what is missing, and deletes
//!  ─────────●────────────────────────────────────●─────────▷ end (then final)
//! ```
//!
//! It is the authorization and capture of card payments, for units of a limit. The surplus of an
//! estimate returns where the estimate still counts, and nowhere else: in a log to the entry of its
//! grant, in a fixed window while the state has the same window, in a bucket at most what is used.
//! Missing units are taken at the time of the settlement in every case. The rate, the window, the
//! capacity and the resolution of a state stay as they are.
//!
//! Every call has a constant cost for each key of the reservation; a return to an old entry of a long
//! log costs a few instructions more for each 240 bytes after it.

mod bytes;

use alloc::vec::Vec;
use core::mem;
use core::ops::Range;

use crate::algorithm::Algorithm;
use crate::buffers::BufferVisitor;
use crate::calendar::Bounds;
use crate::decision::Refund;
use crate::fixed_window::{FixedLimit, FixedWindow};
use crate::limits::{Limit, Request, Units, Window};
use crate::log_options::{LogLimit, LogOptions};
use crate::math::Exact;
use crate::quota::Quota;
use crate::sliding_window_log::SlidingWindowLog;
use crate::state::Limiter;
use crate::stored::{Refused, Stored};
use crate::time::{Duration, Instant};
use crate::token_bucket::TokenBucket;

/// A reservation: the estimates of several keys, until its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The time from which the reservation counts for nothing.
    end: Instant,
    estimates: Vec<Estimate>,
}

/// The units that a reservation took from one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The name of the key.
    pub key: Vec<u8>,
    /// The units that were taken.
    pub cost: Units,
    /// The limit from which they were taken, and the place where they count.
    pub origin: Origin,
}

/// A limit of which units were reserved, and the place where they count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A token bucket, in which units have no place.
    TokenBucket {
        /// The limit of the call.
        limit: Limit,
    },
    /// A sliding window log, in which they count in one entry.
    SlidingWindowLog {
        /// The limit of the call.
        limit: Limit,
        /// The resolution of the call.
        resolution: Option<Window>,
        /// The time that the log has recorded: [`SlidingWindowLog::newest_time`] after the grant.
        granted_at: Instant,
    },
    /// A fixed window.
    FixedWindow {
        /// The limit of the call.
        limit: FixedLimit,
        /// The window of the state: [`FixedWindow::bounds`] after the grant.
        bounds: Bounds,
    },
}

/// The difference between an estimate and what was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correction {
    /// The estimate was right, or stands.
    Nothing,
    /// Units that SETTLE gives back.
    Return(Units),
    /// Units that SETTLE takes in every case.
    Charge(Units),
}

/// The result of a settlement for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement<E> {
    /// Units that were taken; negative for units that were given back.
    pub units: i64,
    /// The effect on the state, if anything is used after it. If units were given back and there is
    /// no effect, nothing stays used, and a server deletes the key.
    pub effect: Option<E>,
    /// The time until the whole quota is available, if the state has changed.
    pub reset_after: Duration,
}

/// A state that settles estimates.
pub trait Settle: Limiter {
    /// Returns the place of the units of a grant that has just been made to this state, or `None`
    /// if nothing is used.
    #[must_use]
    fn origin(&self, limit: &Self::Limit) -> Option<Origin>;

    /// Corrects an estimate at `now`; the default state is that of a key that does not exist.
    /// `max_entries` is the bound of [`LogOptions::max_entries`].
    ///
    /// Returns `None`, and changes nothing, if the estimate is of another kind of state.
    fn settle(
        &mut self,
        estimate: &Estimate,
        correction: Correction,
        max_entries: u32,
        now: Instant,
    ) -> Option<Settlement<Self::Effect>>;
}

impl Default for Reservation {
    fn default() -> Self {
        Self { end: Instant::EPOCH, estimates: Vec::new() }
    }
}

impl Reservation {
    /// Returns a reservation of these estimates, which are at least one and of different keys.
    #[must_use]
    pub fn new(estimates: Vec<Estimate>, ttl: Window, now: Instant) -> Option<Self> {
        let mut keys: Vec<_> = estimates.iter().map(|estimate| &estimate.key).collect();
        keys.sort_unstable();
        let is_repeated = |pair: &[&Vec<u8>]| matches!(pair, [first, second] if first == second);
        let is_valid = !keys.is_empty() && !keys.windows(2).any(is_repeated);
        let end = now.plus_micros(ttl.as_micros());
        is_valid.then_some(Self { end, estimates })
    }

    /// The time from which the reservation counts for nothing.
    #[must_use]
    pub const fn end(&self) -> Instant {
        self.end
    }

    /// The estimates, in the order of the call.
    #[must_use]
    pub fn estimates(&self) -> &[Estimate] {
        &self.estimates
    }

    /// Returns whether a repeated call names the same keys with the same costs and limits, in the
    /// same order.
    #[must_use]
    pub fn is_of<'a>(
        &self,
        calls: impl ExactSizeIterator<Item = (&'a [u8], Units, &'a Quota)>,
    ) -> bool {
        let is_same = |(own, (key, cost, quota)): (&Estimate, (&[u8], Units, &Quota))| {
            own.key == key && own.cost == cost && own.origin.is_limited_by(quota)
        };
        self.estimates.len() == calls.len() && self.estimates.iter().zip(calls).all(is_same)
    }

    /// Moves the end to `now` and the ttl, unless it is later already; returns the effect if the
    /// end has moved.
    pub fn extend(&mut self, ttl: Window, now: Instant) -> Option<ReservationEffect> {
        let end = now.plus_micros(ttl.as_micros());
        if end <= self.end {
            return None;
        }
        self.end = end;
        Some(ReservationEffect::Extension { time: now, end })
    }
}

impl Origin {
    /// The algorithm of the state that has granted the units.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::TokenBucket { .. } => Algorithm::TokenBucket,
            Self::SlidingWindowLog { .. } => Algorithm::SlidingWindow,
            Self::FixedWindow { .. } => Algorithm::FixedWindow,
        }
    }

    /// Returns true when the units were taken from this limit.
    fn is_limited_by(&self, quota: &Quota) -> bool {
        match (self, quota) {
            (Self::TokenBucket { limit: own }, Quota::TokenBucket(limit)) => own == limit,
            (
                Self::SlidingWindowLog { limit: own, resolution, .. },
                Quota::SlidingWindow(LogLimit { limit, window, options }),
            ) => own.limit == *limit && own.window == *window && *resolution == options.resolution,
            (Self::FixedWindow { limit: own, .. }, Quota::FixedWindow(limit)) => own == limit,
            _ => false,
        }
    }
}

impl Estimate {
    /// Returns the correction when so many units were used.
    #[must_use]
    pub fn correction(&self, actual: u32) -> Correction {
        let difference = u64::from(self.cost.get().abs_diff(actual));
        match Units::new(difference) {
            None => Correction::Nothing,
            Some(units) if actual < self.cost.get() => Correction::Return(units),
            Some(units) => Correction::Charge(units),
        }
    }
}

impl<E> Settlement<E> {
    const NOTHING: Self = Self { units: 0, effect: None, reset_after: Duration::ZERO };

    /// The result of giving units back, after which this would be the effect.
    fn returned(refund: Refund, effect: impl FnOnce(Units) -> E) -> Self {
        let Some(units) = Units::new(u64::from(refund.refunded)) else { return Self::NOTHING };
        let is_whole = refund.reset_after == Duration::ZERO;
        Self {
            units: i64::from(refund.refunded).wrapping_neg(),
            effect: (!is_whole).then(|| effect(units)),
            reset_after: refund.reset_after,
        }
    }

    /// The result of taking so many units, of which this would be the effect.
    fn charged(granted: u32, reset_after: Duration, effect: impl FnOnce(Units) -> E) -> Self {
        match Units::new(u64::from(granted)) {
            None => Self::NOTHING,
            Some(units) => {
                Self { units: i64::from(granted), effect: Some(effect(units)), reset_after }
            }
        }
    }
}

impl Settle for TokenBucket {
    fn origin(&self, limit: &Limit) -> Option<Origin> {
        Some(Origin::TokenBucket { limit: *limit })
    }

    fn settle(
        &mut self,
        estimate: &Estimate,
        correction: Correction,
        _max_entries: u32,
        now: Instant,
    ) -> Option<Settlement<Self>> {
        let Origin::TokenBucket { limit } = estimate.origin else { return None };
        Some(match correction {
            Correction::Nothing => Settlement::NOTHING,
            Correction::Return(units) => {
                let refund = self.refund(units, now);
                Settlement::returned(refund, |_| self.clone())
            }
            Correction::Charge(units) => {
                let limit = if self.has_ended(now) { limit } else { self.latest_rate() };
                let decision = self.take(&limit, Request::force(units), now);
                Settlement::charged(decision.granted, decision.reset_after, |_| self.clone())
            }
        })
    }
}

impl Settle for SlidingWindowLog {
    fn origin(&self, limit: &LogLimit) -> Option<Origin> {
        let (granted_at, resolution) = (self.newest_time(), limit.options.resolution);
        let limit = Limit::new(limit.limit, limit.window);
        Some(Origin::SlidingWindowLog { limit, resolution, granted_at })
    }

    fn settle(
        &mut self,
        estimate: &Estimate,
        correction: Correction,
        max_entries: u32,
        now: Instant,
    ) -> Option<Settlement<Self::Effect>> {
        let Origin::SlidingWindowLog { limit, resolution, granted_at } = estimate.origin else {
            return None;
        };
        Some(match correction {
            Correction::Nothing => Settlement::NOTHING,
            Correction::Return(_)
                if !self.has_entry_of(
                    granted_at,
                    LogOptions { resolution, max_entries },
                    limit.window,
                ) =>
            {
                Settlement::NOTHING
            }
            Correction::Return(units) => {
                let refund = self.give_back(granted_at, units, now);
                let effect = |units| Self::effect_of_return(granted_at, units, now);
                Settlement::returned(refund, effect)
            }
            Correction::Charge(units) => {
                let window = if self.has_ended(now) { limit.window } else { self.window.window() };
                let options = LogOptions { resolution, max_entries };
                let limit = LogLimit { limit: limit.limit, window, options };
                let request = Request::force(units);
                let decision = self.take(&limit, request, now);
                Settlement::charged(decision.granted, decision.reset_after, |units| {
                    self.effect_of_grant(&limit, request, units, now)
                })
            }
        })
    }
}

impl Settle for FixedWindow {
    fn origin(&self, limit: &FixedLimit) -> Option<Origin> {
        self.bounds().map(|bounds| Origin::FixedWindow { limit: *limit, bounds })
    }

    fn settle(
        &mut self,
        estimate: &Estimate,
        correction: Correction,
        _max_entries: u32,
        now: Instant,
    ) -> Option<Settlement<Self>> {
        let Origin::FixedWindow { limit, bounds } = estimate.origin else { return None };
        Some(match correction {
            Correction::Nothing => Settlement::NOTHING,
            Correction::Return(_) if self.bounds() != Some(bounds) => Settlement::NOTHING,
            Correction::Return(units) => {
                let refund = self.refund(units, now);
                Settlement::returned(refund, |_| *self)
            }
            Correction::Charge(units) => {
                let (granted, reset_after) = self.charge(&limit, units, now);
                Settlement::charged(granted, reset_after, |_| *self)
            }
        })
    }
}

/// A change to a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReservationEffect {
    /// The reservation is now this one.
    Whole(Reservation),
    /// The end has moved.
    Extension {
        /// The time of the call.
        time: Instant,
        /// The end.
        end: Instant,
    },
}

impl ReservationEffect {
    /// The end of the reservation after the effect.
    #[must_use]
    pub const fn end(&self) -> Instant {
        match self {
            Self::Whole(reservation) => reservation.end,
            Self::Extension { end, .. } => *end,
        }
    }
}

impl Stored for Reservation {
    type Effect = ReservationEffect;

    fn has_ended(&self, now: Instant) -> bool {
        self.end <= now
    }

    /// Refuses an end of a reservation that has ended or does not exist, or that is not later.
    fn apply(&mut self, effect: ReservationEffect) -> Result<(), Refused> {
        match effect {
            ReservationEffect::Whole(reservation) => *self = reservation,
            ReservationEffect::Extension { time, end } => {
                if self.estimates.is_empty() || self.has_ended(time) || end <= self.end {
                    return Err(Refused);
                }
                self.end = end;
            }
        }
        Ok(())
    }

    fn buffers(&self) -> usize {
        self.estimates.len().plus(usize::from(self.estimates.capacity() > 0))
    }

    fn visit_buffers(&mut self, numbers: Range<usize>, visitor: &mut impl BufferVisitor) {
        if numbers.contains(&0) && self.estimates.capacity() > 0 {
            self.estimates = visitor.visit(mem::take(&mut self.estimates));
        }
        for (number, estimate) in self.estimates.iter_mut().enumerate() {
            // The name of a key may be empty.
            if numbers.contains(&number.plus(1)) && estimate.key.capacity() > 0 {
                estimate.key = visitor.visit(mem::take(&mut estimate.key));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
