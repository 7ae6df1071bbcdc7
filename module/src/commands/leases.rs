//! The changes of the leases that a call names, and their publication.

use std::ffi::CStr;

use limiter::{Duration, Instant, LeaseEffect, Leases};

use crate::commands::decision::{KEY, check_missing};
use crate::commands::expiry::Expiry;
use crate::ffi::call::Call;
use crate::ffi::error::Error;
use crate::ffi::key::WriteKey;
use crate::replicate;

/// Returns the leases of a key, or `None` if the key is missing or its state has ended.
pub(super) fn leases_of<'k>(
    key: &'k mut WriteKey<'_>,
    now: Instant,
) -> Result<Option<&'k mut Leases>, Error> {
    if let Some(error) = key.get::<Leases>().err() {
        check_missing(Some(error), key, now)?;
        return Ok(None);
    }
    key.get_mut()
}

/// Returns the expiry of the key of these leases, which have changed.
pub(super) fn expiry_of(leases: &mut Leases, now: Instant) -> Expiry {
    let micros = leases.end().micros_since(now);
    Expiry::of_changed(leases, now, Duration::from_micros(u128::from(micros)))
}

/// Publishes a change of the leases of the key.
pub(super) fn record_leases(
    call: &mut Call<'_>,
    event: &CStr,
    expiry_millis: u64,
    effect: impl FnOnce() -> LeaseEffect,
) {
    replicate::long_effect(call, KEY, expiry_millis, effect);
    call.signal_modified(KEY);
    call.notify(KEY, event);
}
