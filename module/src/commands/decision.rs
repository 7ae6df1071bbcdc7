//! The decisions of keys.

use std::borrow::Cow;
use std::ffi::{CStr, CString};

use limiter::{Algorithm, Decision, Instant, Limiter, Units};

use crate::args::KeyRequest;
use crate::ffi::call::Call;
use crate::ffi::data_type::DataType;
use crate::ffi::error::Error;
use crate::ffi::key::ReadKey;
use crate::info::counters;
use crate::top_keys;
use crate::types::{Kind, with_quota, with_value};

/// The place of the key in every command that takes one key.
pub(super) const KEY: usize = 1;

/// Returns the decision that taking would make.
pub(super) fn peek(
    key: &ReadKey<'_>,
    request: &KeyRequest,
    now: Instant,
) -> Result<Decision, Error> {
    with_quota!(&request.quota, T, limit => check_open::<T>(limit, now))?;
    peek_as_it_is(key, request, now)
}

/// Returns the decision of a key also if the window that the caller gives does not contain the
/// server's time: taking would then be an error.
pub(super) fn peek_as_it_is(
    key: &ReadKey<'_>,
    request: &KeyRequest,
    now: Instant,
) -> Result<Decision, Error> {
    with_quota!(&request.quota, T, limit => peek_at::<T>(key, limit, request.request.cost, now))
}

fn peek_at<T: DataType + Limiter>(
    key: &ReadKey<'_>,
    limit: &T::Limit,
    cost: Units,
    now: Instant,
) -> Result<Decision, Error> {
    match key.get::<T>() {
        Ok(Some(state)) => Ok(state.peek(limit, cost, now)),
        none => {
            check_missing(none.err(), key, now)?;
            Ok(T::default().peek(limit, cost, now))
        }
    }
}

/// Checks that the window which a caller gives contains the server's time.
#[inline(always)]
pub(super) fn check_open<T: Limiter>(limit: &T::Limit, now: Instant) -> Result<(), Error> {
    if T::is_open(limit, now) { Ok(()) } else { Err(not_open(now)) }
}

/// Returns the error of a window that does not contain the server's time. A caller computes the
/// window again for the time in it.
#[cold]
fn not_open(now: Instant) -> Error {
    const RULE: &CStr = c"ERR FROM and UNTIL must contain the server's time";
    let millis = now.as_micros() / 1_000;
    let rule = format!("{}, {}.{:03}", RULE.to_string_lossy(), millis / 1_000, millis % 1_000);
    Error::Argument(CString::new(rule).map_or(Cow::Borrowed(RULE), Cow::Owned))
}

/// Checks that a key that has no state of one type, for this reason, counts as missing.
#[inline(always)]
pub(super) fn check_missing(
    error: Option<Error>,
    key: &ReadKey<'_>,
    now: Instant,
) -> Result<(), Error> {
    match error {
        Some(error) if !has_ended(key, now) => Err(error),
        _ => Ok(()),
    }
}

/// Returns whether a key holds a state that has ended: it counts as missing, whatever its type.
pub(super) fn has_ended(key: &ReadKey<'_>, now: Instant) -> bool {
    Kind::of(key).is_some_and(|kind| with_value!(kind, T => ended::<T>(key, now)))
}

fn ended<T: DataType>(key: &ReadKey<'_>, now: Instant) -> bool {
    key.get::<T>().is_ok_and(|state| state.is_some_and(|state| state.has_ended(now)))
}

/// Counts that the key which an argument names has denied a call.
#[inline(always)]
pub(super) fn count_denial(call: &Call<'_>, key: usize, algorithm: Algorithm, now: Instant) {
    counters(algorithm).add_denial();
    list_denial(call, key, now);
}

/// Counts for RATELIMIT.TOP that the key which an argument names has denied a call.
#[inline(always)]
pub(super) fn list_denial(call: &Call<'_>, key: usize, now: Instant) {
    if let Some(key) = call.arg(key) {
        top_keys::denied(call.database(), key, now);
    }
}
