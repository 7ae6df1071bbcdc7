//! A caller.

use std::fmt;

use limiter::{Algorithm, Quota, Units, Window};

use super::scope::{Scope, Scopes};

/// The owner of a key or of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(super) credential: Credential,
    pub(super) name: String,
    pub(super) scopes: Scopes,
    pub(super) limit: CallerLimit,
}

/// The kind of a credential. Equal names of two kinds are different callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credential {
    Key,
    Token,
}

/// The algorithm of the limits of callers.
pub(crate) const CALLER_ALGORITHM: Algorithm = Algorithm::TokenBucket;

/// The requests that a caller may make, each of which counts as many as it has limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallerLimit {
    /// Requests per window; `None` is any number.
    pub(super) requests: Option<Units>,
    pub(super) window: Window,
}

impl Caller {
    /// Returns true when the caller has this scope.
    pub(crate) const fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(scope)
    }

    /// Returns the limit as a quota of requests; `None` is any number.
    pub(crate) fn quota(&self) -> Option<Quota> {
        let CallerLimit { requests, window } = self.limit;
        requests.map(|limit| Quota::new(CALLER_ALGORITHM, limit, window))
    }
}

impl fmt::Display for Caller {
    /// Writes the name in logs and in keys of Redis: the kind of the credential, then the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credential = match self.credential {
            Credential::Key => "key",
            Credential::Token => "token",
        };
        write!(f, "{credential}:{}", self.name)
    }
}
