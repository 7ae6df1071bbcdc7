//! Waiting for what another process does: polled, and with a deadline.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

/// How long a condition may take on a busy machine before it counts as broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(5);

/// What `probe` finds, as soon as it finds something; panics when it found nothing in time.
pub(crate) fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, probe).unwrap_or_else(|| panic!("not within {DEADLINE:?}: {what}"))
}

/// What `probe` finds, or `None` when it found nothing within `limit`, or as many times that as
/// servers are slower than usual.
pub(crate) fn within<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let limit = limit * watched().unwrap_or(1);
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if start.elapsed() > limit {
            return None;
        }
        thread::sleep(PAUSE);
    }
}

/// How many times slower servers are because a tool watches them, if one does. It says what it has
/// seen when they end, so they must be let to. Read from `RATELIMIT_TEST_SLOWDOWN`.
pub(crate) fn watched() -> Option<u32> {
    let slowdown = env::var("RATELIMIT_TEST_SLOWDOWN").ok()?;
    Some(slowdown.parse().expect("RATELIMIT_TEST_SLOWDOWN is an integer"))
}
