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
