//! The requests that the store decides.

use limiter::Algorithm;

use crate::millis::Millis;

/// Units per window, and how they are counted. Every part is within its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// How grants are counted.
    pub algorithm: Algorithm,
    /// Units per window.
    pub limit: u32,
    /// The window.
    pub window: Millis,
    /// Most units that can be taken at once, for a token bucket only; the limit when left out.
    pub burst: Option<u32>,
}

impl Quota {
    /// Most units that can be taken at once.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.burst.unwrap_or(self.limit)
    }
}

/// A request for units of a quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is limited.
    pub identifier: String,
    /// What it may take.
    pub quota: Quota,
    /// Units asked for, at most the capacity; 0 to only look whether there is one.
    pub cost: u32,
}

/// Units that were taken and are given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// What is limited.
    pub identifier: String,
    /// How its grants are counted.
    pub algorithm: Algorithm,
    /// Most units to give back.
    pub amount: u32,
}
