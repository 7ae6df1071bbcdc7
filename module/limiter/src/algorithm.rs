//! What all algorithms have in common.

use alloc::vec::Vec;
use core::fmt::Debug;
use core::ops::Range;

use crate::codec::{Change, DecodeError};
use crate::decision::{Decision, Refund};
use crate::limits::{Demand, Units};
use crate::time::Instant;

/// The state of an algorithm, and what can be done with it. The default state has used nothing.
pub trait Algorithm: Clone + Default {
    /// What a call is allowed.
    type Limit: Copy + Debug;

    /// Decides a call at `now`, and records what it was granted. A denied call changes nothing.
    fn take(&mut self, limit: &Self::Limit, demand: Demand, now: Instant) -> Decision;

    /// What [`Algorithm::take`] would grant of `cost` at `now`, and when; `remaining` and
    /// `reset_after` are those of the state as it is.
    #[must_use]
    fn peek(&self, limit: &Self::Limit, cost: Units, now: Instant) -> Decision;

    /// Gives back up to `amount` of what is used at `now` as the latest grant counts it, any part
    /// of a unit as a whole one. A state of which nothing stays used is the default one again.
    fn refund(&mut self, amount: Units, now: Instant) -> Refund;

    /// Whether the state counts for nothing at `now` and at any later time.
    #[must_use]
    fn has_ended(&self, now: Instant) -> bool;

    /// What a call at `now` that was granted `units` has changed; this is the state after it.
    #[must_use]
    fn granted(&self, limit: &Self::Limit, units: Units, now: Instant) -> Change;

    /// What a refund of `units` at `now` has changed; this is the state after it.
    #[must_use]
    fn refunded(&self, units: Units, now: Instant) -> Change;

    /// Appends the bytes of this state to `bytes`.
    fn encode(&self, bytes: &mut impl Extend<u8>);

    /// Reads back what [`Algorithm::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for any other bytes.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// Number of buffers that the state holds on the heap. Constant cost.
    #[must_use]
    fn buffers(&self) -> usize;

    /// Lends the buffers with these numbers, of 0 to [`Algorithm::buffers`], to `visitor`.
    ///
    /// The state stays the same, and so do the numbers until the state is changed.
    fn visit_buffers(&mut self, numbers: Range<usize>, visitor: &mut impl BufferVisitor);
}

/// Something that is lent the buffers of a state one by one: to measure them, or to move them.
pub trait BufferVisitor {
    /// Takes a buffer, which is allocated, and gives back one with the same elements and the same
    /// capacity.
    fn visit<T>(&mut self, buffer: Vec<T>) -> Vec<T>;
}
