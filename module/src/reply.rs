//! What a call is answered. Times become milliseconds here, rounded up, and nowhere else.

use limiter::{Decision, RetryAfter};

/// The reply to a call that was not refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// `OK`.
    Ok,
    /// An integer.
    Integer(i64),
    /// What was decided for a key.
    Decision(Integers),
    /// Whether every key was granted its cost, and what was decided for each.
    Decisions(bool, Vec<Integers>),
    /// Keys, with a number for each.
    Counts(Vec<(Vec<u8>, u64)>),
}

/// granted, capacity, remaining, retry_after_ms, reset_after_ms.
pub(crate) type Integers = [i64; 5];

impl From<Decision> for Reply {
    fn from(decision: Decision) -> Self {
        Self::Decision(integers(&decision))
    }
}

impl Reply {
    /// What was decided for several keys at once.
    pub(crate) fn decisions(granted: bool, decisions: &[Decision]) -> Self {
        Self::Decisions(granted, decisions.iter().map(integers).collect())
    }
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
