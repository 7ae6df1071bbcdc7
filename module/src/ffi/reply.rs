//! The replies to calls that were not refused.

/// The reply to a call that was not refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// `OK`.
    Ok,
    /// An integer.
    Integer(i64),
    /// The integers of one decision.
    Decision(Integers),
    /// 1 if every key was granted its cost and 0 if none was, then the decision of each key.
    Decisions(bool, Vec<Integers>),
    /// Keys, with a number for each.
    Counts(Vec<(Vec<u8>, u64)>),
}

/// granted, capacity, remaining, retry_after_ms, reset_after_ms.
pub(crate) type Integers = [i64; 5];
