//! The time for the decisions of this process.

use std::time::{self, SystemTime, UNIX_EPOCH};

use limiter::Instant;

/// Unix time that never runs backwards: the time of the start, plus the time since the start.
#[derive(Debug)]
pub(super) struct Clock {
    start: time::Instant,
    start_micros: u64,
}

impl Clock {
    /// Returns a clock that has the time of the system now, and ignores later changes of that time.
    pub(super) fn start() -> Self {
        // A system time before 1970 is wrong, and any start is as good.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: time::Instant::now(), start_micros: micros(unix) }
    }

    /// Returns the time now.
    pub(super) fn now(&self) -> Instant {
        Instant::from_micros(self.start_micros.saturating_add(micros(self.start.elapsed())))
    }
}

fn micros(duration: time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
