//! A limit of any algorithm.

use crate::algorithm::Algorithm;
use crate::calendar::Period;
use crate::fixed_window::FixedLimit;
use crate::limits::{Limit, Units, Window};
use crate::log_options::LogLimit;

/// A limit, and with it the algorithm that counts grants against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// A limit of a [`TokenBucket`](crate::TokenBucket).
    TokenBucket(Limit),
    /// A limit of a [`SlidingWindowLog`](crate::SlidingWindowLog).
    SlidingWindow(LogLimit),
    /// A limit of a [`FixedWindow`](crate::FixedWindow).
    FixedWindow(FixedLimit),
}

impl Quota {
    /// Returns a limit of `limit` units per `window`, without options.
    #[must_use]
    pub const fn new(algorithm: Algorithm, limit: Units, window: Window) -> Self {
        match algorithm {
            Algorithm::TokenBucket => Self::TokenBucket(Limit::new(limit, window)),
            Algorithm::SlidingWindow => Self::SlidingWindow(LogLimit::new(limit, window)),
            Algorithm::FixedWindow => {
                Self::FixedWindow(FixedLimit { limit, period: Period::every(window) })
            }
        }
    }

    /// The algorithm that counts grants.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::TokenBucket(_) => Algorithm::TokenBucket,
            Self::SlidingWindow(_) => Algorithm::SlidingWindow,
            Self::FixedWindow(_) => Algorithm::FixedWindow,
        }
    }

    /// The units per window.
    #[must_use]
    pub const fn limit(&self) -> Units {
        match self {
            Self::TokenBucket(Limit { limit, .. })
            | Self::SlidingWindow(LogLimit { limit, .. })
            | Self::FixedWindow(FixedLimit { limit, .. }) => *limit,
        }
    }

    /// The most units that can be taken at once.
    #[must_use]
    pub const fn capacity(&self) -> Units {
        match self {
            Self::TokenBucket(limit) => limit.capacity,
            Self::SlidingWindow(_) | Self::FixedWindow(_) => self.limit(),
        }
    }

    /// The time over which the limit is counted, or `None` if its windows differ in
    /// length.
    #[must_use]
    pub fn window(&self) -> Option<Window> {
        match self {
            Self::TokenBucket(Limit { window, .. })
            | Self::SlidingWindow(LogLimit { window, .. }) => Some(*window),
            Self::FixedWindow(FixedLimit { period, .. }) => period.length(),
        }
    }
}
