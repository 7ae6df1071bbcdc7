//! The answers to checks of several limits and to checks by policy.

use std::sync::Arc;

use axum::{
    http::{HeaderName, HeaderValue, StatusCode},
    response::Response,
};
use limiter::Algorithm;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use store::{Argument, Decision, LimitKind, LimitsCheck, LimitsDecision, Millis, StoreError};
use tokio::time::{Instant, timeout_at};

use super::{
    check_answer::{CheckAnswer, LimitDecision, response},
    completion::complete,
    held_leases::HeldLeases,
};
use crate::{
    error::Error,
    headers::{self, DecisionHeaders},
    limits::{NamedLimits, summary},
    policy_file::{
        decision_log::{BY_POLICY, DecisionRecord, LoggedDecision},
        decisions::{INLINE, PolicyOutcome},
        judge::{JudgedCheck, Trial, Verdict},
        policy_names::PolicyNames,
    },
    request::{
        field_error::{BrokenRule, Place},
        quota::LimitKindName,
    },
    seconds::Seconds,
    state::AppState,
    telemetry,
};

/// The units that remain where no limit is enforced.
const WITHOUT_LIMIT: u64 = 1_000_000_000;

/// The decision on a check of several limits or by policy.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LimitsAnswer {
    #[serde(flatten)]
    pub(super) answer: CheckAnswer,
    /// Of a check by policy: the parts of the policies that apply.
    #[serde(flatten)]
    pub(super) names: Option<PolicyNames>,
    /// The limits that denied the check, or another reason: `override`, `missing:ATTRIBUTE` or
    /// `unmatched`.
    pub(super) violated: Vec<String>,
    /// The decision on each limit; without those of what happens at the same time where another limit
    /// has denied the check before.
    pub(super) limits: Vec<LimitAnswer>,
    /// The leases, of a check that has taken some.
    #[serde(flatten)]
    pub(super) held: Option<HeldLeases>,
}

/// The decision on one limit.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct LimitAnswer {
    /// The name.
    pub(super) name: String,
    /// The algorithm, or `concurrency` for a limit of what happens at the same time.
    #[serde(serialize_with = "LimitKindName::serialize")]
    #[schemars(with = "LimitKindName")]
    pub(super) algorithm: LimitKind,
    #[serde(flatten)]
    pub(super) decision: LimitDecision,
}

/// An answer with its headers.
#[derive(Debug)]
pub(crate) struct CheckReply {
    pub(super) answer: LimitsAnswer,
    /// The decision that describes all limits; `None` where no state of a limit has decided.
    summary: Option<Decision>,
    headers: Option<DecisionHeaders>,
}

/// Decides a check of limits. Where it takes several steps it is decided also if its client has gone.
pub(crate) async fn take(
    state: &Arc<AppState>,
    check: &LimitsCheck,
) -> Result<Result<LimitsDecision, StoreError>, Error> {
    if !state.store.takes_steps(check) {
        return Ok(state.store.check_limits(check).await);
    }
    let (store, check) = (Arc::clone(&state.store), check.clone());
    complete(async move { store.check_limits(&check).await }).await
}

/// Decides a check of limits, as [`take`] does; from `deadline` on the fail mode decides.
pub(crate) async fn take_until(
    state: &Arc<AppState>,
    check: &LimitsCheck,
    deadline: Option<Instant>,
) -> Result<Result<LimitsDecision, StoreError>, Error> {
    let Some(deadline) = deadline else { return take(state, check).await };
    match timeout_at(deadline, take(state, check)).await {
        Ok(decided) => decided,
        Err(_) => {
            telemetry::count_deadline();
            Ok(state.store.check_limits_without_redis(check))
        }
    }
}

/// Decides checks of limits, as [`take`] does.
pub(super) async fn take_all(
    state: &Arc<AppState>,
    checks: Vec<LimitsCheck>,
) -> Result<Vec<Result<LimitsDecision, StoreError>>, Error> {
    if !checks.iter().any(|check| state.store.takes_steps(check)) {
        return Ok(state.store.check_limits_all(&checks).await);
    }
    let store = Arc::clone(&state.store);
    complete(async move { store.check_limits_all(&checks).await }).await
}

impl CheckReply {
    /// Counts the decision on limits that a check has of its own, and returns its answer. `loc` is the
    /// place of the check, for an error.
    pub(super) fn of_limits(
        state: &AppState,
        limits: NamedLimits,
        decided: Result<LimitsDecision, StoreError>,
        loc: Vec<Place>,
    ) -> Result<Self, Error> {
        let decision = decided.map_err(|error| invalid(error, &limits, loc))?;
        limits.count(&decision);
        if limits.takes() {
            let outcome = outcome(decision.allowed());
            state.policy_decisions.count(INLINE, "", INLINE, outcome);
        }
        Self::with_limits(limits, &decision, None, None, true)
    }

    /// Counts the decision on a check by policy, starts its trials if it was granted, and returns its
    /// answer. `decided` is the decision on its limits, if they decide.
    pub(crate) fn of_policy(
        state: &Arc<AppState>,
        judged: JudgedCheck,
        decided: Option<Result<LimitsDecision, StoreError>>,
    ) -> Result<Self, Error> {
        let JudgedCheck { verdict, names, limits, trials, skipped, has_headers, record } = judged;
        state.policy_decisions.count_skipped(&skipped);
        let count = |limit: &str, outcome| count(state, &names, limit, outcome);
        let reply = match (verdict, decided) {
            (Verdict::Limits, Some(decided)) => {
                let decision = decided.map_err(|error| undecided(&error))?;
                limits.count(&decision);
                let allowed = decision.allowed();
                for limit in limits.with(&decision) {
                    if limit.cost > 0 && (allowed || !limit.decision.allowed) {
                        count(limit.name, outcome(allowed));
                    }
                }
                let held = HeldLeases::new(state, &limits, &decision)?;
                Self::with_limits(limits, &decision, Some(names), held, has_headers)?
            }
            (Verdict::Limits, None) => return Err(Error::Internal),
            (Verdict::Granted(outcome), _) => {
                count("", outcome);
                Self::without_limits(names, Vec::new(), None)
            }
            (Verdict::Unmatched, _) => {
                count("", PolicyOutcome::Unmatched);
                Self::without_limits(names, Vec::new(), None)
            }
            (Verdict::Denied { outcome: PolicyOutcome::Denied, violated, wait }, _) => {
                violated.iter().for_each(|limit| count(limit, PolicyOutcome::Denied));
                let denials = limits.denials(&violated, wait);
                let (limits, decision) = denials.map_err(|error| undecided(&error))?;
                let reply = Self::with_limits(limits, &decision, Some(names), None, has_headers)?;
                // The limits have decided without their states.
                Self { summary: None, ..reply }
            }
            (Verdict::Denied { outcome, violated, wait }, _) => {
                count("", outcome);
                Self::without_limits(names, violated, Some(wait))
            }
        };
        if let Some(record) = record {
            reply.log_decision(&record);
        }
        if reply.allowed() {
            start_trials(state, trials);
        }
        Ok(reply)
    }

    /// Returns the answer to a check that limits have decided.
    fn with_limits(
        limits: NamedLimits,
        decision: &LimitsDecision,
        names: Option<PolicyNames>,
        held: Option<HeldLeases>,
        has_headers: bool,
    ) -> Result<Self, Error> {
        let summary = summary(decision).ok_or(Error::Internal)?;
        let headers = has_headers.then(|| DecisionHeaders::new(items(&limits, decision), &summary));
        let answer = LimitsAnswer::new(limits, decision, &summary, names, held);
        Ok(Self { answer, headers, summary: Some(summary) })
    }

    /// Returns the answer to a check that no limit has decided: a denial with its wait, or a grant.
    fn without_limits(names: PolicyNames, violated: Vec<String>, wait: Option<Millis>) -> Self {
        let answer = CheckAnswer {
            allowed: wait.is_none(),
            remaining: if wait.is_none() { WITHOUT_LIMIT } else { 0 },
            reset_in_seconds: Seconds(wait.unwrap_or(Millis(0))),
            retry_after: wait.map(Seconds),
        };
        let (names, limits) = (Some(names), Vec::new());
        let answer = LimitsAnswer { answer, names, violated, limits, held: None };
        Self { answer, summary: None, headers: None }
    }

    /// Logs the decision on a check by policy.
    fn log_decision(&self, record: &DecisionRecord) {
        let LimitsAnswer { names: Some(names), limits, violated, .. } = &self.answer else {
            return;
        };
        let limits: Vec<_> = limits.iter().map(|limit| limit.name.clone()).collect();
        let (allowed, source) = (self.allowed(), self.source());
        record.log(&LoggedDecision { allowed, source, names, limits: &limits, violated });
    }

    /// Returns whether the check was granted.
    pub(crate) fn allowed(&self) -> bool {
        self.answer.answer.allowed
    }

    /// Returns the name of the source of the decision.
    pub(super) fn source(&self) -> &'static str {
        self.summary.map_or(BY_POLICY, |summary| summary.source.name())
    }

    /// Returns the headers of an answer to an end user, and the decision that describes all limits.
    /// Where a policy hides its limits, a denial has `Retry-After` alone.
    pub(crate) fn for_end_user(self) -> (Vec<(HeaderName, HeaderValue)>, Option<Decision>) {
        let Self { answer, summary, headers } = self;
        let mut all = Vec::with_capacity(8);
        match headers {
            Some(headers) => {
                all.extend(headers);
                let source = summary.and_then(|summary| headers::of_source(summary.source));
                all.extend(source.into_iter().flatten());
            }
            None => all.extend(headers::NO_STORE),
        }
        if let Some(Seconds(wait)) = answer.answer.retry_after {
            all.extend(headers::of_wait(wait));
        }
        answer.log();
        (all, summary)
    }

    /// Returns the response to a single check, with the decision that describes all limits.
    pub(super) fn into_response(
        self,
        deny_status: StatusCode,
    ) -> Result<(Response, Option<Decision>), Error> {
        let Self { answer, summary, headers } = self;
        let status = if answer.answer.allowed { StatusCode::OK } else { deny_status };
        let wait = answer.answer.retry_after.map(|Seconds(wait)| wait);
        let source = summary.map(|summary| summary.source);
        let headers = match headers {
            Some(headers) => headers.into_map(source, wait),
            None => headers::without_limits(source, wait),
        };
        let body = answer.to_json().map_err(|_| Error::Internal)?;
        let response = response(status, body, headers);
        answer.log();
        Ok((response, summary))
    }
}

impl LimitsAnswer {
    fn new(
        limits: NamedLimits,
        decision: &LimitsDecision,
        summary: &Decision,
        names: Option<PolicyNames>,
        held: Option<HeldLeases>,
    ) -> Self {
        let violated = limits.with(decision).filter(|limit| !limit.decision.allowed);
        let violated = violated.map(|limit| limit.name.to_owned()).collect();
        let NamedLimits { names: of_limits, lease_names, check } = limits;
        let mut limits = Vec::with_capacity(of_limits.len() + lease_names.len());
        for ((name, limit), decision) in
            of_limits.into_iter().zip(&check.limits).zip(&decision.limits)
        {
            let algorithm = LimitKind::Quota(limit.quota.algorithm());
            limits.push(LimitAnswer { name, algorithm, decision: decision.into() });
        }
        for (name, decided) in lease_names.into_iter().zip(&decision.leases) {
            let (algorithm, decision) = (LimitKind::Concurrency, (&decided.decision).into());
            limits.push(LimitAnswer { name, algorithm, decision });
        }
        Self { answer: CheckAnswer::from(summary), names, violated, limits, held }
    }

    /// Adds the policy to the log line of the current request.
    fn log(self) {
        if let Some(names) = self.names {
            names.log(&self.violated);
        }
    }

    /// Returns the answer of the documentation.
    pub(super) fn example() -> Self {
        let limit = |name: &str, remaining, reset| LimitAnswer {
            name: name.to_owned(),
            algorithm: LimitKind::Quota(Algorithm::TokenBucket),
            decision: LimitDecision {
                allowed: true,
                remaining,
                reset_in_seconds: Seconds(Millis(reset)),
                retry_after: None,
            },
        };
        let limits = vec![limit("rate", 99, 600), limit("day", 4_711, 86_000_000)];
        let answer = CheckAnswer {
            allowed: true,
            remaining: 99,
            reset_in_seconds: Seconds(Millis(86_000_000)),
            retry_after: None,
        };
        let names = PolicyNames {
            policy: Some("api".to_owned()),
            plan: Some("free".to_owned()),
            r#override: None,
        };
        Self { answer, names: Some(names), violated: Vec::new(), limits, held: None }
    }
}

/// Returns what the headers have of each limit.
fn items<'l>(
    limits: &'l NamedLimits,
    decision: &'l LimitsDecision,
) -> impl Iterator<Item = headers::Item<'l, &'l str>> + Clone {
    limits.with(decision).map(|limit| (limit.name, limit.quota, limit.cost, limit.decision))
}

pub(crate) const fn outcome(allowed: bool) -> PolicyOutcome {
    if allowed { PolicyOutcome::Allowed } else { PolicyOutcome::Denied }
}

/// Counts a decision by policy.
pub(crate) fn count(state: &AppState, names: &PolicyNames, limit: &str, outcome: PolicyOutcome) {
    let (policy, plan) = (names.policy.as_deref(), names.plan.as_deref());
    let (policy, plan) = (policy.unwrap_or_default(), plan.unwrap_or_default());
    state.policy_decisions.count(policy, plan, limit, outcome);
}

/// Counts a check that no policy applies to and that the default limit has decided, and starts its
/// trials if it was granted.
pub(super) fn count_unmatched(state: &Arc<AppState>, judged: JudgedCheck, allowed: bool) {
    state.policy_decisions.count_skipped(&judged.skipped);
    count(state, &judged.names, "", PolicyOutcome::Unmatched);
    if allowed {
        start_trials(state, judged.trials);
    }
}

/// Decides trials after the grant of their check. No answer waits for them, and their failure has no
/// effect.
pub(crate) fn start_trials(state: &Arc<AppState>, trials: Vec<Trial>) {
    if trials.is_empty() {
        return;
    }
    let state = Arc::clone(state);
    tokio::spawn(async move {
        for trial in trials {
            decide_trial(&state, trial).await;
        }
    });
}

async fn decide_trial(state: &AppState, Trial { names, denied, limits }: Trial) {
    if denied {
        return count(state, &names, "", PolicyOutcome::ShadowDenied);
    }
    let Ok(decision) = state.store.try_limits(&limits.check).await else { return };
    let allowed = decision.allowed();
    for limit in limits.with(&decision) {
        let outcome = match (allowed, limit.decision.allowed) {
            _ if limit.cost == 0 => continue,
            (true, _) => PolicyOutcome::Allowed,
            (false, false) => PolicyOutcome::ShadowDenied,
            (false, true) => continue,
        };
        count(state, &names, limit.name, outcome);
    }
}

/// Returns the error when the store has no decision on the limits of a policy.
fn undecided(error: &StoreError) -> Error {
    match error {
        StoreError::Refused { argument: Argument::Leases, .. } => Error::TooManyLeases,
        _ => Error::without_answer(error),
    }
}

/// Returns the error when the store has no decision on limits that a check has of its own. The store
/// does not say which of the limits breaks its rule.
fn invalid(error: StoreError, limits: &NamedLimits, mut loc: Vec<Place>) -> Error {
    let StoreError::Refused { rule, .. } = error else { return Error::without_answer(&error) };
    let numbers: Vec<_> =
        limits.check.limits.iter().map(|limit| limit.quota.limit().get()).collect();
    let rule = BrokenRule::new("value_error", format!("Value error, {rule}"));
    loc.push(Place::Name("limits"));
    Error::Invalid(vec![rule.at(loc, json!(numbers))])
}
