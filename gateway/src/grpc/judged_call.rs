//! A call that was judged by one version of the policies, as far as its decision needs no states.

use envoy::{
    call::{LimitOverride, RateLimitCall, Replacement},
    gateway::Fault,
};
use store::{FailMode, LimitCheck, LimitRefund};

use crate::{
    policy_file::{
        decisions::PolicyOutcome,
        judge::{JudgedCheck, Verdict, WITHOUT_END},
    },
    state::AppState,
    telemetry,
};

/// The most descriptors of a call.
const MAX_DESCRIPTORS: usize = 256;

/// The most limits of a call.
const MAX_LIMITS: usize = 256;

/// Reasons to ignore the limit of a descriptor: the gateway accepts no limits of callers, the policy has
/// no limit or several, or the unit of time is unknown.
pub(super) const IGNORED: [&str; 3] = [INLINE, NOT_ONE, UNIT];
const INLINE: &str = "inline_limits";
const NOT_ONE: &str = "not_one_limit";
const UNIT: &str = "unit";

/// A call that was judged.
#[derive(Debug)]
pub(super) struct JudgedCall {
    pub(super) descriptors: Vec<JudgedDescriptor>,
    /// The limits that decide, no two with the same key.
    pub(super) limits: Vec<LimitCheck>,
    /// The strictest fail mode of the policies that apply.
    pub(super) fail_mode: FailMode,
}

/// A descriptor that was judged.
#[derive(Debug)]
pub(super) struct JudgedDescriptor {
    pub(super) judged: JudgedCheck,
    /// True if the descriptor gives units back.
    pub(super) is_refund: bool,
    /// True if the limit of the descriptor has replaced that of the policy.
    pub(super) has_own_limit: bool,
    /// The place of each limit of the descriptor among those of the call.
    pub(super) places: Vec<usize>,
}

impl JudgedCall {
    /// Judges each descriptor of a call. `fail_mode` is that of policies without one.
    ///
    /// # Errors
    ///
    /// When there are no policies, the call has too many descriptors or limits, or the time has no
    /// calendar.
    pub(super) fn new(
        state: &AppState,
        fail_mode: FailMode,
        call: &RateLimitCall,
    ) -> Result<Self, Fault> {
        if call.descriptors.len() > MAX_DESCRIPTORS {
            return Err(Fault::Invalid(format!("at most {MAX_DESCRIPTORS} descriptors")));
        }
        let judge = state.policies.as_ref().ok_or(Fault::NoPolicies)?.judge();
        state.policy_decisions.follow(&judge.policies);
        let mut descriptors = Vec::with_capacity(call.descriptors.len());
        for descriptor in &call.descriptors {
            let attributes = call.attributes(descriptor, judge.policies.path_form());
            // No value of a descriptor is a fault, so that only the time is left.
            let judged = judge.judge_attributes(&attributes).map_err(|_| Fault::Internal)?;
            let is_refund = descriptor.hits.is_refund;
            let mut judged =
                JudgedDescriptor { judged, is_refund, has_own_limit: false, places: Vec::new() };
            if let Some(limit) = &descriptor.limit {
                match judged.replace_limit(limit, state.inline_limits) {
                    Ok(()) => judged.has_own_limit = true,
                    Err(reason) => telemetry::count_ignored_limit(reason),
                }
            }
            descriptors.push(judged);
        }
        let mut call = Self { descriptors, limits: Vec::new(), fail_mode };
        call.allow_unmatched();
        call.fail_mode = call.strictest(fail_mode);
        call.merge();
        if call.limits.len() > MAX_LIMITS {
            return Err(Fault::Invalid(format!("at most {MAX_LIMITS} limits")));
        }
        Ok(call)
    }

    /// Returns whether the call is denied whatever the states of limits are.
    pub(super) fn is_denied(&self) -> bool {
        self.checks().any(|descriptor| matches!(descriptor.judged.verdict, Verdict::Denied { .. }))
    }

    /// Returns the units that the call gives back, also those of trials, which have taken them, too.
    pub(super) fn refunds(&self) -> Vec<LimitRefund> {
        let refunds = self.descriptors.iter().filter(|descriptor| descriptor.is_refund);
        let limits = refunds.flat_map(|JudgedDescriptor { judged, .. }| {
            let trials = judged.trials.iter().flat_map(|trial| &trial.limits.check.limits);
            judged.limits.check.limits.iter().chain(trials)
        });
        let refund = |limit: &LimitCheck| {
            let amount = limiter::Units::new(limit.cost.into())?;
            let (key, algorithm) = (limit.key.clone(), limit.quota.algorithm());
            Some(LimitRefund { key, algorithm, amount })
        };
        limits.filter_map(refund).collect()
    }

    /// Returns the descriptors that give nothing back.
    fn checks(&self) -> impl Iterator<Item = &JudgedDescriptor> {
        self.descriptors.iter().filter(|descriptor| !descriptor.is_refund)
    }

    /// Allows the descriptors to which no policy applies, unless that is so for all of them.
    fn allow_unmatched(&mut self) {
        if self.checks().all(|descriptor| descriptor.judged.is_unmatched()) {
            return;
        }
        for JudgedDescriptor { judged, .. } in &mut self.descriptors {
            if judged.is_unmatched() {
                judged.verdict = Verdict::Unmatched;
            }
        }
    }

    /// Returns the strictest fail mode, because one call has one decision. `default` is that of policies
    /// without one.
    fn strictest(&self, default: FailMode) -> FailMode {
        let deciding = self.checks().filter(|descriptor| descriptor.is_limited());
        let modes =
            deciding.map(|descriptor| descriptor.judged.limits.check.fail_mode.unwrap_or(default));
        let strictness = |mode: &FailMode| match mode {
            FailMode::Open => 0,
            FailMode::Local => 1,
            FailMode::Closed => 2,
        };
        modes.max_by_key(strictness).unwrap_or(default)
    }

    /// Collects the limits that decide. Limits with equal keys become one with the sum of the costs, and
    /// deny if the sum is more than they can ever grant.
    fn merge(&mut self) {
        for descriptor in &mut self.descriptors {
            if descriptor.is_refund || !descriptor.is_limited() {
                continue;
            }
            for limit in &descriptor.judged.limits.check.limits {
                let known = self.limits.iter().position(|known| known.key == limit.key);
                let place = known.unwrap_or(self.limits.len());
                match self.limits.get_mut(place) {
                    Some(known) => {
                        let most = limiter::Units::MAX.get();
                        known.cost = known.cost.saturating_add(limit.cost).min(most);
                    }
                    None => self.limits.push(limit.clone()),
                }
                descriptor.places.push(place);
            }
        }
        for descriptor in &mut self.descriptors {
            let names = descriptor.judged.limits.names.iter().zip(&descriptor.places);
            let exceeded = names.filter(|(_, place)| self.limits[**place].is_exceeded());
            let exceeded: Vec<_> = exceeded.map(|(name, _)| name.clone()).collect();
            if !exceeded.is_empty() {
                descriptor.deny(exceeded);
            }
        }
    }
}

impl JudgedDescriptor {
    /// Returns whether limits decide.
    fn is_limited(&self) -> bool {
        matches!(self.judged.verdict, Verdict::Limits)
    }

    /// Replaces the only limit of the policy by that of the descriptor.
    ///
    /// # Errors
    ///
    /// The reason to ignore the limit of the descriptor.
    fn replace_limit(
        &mut self,
        limit: &LimitOverride,
        accepts_limits: bool,
    ) -> Result<(), &'static str> {
        if !accepts_limits {
            return Err(INLINE);
        }
        let by_limits = matches!(
            self.judged.verdict,
            Verdict::Limits | Verdict::Denied { outcome: PolicyOutcome::Denied, .. }
        );
        let [own] = &mut self.judged.limits.check.limits[..] else { return Err(NOT_ONE) };
        if !by_limits {
            return Err(NOT_ONE);
        }
        match limit.replacement(own.quota.algorithm()).ok_or(UNIT)? {
            Replacement::Quota(quota) => own.quota = quota.into(),
            Replacement::Nothing => {
                self.deny(self.judged.limits.names.clone());
                return Ok(());
            }
        }
        if own.is_exceeded() {
            self.deny(self.judged.limits.names.clone());
        } else {
            self.judged.verdict = Verdict::Limits;
        }
        Ok(())
    }

    /// Denies the descriptor because of these limits, whatever their states are.
    fn deny(&mut self, violated: Vec<String>) {
        let outcome = PolicyOutcome::Denied;
        self.judged.verdict = Verdict::Denied { outcome, violated, wait: WITHOUT_END };
    }
}
