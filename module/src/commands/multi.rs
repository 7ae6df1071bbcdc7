//! RATELIMIT.MULTI: takes units from several keys, or from none of them.
//!
//! ```text
//! RATELIMIT.MULTI numkeys key [key ...] limit-of-key-1 [limit-of-key-2 ...]
//!
//! a limit:  TB limit window [BURST capacity] [COST cost]
//!           SW limit window [RESOLUTION seconds] [COST cost]
//!           FW limit WINDOW [COST cost]
//! ```
//!
//! Grants the call if every key would grant its cost, at one and the same time. Returns 1 if the
//! call was granted and 0 if it took nothing, then five integers for each key, in the order of the
//! keys: those of RATELIMIT.TB, RATELIMIT.SW or RATELIMIT.FW if the call was granted, else those of
//! RATELIMIT.PEEK. Costs as much as one of these calls for each key.

use std::ops::Range;

use limiter::{Decision, Instant, RetryAfter};

use crate::args::{Args, KeyRequest};
use crate::clock;
use crate::commands::arguments;
use crate::commands::change::{Change, record_grant, take_from};
use crate::commands::decision::{count_denial, peek};
use crate::ffi::call::Call;
use crate::ffi::command::Command;
use crate::ffi::command_info::{Argument, Callers, Facts, KeyUsage, Keys};
use crate::ffi::error::Error;
use crate::ffi::key::WriteKeys;
use crate::ffi::reply::Reply;
use crate::replicate::{self, Payload};
use crate::reply;
use crate::types::with_quota;

/// RATELIMIT.MULTI.
pub(crate) struct Multi;

impl Command for Multi {
    const FACTS: Facts = Facts {
        name: c"ratelimit.multi",
        summary: c"Takes units from several keys, or from none of them.",
        complexity:
            c"O(N) where N is the number of keys, times what RATELIMIT.TB, RATELIMIT.SW or \
                     RATELIMIT.FW costs for each.",
        since: c"1.0.0",
        flags: c"write deny-oom fast",
        callers: Callers::Users,
        categories: c"write fast",
        tips: Some(c"nondeterministic_output"),
        arity: -6,
        keys: Keys::Counted(KeyUsage::Update, keys),
        arguments: &[
            Argument::integer(c"numkeys"),
            arguments::KEY.multiple(),
            arguments::EITHER_LIMIT.multiple(),
        ],
    };

    /// All keys are open before any is changed, so that an error leaves them as they were. All are
    /// closed before the first change is published, so that no other code changes one in between.
    fn run(call: &mut Call<'_>) -> Result<Reply, Error> {
        let mut args = Args::after_name(call);
        let names = args.keys()?;
        let requests = args.requests(names.range().len())?;
        let now = clock::now();
        let mut keys = call.open_all_to_write(&names)?;
        let mut decisions = Vec::with_capacity(requests.len());
        for (position, request) in requests.iter().enumerate() {
            decisions.push(peek(keys.get(position)?, request, now)?);
        }
        if decisions.iter().all(is_granted) {
            let grants = take_all(&mut keys, &requests, now)?;
            drop(keys);
            return Ok(record_all(call, names.range(), &requests, grants));
        }
        drop(keys);
        for ((index, request), decision) in names.range().zip(&requests).zip(&decisions) {
            if !is_granted(decision) {
                count_denial(call, index, request.quota.algorithm(), now);
            }
        }
        Ok(reply::decisions(false, decisions.iter()))
    }
}

/// Returns the arguments of a call that are keys.
fn keys(call: &Call<'_>) -> Option<Range<usize>> {
    Args::after_name(call).keys().ok().map(|names| names.range())
}

fn is_granted(decision: &Decision) -> bool {
    decision.retry_after == RetryAfter::Granted
}

/// The grant of one key, with the payload of its effect.
struct Grant {
    decision: Decision,
    payload: Option<Payload>,
}

/// Takes the units of every key, each of which has them.
fn take_all(
    keys: &mut WriteKeys<'_>,
    requests: &[KeyRequest],
    now: Instant,
) -> Result<Vec<Grant>, Error> {
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
    Ok(grants)
}

/// Records the grants of all keys. Returns the reply.
fn record_all(
    call: &mut Call<'_>,
    indexes: Range<usize>,
    requests: &[KeyRequest],
    grants: Vec<Grant>,
) -> Reply {
    let granted = grants.iter().all(|grant| is_granted(&grant.decision));
    let reply = reply::decisions(granted, grants.iter().map(|grant| &grant.decision));
    for ((index, request), Grant { decision, payload }) in indexes.zip(requests).zip(grants) {
        if let Some(payload) = payload {
            let algorithm = request.quota.algorithm();
            record_grant(call, index, algorithm, decision.granted, || payload);
        }
    }
    reply
}
