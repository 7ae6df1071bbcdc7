//! The decision on a call of the rate limit service.

use std::sync::Arc;

use envoy::{
    answer::{DescriptorAnswer, HeaderList, LimitAnswer, RateLimitAnswer},
    call::RateLimitCall,
    gateway::Fault,
    time_unit::TimeUnit,
};
use store::{Decision, FailMode, LimitCheck, QuotaRule, StoreError};
use tokio::time::Instant;

use super::{
    decision::{self, fault},
    judged_call::{JudgedCall, JudgedDescriptor},
};
use crate::{
    headers,
    policy_file::{
        decision_log::{BY_POLICY, LoggedDecision},
        decisions::PolicyOutcome,
        judge::Verdict,
    },
    routes::{
        completion::complete,
        limits_answer::{count, outcome, start_trials},
    },
    state::AppState,
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
    let answer = conclude(state, judged, decided.as_deref())?;
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
///
/// # Errors
///
/// As [`answer`].
fn conclude(
    state: &Arc<AppState>,
    call: JudgedCall,
    decided: Option<&[Decision]>,
) -> Result<RateLimitAnswer, Fault> {
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
    let is_alone = descriptors.len() == 1;
    for descriptor in descriptors {
        let answer = answer(&descriptor, decided.unwrap_or_default())?;
        if is_alone {
            log_decision(&descriptor, &answer);
        }
        if !descriptor.is_refund {
            count_descriptor(state, &descriptor, &answer, allowed);
        }
        if answer.is_visible {
            for limit in &answer.limits {
                add_item(&mut items, &descriptor, limit, &limits);
            }
        }
        if !is_logged && (answer.allowed() == allowed) {
            descriptor.judged.names.clone().log(&violated(&descriptor, &answer));
            is_logged = true;
        }
        if allowed && !descriptor.is_refund {
            start_trials(state, descriptor.judged.trials);
        }
        answers.push(answer);
    }
    let headers = header_list(&items, &answers);
    Ok(RateLimitAnswer { allowed, descriptors: answers, headers })
}

/// Returns the answer to a descriptor. `decided` are the decisions on the limits of the call.
///
/// # Errors
///
/// When the denial of a cost above the capacity needs a window after the end of the calendar.
fn answer(descriptor: &JudgedDescriptor, decided: &[Decision]) -> Result<DescriptorAnswer, Fault> {
    let JudgedDescriptor { judged, is_refund, places, .. } = descriptor;
    let is_visible = judged.has_headers;
    let limit = |name: &String, check: &LimitCheck, decision: Decision| {
        let unit = TimeUnit::of(&check.quota, decision.window);
        LimitAnswer { name: name.clone(), unit, decision }
    };
    let (denied_for, limits) = match &judged.verdict {
        Verdict::Denied { outcome: PolicyOutcome::Denied, violated, wait } if !is_refund => {
            let denials = judged.limits.denials(violated, *wait);
            let (limits, decision) = denials.map_err(|error| fault(&error))?;
            let limits = limits.names.iter().zip(&limits.check.limits).zip(decision.limits);
            (None, limits.map(|((name, check), decision)| limit(name, check, decision)).collect())
        }
        Verdict::Denied { wait, .. } if !is_refund => (Some(*wait), Vec::new()),
        _ => {
            let limits = judged.limits.names.iter().zip(&judged.limits.check.limits).zip(places);
            let limits = limits.filter_map(|((name, check), place)| {
                Some(limit(name, check, *decided.get(*place)?))
            });
            (None, limits.collect())
        }
    };
    Ok(DescriptorAnswer { denied_for, limits, is_visible })
}

/// Logs the decision on the only descriptor of a call, if the log has decisions. Several descriptors, and
/// a limit that is in no file, are decided in a way that no replay repeats.
fn log_decision(descriptor: &JudgedDescriptor, answer: &DescriptorAnswer) {
    let JudgedDescriptor { judged, is_refund: false, has_own_limit: false, .. } = descriptor else {
        return;
    };
    let Some(record) = &judged.record else { return };
    let limits: Vec<_> = answer.limits.iter().map(|limit| limit.name.clone()).collect();
    let decided = answer.limits.first().filter(|_| matches!(judged.verdict, Verdict::Limits));
    record.log(&LoggedDecision {
        allowed: answer.allowed(),
        source: decided.map_or(BY_POLICY, |limit| limit.decision.source.name()),
        names: &judged.names,
        limits: &limits,
        violated: &violated(descriptor, answer),
    });
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

/// Adds the item of a limit of a descriptor for the headers; `limits` are those of the call. Of limits
/// with equal names, which the end user cannot distinguish, that with the fewest units left stays.
fn add_item(
    items: &mut Vec<(String, QuotaRule, u32, Decision)>,
    descriptor: &JudgedDescriptor,
    limit: &LimitAnswer,
    limits: &[LimitCheck],
) {
    let own = &descriptor.judged.limits;
    let Some(place) = own.names.iter().position(|name| *name == limit.name) else { return };
    let LimitCheck { quota, cost, .. } = match descriptor.places.get(place) {
        Some(place) => &limits[*place],
        None => &own.check.limits[place],
    };
    let item = (limit.name.clone(), quota.clone(), *cost, limit.decision);
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
