//! The requests that the store decides.

use limiter::Algorithm;

use crate::millis::Millis;

/// Units per window for an algorithm. Every part is within its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// The algorithm that counts grants.
    pub algorithm: Algorithm,
    /// Units per window.
    pub limit: u32,
    /// The window.
    pub window: Millis,
    /// Most units that can be taken at once, for a token bucket only; `None` is the limit.
    pub capacity: Option<u32>,
}

impl Quota {
    /// Returns the most units that can be taken at once.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity.unwrap_or(self.limit)
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
    pub amount: u32,
}
