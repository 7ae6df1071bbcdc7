//! The calls that take and end leases, and their answers.

use limiter::{Holder, Units, Window};

use crate::{
    decision::{Decision, Source},
    millis::Millis,
};

/// A request for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The limited object.
    pub identifier: String,
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
    pub identifier: String,
    /// The holder.
    pub holder: Holder,
    /// The fence that the lease must have, if it matters.
    pub fence: Option<u64>,
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
