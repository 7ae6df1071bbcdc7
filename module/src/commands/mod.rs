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

use limiter::codec::Change;
use limiter::{Decision, Demand, Instant, SlidingWindowLog, TokenBucket, Units};

use crate::args::Limit;
use crate::error::Error;
use crate::info::Counted;
use crate::replicate;
use crate::server::call::Call;
use crate::server::data_type::DataType;
use crate::server::key::{Key, Mode};
use crate::top_keys;

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
fn take<T: DataType + Counted>(
    call: &Call<'_>,
    index: usize,
    limit: &T::Limit,
    demand: Demand,
    now: Instant,
) -> Result<Decision, Error> {
    let mut key = call.open(index, Mode::Write)?;
    let decision = match key.get_mut::<T>() {
        Ok(Some(state)) => state.take(limit, demand, now),
        none => {
            check_missing(none.err(), &key, now)?;
            let mut state = T::default();
            let decision = state.take(limit, demand, now);
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
    let change = |state: &T| state.granted(limit, granted, now);
    record(call, &mut key, GRANT_EVENT, expiry_millis, change);
    T::counters().granted(decision.granted);
    Ok(decision)
}

/// Counts that a key has denied a call.
fn denied<T: Counted>(call: &Call<'_>, key: usize, now: Instant) {
    T::counters().denied();
    if let Some(key) = call.arg(key) {
        top_keys::denied(call.database(), key, now);
    }
}

/// What taking would decide.
fn peek(call: &Call<'_>, key: usize, limit: &Limit, now: Instant) -> Result<Decision, Error> {
    let key = call.open(key, Mode::Read)?;
    match limit {
        Limit::TokenBucket(limit, demand) => peek_at::<TokenBucket>(&key, limit, *demand, now),
        Limit::SlidingWindow(limit, demand) => {
            peek_at::<SlidingWindowLog>(&key, limit, *demand, now)
        }
    }
}

fn peek_at<T: DataType>(
    key: &Key<'_>,
    limit: &T::Limit,
    demand: Demand,
    now: Instant,
) -> Result<Decision, Error> {
    match key.get::<T>() {
        Ok(Some(state)) => Ok(state.peek(limit, demand.cost, now)),
        none => {
            check_missing(none.err(), key, now)?;
            Ok(T::default().peek(limit, demand.cost, now))
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

/// Whether a key holds a state that has ended: it counts as missing, whatever its type.
fn has_ended(key: &Key<'_>, now: Instant) -> bool {
    let bucket = key.get::<TokenBucket>().is_ok_and(|state| ended(state, now));
    bucket || key.get::<SlidingWindowLog>().is_ok_and(|state| ended(state, now))
}

fn ended<T: DataType>(state: Option<&T>, now: Instant) -> bool {
    state.is_some_and(|state| state.has_ended(now))
}

/// Records what a call has changed in a key: in its expiry, for replicas, for clients that watch
/// it or subscribe to its events.
#[inline(always)]
fn record<T: DataType>(
    call: &Call<'_>,
    key: &mut Key<'_>,
    event: &CStr,
    expiry_millis: u64,
    change: impl FnOnce(&T) -> Change,
) {
    key.expire_at(expiry_millis);
    replicate::change(call, key, expiry_millis, change);
    key.signal_modified();
    key.notify(event);
}

/// Whether a key holds the state of an algorithm.
fn is_limiter(key: &Key<'_>) -> bool {
    key.holds::<TokenBucket>() || key.holds::<SlidingWindowLog>()
}

/// Removes a key, here and elsewhere.
fn remove(call: &Call<'_>, key: &mut Key<'_>) {
    key.delete();
    replicate::deletion(call, key);
    key.signal_modified();
}
