//! The leases of this process, for `memory://`.
//!
//! Every answer is the one that the module gives to the same calls. No lease is evicted, because its
//! holder relies on it: a store without room denies new leases.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use limiter::{
    Acquired, Acquisition, AcquisitionError, Duration, Fences, Instant, Leases, RetryAfter,
};

use crate::{
    decision::{Decision, Source},
    error::{Argument, StoreError},
    expiring::Expiring,
    lease::{
        HeldLease, LeaseDecision, LeaseKey, LeaseList, LeaseName, LeaseRequest, ListedLease,
        Release, Renewal,
    },
    millis::Millis,
    redis_error::TOO_MANY_LEASES,
};

/// The most live leases of one identifier: the default of Redis.
pub(crate) const MAX_LEASES: u32 = 100_000;

/// The leases of this process.
#[derive(Debug)]
pub(crate) struct LeaseKeys {
    /// The most leases of all keys together.
    room: usize,
    keys: Mutex<Keys>,
}

/// The leases by key. A key without live leases is removed by the next call.
#[derive(Debug, Default)]
struct Keys {
    fences: Fences,
    /// The leases of a key weigh their number.
    states: Expiring<Leases>,
}

/// The answer of a store to a request for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquirement {
    Decided(LeaseDecision),
    /// The lease fits the limit, and there is no room for it.
    NoRoom(LeaseDecision),
}

impl LeaseKeys {
    /// Returns a store with room for this many leases.
    pub(crate) fn new(room: usize) -> Self {
        Self { room, keys: Mutex::default() }
    }

    /// Takes a lease, or returns the time until it would be granted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] where the module would refuse an argument as well.
    pub(crate) fn acquire(
        &self,
        request: &LeaseRequest,
        now: Instant,
    ) -> Result<Acquirement, StoreError> {
        let mut keys = self.keys(now);
        let LeaseRequest { key, holder, limit, cost, ttl } = request;
        let key = &key.text("");
        let free = self.room.saturating_sub(keys.states.weight());
        let own = keys.states.get(key).map_or(0, |leases| leases.count(now));
        let most = MAX_LEASES.min(own.saturating_add(u32::try_from(free).unwrap_or(MAX_LEASES)));
        let (limit, cost, ttl) = (*limit, *cost, *ttl);
        let call = Acquisition { holder: *holder, limit, cost, ttl, max_leases: most };
        let acquired = keys.change(key, now, |leases, fences| {
            leases.acquire(&call, fences, now).map_err(|error| (error, leases.count(now)))
        });
        match acquired {
            Ok(acquired) => decision(request, acquired).map(Acquirement::Decided),
            Err((AcquisitionError::TooManyLeases, count)) if count >= MAX_LEASES => {
                let rule = TOO_MANY_LEASES.to_owned();
                Err(StoreError::Refused { argument: Argument::Leases, rule })
            }
            Err((AcquisitionError::TooManyLeases, _)) => {
                Ok(Acquirement::NoRoom(denial_for_room(request, keys.time_to_first_end(now))))
            }
            Err((AcquisitionError::NoFence, _)) => Err(StoreError::Internal),
        }
    }

    /// Moves the end of a lease.
    pub(crate) fn renew(&self, name: &LeaseName, ttl: limiter::Window, now: Instant) -> Renewal {
        let LeaseName { key, holder, fence } = name;
        let renew = |leases: &mut Leases, _: &mut Fences| leases.renew(holder, *fence, ttl, now);
        let renewed = self.keys(now).change(&key.text(""), now, renew);
        Renewal { source: Source::Local, lease: renewed.lease.map(held) }
    }

    /// Ends a lease.
    pub(crate) fn release(&self, name: &LeaseName, now: Instant) -> Release {
        let LeaseName { key, holder, fence } = name;
        let release = |leases: &mut Leases, _: &mut Fences| leases.release(holder, *fence, now);
        let is_released = self.keys(now).change(&key.text(""), now, release);
        Release { source: Source::Local, is_released }
    }

    /// Lists the live leases, at most `count`, the first to end first.
    pub(crate) fn list(&self, key: &LeaseKey, count: usize, now: Instant) -> LeaseList {
        let keys = self.keys(now);
        let mut leases = Vec::new();
        if let Some(state) = keys.states.get(&key.text("")) {
            state.visit_counted(now, |lease| {
                if leases.len() < count {
                    leases.push(listed(lease, now));
                }
                leases.len() < count
            });
        }
        LeaseList { source: Source::Local, leases }
    }

    /// Returns whether the holder of a request has a lease.
    pub(crate) fn has_lease(&self, request: &LeaseRequest, now: Instant) -> bool {
        let LeaseRequest { key, holder, .. } = request;
        let keys = self.keys(now);
        let leases = keys.states.get(&key.text(""));
        leases.is_some_and(|leases| leases.counted(holder, now).is_some())
    }

    /// Ends all leases of a key. Returns whether there was one.
    pub(crate) fn reset(&self, key: &LeaseKey, now: Instant) -> bool {
        self.keys(now).states.remove(&key.text("")).is_some()
    }

    /// Returns the leases, without those of keys of which none is live.
    fn keys(&self, now: Instant) -> MutexGuard<'_, Keys> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.states.remove_ended(now);
        keys
    }
}

impl Keys {
    /// Changes the leases of a key.
    fn change<T>(
        &mut self,
        key: &str,
        now: Instant,
        change: impl FnOnce(&mut Leases, &mut Fences) -> T,
    ) -> T {
        let (name, mut leases) =
            self.states.remove(key).unwrap_or_else(|| (Arc::from(key), Leases::new()));
        let result = change(&mut leases, &mut self.fences);
        if leases.end() > now {
            let (end, weight) = (leases.end(), leases.stored_count() as usize);
            self.states.insert(name, end, weight, leases);
        }
        result
    }

    /// Returns the time until all leases of a key have ended, for the first such key.
    fn time_to_first_end(&self, now: Instant) -> Millis {
        let wait = self.states.first_end().map_or(0, |end| end.micros_since(now));
        Millis(wait.div_ceil(1_000))
    }
}

fn decision(request: &LeaseRequest, acquired: Acquired) -> Result<LeaseDecision, StoreError> {
    let limiter::Decision { granted, capacity, remaining, retry_after, reset_after } =
        acquired.decision;
    let retry_after = match retry_after {
        RetryAfter::Granted => Millis(0),
        RetryAfter::Wait(time) => millis(time),
        RetryAfter::Never => return Err(cost_above_limit(request)),
    };
    let decision = Decision {
        source: Source::Local,
        allowed: granted > 0,
        limit: capacity,
        window: None,
        capacity: capacity.into(),
        remaining: remaining.into(),
        retry_after,
        reset_after: millis(reset_after),
    };
    Ok(LeaseDecision { decision, lease: acquired.lease.map(held) })
}

/// Returns the error of a lease that can never be granted.
pub(crate) fn cost_above_limit(request: &LeaseRequest) -> StoreError {
    let rule = format!("cost must be at most the limit, {}", request.limit.get());
    StoreError::Refused { argument: Argument::Cost, rule }
}

fn denial_for_room(request: &LeaseRequest, wait: Millis) -> LeaseDecision {
    let limit = request.limit.get();
    let decision = Decision {
        source: Source::Local,
        allowed: false,
        limit,
        window: None,
        capacity: limit.into(),
        remaining: 0,
        retry_after: wait,
        reset_after: wait,
    };
    LeaseDecision { decision, lease: None }
}

fn listed(lease: &limiter::Lease, now: Instant) -> ListedLease {
    let ends_in = Millis(lease.expiry.micros_since(now) / 1_000);
    ListedLease {
        holder: lease.holder.as_bytes().to_vec(),
        cost: lease.cost.get(),
        lease: HeldLease { fence: lease.fence, ends_in },
    }
}

fn held(lease: limiter::HeldLease) -> HeldLease {
    let ends_in = Millis(lease.ends_in.floor_millis().unsigned_abs());
    HeldLease { fence: lease.fence, ends_in }
}

fn millis(time: Duration) -> Millis {
    Millis(time.ceil_millis().unsigned_abs())
}
