//! Checks of limits of which some are of what happens at the same time.
//!
//! ```text
//!  leases ── one is denied ──▶ the new leases are released, the other limits are looked at
//!    │ all granted
//!    ▼
//!  other limits ── one denies, or does not answer ──▶ the new leases are released
//!    │ all granted
//!    ▼
//!  granted
//! ```
//!
//! The leases come first, because a lease that is denied writes nothing, and no cache repeats its
//! denial. The denials of the other limits are repeated before any lease is taken. So a flood of
//! denied checks writes nothing, whichever limit denies them. No limit is exceeded in between: each
//! is taken by one command. Only leases of this check are released: a holder that repeats a check
//! keeps the lease that an earlier check has given it.

use super::{Store, limits::Outcome};
use crate::{
    decision::{Decision, Source},
    error::StoreError,
    lease::{LeaseDecision, LeaseKey, LeaseName, LeaseRequest, TakenLease},
    limit_check::{LimitsCheck, LimitsDecision},
    limit_kind::LimitKind,
    metrics::count_partial_decision,
    options::FailMode,
    top_denied::Denied,
};

/// A check on its way to its decision.
#[derive(Debug)]
struct Step<'c> {
    check: &'c LimitsCheck,
    /// The check of the other limits.
    rest: LimitsCheck,
    requests: Vec<LeaseRequest>,
    /// The answers to the requests, once they are sent; `None` for a request without an answer.
    taken: Vec<Option<TakenLease>>,
    outcome: Option<Outcome>,
}

impl Store {
    /// Decides checks, each as if alone. No key of a lease is in two of them.
    pub(super) async fn check_leased_all(&self, checks: &[LimitsCheck]) -> Vec<Outcome> {
        let mut steps: Vec<_> = checks.iter().map(|check| self.begin(check)).collect();
        for step in &mut steps {
            if !step.check.takes() {
                step.outcome = Some(self.look_at(step.check, &step.rest).await);
            }
        }
        self.take_leases(&mut steps).await;
        self.look_after_denials(&mut steps).await;
        self.take_rest(&mut steps).await;
        self.give_back(&steps).await;
        steps.into_iter().map(|step| self.conclude_leased(step)).collect()
    }

    /// Returns the first step of a check, with the denial that the deny cache repeats.
    fn begin<'c>(&self, check: &'c LimitsCheck) -> Step<'c> {
        let rest = LimitsCheck {
            limits: check.limits.clone(),
            leases: Vec::new(),
            fail_mode: Some(FailMode::Closed),
        };
        let now = self.clock.now();
        let denial = match &self.redis {
            Some(_) if check.takes() => self.deny_cache.list_denial(&rest.limits, now),
            _ => None,
        };
        let outcome = denial.map(|denial| self.record_limits(&rest, Ok(denial), now));
        let requests = check.leases.iter().filter_map(|lease| lease.request()).collect();
        Step { check, rest, requests, taken: Vec::new(), outcome }
    }

    /// Decides a check that takes nothing.
    async fn look_at(&self, check: &LimitsCheck, rest: &LimitsCheck) -> Outcome {
        let mut decisions = Vec::with_capacity(1);
        if !rest.limits.is_empty() {
            self.check_limits_chunk(std::slice::from_ref(rest), &mut decisions).await;
        }
        let mut decision = match decisions.pop() {
            Some(decision) => decision?,
            None => LimitsDecision::of_limits(self.source(), Vec::new()),
        };
        for lease in &check.leases {
            let key = LeaseKey::Limit(lease.key.clone());
            let look = self.peek_lease(&key, lease.limit, Some(&lease.holder)).await?;
            decision.leases.push(look);
        }
        Ok(decision)
    }

    /// Takes the leases of the checks that have no outcome.
    async fn take_leases(&self, steps: &mut [Step<'_>]) {
        let requests: Vec<_> = waiting(steps).flat_map(|step| step.requests.clone()).collect();
        let taken = match &self.redis {
            Some(redis) => redis.acquire_all(&requests).await,
            None => requests.iter().map(|request| self.take_lease_here(request)).collect(),
        };
        let mut taken = taken.into_iter();
        for step in waiting(steps) {
            for taken in taken.by_ref().take(step.requests.len()).collect::<Vec<_>>() {
                let taken = taken.map_err(|error| {
                    let outcome = step.outcome.take();
                    step.outcome = outcome.or_else(|| Some(self.or_fallback(Err(error), || None)));
                });
                step.taken.push(taken.ok());
            }
        }
    }

    fn take_lease_here(&self, request: &LeaseRequest) -> Result<TakenLease, StoreError> {
        let had_lease = self.leases.has_lease(request, self.clock.now());
        let decision = self.acquire_here(request)?;
        Ok(TakenLease { decision, is_new: decision.decision.allowed && !had_lease })
    }

    /// Looks at the other limits of the checks that a lease denies, for an answer that has all limits.
    async fn look_after_denials(&self, steps: &mut [Step<'_>]) {
        let mut denied: Vec<_> = waiting(steps).filter(|step| !step.has_leases()).collect();
        let looked = match &self.redis {
            Some(redis) => {
                let rests: Vec<_> = denied.iter().map(|step| &step.rest).collect();
                redis.look_at_limits(&rests).await
            }
            None => {
                let look = |step: &&mut Step<'_>| {
                    self.limits.look_at_limits(&step.rest.limits, self.call_time())
                };
                denied.iter().map(look).collect()
            }
        };
        for (step, looked) in denied.iter_mut().zip(looked) {
            // The lease decides also where the other limits have no answer.
            let limits = looked.unwrap_or_default();
            step.outcome = Some(Ok(LimitsDecision::of_limits(self.source(), limits)));
        }
    }

    /// Takes the other limits of the checks whose leases are granted.
    async fn take_rest(&self, steps: &mut [Step<'_>]) {
        let mut granted = Vec::new();
        for step in waiting(steps) {
            if step.rest.limits.is_empty() {
                let decision = LimitsDecision::of_limits(self.source(), Vec::new());
                step.outcome = Some(Ok(decision));
            } else {
                granted.push(step);
            }
        }
        let rests: Vec<_> = granted.iter().map(|step| step.rest.clone()).collect();
        let mut decisions = Vec::with_capacity(rests.len());
        if !rests.is_empty() {
            self.check_limits_chunk(&rests, &mut decisions).await;
        }
        for (step, decision) in granted.into_iter().zip(decisions) {
            step.outcome = Some(decision);
        }
    }

    /// Releases the new leases of the checks that are not granted.
    async fn give_back(&self, steps: &[Step<'_>]) {
        let names: Vec<_> = steps.iter().flat_map(Step::leases_to_release).collect();
        for step in steps {
            // A server may have taken what its answer does not have.
            if matches!(step.outcome, Some(Err(_))) && !step.leases_to_release().is_empty() {
                count_partial_decision();
            }
        }
        if !names.is_empty() && self.release_all(&names).await.is_err() {
            count_partial_decision();
        }
    }

    fn conclude_leased(&self, step: Step<'_>) -> Outcome {
        let is_granted = step.is_granted();
        let mut decision = step.outcome.unwrap_or(Err(StoreError::Internal))?;
        for (request, taken) in step.requests.iter().zip(step.taken.into_iter().flatten()) {
            let is_given_back = !is_granted && taken.is_new;
            let lease = if is_given_back { taken.given_back(request) } else { taken.decision };
            decision.leases.push(lease);
        }
        for (lease, LeaseDecision { decision, .. }) in
            step.check.leases.iter().zip(&decision.leases)
        {
            let (key, cost, allowed) = (&lease.key, lease.cost, decision.allowed);
            tracing::debug!(key, cost, allowed, source = decision.source.name(), "decided a lease");
            if !allowed && cost > 0 {
                let (denied, now) = (Denied::Key(key), self.clock.now());
                self.top_denied.count(denied, LimitKind::Concurrency, now);
            }
        }
        Ok(decision)
    }

    /// Returns the part that decides while Redis answers.
    const fn source(&self) -> Source {
        if self.is_redis() { Source::Redis } else { Source::Local }
    }
}

impl Step<'_> {
    fn is_granted(&self) -> bool {
        self.has_leases() && matches!(&self.outcome, Some(Ok(decision)) if decision.allowed())
    }

    /// Returns whether no lease was denied, or has no answer.
    fn has_leases(&self) -> bool {
        self.taken.iter().all(|taken| taken.is_some_and(|taken| taken.decision.decision.allowed))
    }

    /// Returns the leases that the check has taken, unless the check is granted.
    fn leases_to_release(&self) -> Vec<LeaseName> {
        if self.is_granted() {
            return Vec::new();
        }
        let new = |(request, taken): (&LeaseRequest, &Option<TakenLease>)| {
            let taken = taken.filter(|taken| taken.is_new)?;
            Some(request.named(taken.decision.lease?.fence))
        };
        self.requests.iter().zip(&self.taken).filter_map(new).collect()
    }
}

impl TakenLease {
    /// Returns the decision on a request whose lease was released again.
    fn given_back(&self, request: &LeaseRequest) -> LeaseDecision {
        let decision = self.decision.decision;
        let remaining = decision.remaining + u64::from(request.cost.get());
        LeaseDecision { decision: Decision { remaining, ..decision }, lease: None }
    }
}

/// Returns the steps without an outcome.
fn waiting<'s, 'c>(steps: &'s mut [Step<'c>]) -> impl Iterator<Item = &'s mut Step<'c>> {
    steps.iter_mut().filter(|step| step.outcome.is_none())
}
