//! Reservations. Redis or `memory://` decides them: while Redis does not answer they are an error in
//! every fail mode.

use super::Store;
use crate::{
    error::StoreError,
    reservation::{ReserveDecision, ReserveRequest, SettleRequest, Settlement},
};

impl Store {
    /// Takes the estimated costs of all quotas, or of none, and stores the reservation.
    pub async fn reserve(&self, request: &ReserveRequest) -> Result<ReserveDecision, StoreError> {
        let Some(redis) = &self.redis else {
            return self.reservations.reserve(request, &self.local, self.call_time());
        };
        let answer = self.or_fallback(redis.reserve(request).await, || None);
        // A grant can change the rate at which used units come back, as a check of another quota can.
        let identifiers = request.limits.iter().map(|limit| limit.identifier.as_str());
        identifiers.for_each(|identifier| self.deny_cache.release(identifier));
        if let Ok(ReserveDecision { allowed, .. }) = &answer {
            let (limits, allowed) = (request.limits.len(), *allowed);
            tracing::debug!(
                reservation = request.reservation,
                limits,
                allowed,
                "decided a reservation"
            );
        }
        answer
    }

    /// Corrects the estimates of a reservation, and deletes it.
    pub async fn settle(&self, request: &SettleRequest) -> Result<Settlement, StoreError> {
        tracing::debug!(reservation = request.reservation, "settling");
        let Some(redis) = &self.redis else {
            return self.reservations.settle(request, &self.local, self.call_time());
        };
        let answer = self.or_fallback(redis.settle(request).await, || None);
        for limit in &request.limits {
            self.deny_cache.release(&limit.identifier);
        }
        answer
    }
}
