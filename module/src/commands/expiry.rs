//! The expiry of keys.
//!
//! From its end on, a state counts as missing, and its key could expire. Two things are cheaper if
//! the key expires somewhat later:
//!
//! * A bucket of 100 units per minute that is called once a second ends before each call. A call on
//!   a key that still exists changes it in place. A deletion by expiry and a new key would take 40%
//!   more instructions, and replicas and the append-only file would receive the deletion as well.
//! * Setting an expiry takes 7% of a granted call. An expiry that is late enough need not be set.
//!
//! So a key expires [`LEAST_SECONDS`] after the end of its state. The first change in place adds up
//! to [`MORE_SECONDS`]; later changes leave the expiry as it is while it is between these bounds. A
//! key that is called once only does not get more, so that it takes no memory for longer.
//!
//! The expiry that a change in place has set is the note of the state (see [`Stored::note`]), in
//! seconds. To ask the server for the expiry would cost as much as to set it.
//!
//! A fixed window ends at the same time whatever is taken from it, so that its key gets nothing
//! more. Its note is a mark that the key has the expiry of the window.

use limiter::{Duration, Instant, Stored};

use crate::ffi::key::WriteKey;

/// The seconds from the end of a state to the earliest expiry of its key.
const LEAST_SECONDS: u64 = 1;
/// The seconds from the earliest expiry to the latest one.
const MORE_SECONDS: u64 = 8;

/// Returns the expiry of a new key whose state ends after `reset_after`, in Unix milliseconds.
#[inline(always)]
pub(super) fn expiry_millis(now: Instant, reset_after: Duration) -> u64 {
    now.expiry_millis(reset_after) + LEAST_SECONDS * 1_000
}

/// The expiry of a key after a change.
pub(super) struct Expiry {
    /// Unix milliseconds.
    pub(super) millis: u64,
    /// False if the key has this expiry already.
    is_new: bool,
}

impl Expiry {
    /// Returns the expiry of a new key, whose state ends after `reset_after`.
    #[inline(always)]
    pub(super) fn of_new(now: Instant, reset_after: Duration) -> Self {
        Self { millis: expiry_millis(now, reset_after), is_new: true }
    }

    /// Returns the expiry of a key whose state has changed, and now ends after `reset_after`.
    #[inline(always)]
    pub(super) fn of_changed<T: Stored>(
        state: &mut T,
        now: Instant,
        reset_after: Duration,
    ) -> Self {
        if T::MAX_NOTE == MARK {
            let is_new = state.note() != MARK;
            state.set_note(MARK);
            return Self { is_new, ..Self::of_new(now, reset_after) };
        }
        if !fits_note::<T>(reset_after) {
            state.set_note(UNKNOWN);
            return Self::of_new(now, reset_after);
        }
        let earliest = expiry_millis(now, reset_after).div_ceil(1_000);
        let note = state.note();
        let more = u64::from(note.wrapping_sub(earliest as u32) & T::MAX_NOTE);
        if note != UNKNOWN && more <= MORE_SECONDS {
            return Self { millis: (earliest + more) * 1_000, is_new: false };
        }
        let latest = earliest + MORE_SECONDS;
        state.set_note(latest as u32 & T::MAX_NOTE);
        Self { millis: latest * 1_000, is_new: true }
    }

    /// Sets the expiry of the key, unless the key has it already.
    #[inline(always)]
    pub(super) fn set(&self, key: &mut WriteKey<'_>) {
        if self.is_new {
            key.expire_at(self.millis);
        }
    }
}

/// The note of a state while the expiry of its key is not known: the next grant sets it.
pub(super) const UNKNOWN: u32 = 0;

/// The note of a state that keeps one bit only, and loses it when its end changes: the key has the
/// expiry of this end.
const MARK: u32 = 1;

/// Returns whether the low bits of an expiry, which are the note, stand for one expiry only.
///
/// They do if the noted expiry and the one that is compared with it are both in the future by less
/// than half of the seconds that the bits can count. A noted expiry is not in the past, as the
/// server has not removed the key.
#[inline(always)]
fn fits_note<T: Stored>(reset_after: Duration) -> bool {
    const MICROS: u128 = 1_000_000;
    reset_after.as_micros() < u128::from(T::MAX_NOTE / 2) * MICROS
}
