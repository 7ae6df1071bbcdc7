use limiter::{Algorithm, Instant, Window};

use super::ReservationKeys;
use crate::{
    check::{Check, quota},
    clock::CallTime,
    error::{Argument, StoreError},
    local::LocalStore,
    millis::Millis,
    reservation::{ReserveDecision, ReserveRequest, SettleRequest, SettledLimit},
};

const NOON: Instant = Instant::from_micros(1_800_014_400_000_000);

/// A store of reservations, and the states of their limits.
struct Stores {
    reservations: ReservationKeys,
    local: LocalStore,
}

impl Stores {
    fn new(room: usize) -> Self {
        Self { reservations: ReservationKeys::new(room), local: LocalStore::new(100) }
    }

    fn try_reserve(
        &self,
        request: &ReserveRequest,
        now: Instant,
    ) -> Result<ReserveDecision, StoreError> {
        self.reservations.reserve(request, &self.local, CallTime { now, system: now })
    }

    fn reserve(&self, name: &str, cost: u32, now: Instant) -> ReserveDecision {
        self.try_reserve(&request(name, cost), now).unwrap()
    }

    /// Settles a reservation, and returns the corrections.
    fn settle(&self, name: &str, actual: Option<Vec<u32>>, now: Instant) -> Option<Vec<i64>> {
        let limits = request(name, 1).limits.into_iter().map(|limit| SettledLimit {
            identifier: limit.identifier,
            algorithm: limit.quota.algorithm(),
        });
        let request =
            SettleRequest { reservation: name.to_owned(), limits: limits.collect(), actual };
        self.reservations
            .settle(&request, &self.local, CallTime { now, system: now })
            .unwrap()
            .corrections
    }

    fn remaining(&self, now: Instant) -> Vec<u64> {
        let limits = request("any", 1).limits;
        let peek = |limit: &Check| self.local.peek(&limit.identifier, &limit.quota, now).unwrap();
        limits.iter().map(|limit| peek(limit).remaining).collect()
    }
}

/// Returns a request for units of a log of 10 and of a window of 20 per hour, for a minute.
fn request(name: &str, cost: u32) -> ReserveRequest {
    let limit = |algorithm, limit| Check {
        identifier: "tenant".to_owned(),
        quota: quota(algorithm, limit, 3_600_000).into(),
        cost,
        force: false,
    };
    ReserveRequest {
        reservation: name.to_owned(),
        ttl: Window::from_millis(60_000).unwrap(),
        limits: vec![limit(Algorithm::SlidingWindow, 10), limit(Algorithm::FixedWindow, 20)],
    }
}

fn seconds_after(seconds: u64) -> Instant {
    NOON.plus_micros(seconds * 1_000_000)
}

#[test]
fn an_estimate_is_taken_from_all_limits_or_from_none_and_corrected_once() {
    let stores = Stores::new(10);
    assert!(stores.reserve("first", 6, NOON).allowed);
    assert_eq!(stores.remaining(NOON), [4, 14]);
    let denied = stores.reserve("second", 5, NOON);
    assert!(!denied.allowed);
    assert_eq!(denied.limits.iter().map(|limit| limit.allowed).collect::<Vec<_>>(), [false, true]);
    assert_eq!(stores.remaining(NOON), [4, 14]);

    assert_eq!(stores.settle("first", Some(vec![2, 9]), seconds_after(1)), Some(vec![-4, 3]));
    assert_eq!(stores.remaining(seconds_after(1)), [8, 11]);
    assert_eq!(stores.settle("first", Some(vec![2, 9]), seconds_after(1)), None);
    assert_eq!(stores.remaining(seconds_after(1)), [8, 11]);

    // More than the limit can be used, and is owed.
    assert!(stores.reserve("third", 1, seconds_after(1)).allowed);
    assert_eq!(stores.settle("third", Some(vec![50, 0]), seconds_after(2)), Some(vec![49, -1]));
    assert_eq!(stores.remaining(seconds_after(2)), [0, 11]);
}

#[test]
fn a_reservation_that_is_not_settled_in_time_keeps_its_estimate() {
    let stores = Stores::new(10);
    stores.reserve("slow", 6, NOON);
    // A repeated call takes nothing and moves the end.
    let again = stores.reserve("slow", 6, seconds_after(30));
    assert!(again.allowed && again.limits.iter().all(|limit| limit.retry_after == Millis(0)));
    assert_eq!(stores.remaining(seconds_after(30)), [4, 14]);
    assert_eq!(stores.settle("slow", Some(vec![0, 0]), seconds_after(90)), None);
    assert_eq!(stores.remaining(seconds_after(90)), [4, 14]);

    stores.reserve("stands", 1, seconds_after(90));
    assert_eq!(stores.settle("stands", None, seconds_after(91)), Some(vec![0, 0]));
}

#[test]
fn a_name_of_other_limits_is_refused() {
    let stores = Stores::new(10);
    stores.reserve("name", 6, NOON);
    let is_refused = |outcome| {
        matches!(outcome, Err(StoreError::Refused { argument: Argument::Reservation, .. }))
    };
    assert!(is_refused(stores.try_reserve(&request("name", 5), NOON).map(drop)));
    let of = |algorithm| SettledLimit { identifier: "tenant".to_owned(), algorithm };
    let request = SettleRequest {
        reservation: "name".to_owned(),
        limits: vec![of(Algorithm::FixedWindow), of(Algorithm::SlidingWindow)],
        actual: None,
    };
    let time = CallTime { now: NOON, system: NOON };
    assert!(is_refused(stores.reservations.settle(&request, &stores.local, time).map(drop)));
    assert_eq!(stores.remaining(NOON), [4, 14]);
}

#[test]
fn a_store_without_room_denies_new_reservations_until_one_ends() {
    let stores = Stores::new(1);
    assert!(stores.reserve("first", 1, NOON).allowed);
    let denied = stores.reserve("second", 1, seconds_after(20));
    assert!(
        !denied.allowed && denied.limits.iter().all(|limit| limit.retry_after == Millis(40_000))
    );
    assert_eq!(stores.remaining(seconds_after(20)), [9, 19]);
    assert!(stores.reserve("second", 1, seconds_after(60)).allowed);
}
