//! The one place where time is read.

use limiter::Instant;

use crate::ffi::{api, system};

/// The server's time.
///
/// Where the server offers it (Redis 7.2 and later, Valkey), this is the time at which the running
/// command, script or transaction started, by which the server also judges expiry; Redis 7.0 does
/// not, and the system's clock is read. A clock before 1970 counts as 1970.
pub(crate) fn now() -> Instant {
    Instant::from_micros(api::cached_micros().unwrap_or_else(system::micros))
}
