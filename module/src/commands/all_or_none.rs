//! Grants of several keys: the units of all of them, or of none.

use limiter::{Decision, Effect, Instant, RetryAfter};

use crate::args::KeyRequest;
use crate::commands::change::{Change, record_grant, take_from};
use crate::commands::decision::{count_denial, peek};
use crate::ffi::call::Call;
use crate::ffi::error::Error;
use crate::ffi::key::WriteKeys;
use crate::replicate;
use crate::types::with_quota;

/// The result of a call on several keys.
pub(super) struct Outcome {
    /// True if every key has granted its request. Otherwise no key has changed.
    pub(super) granted: bool,
    parts: Vec<Part>,
}

/// The result for one key.
struct Part {
    decision: Decision,
    /// The change of a key that has granted its request.
    change: Option<Change<Effect>>,
}

impl Outcome {
    /// Returns the decisions, in the order of the keys.
    pub(super) fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.parts.iter().map(|part| &part.decision)
    }
}

/// Takes the requests from the first keys, in this order, if every key grants its own. The error of
/// one key leaves all keys as they were.
pub(super) fn take(
    keys: &mut WriteKeys<'_>,
    requests: &[KeyRequest],
    now: Instant,
) -> Result<Outcome, Error> {
    let mut parts = Vec::with_capacity(requests.len());
    let mut granted = true;
    for (position, request) in requests.iter().enumerate() {
        let decision = peek(keys.get(position)?, request, now)?;
        granted &= is_granted(&decision);
        parts.push(Part { decision, change: None });
    }
    if granted {
        for (position, (part, KeyRequest { quota, request })) in
            parts.iter_mut().zip(requests).enumerate()
        {
            let key = keys.get(position)?;
            *part = with_quota!(quota, T, limit => {
                let (decision, change) = take_from::<T>(key, limit, *request, now)?;
                debug_assert!(change.is_some(), "a peek has found the units");
                let change = change.map(|Change { expiry_millis, effect }| {
                    Change { expiry_millis, effect: Effect::from(effect) }
                });
                Part { decision, change }
            });
        }
    }
    Ok(Outcome { granted, parts })
}

/// Publishes and counts the grants of keys, which the arguments name.
pub(super) fn record_grants(
    call: &mut Call<'_>,
    indexes: impl Iterator<Item = usize>,
    requests: &[KeyRequest],
    outcome: &Outcome,
) {
    for ((index, request), part) in indexes.zip(requests).zip(&outcome.parts) {
        if let Some(Change { expiry_millis, effect }) = &part.change {
            let payload = || replicate::payload_of_any(*expiry_millis, effect);
            let (algorithm, units) = (request.quota.algorithm(), part.decision.granted);
            record_grant(call, index, algorithm, units, payload);
        }
    }
}

/// Counts the denials of the keys, which the arguments name, that have denied their request.
pub(super) fn count_denials(
    call: &Call<'_>,
    indexes: impl Iterator<Item = usize>,
    requests: &[KeyRequest],
    outcome: &Outcome,
    now: Instant,
) {
    for ((index, request), decision) in indexes.zip(requests).zip(outcome.decisions()) {
        if !is_granted(decision) {
            count_denial(call, index, request.quota.algorithm(), now);
        }
    }
}

fn is_granted(decision: &Decision) -> bool {
    decision.retry_after == RetryAfter::Granted
}
