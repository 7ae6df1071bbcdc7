//! Grants of several keys: the units of all of them, or of none.

use limiter::{Decision, Instant, RetryAfter};

use crate::args::KeyRequest;
use crate::commands::change::{Change, record_grant, take_from};
use crate::commands::decision::{count_denial, peek};
use crate::ffi::call::Call;
use crate::ffi::error::Error;
use crate::ffi::key::WriteKeys;
use crate::replicate::{self, Payload};
use crate::types::with_quota;

/// The result of a call on several keys.
pub(super) enum Outcome {
    /// Every key has granted its request.
    Granted(Vec<Grant>),
    /// At least one key denies its request, and no key has changed.
    Denied(Vec<Decision>),
}

/// The grant of one key, with the payload of its effect.
pub(super) struct Grant {
    decision: Decision,
    payload: Option<Payload>,
}

/// Takes the requests from the first keys, in this order, if every key grants its own. The error of
/// one key leaves all keys as they were.
pub(super) fn take(
    keys: &mut WriteKeys<'_>,
    requests: &[KeyRequest],
    now: Instant,
) -> Result<Outcome, Error> {
    let mut decisions = Vec::with_capacity(requests.len());
    for (position, request) in requests.iter().enumerate() {
        decisions.push(peek(keys.get(position)?, request, now)?);
    }
    if !decisions.iter().all(is_granted) {
        return Ok(Outcome::Denied(decisions));
    }
    let mut grants = Vec::with_capacity(requests.len());
    for (position, KeyRequest { quota, request }) in requests.iter().enumerate() {
        let key = keys.get(position)?;
        grants.push(with_quota!(quota, T, limit => {
            let (decision, change) = take_from::<T>(key, limit, *request, now)?;
            debug_assert!(change.is_some(), "a peek has found the units");
            let payload = change.map(|Change { expiry_millis, effect }| {
                replicate::payload::<T>(expiry_millis, &effect)
            });
            Grant { decision, payload }
        }));
    }
    Ok(Outcome::Granted(grants))
}

/// Publishes and counts the grants of keys, which the arguments name. Returns the decisions.
pub(super) fn record_grants(
    call: &mut Call<'_>,
    indexes: impl Iterator<Item = usize>,
    requests: &[KeyRequest],
    grants: Vec<Grant>,
) -> Vec<Decision> {
    let mut decisions = Vec::with_capacity(grants.len());
    for ((index, request), Grant { decision, payload }) in indexes.zip(requests).zip(grants) {
        if let Some(payload) = payload {
            let algorithm = request.quota.algorithm();
            record_grant(call, index, algorithm, decision.granted, || payload);
        }
        decisions.push(decision);
    }
    decisions
}

/// Counts the denials of the keys, which the arguments name, that have denied their request.
pub(super) fn count_denials(
    call: &Call<'_>,
    indexes: impl Iterator<Item = usize>,
    requests: &[KeyRequest],
    decisions: &[Decision],
    now: Instant,
) {
    for ((index, request), decision) in indexes.zip(requests).zip(decisions) {
        if !is_granted(decision) {
            count_denial(call, index, request.quota.algorithm(), now);
        }
    }
}

fn is_granted(decision: &Decision) -> bool {
    decision.retry_after == RetryAfter::Granted
}
