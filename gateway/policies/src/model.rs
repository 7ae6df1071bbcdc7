//! The policies as values that cannot be wrong.

use limiter::{Units, Window};
use serde::Serialize;

use crate::attribute::AttributeName;
use crate::calendar::Calendar;
use crate::clause::Clause;
use crate::identity::IdentityPart;
use crate::kind::Kind;
use crate::overrides::Overrides;

/// A way on which requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A check by a caller.
    Check,
    /// Forward authentication over HTTP or gRPC.
    Authz,
    /// The rate limit service of Envoy.
    Rls,
}

/// The entries that can select a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Checks by callers.
    pub check: bool,
    /// Forward authentication.
    pub authz: bool,
    /// The rate limit service of Envoy.
    pub rls: bool,
}

impl Entries {
    /// Returns whether the entry is among them.
    #[must_use]
    pub const fn contains(self, entry: Entry) -> bool {
        match entry {
            Entry::Check => self.check,
            Entry::Authz => self.authz,
            Entry::Rls => self.rls,
        }
    }

    /// Returns whether every entry of `other` is among them.
    pub(crate) const fn contain_all(self, other: Self) -> bool {
        (self.check || !other.check) && (self.authz || !other.authz) && (self.rls || !other.rls)
    }

    /// Returns whether a request can arrive in which the end user writes attributes.
    pub(crate) const fn take_end_users(self) -> bool {
        self.authz || self.rls
    }
}

/// The treatment of requests without an attribute of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The policy does not apply.
    Skip,
    /// The request is denied.
    Deny,
    /// All requests without the attribute have one quota.
    Share,
}

/// The decision while Redis is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Requests are denied.
    Closed,
    /// Requests are allowed.
    Open,
    /// The gateway decides by itself.
    Local,
}

/// The numbers of a limit, by its kind.
#[derive(Clone, Debug)]
pub enum Rate {
    /// Units that come back steadily.
    TokenBucket {
        /// The units that come back in each window.
        limit: Units,
        /// The window.
        per: Window,
        /// The most units at once.
        burst: Units,
    },
    /// Units of which each counts for one window.
    SlidingWindow {
        /// The most units in any window.
        limit: Units,
        /// The window.
        per: Window,
        /// The resolution of time, unless it is left to Redis.
        resolution: Option<Window>,
    },
    /// Units that come back at a known instant.
    FixedWindow {
        /// The most units in each window.
        limit: Units,
        /// The windows.
        per: FixedWindow,
    },
    /// Units that are held until they are released.
    Concurrency {
        /// The most units at the same time.
        limit: Units,
        /// The longest time without a renewal.
        ttl: Window,
    },
}

/// The windows of a fixed window limit.
#[derive(Clone, Debug)]
pub enum FixedWindow {
    /// Windows that start at multiples of the length since the epoch.
    Length(Window),
    /// Windows of the calendar.
    Calendar(Calendar),
}

impl Rate {
    /// Returns the kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::TokenBucket { .. } => Kind::TokenBucket,
            Self::SlidingWindow { .. } => Kind::SlidingWindow,
            Self::FixedWindow { .. } => Kind::FixedWindow,
            Self::Concurrency { .. } => Kind::Concurrency,
        }
    }

    /// Returns the most units that can be taken at once.
    #[must_use]
    pub const fn capacity(&self) -> Units {
        match self {
            Self::TokenBucket { burst, .. } => *burst,
            Self::SlidingWindow { limit, .. }
            | Self::FixedWindow { limit, .. }
            | Self::Concurrency { limit, .. } => *limit,
        }
    }

    /// Returns the units per window, or at the same time.
    #[must_use]
    pub const fn limit(&self) -> Units {
        match self {
            Self::TokenBucket { limit, .. }
            | Self::SlidingWindow { limit, .. }
            | Self::FixedWindow { limit, .. }
            | Self::Concurrency { limit, .. } => *limit,
        }
    }
}

/// The units of a request.
#[derive(Clone, Debug)]
pub enum Cost {
    /// The units that the request asks for, or one.
    Request,
    /// A number of units.
    Units(Units),
    /// The units that an attribute names.
    From(CostFrom),
}

/// The units that an attribute names.
#[derive(Clone, Debug)]
pub struct CostFrom {
    /// The attribute.
    pub from: AttributeName,
    /// The units when the attribute is missing or no whole number.
    pub default: Units,
    /// The least units.
    pub min: Units,
    /// The most units.
    pub max: Units,
}

/// The rule by which the cost is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Charge {
    /// The whole cost or nothing.
    Granted,
    /// The whole cost when at least one unit was free.
    Always,
}

/// A limit of a policy, a plan or an override.
#[derive(Clone, Debug)]
pub struct LimitSpec {
    /// The name.
    pub name: Box<str>,
    /// The numbers.
    pub rate: Rate,
    /// The units of a request.
    pub cost: Cost,
    /// The rule by which the cost is taken.
    pub charge: Charge,
    /// The identity, unless it is that of the policy.
    pub by: Option<Box<[IdentityPart]>>,
    /// Whether the limit is only counted.
    pub shadow: bool,
}

/// A named list of limits.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The name.
    pub name: Box<str>,
    /// The limits.
    pub limits: Box<[LimitSpec]>,
}

/// The limits of a policy.
#[derive(Clone, Debug)]
pub enum Limits {
    /// Limits of its own.
    Own(Box<[LimitSpec]>),
    /// The plan at this position.
    Plan(usize),
    /// The plan that an attribute names.
    PlanFrom {
        /// The attribute.
        from: AttributeName,
        /// The position of the plan when the attribute is missing or names no plan.
        default: usize,
    },
}

/// The requests to which a policy applies.
#[derive(Clone, Debug)]
pub enum Matcher {
    /// Requests that name the policy.
    Named,
    /// Requests for which all clauses hold.
    Clauses(Box<[Clause]>),
}

/// A policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The name.
    pub name: Box<str>,
    /// The requests to which the policy applies.
    pub matcher: Matcher,
    /// The identity.
    pub by: Box<[IdentityPart]>,
    /// The treatment of requests without an attribute of an identity.
    pub missing: Missing,
    /// The limits.
    pub limits: Limits,
    /// The exceptions.
    pub overrides: Overrides,
    /// The entries that can select the policy.
    pub entries: Entries,
    /// Whether the policy is only a trial beside the policy that applies.
    pub shadow: bool,
    /// Whether the limits are enforced, or only counted.
    pub enforce: bool,
    /// Whether end users see the limits.
    pub headers: bool,
    /// The decision while Redis is away, unless the setting decides.
    pub on_error: Option<OnError>,
    /// The attributes that the policy reads and that a request can carry more than once, or whose
    /// value can be unknown.
    pub(crate) fallible_reads: Box<[AttributeName]>,
}
