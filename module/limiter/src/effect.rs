//! Effects: changes to a key that are complete enough to be made again elsewhere.

use crate::codec::{self, DecodeError, Encode, Kind};
use crate::fixed_window::FixedWindow;
use crate::leases::Leases;
use crate::reservation::Reservation;
use crate::sliding_window_log::SlidingWindowLog;
use crate::stored::Stored;
use crate::time::Instant;
use crate::token_bucket::TokenBucket;

/// A change to a key. [`Stored::apply`] makes it to the state of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A change to a token bucket.
    TokenBucket(<TokenBucket as Stored>::Effect),
    /// A change to a sliding window log.
    SlidingWindowLog(<SlidingWindowLog as Stored>::Effect),
    /// A change to leases.
    Leases(<Leases as Stored>::Effect),
    /// A change to a fixed window.
    FixedWindow(<FixedWindow as Stored>::Effect),
    /// A change to a reservation.
    Reservation(<Reservation as Stored>::Effect),
    /// The deletion of the key, whatever its state was.
    Deletion,
}

impl Effect {
    /// Returns the time of the change. If the effect does not have it, returns a later time for a
    /// fixed window and a reservation, and the epoch for a whole log and a deletion.
    #[must_use]
    pub fn time(&self) -> Instant {
        match self {
            Self::TokenBucket(bucket) => bucket.time(),
            Self::SlidingWindowLog(effect) => effect.time(),
            Self::Leases(effect) => effect.time(),
            Self::FixedWindow(window) => window.latest_time(),
            Self::Reservation(effect) => effect.end(),
            Self::Deletion => Instant::EPOCH,
        }
    }
}

impl From<<TokenBucket as Stored>::Effect> for Effect {
    fn from(effect: <TokenBucket as Stored>::Effect) -> Self {
        Self::TokenBucket(effect)
    }
}

impl From<<SlidingWindowLog as Stored>::Effect> for Effect {
    fn from(effect: <SlidingWindowLog as Stored>::Effect) -> Self {
        Self::SlidingWindowLog(effect)
    }
}

impl From<<FixedWindow as Stored>::Effect> for Effect {
    fn from(effect: <FixedWindow as Stored>::Effect) -> Self {
        Self::FixedWindow(effect)
    }
}

impl Encode for Effect {
    fn encode(&self, bytes: &mut impl Extend<u8>) {
        match self {
            Self::TokenBucket(effect) => effect.encode(bytes),
            Self::SlidingWindowLog(effect) => effect.encode(bytes),
            Self::Leases(effect) => effect.encode(bytes),
            Self::FixedWindow(effect) => effect.encode(bytes),
            Self::Reservation(effect) => effect.encode(bytes),
            Self::Deletion => codec::put(bytes, Kind::Deletion, &[]),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (kind, fields) = codec::read(bytes)?;
        match kind {
            Kind::TokenBucket | Kind::TokenBucketInDebt => {
                Encode::decode(bytes).map(Self::TokenBucket)
            }
            Kind::SlidingWindowLog
            | Kind::SlidingWindowLogWithAge
            | Kind::SlidingWindowLogInDebt
            | Kind::GrantOfLog
            | Kind::OtherGrantOfLog
            | Kind::ReturnToLog
            | Kind::RefundOfLog => Encode::decode(bytes).map(Self::SlidingWindowLog),
            Kind::Leases | Kind::Acquisition | Kind::Renewal | Kind::Release => {
                Encode::decode(bytes).map(Self::Leases)
            }
            Kind::FixedWindow => Encode::decode(bytes).map(Self::FixedWindow),
            Kind::Reservation | Kind::Extension => Encode::decode(bytes).map(Self::Reservation),
            Kind::Deletion => fields.end(Some(Self::Deletion)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
