//! The leases that a check by policy has taken, in its answer.

use policies::lease_key::LeaseKey;
use schemars::JsonSchema;
use serde::Serialize;
use store::{HeldLease, LimitsDecision};

use crate::{
    error::Error,
    limits::NamedLimits,
    release_token::{ReleaseToken, TokenLease},
    request::lease::FENCE,
    seconds::Seconds,
    state::AppState,
};

/// The leases of a check, with the token that names them.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HeldLeases {
    /// The leases.
    leases: Vec<LeaseOfLimit>,
    /// The token for `PUT` and `DELETE /rate-limit/leases`, which renew and release all leases of the
    /// check.
    release: String,
}

/// A lease of a limit.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub(super) struct LeaseOfLimit {
    /// The name of the limit.
    limit: String,
    /// The identity, as the key in Redis has it.
    identifier: String,
    /// The fence of the lease: a number that is greater than that of every earlier lease.
    #[schemars(range(min = *FENCE.start(), max = *FENCE.end()))]
    fence: u64,
    /// Seconds until the lease expires, rounded down.
    expires_in_seconds: Seconds,
}

impl HeldLeases {
    /// Returns the leases of a check that was decided; `None` for a check that has taken none.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] for a grant without a lease.
    pub(super) fn new(
        state: &AppState,
        limits: &NamedLimits,
        decision: &LimitsDecision,
    ) -> Result<Option<Self>, Error> {
        let Some(first) = limits.check.leases.first() else { return Ok(None) };
        if !limits.takes() || !decision.allowed() {
            return Ok(None);
        }
        let (mut leases, mut of_token) = (Vec::new(), Vec::new());
        for (check, decided) in limits.check.leases.iter().zip(&decision.leases) {
            let key = LeaseKey::parse(&check.key).ok_or(Error::Internal)?;
            let lease = decided.lease.ok_or(Error::Internal)?;
            leases.push(LeaseOfLimit::new(&key, lease));
            of_token.push(TokenLease { key, ttl: check.ttl, fence: lease.fence });
        }
        let token = ReleaseToken { holder: first.holder, leases: of_token };
        let policies = state.policies.as_ref().ok_or(Error::Internal)?.current();
        Ok(Some(Self { leases, release: token.write(policies.hash_key()) }))
    }
}

impl LeaseOfLimit {
    /// Returns the lease of a key.
    pub(super) fn new(key: &LeaseKey, lease: HeldLease) -> Self {
        let HeldLease { fence, ends_in } = lease;
        let (limit, identifier) = (key.limit().to_owned(), key.id().to_owned());
        Self { limit, identifier, fence, expires_in_seconds: Seconds(ends_in) }
    }

    /// Returns the lease of the documentation.
    pub(super) fn example() -> Self {
        Self {
            limit: "flight".to_owned(),
            identifier: "tenant_7".to_owned(),
            fence: 1_800_014_400_000_000,
            expires_in_seconds: Seconds(store::Millis(30_000)),
        }
    }
}
