//! The holders of leases, and the fences that order their leases.

use core::fmt;

use crate::math::Exact;
use crate::time::Instant;

/// The name of a holder: 1 to 64 bytes, chosen by the caller. It names one attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// The name, and zeros behind it.
    bytes: [u8; Self::MAX_BYTES],
    len: u8,
}

impl Holder {
    /// The most bytes of a name.
    pub const MAX_BYTES: usize = 64;

    /// Returns these bytes as a name, or `None` unless they are 1 to [`Holder::MAX_BYTES`].
    #[must_use]
    pub fn new(name: impl AsRef<[u8]>) -> Option<Self> {
        let name = name.as_ref();
        let mut bytes = [0; Self::MAX_BYTES];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        (!name.is_empty()).then_some(Self { bytes, len: name.len() as u8 })
    }

    /// Returns a hash that is the same in every process. Holders with the same hash are no harm:
    /// the order of the bytes distinguishes them.
    pub(crate) fn hash(&self) -> u32 {
        let words = usize::from(self.len).div_ceil(8);
        let (chunks, _) = self.bytes.as_chunks::<8>();
        let hash = chunks.iter().take(words).fold(0_u64, |hash, chunk| {
            (hash.rotate_left(5) ^ u64::from_le_bytes(*chunk)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        (hash >> 32) as u32
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

/// The highest fence of a server: given, loaded, or received as an effect, for any key.
///
/// A new fence is greater than all of them, and at least the microseconds of the clock, so that
/// fences stay in order after a restart with a clock that went forward.
///
/// Neither a clock nor a fence that was loaded or received raises the highest fence to
/// [`Fences::MAX`], so that fences are left whatever the bytes of a lease are. The microseconds of a
/// right clock reach the bounds in 2219; from then on fences are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fences {
    highest: u64,
}

impl Fences {
    /// The greatest fence: 2^53 - 1, the largest integer up to which Lua, JavaScript and JSON
    /// represent every integer.
    pub const MAX: u64 = (1 << 53) - 1;

    /// The highest fence that a clock makes.
    const MAX_BY_CLOCK: u64 = Self::MAX - (1 << 50);

    /// The highest fence that is taken into account: some are counted above that of a clock that is
    /// far ahead, and 2^49 fences are left above any bytes.
    const MAX_OBSERVED: u64 = Self::MAX - (1 << 49);

    /// No fence was given.
    #[must_use]
    pub const fn new() -> Self {
        Self { highest: 0 }
    }

    /// The highest fence, or 0 if there was none.
    #[must_use]
    pub const fn highest(self) -> u64 {
        self.highest
    }

    /// Takes a fence into account that was loaded or received.
    pub fn observe(&mut self, fence: u64) {
        self.highest = self.highest.max(fence.min(Self::MAX_OBSERVED));
    }

    /// Returns the next fence, or `None` if [`Fences::MAX`] was given.
    pub fn next(&mut self, now: Instant) -> Option<u64> {
        if self.highest == Self::MAX {
            return None;
        }
        self.highest = self.highest.plus(1).max(now.as_micros().min(Self::MAX_BY_CLOCK));
        Some(self.highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_has_1_to_64_bytes() {
        for (len, valid) in [(0, false), (1, true), (64, true), (65, false), (1_000, false)] {
            let name = alloc::vec![0xff; len];
            let holder = Holder::new(&name);
            assert_eq!(holder.is_some(), valid, "{len}");
            assert!(holder.is_none_or(|holder| holder.as_bytes() == name));
        }
    }

    #[test]
    fn holders_are_distinct_also_when_they_end_with_zeros() {
        let [short, long] = [&b"a"[..], b"a\0"].map(|name| Holder::new(name).unwrap());
        assert!(short < long);
    }

    #[test]
    fn fences_rise_with_the_clock_and_when_it_stands_still_or_steps_back() {
        let mut fences = Fences::new();
        let at = Instant::from_micros;
        let given = [0, 5, 5, 5, 3, 9].map(|micros| fences.next(at(micros)).unwrap());
        assert_eq!(given, [1, 5, 6, 7, 8, 9]);
        fences.observe(100);
        fences.observe(50);
        assert_eq!((fences.next(at(60)), fences.highest()), (Some(101), 101));
    }

    #[test]
    fn fences_are_left_after_any_fence_and_any_clock() {
        for (fence, now) in [(u64::MAX, 0), (Fences::MAX, 60), (0, u64::MAX), (1, Fences::MAX)] {
            let mut fences = Fences::new();
            fences.observe(fence);
            for _ in 0..3 {
                let before = fences.highest();
                let next = fences.next(Instant::from_micros(now)).unwrap();
                assert!(before < next && next < Fences::MAX - (1 << 48), "{next}");
            }
        }
        let mut last = Fences { highest: Fences::MAX - 1 };
        assert_eq!(last.next(Instant::EPOCH), Some(Fences::MAX));
        assert_eq!(last.next(Instant::EPOCH), None);
    }
}
