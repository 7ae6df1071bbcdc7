//! The commands, one file each: what it does, its syntax, its facts, how it runs.

mod apply;
mod arguments;
mod multi;
mod peek;
mod refund;
mod reset;
mod sliding_window_log;
mod token_bucket;
mod top;

pub(crate) use apply::Apply;
pub(crate) use multi::Multi;
pub(crate) use peek::Peek;
pub(crate) use refund::Refund;
pub(crate) use reset::Reset;
pub(crate) use sliding_window_log::TakeSlidingWindowLog;
pub(crate) use token_bucket::TakeTokenBucket;
pub(crate) use top::Top;

use std::ffi::CStr;

use limiter::{Decision, Instant, Limit, Limiter, Request, Units};

use crate::args::KeyRequest;
use crate::error::Error;
use crate::ffi::call::Call;
use crate::ffi::data_type::DataType;
use crate::ffi::key::{Key, Mode};
use crate::info::counters;
use crate::replicate;
use crate::top_keys;
use crate::types::{algorithm_of, with_state};

/// Where the key stands in every command that takes one.
const KEY: usize = 1;

/// The key events of units that were taken and given back.
const GRANT_EVENT: &CStr = c"ratelimit.grant";
const REFUND_EVENT: &CStr = c"ratelimit.refund";

/// Takes units from a key. If none are granted, nothing is written anywhere.
///
/// This, and what it and its callers call on every path, is inlined into each command: that saves
/// 4% of the instructions of a call.
#[inline(always)]
fn take<T: DataType + Limiter>(
    call: &Call<'_>,
    index: usize,
    limit: &Limit,
    request: Request,
    now: Instant,
) -> Result<Decision, Error> {
    let mut key = call.open(index, Mode::Write)?;
    let decision = match key.get_mut::<T>() {
        Ok(Some(state)) => state.take(limit, request, now),
        none => {
            check_missing(none.err(), &key, now)?;
            let mut state = T::default();
            let decision = state.take(limit, request, now);
            if decision.granted > 0 {
                key.set(state);
            }
            decision
        }
    };
    let Some(granted) = Units::new(u64::from(decision.granted)) else {
        denied::<T>(call, index, now);
        return Ok(decision);
    };
    let expiry_millis = now.expiry_millis(decision.reset_after);
    let effect = |state: &T| state.effect_of_grant(limit, granted, now);
    record(call, &mut key, GRANT_EVENT, expiry_millis, effect);
    counters(T::ALGORITHM).add_grant(decision.granted);
    Ok(decision)
}

/// Counts that a key has denied a call.
fn denied<T: Limiter>(call: &Call<'_>, key: usize, now: Instant) {
    counters(T::ALGORITHM).add_denial();
    if let Some(key) = call.arg(key) {
        top_keys::denied(call.database(), key, now);
    }
}

/// Returns the decision that taking would make.
fn peek(
    call: &Call<'_>,
    key: usize,
    request: &KeyRequest,
    now: Instant,
) -> Result<Decision, Error> {
    let key = call.open(key, Mode::Read)?;
    with_state!(request.algorithm, T => peek_at::<T>(&key, request, now))
}

fn peek_at<T: DataType + Limiter>(
    key: &Key<'_>,
    request: &KeyRequest,
    now: Instant,
) -> Result<Decision, Error> {
    let KeyRequest { limit, request, .. } = request;
    match key.get::<T>() {
        Ok(Some(state)) => Ok(state.peek(limit, request.cost, now)),
        none => {
            check_missing(none.err(), key, now)?;
            Ok(T::default().peek(limit, request.cost, now))
        }
    }
}

/// Checks that a key that has no state of one type, for this reason, counts as missing.
#[inline(always)]
fn check_missing(error: Option<Error>, key: &Key<'_>, now: Instant) -> Result<(), Error> {
    match error {
        Some(error) if !has_ended(key, now) => Err(error),
        _ => Ok(()),
    }
}

/// Returns whether a key holds a state that has ended: it counts as missing, whatever its type.
fn has_ended(key: &Key<'_>, now: Instant) -> bool {
    algorithm_of(key).is_some_and(|algorithm| with_state!(algorithm, T => ended::<T>(key, now)))
}

fn ended<T: DataType>(key: &Key<'_>, now: Instant) -> bool {
    key.get::<T>().is_ok_and(|state| state.is_some_and(|state| state.has_ended(now)))
}

/// Records what a call has changed in a key: in its expiry, for replicas, for clients that watch
/// it or subscribe to its events.
#[inline(always)]
fn record<T: DataType + Limiter>(
    call: &Call<'_>,
    key: &mut Key<'_>,
    event: &CStr,
    expiry_millis: u64,
    effect: impl FnOnce(&T) -> T::Effect,
) {
    key.expire_at(expiry_millis);
    replicate::effect(call, key, expiry_millis, effect);
    key.signal_modified();
    key.notify(event);
}

/// Removes a key, here and elsewhere.
fn remove(call: &Call<'_>, key: &mut Key<'_>) {
    key.delete();
    replicate::deletion(call, key);
    key.signal_modified();
}
