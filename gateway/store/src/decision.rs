//! What is decided, by whom, and why nothing was.

use crate::millis::Millis;

/// Who made a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Redis, for this request.
    Redis,
    /// This process, by itself.
    Local,
    /// Redis, for an earlier request that this one cannot fare better than.
    Cache,
    /// Nobody: everything is allowed while Redis cannot answer.
    Open,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 4] = [Self::Redis, Self::Local, Self::Cache, Self::Open];

    /// The name in headers and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Local => "local",
            Self::Cache => "cache",
            Self::Open => "open",
        }
    }
}

/// What the store answered about an identifier and a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Who decided.
    pub source: Source,
    /// Whether all of the cost was taken, or could be when only peeking.
    pub allowed: bool,
    /// Units per window by which it was decided: the limit of the quota, or a share of it.
    pub rate: u32,
    /// Most units that can be taken at once.
    pub limit: u64,
    /// Whole units left, at most `limit`.
    pub remaining: u64,
    /// Time until the same call would be allowed; 0 when it was.
    pub retry_after: Millis,
    /// Time until the whole quota is back.
    pub reset_after: Millis,
}

/// What the store gave back to a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refunded {
    /// Who gave it back: Redis or this process.
    pub source: Source,
    /// Units, at most those that were used.
    pub units: u32,
}

/// Why the store gave no decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// Redis did not answer, or not with a decision. The reason is in the log.
    Unavailable {
        /// Whether Redis answered at all.
        connected: bool,
    },
    /// As many calls wait for Redis as may, and one more was not sent; or this process was too late
    /// to read an answer in time. Redis is not at fault, so that none of them should be decided in
    /// another way: the caller is to come back.
    Overloaded,
    /// Redis has a stricter rule for an argument than this service.
    Refused {
        /// The argument that breaks it.
        argument: Argument,
        /// A sentence that names the argument and the rule.
        rule: String,
    },
}

/// An argument of the RATELIMIT commands that callers choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// Units per window.
    Limit,
    /// The window.
    Window,
    /// Most units at once.
    Capacity,
    /// Units asked for.
    Cost,
}

impl Argument {
    /// The argument that an error of the module names.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "limit" => Some(Self::Limit),
            "window" => Some(Self::Window),
            "capacity" => Some(Self::Capacity),
            "cost" => Some(Self::Cost),
            _ => None,
        }
    }
}
