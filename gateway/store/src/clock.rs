//! The time by which this process decides.

use std::time::{self, SystemTime, UNIX_EPOCH};

use limiter::Instant;

/// Unix time that never runs backwards: the time of the start, and what has passed since then.
#[derive(Debug)]
pub(super) struct Clock {
    start: time::Instant,
    start_micros: u64,
}

impl Clock {
    /// A clock that shows the time of the system now, and goes its own way from here on.
    pub(super) fn start() -> Self {
        // A clock before 1970 is wrong, and any other start serves as well.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: time::Instant::now(), start_micros: micros(unix) }
    }

    /// The time now.
    pub(super) fn now(&self) -> Instant {
        Instant::from_micros(self.start_micros.saturating_add(micros(self.start.elapsed())))
    }
}

fn micros(duration: time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
