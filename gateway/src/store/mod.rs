//! Where decisions are made: one command to Redis each.

mod link;
mod outage;
mod redis;

pub use self::redis::{Redis, RedisOptions};

use crate::{millis::Millis, quota::Algorithm};

/// What the store answered about an identifier and a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether all of the cost was taken, or could be when only peeking.
    pub allowed: bool,
    /// Most units that can be taken at once.
    pub limit: u64,
    /// Whole units left, at most `limit`.
    pub remaining: u64,
    /// Time until the same call would be allowed; 0 when it was.
    pub retry_after: Millis,
    /// Time until the whole quota is back.
    pub reset_after: Millis,
}

/// Why the store gave no decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// Redis did not answer, or not with a decision. The reason is in the log.
    Unavailable {
        /// Whether Redis answered at all.
        connected: bool,
    },
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
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "limit" => Some(Self::Limit),
            "window" => Some(Self::Window),
            "capacity" => Some(Self::Capacity),
            "cost" => Some(Self::Cost),
            _ => None,
        }
    }
}

/// The key that holds the state of an identifier.
///
/// The identifier is its hash tag: both keys of an identifier live in one cluster slot, unless it
/// starts with a closing brace.
fn key(prefix: &str, algorithm: Algorithm, identifier: &str) -> String {
    format!("{prefix}{}:{{{identifier}}}", algorithm.name())
}

#[cfg(test)]
mod tests {
    use super::key;
    use crate::quota::Algorithm;

    #[test]
    fn keys_hold_the_identifier_in_braces() {
        assert_eq!(key("", Algorithm::TokenBucket, "a/b"), "token_bucket:{a/b}");
        assert_eq!(key("app:", Algorithm::SlidingWindow, "x"), "app:sliding_window:{x}");
    }
}
