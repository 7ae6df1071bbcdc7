//! The decision on one quota in an answer.

use schemars::JsonSchema;
use serde::Serialize;
use store::Decision;

use crate::seconds::Seconds;

/// The decision on a check.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CheckAnswer {
    /// True when the units were taken; with a cost of 0, when one unit could be taken. With `force`
    /// false means that 4,294,967,295 units are used now: the rest of the cost was dropped.
    pub(crate) allowed: bool,
    /// Whole units that could be taken now.
    pub(crate) remaining: u64,
    /// Seconds until nothing is used.
    pub(crate) reset_in_seconds: Seconds,
    /// Seconds until the same check would be allowed; null when it was.
    pub(crate) retry_after: Option<Seconds>,
}

impl From<&Decision> for CheckAnswer {
    fn from(decision: &Decision) -> Self {
        Self {
            allowed: decision.allowed,
            remaining: decision.remaining,
            reset_in_seconds: Seconds(decision.reset_after),
            retry_after: (!decision.allowed).then_some(Seconds(decision.retry_after)),
        }
    }
}
