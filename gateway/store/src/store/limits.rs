//! Checks of several limits at once, and the states of limits by their keys.
//!
//! The limits have states, denials and names of their own: no identifier has the key of a limit.

use std::{collections::HashSet, slice};

use limiter::Instant;
use tokio::task::yield_now;

use super::{CHECKS_AT_ONCE, Store};
use crate::{
    check::Refund,
    decision::{Decision, RefundOutcome, Source},
    deny_cache::Ticket,
    error::StoreError,
    lease::LeaseKey,
    limit_check::{LimitCheck, LimitRefund, LimitsCheck, LimitsDecision},
    limit_kind::LimitKind,
    redis::{Redis, limits::LimitsAnswer},
    redis_error,
    top_denied::Denied,
};

pub(super) type Outcome = Result<LimitsDecision, StoreError>;

impl Store {
    /// Returns whether a check takes units in several steps. Its decision must then not be dropped
    /// before its end, because units would be lost or not charged.
    #[must_use]
    pub fn takes_steps(&self, check: &LimitsCheck) -> bool {
        let takes_steps = |redis: &Redis| !check.leases.is_empty() || redis.takes_steps(check);
        self.redis.as_ref().is_some_and(takes_steps)
    }

    /// Decides a check of several limits. Takes all costs or nothing.
    pub async fn check_limits(&self, check: &LimitsCheck) -> Outcome {
        if !check.leases.is_empty() {
            // The future of nearly all checks stays small.
            let mut decisions = Box::pin(self.check_leased_all(slice::from_ref(check))).await;
            return decisions.pop().unwrap_or(Err(StoreError::Internal));
        }
        let now = self.clock.now();
        let Some(redis) = &self.redis else {
            return self.record_limits(check, self.limits_here(check), now);
        };
        if let Some(denial) = self.deny_cache.list_denial(&check.limits, now) {
            return self.record_limits(check, Ok(denial), now);
        }
        let ticket = self.deny_cache.list_ticket(&check.limits, now);
        let answer = redis.check_limits(check).await;
        self.conclude_limits(check, ticket, answer, self.clock.now())
    }

    /// Decides a check of several limits by its fail mode, for a client that cannot wait for Redis any
    /// longer. Redis may still take the units.
    pub fn check_limits_without_redis(&self, check: &LimitsCheck) -> Outcome {
        let decided = self.fallback.check_limits(check, &self.limits, self.call_time());
        let decided = decided.unwrap_or(Err(StoreError::Unavailable { connected: true }));
        self.record_limits(check, decided, self.clock.now())
    }

    /// Decides checks of several limits, each as if alone, in their order, some hundreds of limits at
    /// once.
    pub async fn check_limits_all(&self, checks: &[LimitsCheck]) -> Vec<Outcome> {
        let mut decisions = Vec::with_capacity(checks.len());
        let mut rest = checks;
        while !rest.is_empty() {
            if !decisions.is_empty() {
                yield_now().await;
            }
            let (chunk, more) = rest.split_at(count_at_once(rest));
            if chunk.iter().any(|check| !check.leases.is_empty()) {
                decisions.append(&mut Box::pin(self.check_leased_all(chunk)).await);
            } else {
                self.check_limits_chunk(chunk, &mut decisions).await;
            }
            rest = more;
        }
        decisions
    }

    /// Decides checks without leases at once, and adds the decisions in their order.
    pub(super) async fn check_limits_chunk(
        &self,
        checks: &[LimitsCheck],
        decisions: &mut Vec<Outcome>,
    ) {
        let now = self.clock.now();
        let Some(redis) = &self.redis else {
            for check in checks {
                decisions.push(self.record_limits(check, self.limits_here(check), now));
            }
            return;
        };
        let mut denials = Vec::with_capacity(checks.len());
        let mut calls = Vec::with_capacity(checks.len());
        let mut tickets = Vec::with_capacity(checks.len());
        for check in checks {
            let denial = self.deny_cache.list_denial(&check.limits, now);
            if denial.is_none() {
                calls.push(check);
                tickets.push(self.deny_cache.list_ticket(&check.limits, now));
            }
            denials.push(denial);
        }
        let mut answers = tickets.into_iter().zip(redis.check_limits_all(&calls).await);
        let now = self.clock.now();
        for (check, denial) in checks.iter().zip(denials) {
            decisions.push(match denial {
                Some(denial) => self.record_limits(check, Ok(denial), now),
                None => match answers.next() {
                    Some((ticket, answer)) => self.conclude_limits(check, ticket, answer, now),
                    None => Err(redis_error::missing_answer()),
                },
            });
        }
    }

    /// Decides a trial, which no answer to a client depends on: no fail mode replaces the answer of
    /// Redis, and the denial is not one of the denials of the limits.
    pub async fn try_limits(&self, check: &LimitsCheck) -> Outcome {
        match &self.redis {
            None => self.limits_here(check),
            Some(redis) => {
                let decisions = redis.check_limits(check).await.decisions;
                decisions.map(|limits| LimitsDecision::of_limits(Source::Redis, limits))
            }
        }
    }

    /// Returns the answers to checks of one unit of each limit. Takes and writes nothing.
    ///
    /// # Errors
    ///
    /// When one of the limits cannot be looked at.
    pub async fn peek_limits(&self, limits: &[LimitCheck]) -> Outcome {
        let look = |limit: &LimitCheck| LimitCheck { cost: 0, ..limit.clone() };
        let limits = limits.iter().map(look).collect();
        let check = LimitsCheck { limits, leases: Vec::new(), fail_mode: None };
        let Some(redis) = &self.redis else { return self.limits_here(&check) };
        let answer = redis.check_limits(&check).await.decisions;
        let answer = answer.map(|limits| LimitsDecision::of_limits(Source::Redis, limits));
        self.or_fallback(answer, || {
            let peek = |LimitCheck { key, quota, .. }: &LimitCheck| {
                let now = self.local_time(quota.algorithm());
                self.fallback.peek(key, quota, &self.limits, now)
            };
            let limits: Option<Result<Vec<_>, _>> = check.limits.iter().map(peek).collect();
            let decision = |limits| LimitsDecision::of_limits(Source::Local, limits);
            limits.map(|limits| limits.map(decision))
        })
    }

    /// Gives back units of limits, of each at most those that count. Answers in their order.
    pub async fn refund_limits(
        &self,
        refunds: &[LimitRefund],
    ) -> Vec<Result<RefundOutcome, StoreError>> {
        let refund = |LimitRefund { key, algorithm, amount }: &LimitRefund| Refund {
            identifier: key.clone(),
            algorithm: *algorithm,
            amount: *amount,
        };
        let local = refunds.iter().map(|limit| (refund(limit), self.local_time(limit.algorithm)));
        let Some(redis) = &self.redis else {
            return local.map(|(refund, now)| Ok(self.limits.refund(&refund, now))).collect();
        };
        let answers = redis.refund_limits(refunds).await;
        for LimitRefund { key, .. } in refunds {
            self.deny_cache.release(key);
        }
        let outcome = |units| RefundOutcome { source: Source::Redis, units };
        let conclude = |(answer, (refund, now)): (Result<u32, _>, (Refund, Instant))| {
            let fallback = || self.fallback.refund(&refund, &self.limits, now);
            self.or_fallback(answer.map(outcome), fallback)
        };
        answers.into_iter().zip(local).map(conclude).collect()
    }

    /// Deletes the states of limits, by their keys and kinds, in Redis and in this process, and ends
    /// leases. Returns whether there was any. No fail mode replaces the answer of Redis.
    pub async fn reset_limits(&self, limits: &[(&str, LimitKind)]) -> Result<bool, StoreError> {
        let reset_here = || {
            let mut any = false;
            for (key, kind) in limits {
                any |= match *kind {
                    LimitKind::Quota(algorithm) => {
                        self.limits.reset(key, algorithm, self.local_time(algorithm))
                    }
                    LimitKind::Concurrency => {
                        let key = LeaseKey::Limit((*key).to_owned());
                        self.leases.reset(&key, self.clock.now())
                    }
                };
            }
            any
        };
        let answer = match &self.redis {
            None => Ok(reset_here()),
            Some(redis) => {
                let keys: Vec<_> = limits.iter().map(|(key, _)| *key).collect();
                let answer = redis.reset_limits(&keys).await;
                keys.iter().for_each(|key| self.deny_cache.release(key));
                reset_here();
                self.or_fallback(answer.map(|removed| removed > 0), || None)
            }
        };
        if answer.is_ok() {
            limits.iter().for_each(|(key, kind)| self.top_denied.forget(Denied::Key(key), *kind));
        }
        answer
    }

    fn limits_here(&self, check: &LimitsCheck) -> Outcome {
        let limits = self.limits.check_limits(&check.limits, self.call_time())?;
        Ok(LimitsDecision::of_limits(Source::Local, limits))
    }

    /// Returns the decision on a check that was sent to Redis and answered at `now`.
    fn conclude_limits(
        &self,
        check: &LimitsCheck,
        ticket: Ticket,
        answer: LimitsAnswer,
        now: Instant,
    ) -> Outcome {
        let LimitsAnswer { decisions, gave_back } = answer;
        let answer = decisions.map(|limits| LimitsDecision::of_limits(Source::Redis, limits));
        let decided = self.or_fallback(answer, || {
            let replacement = self.fallback.check_limits(check, &self.limits, self.call_time());
            if let Some(Ok(decision)) = &replacement {
                self.fallback.log().count_check(decision.allowed());
            }
            replacement
        });
        if gave_back || check.charges() {
            // Units were taken for a moment, or the debt makes the waits of former denials too short.
            check.limits.iter().for_each(|limit| self.deny_cache.release(&limit.key));
        }
        if let Ok(decision) = &decided {
            self.deny_cache.remember_list(&check.limits, ticket, decision, now);
        }
        self.record_limits(check, decided, now)
    }

    /// Logs a decision with its keys, counts a denial of each key that denies, and returns the
    /// decision.
    pub(super) fn record_limits(
        &self,
        check: &LimitsCheck,
        decided: Outcome,
        now: Instant,
    ) -> Outcome {
        let Ok(LimitsDecision { source, limits, .. }) = &decided else { return decided };
        let source = source.name();
        for (LimitCheck { key, quota, cost, .. }, Decision { allowed, .. }) in
            check.limits.iter().zip(limits)
        {
            let name = quota.algorithm().name();
            tracing::debug!(key, algorithm = name, cost, allowed, source, "decided a limit");
            if !allowed && *cost > 0 {
                let kind = LimitKind::Quota(quota.algorithm());
                self.top_denied.count(Denied::Key(key), kind, now);
            }
        }
        decided
    }
}

/// Returns how many of the first checks are decided at once: at least one. Checks with leases are not
/// among checks without, and no key of a lease is in two of them, because a check can give a lease back
/// that the next check then finds free. A limit that a check charges after its grant is in no later one,
/// which would be decided before the charge.
fn count_at_once(checks: &[LimitsCheck]) -> usize {
    let (mut count, mut limits, mut keys, mut charged) = (0, 0, HashSet::new(), HashSet::new());
    for check in checks {
        limits += (check.limits.len() + check.leases.len()).max(1);
        let is_like_first = check.leases.is_empty() == checks[0].leases.is_empty();
        let has_new_keys = check.leases.iter().all(|lease| keys.insert(lease.key.as_str()));
        let is_charged = check.limits.iter().any(|limit| charged.contains(limit.key.as_str()));
        if count > 0 && (limits > CHECKS_AT_ONCE || !is_like_first || !has_new_keys || is_charged) {
            break;
        }
        let charges = check.limits.iter().filter(|limit| limit.rest() > 0);
        charged.extend(charges.map(|limit| limit.key.as_str()));
        count += 1;
    }
    count
}
