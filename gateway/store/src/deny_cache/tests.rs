use std::time::Duration;

use limiter::{Algorithm, Instant};

use super::{DenyCache, RELEASE_COUNTERS};
use crate::{
    check::{Check, quota},
    decision::{Decision, Source},
    millis::Millis,
    options::DenyCacheOptions,
};

const SENT: u64 = 1_800_014_400_000_000;

/// Returns the time `micros` microseconds after a check was sent.
fn after(micros: u64) -> Instant {
    Instant::from_micros(SENT + micros)
}

fn cache(size: usize, max_age_millis: u64) -> DenyCache {
    DenyCache::new(DenyCacheOptions { size, max_age: Duration::from_millis(max_age_millis) })
}

fn check() -> Check {
    let quota = quota(Algorithm::TokenBucket, 100, 60_000).into();
    Check { identifier: "user".to_owned(), quota, cost: 1, force: false }
}

fn denied(retry_after: u64) -> Decision {
    Decision {
        source: Source::Redis,
        allowed: false,
        limit: 100,
        window: Some(Millis(60_000)),
        capacity: 100,
        remaining: 0,
        retry_after: Millis(retry_after),
        reset_after: Millis(60_000),
    }
}

/// Returns a cache with a denial of [`check`] that was sent at 0 and arrived after 2.5 ms.
fn with_denial(max_age_millis: u64, retry_after: u64) -> DenyCache {
    let cache = cache(10, max_age_millis);
    let ticket = cache.ticket(&check(), after(0));
    cache.remember(&check(), ticket, &denied(retry_after), after(2_500));
    cache
}

#[test]
fn a_denial_is_repeated_with_the_remaining_waits() {
    let cache = with_denial(10_000, 600);
    for (micros, passed) in [(2_500, 0), (3_499, 0), (3_500, 1), (502_500, 500)] {
        let expected = Decision {
            source: Source::Cache,
            retry_after: Millis(600 - passed),
            reset_after: Millis(60_000 - passed),
            ..denied(600)
        };
        assert_eq!(cache.denial(&check(), after(micros)), Some(expected), "{micros}");
    }
}

#[test]
fn nothing_is_denied_that_redis_may_grant() {
    // Redis denied at 0 at the earliest, and 600 ms are at least 599 ms before rounding.
    let cache = with_denial(10_000, 600);
    assert!(cache.denial(&check(), after(598_999)).is_some());
    assert_eq!(cache.denial(&check(), after(599_000)), None);
}

#[test]
fn no_client_retries_too_early() {
    let cache = with_denial(10_000, 600);
    for micros in (2_500..599_000).step_by(777) {
        let wait = cache.denial(&check(), after(micros)).unwrap().retry_after.0 * 1_000;
        // Redis denied at 2.5 ms at the latest.
        assert!(micros + wait >= 602_500, "{wait} at {micros}");
    }
}

#[test]
fn a_denial_is_not_repeated_after_its_maximum_age() {
    let cache = with_denial(100, 600);
    assert!(cache.denial(&check(), after(99_999)).is_some());
    assert_eq!(cache.denial(&check(), after(100_000)), None);
}

#[test]
fn a_wait_that_is_over_at_arrival_is_not_stored() {
    for retry_after in [0, 1, 2, 3] {
        let cache = with_denial(10_000, retry_after);
        assert_eq!(cache.denial(&check(), after(2_500)), None, "{retry_after}");
    }
    assert!(with_denial(10_000, 4).denial(&check(), after(2_500)).is_some());
}

#[test]
fn another_cost_or_algorithm_or_identifier_is_another_check() {
    let cache = with_denial(10_000, 600);
    let sliding = quota(Algorithm::SlidingWindow, 100, 60_000).into();
    for other in [
        Check { cost: 2, ..check() },
        Check { cost: 0, ..check() },
        Check { force: true, ..check() },
        Check { quota: sliding, ..check() },
        Check { identifier: "other".to_owned(), ..check() },
    ] {
        assert_eq!(cache.denial(&other, after(2_500)), None, "{other:?}");
    }
    assert!(cache.denial(&check(), after(2_500)).is_some());
}

#[test]
fn a_check_with_another_quota_ends_a_denial() {
    let cache = with_denial(10_000, 600);
    let other = Check { quota: quota(Algorithm::TokenBucket, 200, 60_000).into(), ..check() };
    assert_eq!(cache.denial(&other, after(2_500)), None);
    assert_eq!(cache.denial(&check(), after(2_500)), None);
}

#[test]
fn only_denials_of_redis_are_stored() {
    for decision in [
        Decision { allowed: true, ..denied(600) },
        Decision { source: Source::Local, ..denied(600) },
        Decision { source: Source::Cache, ..denied(600) },
    ] {
        let cache = cache(10, 10_000);
        let ticket = cache.ticket(&check(), after(0));
        cache.remember(&check(), ticket, &decision, after(0));
        assert_eq!(cache.denial(&check(), after(0)), None, "{decision:?}");
    }
}

#[test]
fn a_check_without_a_cost_is_not_stored() {
    let cache = cache(10, 10_000);
    let look = Check { cost: 0, ..check() };
    cache.remember(&look, cache.ticket(&look, after(0)), &denied(600), after(0));
    for check in [look, check()] {
        assert_eq!(cache.denial(&check, after(0)), None);
    }
}

#[test]
fn a_release_ends_denials_of_its_identifier() {
    let cache = with_denial(10_000, 600);
    let mut others = (0..RELEASE_COUNTERS).map(|number| number.to_string());
    let other = others.find(|other| {
        let releases = [other.as_str(), "user"].map(|name| cache.releases(name));
        !std::ptr::eq(releases[0], releases[1])
    });
    cache.release(&other.unwrap());
    assert!(cache.denial(&check(), after(2_500)).is_some());
    cache.release("user");
    assert_eq!(cache.denial(&check(), after(2_500)), None);
}

#[test]
fn a_denial_that_arrives_after_a_release_is_not_repeated() {
    let cache = cache(10, 10_000);
    let before = cache.ticket(&check(), after(0));
    cache.release("user");
    cache.remember(&check(), before, &denied(600), after(1_000));
    assert_eq!(cache.denial(&check(), after(1_000)), None);

    let since = cache.ticket(&check(), after(1_000));
    cache.remember(&check(), since, &denied(600), after(2_000));
    assert!(cache.denial(&check(), after(2_000)).is_some());
}

#[test]
fn the_number_of_denials_is_bounded() {
    for size in [0, 1, 10, 1_000] {
        let cache = cache(size, 10_000);
        let checks: Vec<_> =
            (0..3_000).map(|number| Check { identifier: number.to_string(), ..check() }).collect();
        for check in &checks {
            cache.remember(check, cache.ticket(check, after(0)), &denied(600), after(0));
        }
        let present = checks.iter().filter(|check| cache.denial(check, after(0)).is_some());
        let present = present.count();
        // The size is divided among shards, each of which rounds up.
        assert!((size.min(1)..=size + size / 10).contains(&present), "{present} of {size}");
    }
}
