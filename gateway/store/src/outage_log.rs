//! Lines of the log about the time in which Redis gives no decisions.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::{Decision, FailMode};
use crate::log_throttle::{LogThrottle, Sums};

/// Logs that Redis is away, for how long, and what checks get meanwhile.
#[derive(Debug)]
pub(super) struct OutageLog {
    mode: FailMode,
    /// Set while there is an outage: decisions take no lock otherwise.
    is_failing: AtomicBool,
    outage: Mutex<Outage>,
}

/// The outage that goes on, if any does.
#[derive(Debug, Default)]
struct Outage {
    failures: LogThrottle,
    requests: Requests,
}

/// Requests that got something else than a decision of Redis.
#[derive(Debug, Default)]
struct Requests {
    /// Checks that were granted.
    granted: u64,
    /// Checks that were denied.
    denied: u64,
    /// Requests of any kind that got status 503.
    refused: u64,
}

impl OutageLog {
    /// A log in which checks get what `mode` gives them.
    pub(super) fn new(mode: FailMode) -> Self {
        Self { mode, is_failing: AtomicBool::new(false), outage: Mutex::default() }
    }

    /// Counts a check that got this decision instead of one of Redis.
    pub(super) fn count_check(&self, instead: &Decision) {
        let requests = &mut self.outage().requests;
        if instead.allowed {
            requests.granted += 1;
        } else {
            requests.denied += 1;
        }
    }

    /// Counts a request that Redis did not answer, and that got status 503.
    pub(super) fn count_refusal(&self) {
        self.outage().requests.refused += 1;
    }

    /// Logs that Redis gave no decision, when a line is due.
    pub(super) fn redis_failed(&self, now: Instant) {
        let mut outage = self.outage();
        self.is_failing.store(true, Ordering::Relaxed);
        let fail_mode = self.mode.name();
        match outage.failures.record(now) {
            Some(Sums { count: 1, .. }) => {
                let meanwhile = meanwhile(self.mode);
                tracing::warn!(fail_mode, "Redis unavailable: checks are {meanwhile}");
            }
            Some(Sums { seconds, .. }) => {
                let requests = outage.requests.in_words(self.mode);
                tracing::warn!(fail_mode, "Redis unavailable for {seconds} s; {requests}");
            }
            None => {}
        }
    }

    /// Logs the end of an outage, which a decision of Redis has ended if it has failed for none
    /// lately: calls that fail now and then must not fill the log with recoveries.
    pub(super) fn redis_decided(&self) {
        if self.is_failing.load(Ordering::Relaxed) {
            self.redis_decided_at(Instant::now());
        }
    }

    fn redis_decided_at(&self, now: Instant) {
        let mut outage = self.outage();
        if !outage.failures.is_quiet(now) {
            return;
        }
        self.is_failing.store(false, Ordering::Relaxed);
        let requests = std::mem::take(&mut outage.requests).in_words(self.mode);
        if let Some(Sums { seconds, .. }) = outage.failures.end() {
            tracing::info!("Redis decides again after {seconds} s; {requests}");
        }
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requests {
    fn in_words(&self, mode: FailMode) -> String {
        let Self { granted, denied, refused } = self;
        let refused_in_words = format!("{refused} requests answered with status 503");
        let decided_in_words = match mode {
            FailMode::Closed => return refused_in_words,
            FailMode::Open => format!("{granted} checks granted without Redis"),
            FailMode::Local => {
                format!("{granted} checks granted and {denied} denied by this process alone")
            }
        };
        match (granted + denied, refused) {
            (_, 0) => decided_in_words,
            (0, _) => refused_in_words,
            _ => format!("{decided_in_words}; {refused_in_words}"),
        }
    }
}

/// The answer to checks while Redis is away, in words.
fn meanwhile(mode: FailMode) -> &'static str {
    match mode {
        FailMode::Closed => "answered with status 503",
        FailMode::Open => "granted without Redis",
        FailMode::Local => "decided by this process alone",
    }
}

#[cfg(test)]
mod tests {
    use super::{FailMode, Requests};

    #[test]
    fn sums_name_the_requests_that_there_were() {
        for (mode, [granted, denied, refused], words) in [
            (FailMode::Closed, [0, 0, 7], "7 requests answered with status 503"),
            (FailMode::Closed, [0, 0, 0], "0 requests answered with status 503"),
            (FailMode::Open, [3, 0, 0], "3 checks granted without Redis"),
            // Nothing stands in for Redis where a status is asked for.
            (FailMode::Open, [0, 0, 2], "2 requests answered with status 503"),
            (
                FailMode::Open,
                [3, 0, 2],
                "3 checks granted without Redis; 2 requests answered with status 503",
            ),
            (FailMode::Local, [0, 4, 0], "0 checks granted and 4 denied by this process alone"),
            (FailMode::Local, [0, 0, 1], "1 requests answered with status 503"),
        ] {
            assert_eq!(Requests { granted, denied, refused }.in_words(mode), words);
        }
    }
}
