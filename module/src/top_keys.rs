//! The keys that were denied most lately, of all databases of this server.
//!
//! Denials are noted where they are decided: a replica knows of those that it decided itself, and
//! a restart forgets them. RATELIMIT.RESET forgets those of its keys; nothing else does, so that a
//! deleted, renamed or expired key stays until its denials have faded.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use limiter::{Instant, TopKeys};

/// `None` while `ratelimit.top-keys` is 0.
///
/// Nobody ever waits for the lock: the server runs one command at a time.
static TOP_KEYS: Mutex<Option<TopKeys>> = Mutex::new(None);

/// Notes a denial of a key.
pub(crate) fn denied(database: u32, key: &[u8], now: Instant) {
    if let Some(keys) = lock().as_mut() {
        keys.denied(database, key, now);
    }
}

/// Forgets the denials of a key.
pub(crate) fn forget(database: u32, key: &[u8]) {
    if let Some(keys) = lock().as_mut() {
        keys.forget(database, key);
    }
}

/// The keys of a database that were denied most, at most `count`, most denied first.
pub(crate) fn top(database: u32, count: usize, now: Instant) -> Vec<(Vec<u8>, u64)> {
    let mut keys = lock();
    let top = keys.as_mut().map(|keys| keys.top(database, count, now)).unwrap_or_default();
    top.into_iter().map(|(key, denials)| (key.to_vec(), denials)).collect()
}

/// How many keys there are.
pub(crate) fn len(now: Instant) -> usize {
    lock().as_mut().map_or(0, |keys| keys.len(now))
}

/// Keeps up to `capacity` keys from now on: none, and no memory, if that is 0.
pub(crate) fn resize(capacity: usize) {
    let mut keys = lock();
    match (NonZeroUsize::new(capacity), keys.as_mut()) {
        (Some(capacity), Some(keys)) => keys.resize(capacity),
        (capacity, _) => *keys = capacity.map(TopKeys::new),
    }
}

fn lock() -> MutexGuard<'static, Option<TopKeys>> {
    TOP_KEYS.lock().unwrap_or_else(PoisonError::into_inner)
}
