//! Leases. Redis or `memory://` decides them: while Redis does not answer they are an error in every
//! fail mode, and the deny cache keeps no denial of a lease, because a release can come at any time.

use limiter::{Holder, Units, Window};

use super::Store;
use crate::{
    decision::{Decision, Source},
    error::StoreError,
    lease::{LeaseDecision, LeaseKey, LeaseList, LeaseName, LeaseRequest, Release, Renewal},
    lease_keys::Acquirement,
    limit_kind::LimitKind,
    top_denied::Denied,
};

/// The most leases that Redis lists.
const MOST_LISTED: u32 = 10_000;

impl Store {
    /// Takes a lease, or returns the time until it would be granted.
    pub async fn acquire(&self, request: &LeaseRequest) -> Result<LeaseDecision, StoreError> {
        let answer = match &self.redis {
            None => self.acquire_here(request),
            Some(redis) => self.or_fallback(redis.acquire(request).await, || None),
        };
        if let Ok(LeaseDecision { decision: Decision { allowed, source, .. }, .. }) = &answer {
            let (identifier, cost, source) =
                (request.key.name(), request.cost.get(), source.name());
            tracing::debug!(identifier, cost, allowed, source, "decided a lease");
            if !allowed {
                let (denied, now) = (request.key.denied(), self.clock.now());
                self.top_denied.count(denied, LimitKind::Concurrency, now);
            }
        }
        answer
    }

    /// Moves the end of a lease to the ttl from now, unless it ends later already.
    pub async fn renew(&self, name: &LeaseName, ttl: Window) -> Result<Renewal, StoreError> {
        tracing::debug!(identifier = name.key.name(), "renewing a lease");
        match &self.redis {
            None => Ok(self.leases.renew(name, ttl, self.clock.now())),
            Some(redis) => self.or_fallback(redis.renew(name, ttl).await, || None),
        }
    }

    /// Ends a lease.
    pub async fn release(&self, name: &LeaseName) -> Result<Release, StoreError> {
        tracing::debug!(identifier = name.key.name(), "releasing a lease");
        match &self.redis {
            None => Ok(self.leases.release(name, self.clock.now())),
            Some(redis) => self.or_fallback(redis.release(name).await, || None),
        }
    }

    /// Moves the ends of leases. Answers in their order; `None` for a lease that is lost.
    ///
    /// # Errors
    ///
    /// When one of the leases cannot be renewed.
    pub async fn renew_all(
        &self,
        leases: &[(LeaseName, Window)],
    ) -> Result<Vec<Renewal>, StoreError> {
        tracing::debug!(leases = leases.len(), "renewing leases");
        let Some(redis) = &self.redis else {
            let renew = |(name, ttl): &(_, _)| self.leases.renew(name, *ttl, self.clock.now());
            return Ok(leases.iter().map(renew).collect());
        };
        let answers = redis.renew_all(leases).await.into_iter();
        let renewal = |lease| Renewal { source: Source::Redis, lease };
        self.or_fallback(answers.map(|answer| answer.map(renewal)).collect(), || None)
    }

    /// Ends leases. Answers in their order.
    ///
    /// # Errors
    ///
    /// When one of the leases cannot be ended.
    pub async fn release_all(&self, names: &[LeaseName]) -> Result<Vec<Release>, StoreError> {
        tracing::debug!(leases = names.len(), "releasing leases");
        let Some(redis) = &self.redis else {
            let release = |name| self.leases.release(name, self.clock.now());
            return Ok(names.iter().map(release).collect());
        };
        let answers = redis.release_all(names).await.into_iter();
        let release = |is_released| Release { source: Source::Redis, is_released };
        self.or_fallback(answers.map(|answer| answer.map(release)).collect(), || None)
    }

    /// Lists the live leases of an identifier, at most `count`, the first to end first.
    pub async fn leases(&self, identifier: &str, count: u32) -> Result<LeaseList, StoreError> {
        self.list_leases(&LeaseKey::Identifier(identifier.to_owned()), count).await
    }

    /// Returns the answer to a request for one unit of a limit. Takes and writes nothing. Of a key with
    /// more than ten thousand leases, the rest is not counted.
    pub async fn peek_lease(
        &self,
        key: &LeaseKey,
        limit: Units,
        holder: Option<&Holder>,
    ) -> Result<LeaseDecision, StoreError> {
        let list = self.list_leases(key, MOST_LISTED).await?;
        Ok(list.look(limit, holder))
    }

    async fn list_leases(&self, key: &LeaseKey, count: u32) -> Result<LeaseList, StoreError> {
        tracing::debug!(identifier = key.name(), "listing leases");
        match &self.redis {
            None => Ok(self.leases.list(key, count as usize, self.clock.now())),
            Some(redis) => self.or_fallback(redis.leases(key, count).await, || None),
        }
    }

    /// Ends all leases of an identifier. Returns whether there was one.
    pub async fn reset_leases(&self, identifier: &str) -> Result<bool, StoreError> {
        tracing::debug!(identifier, "resetting leases");
        let answer = match &self.redis {
            None => {
                let key = LeaseKey::Identifier(identifier.to_owned());
                Ok(self.leases.reset(&key, self.clock.now()))
            }
            Some(redis) => self.or_fallback(redis.reset_leases(identifier).await, || None),
        };
        if answer.is_ok() {
            self.top_denied.forget(Denied::Identifier(identifier), LimitKind::Concurrency);
        }
        answer
    }

    pub(super) fn acquire_here(&self, request: &LeaseRequest) -> Result<LeaseDecision, StoreError> {
        Ok(match self.leases.acquire(request, self.clock.now())? {
            Acquirement::Decided(decision) => decision,
            Acquirement::NoRoom(decision) => {
                self.local.report_no_room();
                decision
            }
        })
    }
}
