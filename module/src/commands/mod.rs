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

/// Takes units from a key. If none are granted, nothing is written anywhere.
fn take<T: DataType + Counted>(
    call: &Call<'_>,
    index: usize,
    limit: &T::Limit,
    demand: Demand,
    now: Instant,
) -> Result<Decision, Error> {
    let mut key = call.open(index, Mode::Write)?;
    let (decision, change) = match key.get_mut::<T>()? {
        Some(state) => decide(state, limit, demand, now),
        None => {
            let mut state = T::default();
            let decided = decide(&mut state, limit, demand, now);
            if decided.1.is_some() {
                key.set(state);
            }
            decided
        }
    };
    let Some(change) = change else {
        denied::<T>(call, index, now);
        return Ok(decision);
    };
    record(call, &mut key, &change, now.expiry_millis(decision.reset_after));
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
    Ok(match key.get::<T>()? {
        Some(state) => state.peek(limit, demand.cost, now),
        None => T::default().peek(limit, demand.cost, now),
    })
}

/// Decides a call, and says what that changed unless it was denied.
fn decide<T: DataType>(
    state: &mut T,
    limit: &T::Limit,
    demand: Demand,
    now: Instant,
) -> (Decision, Option<Change>) {
    let decision = state.take(limit, demand, now);
    let granted = Units::new(u64::from(decision.granted));
    (decision, granted.map(|units| state.granted(limit, units, now)))
}

/// Makes known what a call has changed in a key: to its expiry, to replicas, to who watches it.
fn record(call: &Call<'_>, key: &mut Key<'_>, change: &Change, expiry_millis: u64) {
    key.expire_at(expiry_millis);
    replicate::change(call, key, change, expiry_millis);
    key.signal_modified();
}

/// Removes a key, here and elsewhere.
fn remove(call: &Call<'_>, key: &mut Key<'_>) {
    key.delete();
    replicate::delete(call, key);
    key.signal_modified();
}
