//! The native data types, one for each algorithm, and the one list of them.

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
        }
    };
}
pub(crate) use with_state;

/// Registers all data types with the server.
pub(crate) fn register(load: &Loading) -> Result<(), LoadRefused> {
    for algorithm in Algorithm::ALL {
        with_state!(algorithm, T => data_type::register::<T>(load))?;
    }
    Ok(())
}

/// Returns the algorithm of the state that a key holds.
pub(crate) fn algorithm_of(key: &ReadKey<'_>) -> Option<Algorithm> {
    Algorithm::ALL.into_iter().find(|&algorithm| with_state!(algorithm, T => key.holds::<T>()))
}
