//! A call of the rate limit service, within its bounds.

use std::time::Duration;

use limiter::{Algorithm, Quota, Units};

use crate::time_unit::TimeUnit;

/// A call of the rate limit service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitCall {
    /// The domain.
    pub domain: Vec<u8>,
    /// The descriptors, each of which is judged for itself.
    pub descriptors: Vec<Descriptor>,
    /// The longest time that a decision may take.
    pub max_wait: Option<Duration>,
}

/// A descriptor: what the limits are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The entries, in their order.
    pub entries: Vec<Entry>,
    /// The units to take or to give back.
    pub hits: Hits,
    /// The limit in place of that of the policy.
    pub limit: Option<LimitOverride>,
}

/// An entry of a descriptor. Only its key is surely text: the value can come from the end user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
}

/// The units that a descriptor takes or gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hits {
    /// The number of units, at most [`Units::MAX`]. A descriptor that takes 0 looks if one is free.
    pub units: u32,
    /// True if the units are given back.
    pub is_refund: bool,
}

impl Hits {
    /// Returns the units of a descriptor: `own` is the addend of the descriptor, and `of_request` that of
    /// the request, where 0 means that there is none.
    #[must_use]
    pub fn new(own: Option<u64>, of_request: u32, is_negative: bool) -> Self {
        let units = own.unwrap_or(u64::from(of_request.max(1)));
        let most = Units::MAX.get();
        let units = u32::try_from(units).map_or(most, |units| units.min(most));
        Self { units, is_refund: is_negative }
    }
}

/// A limit that a descriptor brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitOverride {
    /// Units per window; `None` allows none.
    pub limit: Option<Units>,
    /// The unit of time.
    pub unit: TimeUnit,
}

impl LimitOverride {
    /// Returns the limit of so many requests per unit of time, at most [`Units::MAX`].
    #[must_use]
    pub fn new(requests_per_unit: u32, unit: i32) -> Self {
        let units = requests_per_unit.min(Units::MAX.get());
        Self { limit: Units::new(units.into()), unit: TimeUnit::from_number(unit) }
    }

    /// Returns the replacement of a limit with this algorithm, or `None` where the unit of time is
    /// unknown.
    #[must_use]
    pub fn replacement(&self, algorithm: Algorithm) -> Option<Replacement> {
        let window = self.unit.window()?;
        Some(match self.limit {
            Some(limit) => Replacement::Quota(Quota::new(algorithm, limit, window)),
            None => Replacement::Nothing,
        })
    }
}

/// The limit that replaces that of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// Another limit with the same algorithm.
    Quota(Quota),
    /// No unit is ever allowed.
    Nothing,
}

#[cfg(test)]
mod tests {
    use limiter::{Algorithm, Units};
    use proptest::prelude::*;

    use super::{Hits, LimitOverride, Replacement};

    fn units(own: Option<u64>, of_request: u32) -> u32 {
        Hits::new(own, of_request, false).units
    }

    #[test]
    fn the_addend_of_a_descriptor_comes_before_that_of_the_request() {
        for (own, of_request, expected) in [
            (None, 0, 1),
            (None, 1, 1),
            (None, 7, 7),
            (None, u32::MAX, 1_000_000_000),
            (Some(0), 7, 0),
            (Some(3), 7, 3),
            (Some(3), 0, 3),
            (Some(1_000_000_001), 0, 1_000_000_000),
            (Some(1 << 32), 0, 1_000_000_000),
            (Some(u64::MAX), 5, 1_000_000_000),
        ] {
            assert_eq!(units(own, of_request), expected, "{own:?} {of_request}");
        }
        assert!(Hits::new(Some(0), 0, true).is_refund);
    }

    #[test]
    fn a_limit_of_a_descriptor_keeps_the_algorithm() {
        for algorithm in Algorithm::ALL {
            let limit = LimitOverride::new(5, 2).replacement(algorithm);
            let Some(Replacement::Quota(quota)) = limit else { panic!("{limit:?}") };
            assert_eq!((quota.algorithm(), quota.limit().get()), (algorithm, 5));
            assert_eq!(quota.capacity().get(), 5);
            assert_eq!(quota.window().unwrap().as_millis(), 60_000);
            assert_eq!(LimitOverride::new(5, 0).replacement(algorithm), None);
            let nothing = LimitOverride::new(0, 1).replacement(algorithm);
            assert_eq!(nothing, Some(Replacement::Nothing));
        }
    }

    proptest! {
        #[test]
        fn every_number_is_within_the_bounds(
            own: Option<u64>,
            of_request: u32,
            requests: u32,
            unit: i32,
        ) {
            let taken = units(own, of_request);
            prop_assert!(taken <= Units::MAX.get());
            prop_assert_eq!(taken == 0, own == Some(0));
            let limit = LimitOverride::new(requests, unit);
            prop_assert_eq!(limit.limit.is_none(), requests == 0);
            prop_assert_eq!(
                limit.replacement(Algorithm::TokenBucket).is_some(),
                (1..=7).contains(&unit)
            );
        }
    }
}
