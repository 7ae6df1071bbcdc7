//! What a call is answered. Times become milliseconds here, rounded up, and nowhere else.

use limiter::{Decision, RetryAfter};

/// The reply to a call that was not refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// `OK`.
    Ok,
    /// An integer.
    Integer(i64),
    /// granted, limit, remaining, retry_after_ms, reset_after_ms.
    Integers([i64; 5]),
}

impl From<Decision> for Reply {
    fn from(decision: Decision) -> Self {
        let retry_after_ms = match decision.retry_after {
            RetryAfter::Granted => 0,
            RetryAfter::Wait(time) => time.ceil_millis(),
            RetryAfter::Never => -1,
        };
        Self::Integers([
            i64::from(decision.granted),
            i64::from(decision.limit),
            i64::from(decision.remaining),
            retry_after_ms,
            decision.reset_after.ceil_millis(),
        ])
    }
}
