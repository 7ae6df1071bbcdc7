//! Decisions as replies. Times of a reply are rounded up to milliseconds here and nowhere else.

use limiter::{Decision, RetryAfter};

use crate::ffi::reply::{Integers, Reply};

/// Returns the reply to a call on one key.
pub(crate) fn decision(decision: &Decision) -> Reply {
    Reply::Decision(integers(decision))
}

/// Returns the reply to a call on several keys.
pub(crate) fn decisions<'a>(granted: bool, decisions: impl Iterator<Item = &'a Decision>) -> Reply {
    Reply::Decisions(granted, decisions.map(integers).collect())
}

fn integers(decision: &Decision) -> Integers {
    let retry_after_ms = match decision.retry_after {
        RetryAfter::Granted => 0,
        RetryAfter::Wait(time) => time.ceil_millis(),
        RetryAfter::Never => -1,
    };
    [
        i64::from(decision.granted),
        i64::from(decision.capacity),
        i64::from(decision.remaining),
        retry_after_ms,
        decision.reset_after.ceil_millis(),
    ]
}
