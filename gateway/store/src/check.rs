//! The requests that the store decides.

use limiter::{Algorithm, Units};
#[cfg(test)]
use limiter::{Limit, Quota, Window};

use crate::quota_rule::QuotaRule;

/// A request for units of a quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The limited object.
    pub identifier: String,
    /// The rule of its quota.
    pub quota: QuotaRule,
    /// Units to take, at most the capacity unless the check is forced; 0 to look whether one unit
    /// could be taken.
    pub cost: u32,
    /// True if the check takes its cost also where fewer units are available.
    pub force: bool,
}

impl Check {
    /// Returns the cost that the check takes also where fewer units are available.
    pub(crate) fn forced_cost(&self) -> Option<u32> {
        (self.force && self.cost > 0).then_some(self.cost)
    }
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

/// Returns a quota of `limit` units per `window` milliseconds.
#[cfg(test)]
pub(crate) fn quota(algorithm: Algorithm, limit: u32, window: u64) -> Quota {
    let limit = Units::new(limit.into()).unwrap();
    Quota::new(algorithm, limit, Window::from_millis(window).unwrap())
}

/// Returns the quota of a token bucket with a capacity of its own.
#[cfg(test)]
pub(crate) fn bucket(limit: u32, window: u64, capacity: u32) -> Quota {
    let [limit, capacity] = [limit, capacity].map(|units| Units::new(units.into()).unwrap());
    let window = Window::from_millis(window).unwrap();
    Quota::TokenBucket(Limit { limit, window, capacity })
}
