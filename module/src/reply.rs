//! Decisions as replies. Times of a reply are rounded here and nowhere else, to milliseconds or to
//! seconds: up, or down for the end of a lease, so that its holder never relies on a lease that has
//! ended.

use limiter::{Acquired, Decision, Duration, HeldLease, Instant, Lease, Renewed, RetryAfter};

use crate::ffi::reply::{Integers, Reply};

/// Returns the reply to a call on one key.
pub(crate) fn decision(decision: &Decision) -> Reply {
    Reply::Decision(integers(decision))
}

/// Returns the reply to a call on several keys.
pub(crate) fn decisions<'a>(granted: bool, decisions: impl Iterator<Item = &'a Decision>) -> Reply {
    Reply::Decisions(granted, decisions.map(integers).collect())
}

/// Returns the reply to a call that takes a lease.
#[inline(always)]
pub(crate) fn acquired(acquired: &Acquired) -> Reply {
    let [granted, capacity, remaining, retry_after_ms, reset_after_ms] =
        integers(&acquired.decision);
    let [fence, millis] = held(acquired.lease);
    Reply::Lease([granted, capacity, remaining, retry_after_ms, reset_after_ms, fence, millis])
}

/// Returns the reply to a call that renews leases.
pub(crate) fn renewed(renewed: &[Renewed]) -> Reply {
    Reply::Fences(renewed.iter().map(|renewed| held(renewed.lease)).collect())
}

/// Returns the reply to a call that lists leases, all of which count at `now`.
pub(crate) fn holders(leases: &[Lease], now: Instant) -> Reply {
    let row = |lease: &Lease| {
        let held = HeldLease::of(lease, now);
        let [fence, millis] = integers_of(held);
        (lease.holder, [i64::from(lease.cost.get()), millis, fence])
    };
    Reply::Holders(leases.iter().map(row).collect())
}

/// Returns the fence of a lease and the milliseconds until it ends, or zeros if there is none.
fn held(lease: Option<HeldLease>) -> [i64; 2] {
    lease.map_or([0; 2], integers_of)
}

fn integers_of(lease: HeldLease) -> [i64; 2] {
    [lease.fence.cast_signed(), lease.ends_in.floor_millis()]
}

/// Returns the reply of CL.THROTTLE: times in whole seconds.
pub(crate) fn throttle(is_limited: bool, retry_after: RetryAfter, decision: &Decision) -> Reply {
    let retry_after = match retry_after {
        RetryAfter::Wait(time) if is_limited => ceil_seconds(time),
        _ => -1,
    };
    Reply::Decision([
        i64::from(is_limited),
        i64::from(decision.capacity),
        i64::from(decision.remaining),
        retry_after,
        ceil_seconds(decision.reset_after),
    ])
}

/// Returns whole seconds, rounded up.
fn ceil_seconds(time: Duration) -> i64 {
    // At least 0, so that a rest means one second more.
    let millis = time.ceil_millis();
    millis / 1_000 + i64::from(millis % 1_000 > 0)
}

fn integers(decision: &Decision) -> Integers {
    let retry_after_ms = match decision.retry_after {
        RetryAfter::Granted => 0,
        RetryAfter::Wait(time) => time.ceil_millis(),
        RetryAfter::Never => -1,
    };
    [
        i64::from(decision.granted),
        i64::from(decision.capacity),
        i64::from(decision.remaining),
        retry_after_ms,
        decision.reset_after.ceil_millis(),
    ]
}
