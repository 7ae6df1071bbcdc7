//! A window, and a note in the bits that no window needs.

use core::num::NonZeroU64;

use crate::limits::Window;

/// The window of a state, and a number that the owner of the state keeps with it, in the memory of
/// the window alone.
///
/// The note is no part of the state: windows with other notes are equal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotedWindow(u64);

/// A window in microseconds is a multiple of 1,000, so that its last three bits are zero, and has at
/// most 45 bits.
const UNUSED_BITS: u32 = 3;
const WINDOW_BITS: u32 = 45 - UNUSED_BITS;
const NOTE_BITS: u32 = u64::BITS - WINDOW_BITS;
const _: () = assert!(Window::MAX.as_micros() >> UNUSED_BITS < 1 << WINDOW_BITS);

impl NotedWindow {
    /// The highest note.
    pub(crate) const MAX_NOTE: u32 = (1 << NOTE_BITS) - 1;

    /// Returns a window with the note 0.
    pub(crate) const fn new(window: Window) -> Self {
        Self(window.as_micros() >> UNUSED_BITS)
    }

    /// Returns another window with the same note.
    #[inline(always)]
    pub(crate) const fn with(self, window: Window) -> Self {
        Self(self.0 >> WINDOW_BITS << WINDOW_BITS | Self::new(window).0)
    }

    #[inline(always)]
    pub(crate) const fn as_micros(self) -> u64 {
        self.0 << NOTE_BITS >> (NOTE_BITS - UNUSED_BITS)
    }

    #[inline(always)]
    pub(crate) fn window(self) -> Window {
        NonZeroU64::new(self.as_micros()).map_or(Window::MIN, Window::from_nonzero_micros)
    }

    pub(crate) const fn note(self) -> u32 {
        (self.0 >> WINDOW_BITS) as u32
    }

    /// Sets the note. Of a higher one than [`NotedWindow::MAX_NOTE`], only the low bits are kept.
    #[inline(always)]
    pub(crate) const fn set_note(&mut self, note: u32) {
        self.0 = (note as u64) << WINDOW_BITS | self.0 << NOTE_BITS >> NOTE_BITS;
    }
}

impl PartialEq for NotedWindow {
    fn eq(&self, other: &Self) -> bool {
        self.as_micros() == other.as_micros()
    }
}

impl Eq for NotedWindow {}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::codec::Encode;
    use crate::limits::{Limit, Request, Units};
    use crate::log_options::LogLimit;
    use crate::sliding_window_log::SlidingWindowLog;
    use crate::state::Limiter;
    use crate::time::Instant;
    use crate::token_bucket::TokenBucket;

    #[test]
    fn window_and_note_do_not_change_each_other() {
        let windows = [1, 2, 999, 86_400_000, 31_622_400_000]
            .map(|millis| Window::from_millis(millis).unwrap());
        for window in windows {
            let mut noted = NotedWindow::new(window);
            assert_eq!((noted.window(), noted.note()), (window, 0));
            for note in [1, 2, 1 << 20, NotedWindow::MAX_NOTE, 0] {
                noted.set_note(note);
                assert_eq!((noted.window(), noted.note()), (window, note));
                assert_eq!(noted.as_micros(), window.as_micros());
                assert_eq!(noted, NotedWindow::new(window), "a note changes no comparison");
                for other in windows {
                    let other_noted = noted.with(other);
                    assert_eq!((other_noted.window(), other_noted.note()), (other, note));
                    assert_eq!(other_noted == noted, other == window);
                }
            }
        }
    }

    #[test]
    fn a_higher_note_keeps_its_low_bits() {
        let mut noted = NotedWindow::new(Window::MAX);
        noted.set_note(u32::MAX);
        assert_eq!((noted.window(), noted.note()), (Window::MAX, NotedWindow::MAX_NOTE));
    }

    /// Grants, denials, calls with another window, and a refund, with the same answers with a note
    /// and without one.
    fn decides_alike<S: Limiter + PartialEq>(limit_of: impl Fn(u64) -> S::Limit) {
        const NOTE: u32 = 12_345;
        let (mut plain, mut noted) = (S::default(), S::default());
        noted.set_note(NOTE);
        for step in 0..200_u64 {
            let now = Instant::from_micros(1_800_000_000_000_000 + step * 137_000);
            let limit = limit_of(if step % 50 < 40 { 1_000 } else { 31_622_400_000 });
            let request = Request::all(Units::new(1 + step % 3).unwrap());
            assert_eq!(
                noted.peek(&limit, request.cost, now),
                plain.peek(&limit, request.cost, now)
            );
            assert_eq!(noted.take(&limit, request, now), plain.take(&limit, request, now));
            assert_eq!(noted.has_ended(now), plain.has_ended(now));
            if step % 70 == 69 {
                assert_eq!(noted.refund(Units::MIN, now), plain.refund(Units::MIN, now));
            }
            assert_eq!((noted.note(), plain.note()), (NOTE, 0), "step {step}");
            assert!(noted == plain && encoded(&noted) == encoded(&plain), "step {step}");
        }
        assert_eq!(S::decode(&encoded(&noted)).unwrap().note(), 0);
    }

    fn encoded(state: &impl Encode) -> Vec<u8> {
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        bytes
    }

    #[test]
    fn a_note_changes_no_decision_and_no_bytes() {
        let (limit, window) =
            (Units::new(5).unwrap(), |millis| Window::from_millis(millis).unwrap());
        decides_alike::<TokenBucket>(|millis| Limit::new(limit, window(millis)));
        decides_alike::<SlidingWindowLog>(|millis| LogLimit::new(limit, window(millis)));
    }
}
