use std::fs;

use limiter::{Algorithm, Instant, LogLimit, Quota, Request, SlidingWindowLog, Units, Window};

use super::{LocalStore, NO_ROOM_ADVICE, states::States};
use crate::{
    check::{Check, Refund, bucket, quota},
    decision::{Decision, Source},
    error::{Argument, StoreError},
    millis::Millis,
};

const NOON: u64 = 1_800_014_400_000_000;

/// Returns the time `millis` milliseconds after noon.
fn at(millis: u64) -> Instant {
    Instant::from_micros(NOON + millis * 1_000)
}

fn check(identifier: &str, quota: &Quota, cost: u32) -> Check {
    Check { identifier: identifier.to_owned(), quota: (*quota).into(), cost, force: false }
}

fn peek(
    store: &LocalStore,
    identifier: &str,
    quota: &Quota,
    now: Instant,
) -> Result<Decision, StoreError> {
    store.peek(identifier, &(*quota).into(), now)
}

fn refund(identifier: &str, algorithm: Algorithm, amount: u32) -> Refund {
    let amount = Units::new(amount.into()).unwrap();
    Refund { identifier: identifier.to_owned(), algorithm, amount }
}

#[test]
fn a_bucket_answers_as_the_module_does() {
    let store = LocalStore::new(10);
    let quota = quota(Algorithm::TokenBucket, 100, 60_000);
    let granted = Decision {
        source: Source::Local,
        allowed: true,
        limit: 100,
        window: Some(Millis(60_000)),
        capacity: 100,
        remaining: 99,
        retry_after: Millis(0),
        reset_after: Millis(600),
    };
    assert_eq!(store.check(&check("user", &quota, 1), at(0)), Ok(granted));
    let denied = Decision { allowed: false, retry_after: Millis(600), ..granted };
    assert_eq!(store.check(&check("user", &quota, 100), at(0)), Ok(denied));
    // A microsecond later every time is still rounded up to the same millisecond.
    let later = Instant::from_micros(NOON + 1);
    assert_eq!(store.check(&check("user", &quota, 100), later), Ok(denied));
    let full = Decision { remaining: 0, reset_after: Millis(60_000), ..granted };
    assert_eq!(store.check(&check("user", &quota, 100), at(600)), Ok(full));
}

#[test]
fn the_capacity_of_a_quota_is_that_of_a_bucket() {
    let store = LocalStore::new(10);
    let quota = bucket(10, 60_000, 25);
    let decision = store.check(&check("user", &quota, 20), at(0)).unwrap();
    assert_eq!((decision.limit, decision.capacity, decision.remaining), (10, 25, 5));
    assert_eq!(decision.reset_after, Millis(120_000));
}

#[test]
fn a_log_denies_until_its_oldest_grant_has_left() {
    let store = LocalStore::new(10);
    let quota = quota(Algorithm::SlidingWindow, 2, 10_000);
    for millis in [0, 4_000] {
        assert!(store.check(&check("user", &quota, 1), at(millis)).unwrap().allowed);
    }
    let denied = store.check(&check("user", &quota, 1), at(5_000)).unwrap();
    assert_eq!((denied.allowed, denied.retry_after), (false, Millis(5_000)));
    assert_eq!(denied.reset_after, Millis(9_000));
    assert!(!store.check(&check("user", &quota, 1), at(9_999)).unwrap().allowed);
    assert!(store.check(&check("user", &quota, 1), at(10_000)).unwrap().allowed);
}

#[test]
fn a_peek_takes_nothing_and_returns_whether_a_unit_is_available() {
    let store = LocalStore::new(10);
    for algorithm in Algorithm::ALL {
        let quota = quota(algorithm, 2, 60_000);
        for remaining in [2, 2] {
            let look = store.check(&check("user", &quota, 0), at(0)).unwrap();
            assert_eq!((look.allowed, look.remaining), (true, remaining));
            assert_eq!(peek(&store, "user", &quota, at(0)), Ok(look));
        }
        store.check(&check("user", &quota, 2), at(0)).unwrap();
        let look = store.check(&check("user", &quota, 0), at(0)).unwrap();
        assert_eq!((look.allowed, look.remaining), (false, 0));
        assert!(look.retry_after > Millis(0));
    }
}

#[test]
fn a_refund_gives_back_at_most_the_used_units() {
    let store = LocalStore::new(10);
    for algorithm in Algorithm::ALL {
        let quota = quota(algorithm, 10, 60_000);
        assert_eq!(store.refund(&refund("user", algorithm, 1), at(0)).units, 0);
        store.check(&check("user", &quota, 7), at(0)).unwrap();
        // A moment later a part of a unit has come back to the bucket, and still counts as used.
        assert_eq!(store.refund(&refund("user", algorithm, 3), at(1)).units, 3);
        assert_eq!(peek(&store, "user", &quota, at(1)).unwrap().remaining, 6);
        assert_eq!(store.refund(&refund("user", algorithm, 10), at(1)).units, 4);
        assert!(!store.reset("user", algorithm, at(0)), "nothing is left of {algorithm:?}");
    }
}

#[test]
fn a_reset_returns_whether_there_was_a_state() {
    let store = LocalStore::new(10);
    for algorithm in Algorithm::ALL {
        let quota = quota(algorithm, 10, 60_000);
        assert!(!store.reset("user", algorithm, at(0)));
        store.check(&check("user", &quota, 10), at(0)).unwrap();
        assert!(!store.reset("other", algorithm, at(0)));
        assert!(store.reset("user", algorithm, at(0)));
        assert_eq!(peek(&store, "user", &quota, at(0)).unwrap().remaining, 10);
    }
}

#[test]
fn a_state_counts_as_missing_from_its_end_on_to_the_microsecond() {
    const GRANTED: u64 = NOON + 300;
    for (algorithm, life) in [
        (Algorithm::TokenBucket, 600_000),
        (Algorithm::SlidingWindow, 60_000_000),
        (Algorithm::FixedWindow, 60_000_000 - 300),
    ] {
        // Another quota, whose units come back more slowly.
        let other = quota(algorithm, 100, 86_400_000);
        let quota = quota(algorithm, 100, 60_000);
        let after = |micros| {
            let store = LocalStore::new(10);
            let granted = Instant::from_micros(GRANTED);
            store.check(&check("user", &quota, 1), granted).unwrap();
            (store, Instant::from_micros(GRANTED + micros))
        };
        let looked = |micros| {
            let (store, now) = after(micros);
            peek(&store, "user", &other, now).unwrap().remaining
        };
        assert_eq!([looked(life - 1), looked(life)], [99, 100], "{algorithm:?}");
        let took = |micros| {
            let (store, now) = after(micros);
            store.check(&check("user", &other, 1), now).unwrap().remaining
        };
        assert_eq!([took(life - 1), took(life)], [98, 99], "{algorithm:?}");
        let refunded = |micros| {
            let (store, now) = after(micros);
            store.refund(&refund("user", algorithm, 1), now).units
        };
        assert_eq!([refunded(life - 1), refunded(life)], [1, 0], "{algorithm:?}");
        let there = |micros| {
            let (store, now) = after(micros);
            store.reset("user", algorithm, now)
        };
        assert_eq!([there(life - 1), there(life)], [true, false], "{algorithm:?}");
    }
}

#[test]
fn a_wait_ends_with_the_state_for_every_quota() {
    for algorithm in Algorithm::ALL {
        let store = LocalStore::new(10);
        store.check(&check("user", &quota(algorithm, 10, 1_000), 10), at(0)).unwrap();
        let slow = check("user", &quota(algorithm, 1, 3_600_000), 1);
        let denied = store.check(&slow, at(900)).unwrap();
        let answer = (denied.allowed, denied.retry_after, denied.reset_after);
        assert_eq!(answer, (false, Millis(100), Millis(100)), "{algorithm:?}");
        assert!(!store.check(&slow, at(999)).unwrap().allowed, "{algorithm:?}");
        assert!(store.check(&slow, at(1_000)).unwrap().allowed, "{algorithm:?}");
    }
}

#[test]
fn the_longest_time_is_exact_in_json() {
    let store = LocalStore::new(10);
    let slowest = bucket(1, 31_622_400_000, 1_000_000_000);
    let granted = store.check(&check("user", &slowest, 1_000_000_000), at(0)).unwrap();
    assert_eq!(granted.reset_after, Millis((1 << 53) - 1));
}

#[test]
fn algorithms_of_one_identifier_do_not_share_their_units() {
    let store = LocalStore::new(10);
    for algorithm in Algorithm::ALL {
        let decision = store.check(&check("user", &quota(algorithm, 3, 60_000), 2), at(0));
        assert_eq!(decision.unwrap().remaining, 1);
    }
}

#[test]
fn the_local_store_refuses_as_the_module_does_with_the_same_text() {
    let store = LocalStore::new(10);
    // A window of a minute has only so many ticks.
    for (limit, window) in [(1_000_000, 86_400_000), (1_000_000_000, 60_000)] {
        let most = quota(Algorithm::SlidingWindow, limit, window);
        assert!(store.check(&check("user", &most, 1), at(0)).unwrap().allowed);
    }
    let quota = quota(Algorithm::SlidingWindow, 1_000_001, 86_400_000);
    let rule = "limit must be an integer between 1 and 1000000 with this resolution".to_owned();
    let refused = Err(StoreError::Refused { argument: Argument::Limit, rule });
    assert_eq!(store.check(&check("user", &quota, 1), at(0)), refused);
    assert_eq!(peek(&store, "user", &quota, at(0)), refused);
}

#[test]
fn the_number_of_states_is_bounded() {
    for algorithm in Algorithm::ALL {
        for room in [1, 10, 25_000] {
            let store = LocalStore::new(room);
            let quota = quota(algorithm, 10, 60_000);
            let identifiers = || (0..2 * room).map(|number| number.to_string());
            for identifier in identifiers() {
                store.check(&check(&identifier, &quota, 1), at(0)).unwrap();
            }
            let present =
                identifiers().filter(|identifier| store.reset(identifier, algorithm, at(0)));
            let present = present.count();
            assert!(
                (1..=room).contains(&present) && present >= room * 9 / 10,
                "{present} of {room}"
            );
        }
    }
}

/// Returns the number of allowed checks among `times` checks.
fn allowed(store: &LocalStore, identifier: &str, quota: &Quota, times: u64) -> usize {
    let check = check(identifier, quota, 1);
    (0..times).filter(|millis| store.check(&check, at(*millis)).unwrap().allowed).count()
}

#[test]
fn a_log_that_takes_more_than_all_of_the_room_is_limited() {
    let store = LocalStore::new(3);
    let hourly = quota(Algorithm::SlidingWindow, 2_000, 3_600_000);
    assert_eq!(allowed(&store, "user", &hourly, 5_000), 2_000);
    assert_eq!(allowed(&store, "other", &hourly, 10), 0);
    // The oldest grants leave after an hour, and until then the log denies every check.
    let check = check("other", &hourly, 1);
    assert!(!store.check(&check, at(3_599_999)).unwrap().allowed);
    assert!(store.check(&check, at(3_600_000)).unwrap().allowed);
}

#[test]
fn a_flood_of_quotas_that_grant_evicts_no_quota_that_denies() {
    for algorithm in Algorithm::ALL {
        let store = LocalStore::new(10);
        let once = quota(algorithm, 1, 3_600_000);
        assert!(store.check(&check("used up", &once, 1), at(0)).unwrap().allowed);
        let many = quota(algorithm, 100, 86_400_000);
        for number in 0..1_000 {
            assert!(store.check(&check(&number.to_string(), &many, 1), at(1)).unwrap().allowed);
            assert!(!store.check(&check("used up", &once, 1), at(1)).unwrap().allowed);
        }
    }
}

#[test]
fn the_quota_that_is_whole_soonest_is_evicted_first() {
    for algorithm in Algorithm::ALL {
        let store = LocalStore::new(3);
        let of_hours = |hours: u64| quota(algorithm, 2, hours * 3_600_000);
        for (identifier, hours) in [("middle", 2), ("soonest", 1), ("latest", 3), ("new", 4)] {
            store.check(&check(identifier, &of_hours(hours), 1), at(0)).unwrap();
        }
        let present = ["middle", "soonest", "latest", "new"]
            .map(|identifier| store.reset(identifier, algorithm, at(1)));
        assert_eq!(present, [true, false, true, true], "{algorithm:?}");
    }
}

#[test]
fn new_quotas_are_denied_while_all_stored_quotas_deny() {
    // All fixed windows end at the same time.
    for algorithm in [Algorithm::TokenBucket, Algorithm::SlidingWindow] {
        let store = LocalStore::new(3);
        let once = quota(algorithm, 1, 60_000);
        for (number, identifier) in ["first", "second", "third"].into_iter().enumerate() {
            let now = at(number as u64 * 1_000);
            assert!(store.check(&check(identifier, &once, 1), now).unwrap().allowed);
        }
        let new = quota(algorithm, 100, 60_000);
        let denied = Decision {
            source: Source::Local,
            allowed: false,
            limit: 100,
            window: Some(Millis(60_000)),
            capacity: 100,
            remaining: 0,
            // Now the first quota may be evicted.
            retry_after: Millis(57_000),
            reset_after: Millis(57_000),
        };
        assert_eq!(store.check(&check("new", &new, 1), at(3_000)), Ok(denied));
        assert_eq!(store.check(&check("new", &new, 0), at(3_000)), Ok(denied));
        let unused = Decision { remaining: 100, reset_after: Millis(0), ..denied };
        assert_eq!(peek(&store, "new", &new, at(3_000)), Ok(unused));
        assert!(!store.check(&check("second", &once, 1), at(59_999)).unwrap().allowed);
        assert!(!store.check(&check("new", &new, 1), at(59_999)).unwrap().allowed);
        assert!(store.check(&check("new", &new, 1), at(60_000)).unwrap().allowed);
        assert!(!store.check(&check("second", &once, 1), at(60_000)).unwrap().allowed);
    }
}

#[test]
fn a_quota_in_debt_is_kept() {
    for algorithm in Algorithm::ALL {
        let store = LocalStore::new(1);
        let quota = quota(algorithm, 10, 60_000);
        let forced = Check { force: true, ..check("debtor", &quota, 25) };
        assert!(store.check(&forced, at(0)).unwrap().allowed);
        // The debt would be forgotten, although the forced check itself would be granted again.
        assert!(!store.check(&check("other", &quota, 1), at(0)).unwrap().allowed);
        let decision = store.check(&check("debtor", &quota, 1), at(0)).unwrap();
        assert_eq!((decision.allowed, decision.remaining), (false, 0), "{algorithm:?}");
    }
}

#[test]
fn the_page_on_troubleshooting_has_the_advice() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/troubleshooting.md");
    assert!(fs::read_to_string(path).unwrap().contains(NO_ROOM_ADVICE));
}

#[test]
fn logs_that_grow_evict_other_states() {
    let store = LocalStore::new(100);
    let quota = quota(Algorithm::SlidingWindow, 4_000, 86_400_000);
    let identifiers = || (0..50).map(|number| number.to_string());
    let grow = |identifier: &str, number: u64| {
        store.check(&check(identifier, &quota, 1), at(number * 20)).unwrap();
    };
    identifiers().for_each(|identifier| grow(&identifier, 0));
    for identifier in identifiers() {
        (1..4_000).for_each(|number| grow(&identifier, number));
    }
    // Each log takes more than 10 KiB, and there is room for 100 KiB.
    let present = identifiers()
        .filter(|identifier| store.reset(identifier, Algorithm::SlidingWindow, at(80_000)));
    let present = present.count();
    assert!((1..10).contains(&present), "{present}");
}

#[test]
fn a_state_in_use_is_not_evicted_by_other_identifiers() {
    let store = LocalStore::new(100);
    let quota = quota(Algorithm::TokenBucket, 1_000_000, 86_400_000);
    for number in 0..10_000 {
        store.check(&check("user", &quota, 1), at(0)).unwrap();
        store.check(&check(&number.to_string(), &quota, 1), at(0)).unwrap();
    }
    assert_eq!(peek(&store, "user", &quota, at(0)).unwrap().remaining, 990_000);
}

#[test]
fn the_longest_log_does_not_evict_itself() {
    let states = States::<SlidingWindowLog>::new(10_000);
    let window = Window::from_millis(31_622_400_000).unwrap();
    let limit = LogLimit::new(Units::new(1_000_000).unwrap(), window);
    let mut remaining = 0;
    for number in 0..1_000_000 {
        let now = at(number * 31_622);
        remaining = states.take("user", &limit, Request::all(Units::MIN), now).unwrap().remaining;
    }
    assert_eq!(remaining, 0);
}
