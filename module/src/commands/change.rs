//! The changes of keys, and their publication: to replicas, to clients that watch a key or
//! subscribe to its events, and in INFO.
//!
//! A key is closed before its change is published, since that runs other code of the server.

use std::ffi::CStr;

use limiter::{Algorithm, Decision, Instant, Limiter, Request, Units};

use crate::clock;
use crate::commands::decision::{KEY, check_missing, check_open, count_denial};
use crate::commands::expiry::Expiry;
use crate::ffi::call::Call;
use crate::ffi::data_type::DataType;
use crate::ffi::error::Error;
use crate::ffi::key::WriteKey;
use crate::info::counters;
use crate::replicate::{self, Payload};

/// The key event of units that were taken.
pub(super) const GRANT_EVENT: &CStr = c"ratelimit.grant";
/// The key event of units that were given back.
pub(super) const REFUND_EVENT: &CStr = c"ratelimit.refund";
/// The key event of a lease that was taken, or taken again.
pub(super) const ACQUIRE_EVENT: &CStr = c"ratelimit.acquire";
/// The key event of leases that were renewed.
pub(super) const RENEW_EVENT: &CStr = c"ratelimit.renew";
/// The key event of leases that were released.
pub(super) const RELEASE_EVENT: &CStr = c"ratelimit.release";

/// A change of a key that has not been published.
pub(super) struct Change<E> {
    /// The expiry of the key, in Unix milliseconds.
    pub(super) expiry_millis: u64,
    pub(super) effect: E,
}

/// A decision, and the change of the key if any units were granted.
type Outcome<E> = (Decision, Option<Change<E>>);

/// Takes units from a key. A denied call writes nothing anywhere.
///
/// This function, and those that it and its callers call on every path, are inlined into each
/// command: that saves 4% of the instructions of a call.
#[inline(always)]
pub(super) fn take<T: DataType + Limiter>(
    call: &mut Call<'_>,
    limit: &T::Limit,
    request: Request,
) -> Result<Decision, Error> {
    let now = clock::now();
    check_open::<T>(limit, now)?;
    let mut key = call.open_to_write(KEY)?;
    let (decision, change) = take_from::<T>(&mut key, limit, request, now)?;
    drop(key);
    if let Some(Change { expiry_millis, effect }) = change {
        let payload = || replicate::payload::<T>(expiry_millis, &effect);
        record_grant(call, KEY, T::ALGORITHM, decision.granted, payload);
    } else {
        count_denial(call, KEY, T::ALGORITHM, now);
    }
    Ok(decision)
}

/// Takes units from an open key.
#[inline(always)]
pub(super) fn take_from<T: DataType + Limiter>(
    key: &mut WriteKey<'_>,
    limit: &T::Limit,
    request: Request,
    now: Instant,
) -> Result<Outcome<T::Effect>, Error> {
    let (decision, effect, expiry) = match key.get_mut::<T>() {
        Ok(Some(state)) => {
            let (decision, effect) = decide(state, limit, request, now);
            let Some(effect) = effect else {
                return Ok((decision, None));
            };
            (decision, effect, Expiry::of_changed(state, now, decision.reset_after))
        }
        none => {
            check_missing(none.err(), key, now)?;
            let mut state = T::default();
            let (decision, effect) = decide(&mut state, limit, request, now);
            let Some(effect) = effect else {
                return Ok((decision, None));
            };
            let expiry = Expiry::of_new(now, decision.reset_after);
            key.set(state)?;
            (decision, effect, expiry)
        }
    };
    expiry.set(key);
    Ok((decision, Some(Change { expiry_millis: expiry.millis, effect })))
}

/// Takes units from a state. Returns the decision, and the effect if any units were granted.
#[inline(always)]
fn decide<T: Limiter>(
    state: &mut T,
    limit: &T::Limit,
    request: Request,
    now: Instant,
) -> (Decision, Option<T::Effect>) {
    let decision = state.take(limit, request, now);
    let granted = Units::new(u64::from(decision.granted));
    (decision, granted.map(|granted| state.effect_of_grant(limit, request, granted, now)))
}

/// Publishes and counts a grant.
#[inline(always)]
pub(super) fn record_grant(
    call: &mut Call<'_>,
    key: usize,
    algorithm: Algorithm,
    units: u32,
    payload: impl FnOnce() -> Payload,
) {
    record(call, key, GRANT_EVENT, payload);
    counters(algorithm).add_grant(units);
}

/// Publishes a change of the key that an argument names.
#[inline(always)]
pub(super) fn record(
    call: &mut Call<'_>,
    key: usize,
    event: &CStr,
    payload: impl FnOnce() -> Payload,
) {
    replicate::effect(call, key, payload);
    call.signal_modified(key);
    call.notify(key, event);
}

/// Publishes the deletion of the key that an argument names.
pub(super) fn record_deletion(call: &mut Call<'_>, key: usize) {
    call.notify_deletion(key);
    replicate::deletion(call, key);
    call.signal_modified(key);
}
