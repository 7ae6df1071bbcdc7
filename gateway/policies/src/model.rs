//! The policies as values that cannot be wrong.

use serde::Serialize;

use crate::attribute::AttributeName;
use crate::clause::Clause;
use crate::identity::IdentityPart;
use crate::overrides::Overrides;

pub use crate::entry::{Entries, Entry};
pub use crate::limit::{Charge, Cost, CostFrom, FixedWindow, LimitSpec, Rate};

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

/// The decision while Redis does not answer.
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
    /// True if the policy is only a trial beside the policy that applies.
    pub shadow: bool,
    /// True if the limits are enforced, false if they are only counted.
    pub enforce: bool,
    /// True if end users see the limits.
    pub headers: bool,
    /// The decision while Redis does not answer, unless the setting decides.
    pub on_error: Option<OnError>,
    /// The attributes that the policy reads and that a request can carry more than once, or whose
    /// value can be unknown.
    pub(crate) fallible_reads: Box<[AttributeName]>,
}
