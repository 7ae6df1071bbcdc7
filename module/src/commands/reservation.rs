//! The key of a reservation, in the commands that make and settle it.

use std::ffi::CStr;

use limiter::{Duration, Instant, Reservation, ReservationEffect, Stored};

use crate::commands::decision::check_missing;
use crate::ffi::call::Call;
use crate::ffi::error::Error;
use crate::ffi::key::ReadKey;
use crate::replicate;

/// The argument that names the reservation. Of the keys that are open, it is the last.
pub(super) const RESERVATION: usize = 1;

/// The key event of a reservation that was settled.
pub(super) const SETTLE_EVENT: &CStr = c"ratelimit.settle";

/// Returns the reservation of a key, or `None` if the key counts as missing.
pub(super) fn find<'k>(
    key: &'k ReadKey<'_>,
    now: Instant,
) -> Result<Option<&'k Reservation>, Error> {
    match key.get::<Reservation>() {
        Ok(reservation) => Ok(reservation.filter(|reservation| !reservation.has_ended(now))),
        Err(error) => check_missing(Some(error), key, now).map(|()| None),
    }
}

/// Returns the expiry of the key of a reservation that ends then, in Unix milliseconds.
pub(super) fn expiry_millis(end: Instant) -> u64 {
    Instant::EPOCH.expiry_millis(Duration::from_micros(u128::from(end.as_micros())))
}

/// Publishes a change of a reservation, which is no key event.
pub(super) fn record(call: &mut Call<'_>, effect: ReservationEffect) {
    replicate::long_effect(call, RESERVATION, expiry_millis(effect.end()), || effect);
    call.signal_modified(RESERVATION);
}
