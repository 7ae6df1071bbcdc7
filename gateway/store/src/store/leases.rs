//! Leases. Redis or `memory://` decides them: while Redis does not answer they are an error in every
//! fail mode, and the deny cache keeps no denial of a lease, because a release can come at any time.

use limiter::Window;

use super::Store;
use crate::{
    decision::Decision,
    error::StoreError,
    lease::{LeaseDecision, LeaseList, LeaseName, LeaseRequest, Release, Renewal},
    lease_keys::Acquirement,
    limit_kind::LimitKind,
};

impl Store {
    /// Takes a lease, or returns the time until it would be granted.
    pub async fn acquire(&self, request: &LeaseRequest) -> Result<LeaseDecision, StoreError> {
        let answer = match &self.redis {
            None => self.acquire_here(request),
            Some(redis) => self.or_fallback(redis.acquire(request).await, || None),
        };
        if let Ok(LeaseDecision { decision: Decision { allowed, source, .. }, .. }) = &answer {
            let (identifier, cost, source) =
                (&request.identifier, request.cost.get(), source.name());
            tracing::debug!(identifier, cost, allowed, source, "decided a lease");
            if !allowed {
                self.top_denied.count(identifier, LimitKind::Concurrency, self.clock.now());
            }
        }
        answer
    }

    /// Moves the end of a lease to the ttl from now, unless it ends later already.
    pub async fn renew(&self, name: &LeaseName, ttl: Window) -> Result<Renewal, StoreError> {
        tracing::debug!(identifier = name.identifier, "renewing a lease");
        match &self.redis {
            None => Ok(self.leases.renew(name, ttl, self.clock.now())),
            Some(redis) => self.or_fallback(redis.renew(name, ttl).await, || None),
        }
    }

    /// Ends a lease.
    pub async fn release(&self, name: &LeaseName) -> Result<Release, StoreError> {
        tracing::debug!(identifier = name.identifier, "releasing a lease");
        match &self.redis {
            None => Ok(self.leases.release(name, self.clock.now())),
            Some(redis) => self.or_fallback(redis.release(name).await, || None),
        }
    }

    /// Lists the live leases of an identifier, at most `count`, the first to end first.
    pub async fn leases(&self, identifier: &str, count: u32) -> Result<LeaseList, StoreError> {
        tracing::debug!(identifier, "listing leases");
        match &self.redis {
            None => Ok(self.leases.list(identifier, count as usize, self.clock.now())),
            Some(redis) => self.or_fallback(redis.leases(identifier, count).await, || None),
        }
    }

    /// Ends all leases of an identifier. Returns whether there was one.
    pub async fn reset_leases(&self, identifier: &str) -> Result<bool, StoreError> {
        tracing::debug!(identifier, "resetting leases");
        let answer = match &self.redis {
            None => Ok(self.leases.reset(identifier, self.clock.now())),
            Some(redis) => self.or_fallback(redis.reset_leases(identifier).await, || None),
        };
        if answer.is_ok() {
            self.top_denied.forget(identifier, LimitKind::Concurrency);
        }
        answer
    }

    fn acquire_here(&self, request: &LeaseRequest) -> Result<LeaseDecision, StoreError> {
        Ok(match self.leases.acquire(request, self.clock.now())? {
            Acquirement::Decided(decision) => decision,
            Acquirement::NoRoom(decision) => {
                self.local.report_no_room();
                decision
            }
        })
    }
}
