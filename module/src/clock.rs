//! The only place where time is read.

use limiter::Instant;

use crate::ffi::clock;

/// Returns the server's time.
///
/// Redis 7.2 and later and Valkey offer the time at which the running command, script or
/// transaction started, by which the server also judges expiry. Redis 7.0 does not, so that the
/// system's clock is read.
pub(crate) fn now() -> Instant {
    Instant::from_micros(clock::server_micros().unwrap_or_else(clock::system_micros))
}
