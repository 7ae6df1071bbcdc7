//! The trait of every state that a server stores under a key and replicates.

use core::fmt::Debug;
use core::ops::Range;

use crate::buffers::BufferVisitor;
use crate::codec::Encode;
use crate::time::Instant;

/// A state that is stored under a key, and that effects change on replicas. The default state has
/// used nothing: it is the state of a key that does not exist.
pub trait Stored: Encode + Clone + Default {
    /// A change to the state, complete enough to be made again elsewhere.
    type Effect: Encode + Debug;

    /// The highest note that the state can keep. A state that keeps no higher one than 1 loses it
    /// when its end changes.
    const MAX_NOTE: u32 = 0;

    /// Returns the note that [`Stored::set_note`] has set, or 0.
    #[must_use]
    fn note(&self) -> u32 {
        0
    }

    /// Keeps a number of the owner with the state, in memory that the state does not need.
    ///
    /// The note is no part of the state: no bytes have it, no comparison regards it, and a decoded
    /// state has the note 0. A grant and a refund keep it, unless the state becomes the default
    /// one; an effect may set it to 0.
    fn set_note(&mut self, _note: u32) {}

    /// Returns whether the state has ended: it affects no call at `now` or later.
    #[must_use]
    fn has_ended(&self, now: Instant) -> bool;

    /// Makes the change that another server has made to the same state.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the state unchanged, when the effect cannot have been made to this state.
    fn apply(&mut self, effect: Self::Effect) -> Result<(), Refused>;

    /// Returns the number of buffers that the state holds on the heap. Constant cost.
    #[must_use]
    fn buffers(&self) -> usize;

    /// Lends the buffers with these numbers, of 0 to [`Stored::buffers`], to `visitor`.
    ///
    /// The state does not change. The numbers stay the same until the state changes.
    fn visit_buffers(&mut self, numbers: Range<usize>, visitor: &mut impl BufferVisitor);
}

/// The error of an effect that cannot have been made to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;
