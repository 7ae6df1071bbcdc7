//! The requests that the store decides.

#[cfg(test)]
use limiter::Window;
use limiter::{Algorithm, Limit, Units};

/// A limit, and the algorithm that counts grants against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The limit. Its capacity is its limit for an algorithm that takes no capacity.
    pub limit: Limit,
}

#[cfg(test)]
impl Quota {
    /// Returns a quota of `limit` units per `window` milliseconds.
    pub(crate) fn new(algorithm: Algorithm, limit: u32, window: u64) -> Self {
        let limit = Units::new(limit.into()).unwrap();
        Self { algorithm, limit: Limit::new(limit, Window::from_millis(window).unwrap()) }
    }

    /// Returns the quota with another capacity.
    pub(crate) fn with_capacity(self, capacity: u32) -> Self {
        let capacity = Units::new(capacity.into()).unwrap();
        Self { limit: Limit { capacity, ..self.limit }, ..self }
    }
}

/// A request for units of a quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The limited object.
    pub identifier: String,
    /// Its quota.
    pub quota: Quota,
    /// Units to take, at most the capacity; 0 to look whether one unit could be taken.
    pub cost: u32,
}

/// A request to give units back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// The limited object.
    pub identifier: String,
    /// The algorithm that counted the grants.
    pub algorithm: Algorithm,
    /// Most units to give back.
    pub amount: Units,
}
