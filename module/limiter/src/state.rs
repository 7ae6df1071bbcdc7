//! The trait of every state that grants units of a limit.

use core::fmt::Debug;

use crate::algorithm::Algorithm;
use crate::decision::{Decision, Refund};
use crate::limits::{Request, Units};
use crate::stored::Stored;
use crate::time::Instant;

/// A state that decides how many units of a limit a call takes.
pub trait Limiter: Stored {
    /// The limit of a call. It has the parameters of this algorithm, and no others.
    type Limit: Copy + Debug + PartialEq;

    /// The algorithm of the state.
    const ALGORITHM: Algorithm;

    /// The most bytes that the effect of one call takes.
    const MAX_EFFECT_BYTES: usize;

    /// Returns whether a limit can be used at `now`: a caller may give a window that contains only
    /// certain times. A server returns an error for a limit that is not open, and asks this before
    /// it takes or peeks.
    #[must_use]
    #[inline(always)]
    fn is_open(_limit: &Self::Limit, _now: Instant) -> bool {
        true
    }

    /// Decides a call at `now`, and records the units that it was granted. A denied call changes
    /// nothing.
    fn take(&mut self, limit: &Self::Limit, request: Request, now: Instant) -> Decision;

    /// Returns what [`Limiter::take`] would grant of `cost` at `now`, and when; `remaining` and
    /// `reset_after` are those of the state as it is.
    #[must_use]
    fn peek(&self, limit: &Self::Limit, cost: Units, now: Instant) -> Decision;

    /// Gives back up to `amount` of the units that are used at `now` as the latest grant counts
    /// them, any part of a unit as a whole one. If none stays used, the state becomes the default
    /// one.
    fn refund(&mut self, amount: Units, now: Instant) -> Refund;

    /// Returns the effect of a call at `now` that was granted `units`; `self` is the state after
    /// the call.
    #[must_use]
    fn effect_of_grant(
        &self,
        limit: &Self::Limit,
        request: Request,
        units: Units,
        now: Instant,
    ) -> Self::Effect;

    /// Returns the effect of a refund of `units` at `now`; `self` is the state after the refund.
    #[must_use]
    fn effect_of_refund(&self, units: Units, now: Instant) -> Self::Effect;

    /// Returns whether an effect, to which `self` is the state before, gives units back.
    #[must_use]
    fn is_refund(&self, effect: &Self::Effect) -> bool;
}
