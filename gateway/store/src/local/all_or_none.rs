//! Calls over several quotas of this process, which take from all of them or from none.
//!
//! Such a call excludes all others, so that no call comes between its peeks and its grants.

use limiter::{Algorithm, Correction, Estimate, LogLimit, LogOptions, Origin, Quota, Units};

use super::{LocalStore, check_entries, decision, request, units, with_limit, with_states};
use crate::{
    check::Check, clock::CallTime, decision::Decision, error::StoreError, key::key,
    limit_check::is_allowed, millis::Millis,
};

/// The answer to a call over several quotas.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The decision on each quota, in their order.
    pub(crate) decisions: Vec<Decision>,
    /// The units taken from each quota; `None` if the call took nothing.
    pub(crate) estimates: Option<Vec<Estimate>>,
}

impl LocalStore {
    /// Takes the costs of all checks, which have different keys, or none of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] where the module would refuse an argument as well.
    pub(crate) fn take_all(&self, checks: &[Check], time: CallTime) -> Result<Taken, StoreError> {
        let _exclusive = self.exclude_all();
        let mut decisions = self.look_at_all(checks, time)?;
        if !is_allowed(&decisions) || !self.grant_all(checks, &mut decisions, time)? {
            return Ok(Taken { decisions, estimates: None });
        }
        let estimates = checks.iter().map(|check| self.estimate(check, time));
        Ok(Taken { decisions, estimates: Some(estimates.collect::<Result<_, _>>()?) })
    }

    /// Takes the costs of all checks, which a look has just allowed. Returns false if this process has
    /// no room for one of them, so that the others got their units back.
    pub(super) fn grant_all(
        &self,
        checks: &[Check],
        decisions: &mut [Decision],
        time: CallTime,
    ) -> Result<bool, StoreError> {
        for (place, (check, decision)) in checks.iter().zip(decisions).enumerate() {
            *decision = self.take(check, time)?;
            if !decision.allowed {
                // The peeks cannot find out that a log has no room to grow.
                self.give_back(&checks[..place], time);
                self.report_no_room();
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the answers to checks that have taken their costs before: grants, with what remains.
    pub(crate) fn taken_before(
        &self,
        checks: &[Check],
        time: CallTime,
    ) -> Result<Vec<Decision>, StoreError> {
        let _exclusive = self.exclude_all();
        let granted = |decision| Decision { allowed: true, retry_after: Millis(0), ..decision };
        Ok(self.look_at_all(checks, time)?.into_iter().map(granted).collect())
    }

    /// Corrects estimates, each of an identifier. Returns for each the units that were taken, or given
    /// back if negative.
    pub(crate) fn settle_all<'a>(
        &self,
        corrections: impl Iterator<Item = (&'a str, &'a Estimate, Correction)>,
        time: CallTime,
    ) -> Result<Vec<i64>, StoreError> {
        let _exclusive = self.exclude_all();
        let settle = |(identifier, estimate, correction)| {
            self.settle(identifier, estimate, correction, time)
        };
        corrections.map(settle).collect()
    }

    fn settle(
        &self,
        identifier: &str,
        estimate: &Estimate,
        correction: Correction,
        time: CallTime,
    ) -> Result<i64, StoreError> {
        let now = time.of(estimate.origin.algorithm());
        let units = match estimate.origin {
            Origin::TokenBucket { limit } => {
                self.buckets.settle(identifier, &limit, estimate, correction, now)
            }
            Origin::SlidingWindowLog { limit, resolution, .. } => {
                let options = LogOptions { resolution, ..LogOptions::USUAL };
                let limit = LogLimit { limit: limit.limit, window: limit.window, options };
                self.logs.settle(identifier, &limit, estimate, correction, now)
            }
            Origin::FixedWindow { limit, .. } => {
                self.fixed_windows.settle(identifier, &limit, estimate, correction, now)
            }
        };
        // The estimate is of the states of its own algorithm.
        units.ok_or(StoreError::Internal)
    }

    pub(super) fn look_at_all(
        &self,
        checks: &[Check],
        time: CallTime,
    ) -> Result<Vec<Decision>, StoreError> {
        let look = |Check { identifier, quota, cost, .. }: &Check| {
            let (dated, cost) = (quota.at(|| time.system)?, units(*cost)?);
            let now = time.of(quota.algorithm());
            check_entries(&dated.quota)?;
            let outcome = with_limit!(self, &dated.quota, states, limit => {
                states.peek(identifier, limit, cost, now)
            });
            if outcome.is_err() {
                self.report_no_room();
            }
            decision(&dated, None, outcome)
        };
        checks.iter().map(look).collect()
    }

    pub(super) fn take(&self, check: &Check, time: CallTime) -> Result<Decision, StoreError> {
        let Check { identifier, quota, cost, force } = check;
        let (dated, request) = (quota.at(|| time.system)?, request(units(*cost)?, *force));
        let now = time.of(quota.algorithm());
        let outcome = with_limit!(self, &dated.quota, states, limit => {
            states.take(identifier, limit, request, now)
        });
        decision(&dated, check.forced_cost(), outcome)
    }

    fn estimate(&self, check: &Check, time: CallTime) -> Result<Estimate, StoreError> {
        let Check { identifier, quota, cost, .. } = check;
        let (dated, now) = (quota.at(|| time.system)?, time.of(quota.algorithm()));
        let origin = with_limit!(self, &dated.quota, states, limit => {
            states.origin(identifier, limit, now)
        });
        let key = key("", quota.algorithm(), identifier).into_bytes();
        // A grant has left a state.
        Ok(Estimate { key, cost: units(*cost)?, origin: origin.ok_or(StoreError::Internal)? })
    }

    fn give_back(&self, checks: &[Check], time: CallTime) {
        for Check { identifier, quota, cost, .. } in checks {
            let now = time.of(quota.algorithm());
            if let Some(amount) = Units::new((*cost).into()) {
                with_states!(self, quota.algorithm(), states => {
                    states.refund(identifier, amount, now)
                });
            }
        }
    }
}
