//! The calls that take and renew leases, and their answers.

use crate::decision::Decision;
use crate::holder::Holder;
use crate::lease::Lease;
use crate::limits::{Units, Window};
use crate::time::{Duration, Instant};

/// A call that takes a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquisition {
    /// The holder of the lease.
    pub holder: Holder,
    /// The units that all leases may take at the same time.
    pub limit: Units,
    /// The units that the lease takes.
    pub cost: Units,
    /// The time after which the lease expires.
    pub ttl: Window,
    /// The most leases that may count at the same time.
    pub max_leases: u32,
}

/// The answer to a call that takes a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// The units granted and remaining, and the times: `reset_after` is the time until the last
    /// lease ends.
    pub decision: Decision,
    /// The lease that the holder has after the call.
    pub lease: Option<HeldLease>,
    /// True when the call has changed the state.
    pub has_changed: bool,
}

/// A lease as its holder sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLease {
    /// The fence of the lease.
    pub fence: u64,
    /// The time until the lease ends. A holder is answered whole milliseconds, rounded down: see
    /// [`Duration::floor_millis`].
    pub ends_in: Duration,
}

/// The answer to a call that renews a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The lease after the call; `None` if it is lost.
    pub lease: Option<HeldLease>,
    /// True when the call has changed the state.
    pub has_changed: bool,
}

/// The reason for which a lease that fits the limit cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquisitionError {
    /// The key has [`Acquisition::max_leases`] leases that count.
    TooManyLeases,
    /// No fence is greater than the latest one.
    NoFence,
}

impl Renewed {
    /// The answer if the holder has no lease.
    pub const LOST: Self = Self { lease: None, has_changed: false };
}

impl HeldLease {
    /// Returns a lease as its holder sees it.
    #[must_use]
    pub fn of(lease: &Lease, now: Instant) -> Self {
        Self { fence: lease.fence, ends_in: until(lease.expiry, now) }
    }
}

/// The time from `now` until `time`, or none at all if that has passed.
pub(crate) fn until(time: Instant, now: Instant) -> Duration {
    Duration::from_micros(u128::from(time.micros_since(now)))
}
