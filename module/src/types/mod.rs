//! The native data types, one for each kind of key, and the one list of them.

mod fixed_window;
mod leases;
mod reservation;
mod sliding_window_log;
mod token_bucket;

use limiter::Algorithm;

use crate::ffi::data_type;
use crate::ffi::key::ReadKey;
use crate::ffi::load::{LoadRefused, Loading};

/// Runs an expression with the type of an algorithm's state: `with_state!(algorithm, T => …)`.
macro_rules! with_state {
    ($algorithm:expr, $state:ident => $body:expr) => {
        match $algorithm {
            ::limiter::Algorithm::TokenBucket => {
                type $state = ::limiter::TokenBucket;
                $body
            }
            ::limiter::Algorithm::SlidingWindow => {
                type $state = ::limiter::SlidingWindowLog;
                $body
            }
            ::limiter::Algorithm::FixedWindow => {
                type $state = ::limiter::FixedWindow;
                $body
            }
        }
    };
}
pub(crate) use with_state;

/// Runs an expression with the state and the limit of a quota: `with_quota!(quota, T, limit => …)`.
macro_rules! with_quota {
    ($quota:expr, $state:ident, $limit:ident => $body:expr) => {
        match $quota {
            ::limiter::Quota::TokenBucket($limit) => {
                type $state = ::limiter::TokenBucket;
                $body
            }
            ::limiter::Quota::SlidingWindow($limit) => {
                type $state = ::limiter::SlidingWindowLog;
                $body
            }
            ::limiter::Quota::FixedWindow($limit) => {
                type $state = ::limiter::FixedWindow;
                $body
            }
        }
    };
}
pub(crate) use with_quota;

/// Runs an expression with the type of the values of a kind: `with_value!(kind, T => …)`.
macro_rules! with_value {
    ($kind:expr, $value:ident => $body:expr) => {
        match $kind {
            $crate::types::Kind::Limiter(algorithm) => {
                $crate::types::with_state!(algorithm, $value => $body)
            }
            $crate::types::Kind::Leases => {
                type $value = ::limiter::Leases;
                $body
            }
            $crate::types::Kind::Reservation => {
                type $value = ::limiter::Reservation;
                $body
            }
        }
    };
}
pub(crate) use with_value;

/// A kind of key: the data type of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A state that grants units of a limit.
    Limiter(Algorithm),
    /// The leases of a key.
    Leases,
    /// Estimates of several keys.
    Reservation,
}

impl Kind {
    /// Returns every kind.
    fn all() -> impl Iterator<Item = Self> {
        Algorithm::ALL.into_iter().map(Self::Limiter).chain([Self::Leases, Self::Reservation])
    }

    /// Returns the kind of the value that a key holds; `None` if the key is missing or holds a value
    /// of another type.
    pub(crate) fn of(key: &ReadKey<'_>) -> Option<Self> {
        Self::all().find(|&kind| with_value!(kind, T => key.holds::<T>()))
    }
}

/// Registers all data types with the server.
pub(crate) fn register(load: &Loading) -> Result<(), LoadRefused> {
    for kind in Kind::all() {
        with_value!(kind, T => data_type::register::<T>(load))?;
    }
    Ok(())
}
