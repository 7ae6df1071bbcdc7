//! Checks of several limits at once, each of which has a key of its own.

use limiter::{Algorithm, Holder, Units, Window};

use crate::{
    check::Check,
    clock::system_time,
    decision::{Decision, Source},
    error::StoreError,
    lease::{LeaseDecision, LeaseKey, LeaseRequest},
    millis::Millis,
    options::FailMode,
    quota_rule::{DatedQuota, QuotaRule},
};

/// A request for units of several limits, all or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsCheck {
    /// The limits, no two of which have the same key. Either all costs are 0, or none is.
    pub limits: Vec<LimitCheck>,
    /// The limits of what happens at the same time. A check with one of them is decided by Redis or
    /// `memory://`, whatever its fail mode is.
    pub leases: Vec<LeaseCheck>,
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

/// A limit of a [`LimitsCheck`] of what happens at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseCheck {
    /// The key, as that of a [`LimitCheck`].
    pub key: String,
    /// The name of the attempt that holds the lease.
    pub holder: Holder,
    /// The units that all leases of the key may take at the same time.
    pub limit: Units,
    /// Units to take; 0 to look whether one unit could be taken.
    pub cost: u32,
    /// The time after which the lease expires.
    pub ttl: Window,
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
    /// The decision on each limit of what happens at the same time, in their order; none if another
    /// limit has denied the check before. After a denial no lease is left that the check took.
    pub leases: Vec<LeaseDecision>,
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
        let of_limits = self.limits.iter().map(|limit| limit.cost);
        of_limits.chain(self.leases.iter().map(|lease| lease.cost)).any(|cost| cost > 0)
    }

    /// Returns whether the check charges units after its grant.
    pub(crate) fn charges(&self) -> bool {
        self.limits.iter().any(|limit| limit.rest() > 0)
    }
}

impl LeaseCheck {
    /// Returns the denial of a cost above the limit, which no state of the limit changes: `wait` is the
    /// time until the same check would be allowed.
    #[must_use]
    pub fn denial(&self, wait: Millis) -> LeaseDecision {
        LeaseDecision { decision: denial(self.limit, self.limit, None, wait), lease: None }
    }

    /// Returns the request for the lease, or `None` for a check that only looks.
    pub(crate) fn request(&self) -> Option<LeaseRequest> {
        let Self { key, holder, limit, cost, ttl } = self;
        let cost = Units::new((*cost).into())?;
        let key = LeaseKey::Limit(key.clone());
        Some(LeaseRequest { key, holder: *holder, limit: *limit, cost, ttl: *ttl })
    }
}

impl LimitCheck {
    /// Returns whether the limit can never grant its cost.
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.required() > self.quota.capacity().get()
    }

    /// Returns the denial of a cost above the capacity, which no state of the limit changes: `wait` is
    /// the time until the same check would be allowed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Internal`] after the year 9998, where the calendar ends.
    pub fn denial(&self, wait: Millis) -> Result<Decision, StoreError> {
        let DatedQuota { quota, window } = self.quota.at(system_time)?;
        Ok(denial(quota.limit(), quota.capacity(), Some(window), wait))
    }

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
        is_allowed(&self.limits) && self.leases.iter().all(|lease| lease.decision.allowed)
    }

    /// Returns a decision on limits of which none is one of leases.
    pub(crate) fn of_limits(source: Source, limits: Vec<Decision>) -> Self {
        Self { source, limits, leases: Vec::new() }
    }
}

/// Returns a denial of this process that needs no state. Nothing remains for a cost that is never
/// granted.
fn denial(limit: Units, capacity: Units, window: Option<Millis>, wait: Millis) -> Decision {
    Decision {
        source: Source::Local,
        allowed: false,
        limit: limit.get(),
        window,
        capacity: capacity.get().into(),
        remaining: 0,
        retry_after: wait,
        reset_after: wait,
    }
}

/// Returns whether every limit allows a check.
pub(crate) fn is_allowed(limits: &[Decision]) -> bool {
    limits.iter().all(|limit| limit.allowed)
}
