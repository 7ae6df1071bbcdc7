//! Checks of several limits at once, each of which has a key of its own.

use limiter::{Algorithm, Units};

use crate::{
    check::Check,
    decision::{Decision, Source},
    options::FailMode,
    quota_rule::QuotaRule,
};

/// A request for units of several limits, all or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsCheck {
    /// The limits, no two of which have the same key. Either all costs are 0, or none is.
    pub limits: Vec<LimitCheck>,
    /// The answer while Redis does not answer, in place of that of the store.
    pub fail_mode: Option<FailMode>,
}

/// A limit of a [`LimitsCheck`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitCheck {
    /// The key, to which the store adds its prefix. The part between its braces is the same for
    /// limits that share a slot of a cluster. No identifier has such a key.
    pub key: String,
    /// The rule of its quota.
    pub quota: QuotaRule,
    /// Units to take; 0 to look whether one unit could be taken.
    pub cost: u32,
    /// The rule by which the cost is taken.
    pub charge: Charge,
}

/// The rule by which a cost is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// The whole cost or nothing; the cost is at most the capacity.
    Granted,
    /// The whole cost when at least one unit is available.
    Always,
}

/// The answer to a [`LimitsCheck`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsDecision {
    /// The part that decided.
    pub source: Source,
    /// The decision on each limit, in their order. A limit that would allow the check is allowed
    /// also where another one denies, and has taken nothing then.
    pub limits: Vec<Decision>,
}

/// A request to give units of a limit back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRefund {
    /// The key of the limit.
    pub key: String,
    /// The algorithm that counted the grants.
    pub algorithm: Algorithm,
    /// Most units to give back.
    pub amount: Units,
}

impl LimitsCheck {
    /// Returns whether the check takes units.
    pub(crate) fn takes(&self) -> bool {
        self.limits.iter().any(|limit| limit.cost > 0)
    }

    /// Returns whether the check charges units after its grant.
    pub(crate) fn charges(&self) -> bool {
        self.limits.iter().any(|limit| limit.rest() > 0)
    }
}

impl LimitCheck {
    /// Returns the units that must be available: with [`Charge::Always`] one unit at most.
    pub(crate) fn required(&self) -> u32 {
        match self.charge {
            Charge::Granted => self.cost,
            Charge::Always => self.cost.min(1),
        }
    }

    /// Returns the units that are taken after the grant, whether they are available or not.
    pub(crate) fn rest(&self) -> u32 {
        self.cost - self.required()
    }

    /// Returns the check of the required units of a quota, by the key as its identifier.
    pub(crate) fn required_check(&self) -> Check {
        let Self { key, quota, .. } = self;
        let (identifier, quota, cost) = (key.clone(), quota.clone(), self.required());
        Check { identifier, quota, cost, force: false }
    }

    /// Returns the forced check of the rest.
    pub(crate) fn rest_check(&self) -> Check {
        Check { cost: self.rest(), force: true, ..self.required_check() }
    }
}

impl LimitsDecision {
    /// Returns whether every limit allows the check. Otherwise no limit has taken anything.
    #[must_use]
    pub fn allowed(&self) -> bool {
        is_allowed(&self.limits)
    }
}

/// Returns whether every limit allows a check.
pub(crate) fn is_allowed(limits: &[Decision]) -> bool {
    limits.iter().all(|limit| limit.allowed)
}
