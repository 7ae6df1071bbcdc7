//! The decision on a call of the rate limit service.

use std::sync::Arc;

use envoy::{
    answer::{DescriptorAnswer, HeaderList, LimitAnswer, RateLimitAnswer},
    call::RateLimitCall,
    gateway::Fault,
    time_unit::TimeUnit,
};
use store::{Decision, FailMode, QuotaRule, StoreError};
use tokio::time::Instant;

use super::{
    decision::{self, fault},
    judged_call::{JudgedCall, JudgedDescriptor},
};
use crate::{
    headers,
    policy_file::{decisions::PolicyOutcome, judge::Verdict},
    routes::{
        completion::complete,
        limits_answer::{count, outcome, start_trials},
    },
    state::AppState,
    telemetry,
};

/// Decides a call: all of its descriptors take their units, or none. Then gives back the units of
/// descriptors with negative hits. `fail_mode` is that of policies without one.
///
/// # Errors
///
/// When there is no decision.
pub(super) async fn decide(
    state: &Arc<AppState>,
    fail_mode: FailMode,
    call: &RateLimitCall,
) -> Result<RateLimitAnswer, Fault> {
    let deadline = call.max_wait.map(|wait| Instant::now() + wait);
    let judged = JudgedCall::new(state, fail_mode, call)?;
    // A denial without states needs no Redis.
    let decided = match judged.is_denied() {
        true => None,
        false => Some(decision::decide(state, &judged.limits, judged.fail_mode, deadline).await?),
    };
    let refunds = judged.refunds();
    let fail_mode = judged.fail_mode;
    let answer = conclude(state, judged, decided.as_deref());
    if !refunds.is_empty() {
        let store = Arc::clone(&state.store);
        let given = complete(async move { store.refund_limits(&refunds).await }).await;
        for given in given.map_err(|_| Fault::Internal)? {
            match given {
                Ok(_) => {}
                Err(StoreError::Unavailable { .. }) if fail_mode == FailMode::Open => {}
                Err(error) => return Err(fault(&error)),
            }
        }
    }
    Ok(answer)
}

/// Counts the decision on a call, starts its trials if it was granted, and returns the answer. `decided`
/// are the decisions on the limits of the call, if limits decide.
fn conclude(
    state: &Arc<AppState>,
    call: JudgedCall,
    decided: Option<&[Decision]>,
) -> RateLimitAnswer {
    let JudgedCall { descriptors, limits, .. } = call;
    let allowed = decided.is_some_and(|decided| decided.iter().all(|limit| limit.allowed));
    if let Some(decided) = decided {
        for (limit, decision) in limits.iter().zip(decided).filter(|(limit, _)| limit.cost > 0) {
            store::count_decision(limit.quota.algorithm(), allowed, decision.source);
        }
    }
    let mut answers = Vec::with_capacity(descriptors.len());
    let mut items: Vec<(String, QuotaRule, u32, Decision)> = Vec::new();
    let mut is_logged = false;
    for descriptor in descriptors {
        let answer = answer(&descriptor, decided.unwrap_or_default());
        if !descriptor.is_refund {
            count_descriptor(state, &descriptor, &answer, allowed);
        }
        if answer.is_visible {
            for (limit, place) in answer.limits.iter().zip(&descriptor.places) {
                add_item(&mut items, limit, &limits[*place]);
            }
        }
        if !is_logged && (answer.allowed() == allowed) {
            let names = &descriptor.judged.names;
            let (policy, plan) = (names.policy.as_deref(), names.plan.as_deref());
            telemetry::log_policy(policy, plan, &violated(&descriptor, &answer));
            is_logged = true;
        }
        if allowed && !descriptor.is_refund {
            start_trials(state, descriptor.judged.trials);
        }
        answers.push(answer);
    }
    let headers = header_list(&items, &answers);
    RateLimitAnswer { allowed, descriptors: answers, headers }
}

/// Returns the answer to a descriptor. `decided` are the decisions on the limits of the call.
fn answer(descriptor: &JudgedDescriptor, decided: &[Decision]) -> DescriptorAnswer {
    let JudgedDescriptor { judged, is_refund, places } = descriptor;
    let denied_for = match &judged.verdict {
        Verdict::Denied { wait, .. } if !is_refund => Some(*wait),
        _ => None,
    };
    let limits = judged.limits.names.iter().zip(&judged.limits.check.limits).zip(places);
    let limits = limits.filter_map(|((name, limit), place)| {
        let decision = *decided.get(*place)?;
        let unit = TimeUnit::of(&limit.quota, decision.window);
        Some(LimitAnswer { name: name.clone(), unit, decision })
    });
    DescriptorAnswer { denied_for, limits: limits.collect(), is_visible: judged.has_headers }
}

/// Counts the decision on a descriptor of a call that is allowed or not.
fn count_descriptor(
    state: &AppState,
    descriptor: &JudgedDescriptor,
    answer: &DescriptorAnswer,
    allowed: bool,
) {
    let judged = &descriptor.judged;
    state.policy_decisions.count_skipped(&judged.skipped);
    let count = |limit: &str, outcome| count(state, &judged.names, limit, outcome);
    match &judged.verdict {
        Verdict::Limits => {
            let decided = answer.limits.iter().zip(&judged.limits.check.limits);
            for (LimitAnswer { name, decision, .. }, limit) in decided {
                if limit.cost > 0 && (allowed || !decision.allowed) {
                    count(name, outcome(allowed));
                }
            }
        }
        Verdict::Granted(outcome) if allowed => count("", *outcome),
        Verdict::Granted(_) => {}
        Verdict::Unmatched => count("", PolicyOutcome::Unmatched),
        Verdict::Denied { outcome: PolicyOutcome::Denied, violated, .. } => {
            violated.iter().for_each(|limit| count(limit, PolicyOutcome::Denied));
        }
        Verdict::Denied { outcome, .. } => count("", *outcome),
    }
}

/// Returns the reasons for which a descriptor is denied.
fn violated(descriptor: &JudgedDescriptor, answer: &DescriptorAnswer) -> Vec<String> {
    if let Verdict::Denied { violated, .. } = &descriptor.judged.verdict {
        return violated.clone();
    }
    let denied = answer.limits.iter().filter(|limit| !limit.decision.allowed);
    denied.map(|limit| limit.name.clone()).collect()
}

/// Adds the item of a limit for the headers. Of limits with equal names, which the end user cannot
/// distinguish, that with the fewest units left stays.
fn add_item(
    items: &mut Vec<(String, QuotaRule, u32, Decision)>,
    limit: &LimitAnswer,
    check: &store::LimitCheck,
) {
    let item = (limit.name.clone(), check.quota.clone(), check.cost, limit.decision);
    match items.iter_mut().find(|(name, ..)| *name == limit.name) {
        Some(known) if limit.decision.remaining < known.3.remaining => *known = item,
        Some(_) => {}
        None => items.push(item),
    }
}

/// Returns the headers for the end user: an item for each limit, and the wait of a denial.
fn header_list(
    items: &[(String, QuotaRule, u32, Decision)],
    answers: &[DescriptorAnswer],
) -> HeaderList {
    let mut list = HeaderList::new();
    if !items.is_empty() {
        let items =
            items.iter().map(|(name, quota, cost, decision)| (name, Some(quota), *cost, decision));
        list.extend(headers::lists(items));
    }
    if let Some(wait) = answers.iter().filter_map(DescriptorAnswer::wait).max() {
        list.extend(headers::of_wait(wait));
    }
    list
}
