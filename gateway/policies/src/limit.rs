//! One limit of a policy, a plan or an override.

use calendar::Calendar;
use limiter::{Units, Window};
use serde::Serialize;

use crate::attribute::AttributeName;
use crate::identity::IdentityPart;
use crate::kind::Kind;
use crate::problem::Place;

/// The numbers of a limit, by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        /// The resolution of time, unless Redis chooses the resolution.
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The position in the file.
    pub place: Place,
    /// The numbers.
    pub rate: Rate,
    /// The units of a request.
    pub cost: Cost,
    /// The rule by which the cost is taken.
    pub charge: Charge,
    /// The identity, unless the limit has the identity of the policy.
    pub by: Option<Box<[IdentityPart]>>,
    /// True if the limit is only counted.
    pub shadow: bool,
}
