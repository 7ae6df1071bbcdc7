//! Reservations. Redis or `memory://` decides them: while Redis does not answer they are an error in
//! every fail mode.

use super::Store;
use crate::{
    error::StoreError,
    limit_kind::LimitKind,
    reservation::{ReserveDecision, ReserveRequest, SettleRequest, Settlement},
    top_denied::Denied,
};

impl Store {
    /// Takes the estimated costs of all quotas, or of none, and stores the reservation.
    pub async fn reserve(&self, request: &ReserveRequest) -> Result<ReserveDecision, StoreError> {
        let answer = match &self.redis {
            None => self.reservations.reserve(request, &self.local, self.call_time()),
            Some(redis) => {
                let answer = self.or_fallback(redis.reserve(request).await, || None);
                // A grant can change the rate at which used units come back, as a check of another
                // quota can.
                let identifiers = request.limits.iter().map(|limit| limit.identifier.as_str());
                identifiers.for_each(|identifier| self.deny_cache.release(identifier));
                answer
            }
        };
        if let Ok(decision) = &answer {
            self.record_reservation(request, decision);
        }
        answer
    }

    /// Logs the decision on a reservation, and counts the denials of its limits.
    fn record_reservation(&self, request: &ReserveRequest, decision: &ReserveDecision) {
        let (reservation, limits) = (&request.reservation, request.limits.len());
        let allowed = decision.allowed;
        tracing::debug!(reservation, limits, allowed, "decided a reservation");
        let now = self.clock.now();
        for (check, decision) in request.limits.iter().zip(&decision.limits) {
            if !decision.allowed {
                let kind = LimitKind::Quota(check.quota.algorithm());
                self.top_denied.count(Denied::Identifier(&check.identifier), kind, now);
            }
        }
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
