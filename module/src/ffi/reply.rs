//! The replies to calls that were not refused.

use limiter::Holder;

/// The reply to a call that was not refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// `OK`.
    Ok,
    /// An integer.
    Integer(i64),
    /// Nothing: what the call names does not exist.
    Null,
    /// One integer for each key.
    Integers(Vec<i64>),
    /// The integers of one decision.
    Decision(Integers),
    /// 1 if every key was granted its cost and 0 if none was, then the decision of each key.
    Decisions(bool, Vec<Integers>),
    /// Keys, with a number for each.
    Counts(Vec<(Vec<u8>, u64)>),
    /// The integers of one decision, the fence of the lease, and the milliseconds until it ends.
    Lease([i64; 7]),
    /// For each lease its fence, and the milliseconds until it ends.
    Fences(Vec<[i64; 2]>),
    /// For each lease its holder, its cost, the milliseconds until it ends, and its fence.
    Holders(Vec<(Holder, [i64; 3])>),
}

/// granted, capacity, remaining, retry_after_ms, reset_after_ms.
pub(crate) type Integers = [i64; 5];
