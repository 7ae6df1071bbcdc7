//! The clocks of the server and of the system, in microseconds since the epoch. A time before the
//! epoch counts as the epoch.

use super::raw;

/// Returns the server's time, or `None` if the server does not offer it.
pub(crate) fn server_micros() -> Option<u64> {
    // SAFETY: see `Api`: no write can race with this read.
    let cached = unsafe { raw::RedisModule_CachedMicroseconds }?;
    // SAFETY: the function has no requirements.
    Some(u64::try_from(unsafe { cached() }).unwrap_or(0))
}

/// Returns the system's time. The standard library would take 60 instructions more.
pub(crate) fn system_micros() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one time, or none.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_nsec / 1_000).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(micros)
}
