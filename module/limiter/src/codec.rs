//! The bytes in which states and effects are stored and sent: versions, kinds and fields.
//!
//! ```text
//!  version  kind  fields ...      every field an unsigned LEB128 integer
//! ```
//!
//! | version | kind | content | fields |
//! |---|---|---|---|
//! | 1 | 1 | a token bucket | time, window in ms, limit, units, parts |
//! | 1 | 2 | a sliding window log | window in ms, then per entry: µs since the entry before, units |
//! | 1 | 3 | a grant that was logged | time, window in ms, units |
//! | 1 | 4 | a refund from a log | time, units |
//! | 2 | 5 | the deletion of a state | none |
//! | 2 | 6 | a sliding window log | window in ms, age of the first grant, then as kind 2 |
//! | 2 | 7 | a fixed window | units, begin in ms, length in ms |
//! | 2 | 8 | a token bucket in debt | as kind 1, with more units than a capacity can be |
//! | 2 | 9 | a sliding window log in debt | window in ms, age of the first grant and 1, then as kind 2 |
//! | 2 | 10 | a grant that was logged otherwise | time, window in ms, units, resolution in ms, joins |
//! | 2 | 11 | a return to an entry of a log | time, time of the grant, units |
//! | 2 | 12 | leases | per lease: µs since the expiry before, ttl in ms, cost, fence, holder |
//! | 2 | 13 | a lease that was taken | time, ttl in ms, cost, fence, holder |
//! | 2 | 14 | leases that were renewed | time, ttl in ms, per lease: holder |
//! | 2 | 15 | leases that were released | time, per lease: holder |
//! | 2 | 16 | a reservation | end, per estimate: key, cost, origin |
//! | 2 | 17 | a reservation that was repeated | time, end |
//!
//! Times are in microseconds since the epoch. The version of a kind is the first version that has
//! the kind, so that an older reader refuses no more than it must.
//!
//! The age of the first grant is the time from the first to the latest grant of the newest entry of
//! a log, or 0 if the time of the first grant is unknown. If both are the same grant, the log is
//! written as kind 2. Kind 9 has the age and 1, or 0 if the time is unknown.
//!
//! Holders and keys are a length and so many bytes. An origin is 1 and a limit, a window and a
//! capacity; or 2 and a limit, a window, a resolution and the time of the grant; or 3 and a limit,
//! the begin and the length of the window, and its period: 0 with a length and an anchor, 1 to 4
//! for a day to a year, 5 with a begin and a length.
//!
//! The resolution of kind 10 is 0 if it is the usual one. Joins is 1 if the grant joined the newest
//! entry, whose first grant may lie in another tick.
//!
//! Bytes of a newer version are refused; bytes of an older one are always read. Each state encodes
//! and decodes itself with the functions of this file. Decoding checks every bound that the
//! algorithms rely on. It does not check whether any calls could have led to a state, nor whether
//! an integer is padded. Decoding refuses an empty state, since an unused limiter has no key.

use crate::limits::{Units, Window};
use crate::time::Instant;
use crate::varint;

/// The newest version that is written, and that decoders read.
pub const VERSION: u8 = 2;

/// The reason for which bytes were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes are of this version, newer than [`VERSION`].
    NewerVersion(u8),
    /// No version writes these bytes.
    Malformed,
}

/// A value that is stored or sent as bytes.
pub trait Encode: Sized {
    /// Appends the bytes of this value to `bytes`.
    fn encode(&self, bytes: &mut impl Extend<u8>);

    /// Returns the value of which [`Encode::encode`] wrote `bytes`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for any other bytes.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// A kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    TokenBucket,
    SlidingWindowLog,
    GrantOfLog,
    RefundOfLog,
    Deletion,
    SlidingWindowLogWithAge,
    FixedWindow,
    TokenBucketInDebt,
    SlidingWindowLogInDebt,
    OtherGrantOfLog,
    ReturnToLog,
    Leases,
    Acquisition,
    Renewal,
    Release,
    Reservation,
    Extension,
}

impl Kind {
    /// Every kind that any version has written. No kind is ever removed.
    const ALL: [Self; 17] = [
        Self::TokenBucket,
        Self::SlidingWindowLog,
        Self::GrantOfLog,
        Self::RefundOfLog,
        Self::Deletion,
        Self::SlidingWindowLogWithAge,
        Self::FixedWindow,
        Self::TokenBucketInDebt,
        Self::SlidingWindowLogInDebt,
        Self::OtherGrantOfLog,
        Self::ReturnToLog,
        Self::Leases,
        Self::Acquisition,
        Self::Renewal,
        Self::Release,
        Self::Reservation,
        Self::Extension,
    ];

    /// Returns the first version that has this kind, and the number of the kind.
    const fn header(self) -> [u8; 2] {
        match self {
            Self::TokenBucket => [1, 1],
            Self::SlidingWindowLog => [1, 2],
            Self::GrantOfLog => [1, 3],
            Self::RefundOfLog => [1, 4],
            Self::Deletion => [2, 5],
            Self::SlidingWindowLogWithAge => [2, 6],
            Self::FixedWindow => [2, 7],
            Self::TokenBucketInDebt => [2, 8],
            Self::SlidingWindowLogInDebt => [2, 9],
            Self::OtherGrantOfLog => [2, 10],
            Self::ReturnToLog => [2, 11],
            Self::Leases => [2, 12],
            Self::Acquisition => [2, 13],
            Self::Renewal => [2, 14],
            Self::Release => [2, 15],
            Self::Reservation => [2, 16],
            Self::Extension => [2, 17],
        }
    }
}

/// Appends a kind with its fields.
pub(crate) fn put(bytes: &mut impl Extend<u8>, kind: Kind, fields: &[u64]) {
    bytes.extend(kind.header());
    for &field in fields {
        varint::put(bytes, field);
    }
}

/// Reads the kind of `bytes`. Returns it with the fields after it.
pub(crate) fn read(bytes: &[u8]) -> Result<(Kind, Fields<'_>), DecodeError> {
    let (header, fields) = match *bytes {
        [version, ..] if version > VERSION => return Err(DecodeError::NewerVersion(version)),
        [version, kind, ref fields @ ..] => ([version, kind], fields),
        _ => return Err(DecodeError::Malformed),
    };
    let kind = Kind::ALL.into_iter().find(|kind| kind.header() == header);
    kind.map(|kind| (kind, Fields(fields))).ok_or(DecodeError::Malformed)
}

/// The fields that have not been read yet.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Takes so many bytes as they are.
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn integer(&mut self) -> Option<u64> {
        varint::take(&mut self.0)
    }

    pub(crate) fn time(&mut self) -> Option<Instant> {
        let micros = self.integer()?;
        (micros <= Instant::MAX.as_micros()).then_some(Instant::from_micros(micros))
    }

    pub(crate) fn window(&mut self) -> Option<Window> {
        Window::from_millis(self.integer()?)
    }

    pub(crate) fn units(&mut self) -> Option<Units> {
        Units::new(self.integer()?)
    }

    /// Takes a number of units in use, which is at least 1.
    pub(crate) fn used(&mut self) -> Option<u32> {
        u32::try_from(self.integer()?).ok().filter(|&used| used > 0)
    }

    /// Takes 0 or 1.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.integer()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// Returns the value that was read from the fields. All fields must have been read.
    pub(crate) fn end<T>(&self, value: Option<T>) -> Result<T, DecodeError> {
        value.filter(|_| self.is_empty()).ok_or(DecodeError::Malformed)
    }
}
