//! The time for the decisions of this process.

use std::time::{self, SystemTime, UNIX_EPOCH};

use limiter::{Algorithm, Instant};

/// Unix time that never runs backwards: the time of the start, plus the time since the start.
#[derive(Debug)]
pub(super) struct Clock {
    start: time::Instant,
    start_micros: u64,
}

impl Clock {
    /// Returns a clock that has the time of the system now, and ignores later changes of that time.
    pub(super) fn start() -> Self {
        Self { start: time::Instant::now(), start_micros: system_time().as_micros() }
    }

    /// Returns the time now.
    pub(super) fn now(&self) -> Instant {
        Instant::from_micros(self.start_micros.saturating_add(micros(self.start.elapsed())))
    }
}

/// The times of one call that this process decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallTime {
    /// The time of a [`Clock`].
    pub(super) now: Instant,
    /// The time of the system.
    pub(super) system: Instant,
}

impl CallTime {
    /// Returns the time of the decisions by an algorithm.
    pub(super) fn of(self, algorithm: Algorithm) -> Instant {
        match algorithm {
            Algorithm::FixedWindow => self.system,
            Algorithm::TokenBucket | Algorithm::SlidingWindow => self.now,
        }
    }
}

/// Returns the time of the system, which can step back. Fixed windows follow it, because they end at
/// the times of people.
pub(super) fn system_time() -> Instant {
    // A system time before 1970 is wrong, and any time is as good.
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant::from_micros(micros(unix))
}

fn micros(duration: time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
