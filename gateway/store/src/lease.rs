//! The calls that take and end leases, and their answers.

use limiter::{Holder, Units, Window};

use crate::{
    decision::{Decision, Source},
    key::{concurrency_key, limit_key},
    millis::Millis,
    top_denied::Denied,
};

/// The key of leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseKey {
    /// That of an identifier.
    Identifier(String),
    /// A key as a [`LimitCheck`](crate::LimitCheck) has one: no identifier has such a key.
    Limit(String),
}

/// A request for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The limited object.
    pub key: LeaseKey,
    /// The name of the attempt that holds the lease.
    pub holder: Holder,
    /// The units that all leases of the object may take at the same time.
    pub limit: Units,
    /// The units that the lease takes.
    pub cost: Units,
    /// The time after which the lease expires.
    pub ttl: Window,
}

/// A lease by its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseName {
    /// The limited object.
    pub key: LeaseKey,
    /// The holder.
    pub holder: Holder,
    /// The fence that the lease must have, if it matters.
    pub fence: Option<u64>,
}

impl LeaseKey {
    /// Returns the key in Redis.
    pub(crate) fn text(&self, prefix: &str) -> String {
        match self {
            Self::Identifier(identifier) => concurrency_key(prefix, identifier),
            Self::Limit(key) => limit_key(prefix, key),
        }
    }

    /// Returns the name among the identifiers that were denied most often.
    pub(crate) fn denied(&self) -> Denied<'_> {
        match self {
            Self::Identifier(identifier) => Denied::Identifier(identifier),
            Self::Limit(key) => Denied::Key(key),
        }
    }

    /// Returns the name in logs.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Identifier(name) | Self::Limit(name) => name,
        }
    }
}

impl LeaseRequest {
    /// Returns the lease of the request, with the fence that it has.
    pub(crate) fn named(&self, fence: u64) -> LeaseName {
        LeaseName { key: self.key.clone(), holder: self.holder, fence: Some(fence) }
    }
}

/// A lease as its holder sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLease {
    /// A number that is greater than all earlier ones.
    pub fence: u64,
    /// The time until the lease ends, rounded down: no holder relies on a lease that has ended.
    pub ends_in: Millis,
}

/// The answer to a request for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseDecision {
    /// The decision. The whole quota is available when the last lease has ended.
    pub decision: Decision,
    /// The lease that the holder has after the call: also after a denial, if a request for a higher
    /// cost did not fit.
    pub lease: Option<HeldLease>,
}

/// A lease that was requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TakenLease {
    pub(crate) decision: LeaseDecision,
    /// True if the holder had no lease before.
    pub(crate) is_new: bool,
}

/// The answer to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// The part that decided.
    pub source: Source,
    /// The lease, or `None` if the lease is lost.
    pub lease: Option<HeldLease>,
}

/// The answer to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// The part that decided.
    pub source: Source,
    /// True if there was a lease to end.
    pub is_released: bool,
}

/// A lease in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedLease {
    /// The bytes of the holder. Those of other clients of Redis need not be text.
    pub holder: Vec<u8>,
    /// The units that the lease takes.
    pub cost: u32,
    /// The lease.
    pub lease: HeldLease,
}

/// The live leases of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseList {
    /// The part that answered.
    pub source: Source,
    /// The leases, the first to end first.
    pub leases: Vec<ListedLease>,
}

impl LeaseList {
    /// Returns the answer to a request of this holder, or of a new one, for one unit, if the list has
    /// all leases. The holder of a lease gets the lease again.
    pub(crate) fn look(&self, limit: Units, holder: Option<&Holder>) -> LeaseDecision {
        let own = self
            .leases
            .iter()
            .find(|lease| holder.is_some_and(|holder| *lease.holder == *holder.as_bytes()));
        let (most, used) = (u64::from(limit.get()), self.used());
        let mut rest = used;
        // A time that was rounded down ends one millisecond later at the latest.
        let end = |lease: &ListedLease| Millis(lease.lease.ends_in.0 + 1);
        let first_room = self.leases.iter().find(|lease| {
            rest -= u64::from(lease.cost);
            rest < most
        });
        let allowed = own.is_some() || used < most;
        let decision = Decision {
            source: self.source,
            allowed,
            limit: limit.get(),
            window: None,
            capacity: most,
            remaining: most.saturating_sub(used),
            retry_after: first_room.filter(|_| !allowed).map_or(Millis(0), end),
            reset_after: self.leases.last().map_or(Millis(0), end),
        };
        LeaseDecision { decision, lease: own.map(|own| own.lease) }
    }

    fn used(&self) -> u64 {
        self.leases.iter().map(|lease| u64::from(lease.cost)).sum()
    }
}
