//! Errors of the store.

/// The reason why the store made no decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// Redis did not answer, or not with a decision. The log has the reason.
    Unavailable {
        /// True if Redis answered at all.
        connected: bool,
    },
    /// The backlog of Redis is full, so that the call was not sent; or this process read an answer
    /// too late. Redis is not the cause, so that no fail mode decides: the client retries.
    Overloaded,
    /// A bug: a value that a caller must have checked is out of its range.
    Internal,
    /// Redis has a stricter rule for an argument than this service.
    Refused {
        /// The argument that breaks the rule.
        argument: Argument,
        /// A sentence that names the argument and the rule.
        rule: String,
    },
}

/// Returns the error of a cost that no state of a quota grants.
pub(crate) fn cost_above_capacity(capacity: u64) -> StoreError {
    let rule = format!("cost must be at most the capacity, {capacity}");
    StoreError::Refused { argument: Argument::Cost, rule }
}

/// An argument of the RATELIMIT commands that clients choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// Units per window.
    Limit,
    /// The window.
    Window,
    /// The most units at once.
    Capacity,
    /// Units asked for.
    Cost,
    /// The limits of a reservation, which another call has made with other limits.
    Reservation,
    /// The identifiers of a reservation, which are in several slots of a cluster.
    Identifiers,
    /// The live leases of an identifier, which are as many as Redis allows.
    Leases,
}

impl Argument {
    /// Returns the argument that the module calls by this name in its errors.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "limit" => Some(Self::Limit),
            "window" => Some(Self::Window),
            "capacity" => Some(Self::Capacity),
            "cost" => Some(Self::Cost),
            _ => None,
        }
    }
}
