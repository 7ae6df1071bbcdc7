use std::collections::HashMap;

use limiter::{Acquisition, Fences, Holder, Instant, Leases, RetryAfter, Units, Window};
use proptest::prelude::*;

use super::{Acquirement, LeaseKeys, MAX_LEASES};
use crate::{
    error::{Argument, StoreError},
    lease::{HeldLease, LeaseDecision, LeaseKey, LeaseName, LeaseRequest},
    millis::Millis,
};

const NOON: Instant = Instant::from_micros(1_800_014_400_000_000);

fn key(identifier: &str) -> LeaseKey {
    LeaseKey::Identifier(identifier.to_owned())
}

fn request(identifier: &str, holder: &str, limit: u64, cost: u64, ttl: u64) -> LeaseRequest {
    LeaseRequest {
        key: key(identifier),
        holder: Holder::new(holder).unwrap(),
        limit: Units::new(limit).unwrap(),
        cost: Units::new(cost).unwrap(),
        ttl: Window::from_millis(ttl).unwrap(),
    }
}

fn name(identifier: &str, holder: &str, fence: Option<u64>) -> LeaseName {
    LeaseName { key: key(identifier), holder: Holder::new(holder).unwrap(), fence }
}

fn decided(acquired: Result<Acquirement, StoreError>) -> LeaseDecision {
    match acquired {
        Ok(Acquirement::Decided(decision)) => decision,
        other => panic!("{other:?} is no decision"),
    }
}

fn seconds_after(seconds: u64) -> Instant {
    NOON.plus_micros(seconds * 1_000_000)
}

#[test]
fn a_lease_takes_a_slot_until_it_is_released_or_ends() {
    let keys = LeaseKeys::new(10);
    let first = decided(keys.acquire(&request("tenant", "a", 2, 1, 30_000), NOON));
    let fence = NOON.as_micros();
    let held = HeldLease { fence, ends_in: Millis(30_000) };
    assert_eq!(
        (first.decision.allowed, first.decision.remaining, first.lease),
        (true, 1, Some(held))
    );
    decided(keys.acquire(&request("tenant", "b", 2, 1, 60_000), NOON));

    let denied = decided(keys.acquire(&request("tenant", "c", 2, 1, 60_000), seconds_after(10)));
    assert_eq!((denied.decision.allowed, denied.lease), (false, None));
    let waits = (denied.decision.retry_after, denied.decision.reset_after);
    assert_eq!(waits, (Millis(20_000), Millis(50_000)));

    // Another fence releases nothing.
    let release = |fence| keys.release(&name("tenant", "a", fence), seconds_after(10)).is_released;
    assert_eq!([Some(fence + 1), None, None].map(release), [false, true, false]);
    assert!(
        decided(keys.acquire(&request("tenant", "c", 2, 1, 5_000), seconds_after(10)))
            .decision
            .allowed
    );
    // The lease of a holder that does not return ends by itself.
    assert_eq!(keys.list(&key("tenant"), 10, seconds_after(15)).leases.len(), 1);
    assert_eq!(keys.renew(&name("tenant", "c", None), Window::MAX, seconds_after(15)).lease, None);
}

#[test]
fn a_cost_above_the_limit_is_refused_unless_the_holder_has_it() {
    let keys = LeaseKeys::new(10);
    let error = keys.acquire(&request("tenant", "a", 2, 3, 1_000), NOON).unwrap_err();
    assert!(matches!(error, StoreError::Refused { argument: Argument::Cost, .. }), "{error:?}");
    decided(keys.acquire(&request("tenant", "a", 3, 3, 1_000), NOON));
    assert!(decided(keys.acquire(&request("tenant", "a", 2, 3, 1_000), NOON)).decision.allowed);
}

#[test]
fn a_store_without_room_denies_new_leases_until_some_end() {
    let keys = LeaseKeys::new(3);
    for (identifier, ttl) in [("a", 30_000), ("b", 20_000), ("c", 40_000)] {
        decided(keys.acquire(&request(identifier, "job", 5, 1, ttl), NOON));
    }
    let Ok(Acquirement::NoRoom(denied)) = keys.acquire(&request("d", "job", 5, 1, 1_000), NOON)
    else {
        panic!("there is room");
    };
    assert_eq!((denied.decision.allowed, denied.decision.retry_after), (false, Millis(20_000)));
    // A holder keeps what it has, and denials by a limit need no room.
    assert!(decided(keys.acquire(&request("a", "job", 5, 1, 30_000), NOON)).decision.allowed);
    assert!(!decided(keys.acquire(&request("a", "other", 1, 1, 30_000), NOON)).decision.allowed);
    decided(keys.acquire(&request("d", "job", 5, 1, 1_000), seconds_after(20)));
}

#[test]
fn leases_that_have_ended_take_no_memory() {
    let keys = LeaseKeys::new(1_000_000);
    for number in 0..1_000 {
        decided(keys.acquire(&request(&number.to_string(), "job", 5, 1, 1_000), NOON));
    }
    keys.list(&key("any"), 1, seconds_after(1));
    let keys = keys.keys.lock().unwrap();
    assert_eq!((keys.states.weight(), keys.states.first_end()), (0, None));
}

#[test]
fn an_identifier_has_as_many_leases_as_a_key_of_redis() {
    let keys = LeaseKeys::new(usize::MAX);
    let acquire = |holder: u32| {
        keys.acquire(&request("tenant", &holder.to_string(), 1_000_000_000, 1, 1_000), NOON)
    };
    for holder in 0..MAX_LEASES {
        decided(acquire(holder));
    }
    let error = acquire(MAX_LEASES).unwrap_err();
    assert!(matches!(error, StoreError::Refused { argument: Argument::Leases, .. }), "{error:?}");
}

#[derive(Debug, Clone)]
enum Step {
    Acquire { limit: u64, cost: u64, ttl: u64 },
    Renew { ttl: u64, has_fence: bool },
    Release { has_fence: bool },
    List,
    Reset,
}

fn any_step() -> impl Strategy<Value = Step> {
    let ttl = 1..5_000_u64;
    prop_oneof![
        4 => (1..6_u64, 1..4_u64, ttl.clone())
            .prop_map(|(limit, cost, ttl)| Step::Acquire { limit, cost, ttl }),
        2 => (ttl, any::<bool>()).prop_map(|(ttl, has_fence)| Step::Renew { ttl, has_fence }),
        2 => any::<bool>().prop_map(|has_fence| Step::Release { has_fence }),
        1 => Just(Step::List),
        1 => Just(Step::Reset),
    ]
}

proptest! {
    /// The store adds no decision of its own to those of the limiter: the states that it removes,
    /// since they have ended, affect no answer.
    #[test]
    fn answers_are_those_of_the_limiter(
        steps in prop::collection::vec(
            (any_step(), 0..2_usize, 0..4_usize, 0..2_000_000_u64), 1..60),
    ) {
        let keys = LeaseKeys::new(1_000);
        let mut pure: HashMap<&str, Leases> = HashMap::new();
        let (mut fences, mut now) = (Fences::new(), NOON);
        let mut given = 0;
        for (step, identifier, holder, micros) in steps {
            now = now.plus_micros(micros);
            let (identifier, holder) = (["a", "b"][identifier], ["w", "x", "y", "z"][holder]);
            let leases = pure.entry(identifier).or_default();
            let of = |has_fence: bool| name(identifier, holder, has_fence.then_some(given));
            match step {
                Step::Acquire { limit, cost, ttl } => {
                    let request = request(identifier, holder, limit, cost, ttl);
                    let LeaseRequest { holder, limit, cost, ttl, .. } = request;
                    let call = Acquisition { holder, limit, cost, ttl, max_leases: MAX_LEASES };
                    let expected = leases.acquire(&call, &mut fences, now).unwrap();
                    let answer = keys.acquire(&request, now);
                    if expected.decision.retry_after == RetryAfter::Never {
                        let is_refused = matches!(answer, Err(StoreError::Refused { .. }));
                        prop_assert!(is_refused, "{:?}", answer);
                        continue;
                    }
                    let LeaseDecision { decision, lease } = decided(answer);
                    prop_assert_eq!(decision.allowed, expected.decision.granted > 0);
                    prop_assert_eq!(decision.remaining, u64::from(expected.decision.remaining));
                    let fence = expected.lease.map(|lease| lease.fence);
                    prop_assert_eq!(lease.map(|lease| lease.fence), fence);
                    let ends_in = expected.lease.map(|lease| lease.ends_in.floor_millis() as u64);
                    prop_assert_eq!(lease.map(|lease| lease.ends_in.0), ends_in);
                    given = fence.unwrap_or(given);
                }
                Step::Renew { ttl, has_fence } => {
                    let (name, ttl) = (of(has_fence), Window::from_millis(ttl).unwrap());
                    let expected = leases.renew(&name.holder, name.fence, ttl, now).lease;
                    let answer = keys.renew(&name, ttl, now).lease;
                    prop_assert_eq!(answer.map(|lease| lease.fence), expected.map(|lease| lease.fence));
                }
                Step::Release { has_fence } => {
                    let name = of(has_fence);
                    let expected = leases.release(&name.holder, name.fence, now);
                    prop_assert_eq!(keys.release(&name, now).is_released, expected);
                }
                Step::List => {
                    let mut expected = Vec::new();
                    leases.visit_counted(now, |lease| {
                        expected.push((lease.fence, lease.cost.get()));
                        true
                    });
                    let list = keys.list(&key(identifier), usize::MAX, now).leases;
                    let listed: Vec<_> =
                        list.iter().map(|entry| (entry.lease.fence, entry.cost)).collect();
                    prop_assert_eq!(listed, expected);
                }
                Step::Reset => {
                    let had_any = leases.count(now) > 0;
                    *leases = Leases::new();
                    prop_assert_eq!(keys.reset(&key(identifier), now), had_any);
                }
            }
        }
    }
}
