//! Leases: at most so many units at the same time, each until it is released or expires.
//!
//! ```text
//!  a ├──────────────▷ expires        units that count at now:
//!  b     ├───────╳ released          those of the leases that have begun
//!  c          ├──────┼──────▷        and have not ended
//!                   now
//! ```
//!
//! It is the counting semaphore (Dijkstra 1965) with leases (Gray and Cheriton 1989): the slot of a
//! holder that dies returns at its expiry. Every lease has a fence, by which a resource can refuse
//! a holder whose lease has ended.
//!
//! A call that takes a lease, renews or releases one costs O(log n), where n is the number of
//! leases in the state, and so does a denial. An expired lease counts for nothing at once; a call
//! that changes the state removes up to two expired ones, so that no call sweeps and the state
//! never has more leases than counted at some time.
//!
//! # Clocks that step
//!
//! A lease that ends more than two of its ttls after now was made while the clock was ahead. It does
//! not count, and is removed by the first call that changes the state. Until then, calls count the
//! leases one by one, as a clock that stepped back by more than the ttl of an earlier lease makes
//! them do.

mod bytes;

use alloc::vec::Vec;
use core::ops::Range;

use crate::buffers::BufferVisitor;
use crate::decision::{Decision, RetryAfter};
use crate::holder::{Fences, Holder};
use crate::lease::Lease;
use crate::lease_call::{Acquired, Acquisition, AcquisitionError, HeldLease, Renewed, until};
use crate::lease_index::{Entry, LeaseIndex};
use crate::limits::{Units, Window};
use crate::math::Exact;
use crate::stored::{Refused, Stored};
use crate::time::Instant;

/// The leases of a key.
#[derive(Clone, Debug)]
pub struct Leases {
    index: LeaseIndex,
    note: u32,
}

impl Default for Leases {
    fn default() -> Self {
        Self::new()
    }
}

/// Two states are equal when they have the same leases, however these are laid out in memory.
impl PartialEq for Leases {
    fn eq(&self, other: &Self) -> bool {
        self.all() == other.all()
    }
}

impl Eq for Leases {}

/// The leases that count at a time.
#[derive(Clone, Copy)]
struct Census {
    count: u32,
    costs: u64,
    /// The time at which the last one ends, or now.
    last_expiry: Instant,
}

impl Leases {
    /// The most bytes of the effect of a call for one holder.
    pub const MAX_EFFECT_BYTES: usize = 2 + 9 + 5 + 5 + 8 + 1 + Holder::MAX_BYTES;

    /// No leases. Allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { index: LeaseIndex::new(), note: 0 }
    }

    /// Decides a call that takes a lease, and takes it if it is granted. A denied call and an error
    /// change nothing.
    ///
    /// The holder of a lease that counts keeps its fence; the lease gets the cost of the call, and
    /// the later expiry of both. The same or a lower cost is granted whatever the limit is now.
    ///
    /// # Errors
    ///
    /// [`AcquisitionError`] if the state or the fences are at their bounds.
    pub fn acquire(
        &mut self,
        call: &Acquisition,
        fences: &mut Fences,
        now: Instant,
    ) -> Result<Acquired, AcquisitionError> {
        let (census, found) = (self.census(now), self.index.find(&call.holder));
        let own = found.map(|entry| entry.lease).filter(|lease| lease.counts(now));
        let others = census.costs.minus(own.map_or(0, |own| u64::from(own.cost.get())));
        let costs = others.plus(u64::from(call.cost.get()));
        let is_repeated = own.is_some_and(|own| call.cost <= own.cost);
        if costs > u64::from(call.limit.get()) && !is_repeated {
            let decision = Decision {
                granted: 0,
                capacity: call.limit.get(),
                remaining: remaining(call.limit, census.costs),
                retry_after: self.retry_after(call, own.as_ref(), now),
                reset_after: until(census.last_expiry, now),
            };
            let lease = own.map(|own| HeldLease::of(&own, now));
            return Ok(Acquired { decision, lease, has_changed: false });
        }
        let fence = match own {
            Some(own) => own.fence,
            None if census.count >= call.max_leases => {
                return Err(AcquisitionError::TooManyLeases);
            }
            None => fences.next(now).ok_or(AcquisitionError::NoFence)?,
        };
        let lease = lease_after(own, call.holder, call.cost, call.ttl, fence, now);
        let has_changed = own != Some(lease);
        if has_changed {
            self.set(found.as_ref(), &lease, now);
        }
        let last_expiry = census.last_expiry.max(lease.expiry);
        let decision = Decision {
            granted: call.cost.get(),
            capacity: call.limit.get(),
            remaining: remaining(call.limit, costs),
            retry_after: RetryAfter::Granted,
            reset_after: until(last_expiry, now),
        };
        Ok(Acquired { decision, lease: Some(HeldLease::of(&lease, now)), has_changed })
    }

    /// Moves the expiry of a lease to `now` and the ttl, unless it is later already. With a fence,
    /// only a lease with this fence is renewed.
    pub fn renew(
        &mut self,
        holder: &Holder,
        fence: Option<u64>,
        ttl: Window,
        now: Instant,
    ) -> Renewed {
        let Some(entry) = self.counted_with(holder, fence, now) else {
            return Renewed::LOST;
        };
        let own = entry.lease;
        let lease = lease_after(Some(own), own.holder, own.cost, ttl, own.fence, now);
        let has_changed = own != lease;
        if has_changed {
            self.set(Some(&entry), &lease, now);
        }
        Renewed { lease: Some(HeldLease::of(&lease, now)), has_changed }
    }

    /// Ends a lease; returns whether there was one. With a fence, only a lease with this fence is
    /// ended. A state of which no lease counts any more has ended: see [`Stored::has_ended`].
    pub fn release(&mut self, holder: &Holder, fence: Option<u64>, now: Instant) -> bool {
        let Some(own) = self.counted_with(holder, fence, now) else { return false };
        self.index.remove(&own);
        self.clean(now);
        true
    }

    /// Passes the leases that count at `now` to `visit`, the first to end first, until it returns
    /// false.
    pub fn visit_counted(&self, now: Instant, mut visit: impl FnMut(&Lease) -> bool) {
        self.index.visit_after(now, &mut |lease| !lease.counts(now) || visit(&lease));
    }

    /// Returns the lease of a holder if it counts at `now`.
    #[must_use]
    pub fn counted(&self, holder: &Holder, now: Instant) -> Option<Lease> {
        self.counted_entry(holder, now).map(|entry| entry.lease)
    }

    /// The number of leases that count at `now`.
    #[must_use]
    pub fn count(&self, now: Instant) -> u32 {
        self.census(now).count
    }

    /// The number of leases in the state, with those that count no more.
    #[must_use]
    pub fn stored_count(&self) -> u32 {
        self.index.len()
    }

    /// The time from which the state counts for nothing: that at which the last lease expires.
    #[must_use]
    pub fn end(&self) -> Instant {
        self.index.last_expiry()
    }

    /// The highest fence of any lease, or 0. Linear in the number of leases.
    #[must_use]
    pub fn highest_fence(&self) -> u64 {
        let mut highest = 0;
        self.index.visit_after(Instant::EPOCH, &mut |lease| {
            highest = highest.max(lease.fence);
            true
        });
        highest
    }

    fn counted_entry(&self, holder: &Holder, now: Instant) -> Option<Entry> {
        self.index.find(holder).filter(|entry| entry.lease.counts(now))
    }

    fn counted_with(&self, holder: &Holder, fence: Option<u64>, now: Instant) -> Option<Entry> {
        let own = self.counted_entry(holder, now)?;
        fence.is_none_or(|fence| fence == own.lease.fence).then_some(own)
    }

    /// Returns false when no lease was made while the clock was ahead.
    fn may_have_leases_ahead(&self, now: Instant) -> bool {
        self.index.latest_start() > now
    }

    #[inline(always)]
    fn census(&self, now: Instant) -> Census {
        if self.may_have_leases_ahead(now) {
            return self.census_one_by_one(now);
        }
        let (count, costs) = self.index.after(now);
        Census { count, costs, last_expiry: self.index.last_expiry().max(now) }
    }

    #[cold]
    fn census_one_by_one(&self, now: Instant) -> Census {
        let mut census = Census { count: 0, costs: 0, last_expiry: now };
        self.visit_counted(now, |lease| {
            census.count = census.count.plus(1);
            census.costs = census.costs.plus(u64::from(lease.cost.get()));
            census.last_expiry = lease.expiry;
            true
        });
        census
    }

    /// The time until enough leases of other holders have ended.
    #[inline(always)]
    fn retry_after(&self, call: &Acquisition, own: Option<&Lease>, now: Instant) -> RetryAfter {
        let Some(room) = call.limit.get().checked_sub(call.cost.get()) else {
            return RetryAfter::Never;
        };
        let room = u64::from(room);
        let time = if self.may_have_leases_ahead(now) {
            self.time_of_costs_one_by_one(room, &call.holder, now)
        } else {
            self.index.time_of_costs(room, own)
        };
        RetryAfter::Wait(until(time, now))
    }

    #[cold]
    fn time_of_costs_one_by_one(&self, costs: u64, without: &Holder, now: Instant) -> Instant {
        let own = self.counted(without, now).map_or(0, |own| u64::from(own.cost.get()));
        let mut left = self.census(now).costs.minus(own);
        let mut time = now;
        self.visit_counted(now, |lease| {
            if left > costs && lease.holder != *without {
                left = left.minus(u64::from(lease.cost.get()));
                time = lease.expiry;
            }
            left > costs
        });
        time
    }

    /// Puts a lease that counts in the place of that of its holder, if one was found, and removes
    /// some that do not count.
    fn set(&mut self, found: Option<&Entry>, lease: &Lease, now: Instant) {
        match found {
            Some(own) if own.lease.counts(now) => self.index.replace(own, lease),
            own => {
                if let Some(own) = own {
                    self.index.remove(own);
                }
                self.index.insert(lease);
            }
        }
        self.clean(now);
    }

    /// Removes up to two leases that have expired, and those that were made while the clock was
    /// ahead.
    fn clean(&mut self, now: Instant) {
        for _ in 0..2 {
            let Some(expired) = self.index.first_to_expire(now) else { break };
            self.index.remove(&expired);
        }
        if self.may_have_leases_ahead(now) {
            self.index.remove_later_starts(now);
        }
    }

    /// Every lease, the first to expire first.
    fn all(&self) -> Vec<Lease> {
        let mut all = Vec::new();
        self.index.visit_after(Instant::EPOCH, &mut |lease| {
            all.push(lease);
            true
        });
        all
    }
}

/// The lease of a holder after a call with this cost and this ttl: the expiry never moves back, and
/// the ttl is that of the call to which the expiry belongs.
fn lease_after(
    own: Option<Lease>,
    holder: Holder,
    cost: Units,
    ttl: Window,
    fence: u64,
    now: Instant,
) -> Lease {
    let expiry = now.plus_micros(ttl.as_micros());
    match own.filter(|own| own.expiry >= expiry) {
        Some(own) => Lease { cost, ..own },
        None => Lease { holder, cost, ttl, expiry, fence },
    }
}

fn remaining(limit: Units, costs: u64) -> u32 {
    // Saturating, as a lower limit takes no lease away.
    u64::from(limit.get()).saturating_sub(costs) as u32
}

/// A change to leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEffect {
    /// The leases are now these.
    Whole(Leases),
    /// A lease was taken, or taken again.
    Acquisition {
        /// The time of the call.
        time: Instant,
        /// The ttl of the call.
        ttl: Window,
        /// The cost of the call.
        cost: Units,
        /// The fence of the lease.
        fence: u64,
        /// The holder of the lease.
        holder: Holder,
    },
    /// Leases were renewed.
    Renewal {
        /// The time of the call.
        time: Instant,
        /// The ttl of the call.
        ttl: Window,
        /// The holders whose leases were changed, in the order of the call.
        holders: Vec<Holder>,
    },
    /// Leases were released.
    Release {
        /// The time of the call.
        time: Instant,
        /// The holders whose leases were ended, in the order of the call.
        holders: Vec<Holder>,
    },
}

impl LeaseEffect {
    /// Returns the time of the change, or the epoch for whole leases, which do not have it.
    #[must_use]
    pub const fn time(&self) -> Instant {
        match self {
            Self::Whole(_) => Instant::EPOCH,
            Self::Acquisition { time, .. }
            | Self::Renewal { time, .. }
            | Self::Release { time, .. } => *time,
        }
    }

    /// Returns the highest fence in the effect, for [`Fences::observe`], or 0.
    #[must_use]
    pub fn highest_fence(&self) -> u64 {
        match self {
            Self::Whole(leases) => leases.highest_fence(),
            Self::Acquisition { fence, .. } => *fence,
            Self::Renewal { .. } | Self::Release { .. } => 0,
        }
    }

    /// Returns the effect of a call that took this lease.
    #[must_use]
    pub const fn of_acquisition(call: &Acquisition, fence: u64, now: Instant) -> Self {
        let Acquisition { ttl, cost, holder, .. } = *call;
        Self::Acquisition { time: now, ttl, cost, fence, holder }
    }
}

impl Stored for Leases {
    type Effect = LeaseEffect;

    const MAX_NOTE: u32 = u32::MAX;

    fn note(&self) -> u32 {
        self.note
    }

    fn set_note(&mut self, note: u32) {
        self.note = note;
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.index.last_expiry() <= now
    }

    /// Refuses a fence that is not the one of the lease, a renewal or a release of a lease that does
    /// not count, and a release that leaves nothing: a server that makes such a release deletes the
    /// key.
    fn apply(&mut self, effect: LeaseEffect) -> Result<(), Refused> {
        match effect {
            LeaseEffect::Whole(leases) => *self = leases,
            LeaseEffect::Acquisition { time, ttl, cost, fence, holder } => {
                let found = self.index.find(&holder);
                let own = found.map(|entry| entry.lease).filter(|lease| lease.counts(time));
                if own.is_some_and(|own| own.fence != fence) {
                    return Err(Refused);
                }
                let lease = lease_after(own, holder, cost, ttl, fence, time);
                self.set(found.as_ref(), &lease, time);
            }
            LeaseEffect::Renewal { time, ttl, holders } => {
                let expiry = time.plus_micros(ttl.as_micros());
                self.check(&holders, time, |own| own.expiry < expiry)?;
                for holder in &holders {
                    self.renew(holder, None, ttl, time);
                }
            }
            LeaseEffect::Release { time, holders } => {
                self.check(&holders, time, |_| true)?;
                if self.count(time) as usize <= holders.len() {
                    return Err(Refused);
                }
                for holder in &holders {
                    self.release(holder, None, time);
                }
            }
        }
        Ok(())
    }

    fn buffers(&self) -> usize {
        self.index.arena.buffers()
    }

    fn visit_buffers(&mut self, numbers: Range<usize>, visitor: &mut impl BufferVisitor) {
        self.index.arena.visit_buffers(numbers, visitor);
    }
}

impl Leases {
    /// Refuses holders of an effect that are none, repeated, or have no lease that counts and that
    /// the effect changes.
    fn check(
        &self,
        holders: &[Holder],
        time: Instant,
        changes: impl Fn(&Lease) -> bool,
    ) -> Result<(), Refused> {
        let mut sorted = holders.to_vec();
        sorted.sort_unstable();
        let is_repeated = |pair: &[Holder]| matches!(pair, [first, second] if first == second);
        let is_changed = |holder| self.counted(holder, time).is_some_and(|own| changes(&own));
        let is_valid = !holders.is_empty()
            && !sorted.windows(2).any(is_repeated)
            && holders.iter().all(is_changed);
        is_valid.then_some(()).ok_or(Refused)
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
