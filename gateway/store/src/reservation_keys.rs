//! The reservations of this process, for `memory://`.
//!
//! Every answer is the one that the module gives to the same calls. No reservation is evicted, since
//! its estimates would stay taken: a store without room denies new reservations.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use limiter::{Correction, Instant, Reservation, Units, Window};

use crate::{
    check::Check,
    clock::CallTime,
    decision::{Decision, Source},
    error::{Argument, StoreError},
    expiring::Expiring,
    key::{key, reservation_key},
    local::{LocalStore, all_or_none::Taken},
    millis::Millis,
    redis_error::{OTHER_KEYS, OTHER_LIMITS},
    reservation::{ReserveDecision, ReserveRequest, SettleRequest, Settlement},
};

/// The reservations of this process.
#[derive(Debug)]
pub(crate) struct ReservationKeys {
    /// The most reservations.
    room: usize,
    keys: Mutex<Expiring<Reservation>>,
}

impl ReservationKeys {
    /// Returns a store with room for this many reservations.
    pub(crate) fn new(room: usize) -> Self {
        Self { room, keys: Mutex::default() }
    }

    /// Takes the estimated costs of all quotas, or of none, and stores the reservation. A reservation
    /// that exists takes nothing, and ends later.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] where the module would refuse the call as well.
    pub(crate) fn reserve(
        &self,
        request: &ReserveRequest,
        local: &LocalStore,
        time: CallTime,
    ) -> Result<ReserveDecision, StoreError> {
        let ReserveRequest { reservation, ttl, limits } = request;
        let identifier = limits.first().ok_or(StoreError::Internal)?.identifier.as_str();
        let name = reservation_key("", identifier, reservation);
        let now = time.now;
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.remove_ended(now);
        let decided =
            |allowed, limits| Ok(ReserveDecision { source: Source::Local, allowed, limits });
        if let Some(reservation) = keys.get(&name) {
            check_repetition(reservation, limits, time)?;
            let decisions = local.taken_before(limits, time)?;
            extend(&mut keys, &name, *ttl, now);
            return decided(true, decisions);
        }
        if keys.weight() >= self.room {
            local.report_no_room();
            let wait = keys.first_end().map_or(0, |end| end.micros_since(now).div_ceil(1_000));
            let denial = |limit| Decision { allowed: false, retry_after: Millis(wait), ..limit };
            return decided(
                false,
                local.taken_before(limits, time)?.into_iter().map(denial).collect(),
            );
        }
        let Taken { decisions, estimates } = local.take_all(limits, time)?;
        let Some(estimates) = estimates else { return decided(false, decisions) };
        let reservation = Reservation::new(estimates, *ttl, now).ok_or(StoreError::Internal)?;
        keys.insert(name.into(), reservation.end(), 1, reservation);
        decided(true, decisions)
    }

    /// Corrects the estimates of a reservation, and deletes it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] where the module would refuse the call as well.
    pub(crate) fn settle(
        &self,
        request: &SettleRequest,
        local: &LocalStore,
        time: CallTime,
    ) -> Result<Settlement, StoreError> {
        let SettleRequest { reservation, limits, actual } = request;
        let identifier = limits.first().ok_or(StoreError::Internal)?.identifier.as_str();
        let name = reservation_key("", identifier, reservation);
        let now = time.now;
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.remove_ended(now);
        let Some(reservation) = keys.get(&name) else {
            return Ok(Settlement { source: Source::Local, corrections: None });
        };
        let estimates = reservation.estimates();
        let given = limits.iter().map(|limit| key("", limit.algorithm, &limit.identifier));
        if !given.eq(estimates.iter().map(|estimate| String::from_utf8_lossy(&estimate.key))) {
            return Err(refused(OTHER_KEYS));
        }
        let corrections = limits.iter().zip(estimates).enumerate();
        let corrections = corrections.map(|(place, (limit, estimate))| {
            let actual = actual.as_ref().and_then(|actual| actual.get(place));
            let correction =
                actual.map_or(Correction::Nothing, |actual| estimate.correction(*actual));
            (limit.identifier.as_str(), estimate, correction)
        });
        let corrections = local.settle_all(corrections, time)?;
        keys.remove(&name);
        Ok(Settlement { source: Source::Local, corrections: Some(corrections) })
    }
}

/// Refuses other limits than those of the reservation.
fn check_repetition(
    reservation: &Reservation,
    limits: &[Check],
    time: CallTime,
) -> Result<(), StoreError> {
    let mut calls = Vec::with_capacity(limits.len());
    for Check { identifier, quota, cost, .. } in limits {
        let cost = Units::new((*cost).into()).ok_or(StoreError::Internal)?;
        let key = key("", quota.algorithm(), identifier);
        calls.push((key, cost, quota.at(|| time.system)?.quota));
    }
    let calls = calls.iter().map(|(key, cost, quota)| (key.as_bytes(), *cost, quota));
    if reservation.is_of(calls) { Ok(()) } else { Err(refused(OTHER_LIMITS)) }
}

/// Moves the end of a reservation to the ttl from now, unless it is later already.
fn extend(keys: &mut Expiring<Reservation>, name: &str, ttl: Window, now: Instant) {
    if let Some((name, mut reservation)) = keys.remove(name) {
        let _ = reservation.extend(ttl, now);
        keys.insert(Arc::clone(&name), reservation.end(), 1, reservation);
    }
}

fn refused(rule: &str) -> StoreError {
    StoreError::Refused { argument: Argument::Reservation, rule: rule.to_owned() }
}
