//! Tests of the denials of several limits.

use std::time::Duration;

use limiter::{Algorithm, Instant};

use super::DenyCache;
use crate::{
    check::quota,
    decision::{Decision, Source},
    limit_check::{Charge, LimitCheck, LimitsDecision},
    millis::Millis,
    options::DenyCacheOptions,
};

const SENT: Instant = Instant::from_micros(1_800_014_400_000_000);

fn limit(key: &str, units: u32, cost: u32) -> LimitCheck {
    let quota = quota(Algorithm::TokenBucket, units, 60_000).into();
    LimitCheck { key: key.to_owned(), quota, cost, charge: Charge::Granted }
}

/// Returns a cache with a denial: `a` waits for a second, `b` for two, and `c` allows.
fn cache(limits: &[LimitCheck]) -> DenyCache {
    let max_age = Duration::from_secs(3_600);
    let cache = DenyCache::new(DenyCacheOptions { size: 10, max_age });
    let waits = [1_000, 2_000, 0];
    let decision = |wait| Decision {
        source: Source::Redis,
        allowed: wait == 0,
        limit: 10,
        window: None,
        capacity: 10,
        remaining: 0,
        retry_after: Millis(wait),
        reset_after: Millis(wait),
    };
    let decision = LimitsDecision::of_limits(Source::Redis, waits.map(decision).to_vec());
    cache.remember_list(limits, cache.list_ticket(limits, SENT), &decision, SENT);
    cache
}

fn at(millis: u64) -> Instant {
    SENT.plus_micros(millis * 1_000)
}

#[test]
fn a_denial_is_repeated_for_the_same_limits_until_the_longest_wait_ends() {
    let limits = ["a", "b", "c"].map(|key| limit(key, 10, 1));
    let cache = cache(&limits);
    let denial = cache.list_denial(&limits, at(500)).unwrap();
    let waits = denial.limits.iter().map(|limit| (limit.allowed, limit.retry_after.0));
    assert_eq!(waits.collect::<Vec<_>>(), [(false, 500), (false, 1_500), (true, 0)]);
    assert_eq!((denial.source, denial.allowed()), (Source::Cache, false));
    assert!(cache.list_denial(&limits, at(1_998)).is_some());
    assert!(cache.list_denial(&limits, at(1_999)).is_none());
}

#[test]
fn other_limits_go_to_redis() {
    let limits = ["a", "b", "c"].map(|key| limit(key, 10, 1));
    let cache = cache(&limits);
    let [a, b, c] = limits.clone();
    for others in [
        vec![b.clone()],
        vec![b.clone(), a.clone(), c.clone()],
        vec![a.clone(), limit("b", 10, 2), c.clone()],
        vec![limit("a", 11, 1), b.clone(), c.clone()],
        vec![a.clone(), LimitCheck { charge: Charge::Always, ..b.clone() }, c.clone()],
    ] {
        assert_eq!(cache.list_denial(&others, at(1)), None, "{others:?}");
    }
    assert!(cache.list_denial(&limits, at(1)).is_some());
    // A grant by another quota changes the rate of the limit that waits longest.
    assert_eq!(cache.list_denial(&[limit("b", 20, 1)], at(1)), None);
    assert_eq!(cache.list_denial(&limits, at(1)), None);
}

#[test]
fn a_release_of_any_key_forgets_the_denial() {
    let limits = ["a", "b", "c"].map(|key| limit(key, 10, 1));
    for key in ["a", "b", "c"] {
        let cache = cache(&limits);
        cache.release(key);
        assert_eq!(cache.list_denial(&limits, at(1)), None, "{key}");
    }
}
