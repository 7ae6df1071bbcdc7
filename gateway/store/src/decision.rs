//! The answers of the store.

use crate::millis::Millis;

/// The part that made a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Redis, for this request.
    Redis,
    /// This process, by its own states.
    Local,
    /// A cached denial by Redis; Redis would deny this request, too.
    Cache,
    /// No part: the fail mode grants every check while Redis does not answer.
    Open,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 4] = [Self::Redis, Self::Local, Self::Cache, Self::Open];

    /// Returns the name in headers and metrics.
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

/// The answer to a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The part that decided.
    pub source: Source,
    /// True if the whole cost was taken; without a cost, if one unit could be taken. False for a
    /// forced cost of which the limiter has counted only a part, because it counts no more.
    pub allowed: bool,
    /// Units per window of the decision: the limit of the quota, or a share of it.
    pub limit: u32,
    /// The length of the window of the quota, which is the present one if its windows differ in
    /// length; `None` for leases.
    pub window: Option<Millis>,
    /// Most units that can be taken at once.
    pub capacity: u64,
    /// Whole units that can be taken now, at most `capacity`.
    pub remaining: u64,
    /// Time until the same call would be allowed; 0 if this call was.
    pub retry_after: Millis,
    /// Time until the whole quota is available.
    pub reset_after: Millis,
}

impl Decision {
    /// Returns the decision as it is repeated some time after its arrival: with the waits that remain.
    pub(crate) fn repeated_after(&self, passed_micros: u64) -> Self {
        let remaining = |Millis(wait): Millis| Millis(wait.saturating_sub(passed_micros / 1_000));
        Self {
            source: Source::Cache,
            retry_after: remaining(self.retry_after),
            reset_after: remaining(self.reset_after),
            ..*self
        }
    }
}

/// The answer to a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefundOutcome {
    /// The part that gave the units back: Redis or this process.
    pub source: Source,
    /// Units that were given back, at most those that count.
    pub units: u32,
}
