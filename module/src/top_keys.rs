//! The keys with the most recent denials, of all databases of this server.
//!
//! A denial is counted by the server that decides it, so that a replica counts its own denials
//! only, and a restart forgets them. RATELIMIT.RESET removes the counts of its keys. No other
//! command does, so that a deleted, renamed or expired key stays until its count has faded.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use limiter::{Instant, TopKeys};

/// `None` while `ratelimit.top-keys` is 0.
///
/// No command waits for the lock, because the server runs one command at a time.
static TOP_KEYS: Mutex<Option<TopKeys>> = Mutex::new(None);

/// Counts a denial of a key.
pub(crate) fn denied(database: u32, key: &[u8], now: Instant) {
    if let Some(keys) = lock().as_mut() {
        keys.denied(database, key, now);
    }
}

/// Removes the count of a key.
pub(crate) fn forget(database: u32, key: &[u8]) {
    if let Some(keys) = lock().as_mut() {
        keys.forget(database, key);
    }
}

/// Returns the keys of a database with the most denials, at most `count`, most denials first.
pub(crate) fn top(database: u32, count: usize, now: Instant) -> Vec<(Vec<u8>, u64)> {
    let mut keys = lock();
    let top = keys.as_mut().map(|keys| keys.top(database, count, now)).unwrap_or_default();
    top.into_iter().map(|(key, denials)| (key.to_vec(), denials)).collect()
}

/// Returns the number of keys that are counted.
pub(crate) fn len(now: Instant) -> usize {
    lock().as_mut().map_or(0, |keys| keys.len(now))
}

/// Changes the number of keys that are counted. 0 frees all memory.
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
