//! The judgement of checks by one version of the policies, as far as it needs no states.

use std::sync::Arc;

use limiter::{Holder, Instant};
use policies::{
    Kind, Policies,
    attributes::{Attributes, RequestError},
    judgement::{JudgedLimit, Judgement, Outcome, Shadow},
    model::{Charge, OnError},
};
use store::{FailMode, LimitsCheck, Millis};

use super::{
    PolicyFile,
    decision_log::DecisionRecord,
    decisions::PolicyOutcome,
    end_users::{EndUserTokens, RequestClaims},
    limit_checks::{lease_check, limit_check},
    load::now,
    metrics,
    policy_names::PolicyNames,
};
use crate::{error::Error, limits::NamedLimits, request::policy::PolicyCheck};

/// The wait of a denial without an end: the longest window.
pub(crate) const WITHOUT_END: Millis = Millis(31_622_400_000);

/// The policies by which all checks of one request are judged, and the time of the request.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) policies: Arc<Policies>,
    end_users: Option<Arc<EndUserTokens>>,
    now: Instant,
    logs_decisions: bool,
}

/// A check that was judged.
#[derive(Debug)]
pub(crate) struct JudgedCheck {
    pub(crate) verdict: Verdict,
    pub(crate) names: PolicyNames,
    /// The limits that decide.
    pub(crate) limits: NamedLimits,
    /// Decided after a grant, without an effect on the answer.
    pub(crate) trials: Vec<Trial>,
    /// The names of the policies that have skipped the check.
    pub(crate) skipped: Vec<String>,
    /// True if answers have headers about the limits.
    pub(crate) has_headers: bool,
    /// The request for the log of decisions, if there is one.
    pub(crate) record: Option<Box<DecisionRecord>>,
}

/// The decision about a check, as far as it needs no states.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The limits decide.
    Limits,
    /// No limit is enforced.
    Granted(PolicyOutcome),
    /// The check is denied for these reasons, whatever the states of limits are.
    Denied {
        /// The outcome for metrics.
        outcome: PolicyOutcome,
        /// The reasons.
        violated: Vec<String>,
        /// The time until the check may be allowed.
        wait: Millis,
    },
    /// No policy applies, and then no limit is enforced.
    Unmatched,
}

/// Limits that are decided and counted, and prevent nothing.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) names: PolicyNames,
    /// True if the trial denies the check whatever the states of limits are.
    pub(crate) denied: bool,
    pub(crate) limits: NamedLimits,
}

impl PolicyFile {
    /// Returns the judge of the checks of one request: the version in force, and the time.
    pub(crate) fn judge(&self) -> Judge {
        Judge {
            policies: self.current(),
            end_users: self.end_users(),
            now: now(),
            logs_decisions: self.logs_decisions,
        }
    }
}

impl Judge {
    /// Returns the keys that verify tokens of end users, if there are any.
    pub(crate) fn end_users(&self) -> Option<&EndUserTokens> {
        self.end_users.as_deref()
    }

    /// Judges a request with these attributes, to which no limit of leases applies.
    ///
    /// # Errors
    ///
    /// As [`Policies::judge`].
    pub(crate) fn judge_attributes(
        &self,
        attributes: &Attributes<'_>,
    ) -> Result<JudgedCheck, RequestError> {
        let judgement = self.policies.judge(attributes, self.now)?;
        Ok(self.conclude(judgement, attributes, None))
    }

    /// Judges a check.
    ///
    /// # Errors
    ///
    /// As [`PolicyCheck::judge`].
    pub(crate) fn judge(&self, check: &PolicyCheck<'_>) -> Result<Box<JudgedCheck>, Error> {
        let claims = RequestClaims::new(self.end_users.as_deref(), check.token());
        let attributes = check.attributes(self.policies.path_form(), &claims, false)?;
        metrics::count_unread(self.policies.count_unread(&attributes));
        let judgement = self.policies.judge(&attributes, self.now);
        let judgement = judgement.map_err(|error| check.error(&error))?;
        let mut leases = judgement.limits.iter().filter(|limit| limit.kind == Kind::Concurrency);
        if let (None, Some(limit)) = (check.lease, leases.next()) {
            return Err(check.without_holder(limit.name));
        }
        Ok(Box::new(self.conclude(judgement, &attributes, check.lease)))
    }

    fn conclude(
        &self,
        judgement: Judgement<'_>,
        attributes: &Attributes<'_>,
        holder: Option<Holder>,
    ) -> JudgedCheck {
        let record = || DecisionRecord::new(&self.policies, attributes, holder, self.now);
        let record = self.logs_decisions.then(|| Box::new(record()));
        JudgedCheck::new(judgement, self.now, holder, record)
    }
}

impl JudgedCheck {
    fn new(
        judgement: Judgement<'_>,
        now: Instant,
        holder: Option<Holder>,
        record: Option<Box<DecisionRecord>>,
    ) -> Self {
        let verdict = Verdict::of(&judgement, now);
        let fail_mode = judgement.on_error().map(|on_error| match on_error {
            OnError::Closed => FailMode::Closed,
            OnError::Open => FailMode::Open,
            OnError::Local => FailMode::Local,
        });
        let has_headers = judgement.headers();
        let Judgement { policy, plan, r#override, limits, shadows, skipped, .. } = judgement;
        Self {
            verdict,
            names: PolicyNames {
                policy: policy.map(|policy| policy.name.to_string()),
                plan: plan.map(str::to_owned),
                r#override: r#override.map(|entry| entry.info().into()),
            },
            limits: named(limits, fail_mode, holder),
            trials: shadows.into_iter().map(Trial::from).collect(),
            skipped: skipped.iter().map(|policy| policy.name.to_string()).collect(),
            has_headers,
            record,
        }
    }

    /// Returns whether no policy applies, also where such checks are denied.
    pub(crate) fn is_unmatched(&self) -> bool {
        self.names.policy.is_none()
    }
}

impl Verdict {
    fn of(judgement: &Judgement<'_>, now: Instant) -> Self {
        let denied = |outcome, violated, wait| Self::Denied { outcome, violated, wait };
        match judgement.outcome {
            Outcome::Limited if judgement.limits.is_empty() => {
                Self::Granted(PolicyOutcome::Allowed)
            }
            Outcome::Limited if judgement.can_be_allowed() => Self::Limits,
            Outcome::Limited => {
                let exceeding = judgement.limits.iter().filter(|limit| is_exceeded(limit));
                let names = exceeding.map(|limit| limit.name.to_owned()).collect();
                denied(PolicyOutcome::Denied, names, WITHOUT_END)
            }
            Outcome::Unlimited => Self::Granted(PolicyOutcome::Unlimited),
            Outcome::Blocked { until_ms } => {
                let end = until_ms.and_then(|until| u64::try_from(until).ok());
                let wait = end.map(|end| Millis(end.saturating_sub(now.as_micros() / 1_000)));
                let violated = vec!["override".to_owned()];
                denied(PolicyOutcome::Blocked, violated, wait.unwrap_or(WITHOUT_END))
            }
            Outcome::Missing { attribute } => {
                let violated = vec![format!("missing:{attribute}")];
                denied(PolicyOutcome::Blocked, violated, WITHOUT_END)
            }
            Outcome::Unmatched { deny: true } => {
                denied(PolicyOutcome::Unmatched, vec!["unmatched".to_owned()], WITHOUT_END)
            }
            Outcome::Unmatched { deny: false } => Self::Unmatched,
        }
    }
}

impl From<Shadow<'_>> for Trial {
    fn from(shadow: Shadow<'_>) -> Self {
        let Shadow { policy, plan, r#override, denied, mut limits } = shadow;
        // A trial holds no lease, which no part would release.
        limits.retain(|limit| limit.kind != Kind::Concurrency);
        Self {
            names: PolicyNames {
                policy: Some(policy.name.to_string()),
                plan: plan.map(str::to_owned),
                r#override: r#override.map(|entry| entry.info().into()),
            },
            denied: denied || limits.iter().any(is_exceeded),
            limits: named(limits, None, None),
        }
    }
}

/// Returns whether a limit can never grant its cost.
fn is_exceeded(limit: &JudgedLimit<'_>) -> bool {
    limit.charge == Charge::Granted && limit.cost > limit.capacity.get()
}

/// Returns the limits with their names. Without a holder no limit is one of leases.
fn named(
    limits: Vec<JudgedLimit<'_>>,
    fail_mode: Option<FailMode>,
    holder: Option<Holder>,
) -> NamedLimits {
    let (mut names, mut checks) =
        (Vec::with_capacity(limits.len()), Vec::with_capacity(limits.len()));
    let (mut lease_names, mut leases) = (Vec::new(), Vec::new());
    for limit in limits {
        let name = limit.name.to_owned();
        if limit.kind == Kind::Concurrency {
            if let Some(lease) = holder.and_then(|holder| lease_check(limit, holder)) {
                lease_names.push(name);
                leases.push(lease);
            }
        } else if let Some(check) = limit_check(limit) {
            names.push(name);
            checks.push(check);
        }
    }
    NamedLimits { names, lease_names, check: LimitsCheck { limits: checks, leases, fail_mode } }
}
