//! The highest fence of this server, for all keys of all databases together.
//!
//! A fence that is given, loaded or received as an effect raises it. Nothing lowers it while the
//! process runs: neither DEL, RESET nor FLUSHALL, nor a clock that steps back. A restart sets it to
//! the highest fence of the leases that are loaded.

use std::sync::{Mutex, MutexGuard, PoisonError};

use limiter::Fences;

/// No command waits for the lock, because the server runs one command at a time.
static FENCES: Mutex<Fences> = Mutex::new(Fences::new());

/// Takes a fence into account that was loaded or received.
pub(crate) fn observe(fence: u64) {
    lock().observe(fence);
}

/// Returns the fences of this server.
pub(crate) fn lock() -> MutexGuard<'static, Fences> {
    FENCES.lock().unwrap_or_else(PoisonError::into_inner)
}
