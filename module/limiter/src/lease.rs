//! One lease, as it is stored.

use crate::holder::Holder;
use crate::limits::{Units, Window};
use crate::math::Exact;
use crate::time::Instant;

/// One lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The holder.
    pub holder: Holder,
    /// The units that the lease takes.
    pub cost: Units,
    /// The time for which the call that set the expiry has asked.
    pub ttl: Window,
    /// The time from which the lease does not count.
    pub expiry: Instant,
    /// The number that distinguishes the lease from all leases before and after it.
    pub fence: u64,
}

impl Lease {
    /// Returns whether the lease counts: it has not expired, and does not end more than two of its
    /// ttls after now, as a lease does that was made while the clock was ahead.
    #[must_use]
    pub fn counts(&self, now: Instant) -> bool {
        self.start() <= now && now < self.expiry
    }

    /// The first time at which the lease counts.
    pub(crate) fn start(&self) -> Instant {
        start(self.expiry, self.ttl)
    }
}

/// Two ttls before the expiry.
pub(crate) fn start(expiry: Instant, ttl: Window) -> Instant {
    // Saturating, as no time is before the epoch.
    Instant::from_micros(expiry.as_micros().saturating_sub(ttl.as_micros().times(2)))
}
