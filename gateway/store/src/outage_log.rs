//! The log lines about an outage: a time in which Redis makes no decisions.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crate::{
    log_throttle::{LogThrottle, Sums},
    options::FailMode,
};

/// Logs the duration of an outage, and the answers to requests in that time.
#[derive(Debug)]
pub(super) struct OutageLog {
    mode: FailMode,
    /// Set during an outage. Otherwise decisions take no lock.
    is_failing: AtomicBool,
    outage: Mutex<Outage>,
}

/// The current outage, if there is one.
#[derive(Debug, Default)]
struct Outage {
    failures: LogThrottle,
    requests: Requests,
}

/// The numbers of requests without a decision of Redis, by their answers.
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
    /// Returns the log of a store with this fail mode.
    pub(super) fn new(mode: FailMode) -> Self {
        Self { mode, is_failing: AtomicBool::new(false), outage: Mutex::default() }
    }

    /// Counts a check with the decision that replaces one of Redis.
    pub(super) fn count_check(&self, allowed: bool) {
        let requests = &mut self.outage().requests;
        if allowed {
            requests.granted += 1;
        } else {
            requests.denied += 1;
        }
    }

    /// Counts a request that gets status 503, because Redis did not answer.
    pub(super) fn count_refusal(&self) {
        self.outage().requests.refused += 1;
    }

    /// Logs that Redis made no decision, if a line is due.
    pub(super) fn redis_failed(&self, now: Instant) {
        let mut outage = self.outage();
        self.is_failing.store(true, Ordering::Relaxed);
        let fail_mode = self.mode.name();
        match outage.failures.record(now) {
            Some(Sums { count: 1, .. }) => {
                let answer = answer(self.mode);
                tracing::warn!(fail_mode, "Redis unavailable: checks are {answer}");
            }
            Some(Sums { seconds, .. }) => {
                let requests = outage.requests.summary(self.mode);
                tracing::warn!(fail_mode, "Redis unavailable for {seconds} s; {requests}");
            }
            None => {}
        }
    }

    /// Ends the outage and logs its end, unless a call has failed recently. Calls that fail now and
    /// then must not fill the log with recoveries.
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
        let requests = std::mem::take(&mut outage.requests).summary(self.mode);
        if let Some(Sums { seconds, .. }) = outage.failures.end() {
            tracing::info!("Redis decides again after {seconds} s; {requests}");
        }
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requests {
    fn summary(&self, mode: FailMode) -> String {
        let Self { granted, denied, refused } = self;
        let refused_requests = format!("{refused} requests answered with status 503");
        let decided_checks = match mode {
            FailMode::Closed => return refused_requests,
            FailMode::Open => format!("{granted} checks granted without Redis"),
            FailMode::Local => {
                format!("{granted} checks granted and {denied} denied by this process alone")
            }
        };
        match (granted + denied, refused) {
            (_, 0) => decided_checks,
            (0, _) => refused_requests,
            _ => format!("{decided_checks}; {refused_requests}"),
        }
    }
}

/// Returns the words for the answer to checks during an outage.
fn answer(mode: FailMode) -> &'static str {
    match mode {
        FailMode::Closed => "answered with status 503",
        FailMode::Open => "granted without Redis",
        FailMode::Local => "decided by this process alone",
    }
}

#[cfg(test)]
mod tests {
    use super::Requests;
    use crate::options::FailMode;

    #[test]
    fn sums_name_the_answers_that_occurred() {
        for (mode, [granted, denied, refused], words) in [
            (FailMode::Closed, [0, 0, 7], "7 requests answered with status 503"),
            (FailMode::Closed, [0, 0, 0], "0 requests answered with status 503"),
            (FailMode::Open, [3, 0, 0], "3 checks granted without Redis"),
            // No fail mode replaces the answer of Redis to a status.
            (FailMode::Open, [0, 0, 2], "2 requests answered with status 503"),
            (
                FailMode::Open,
                [3, 0, 2],
                "3 checks granted without Redis; 2 requests answered with status 503",
            ),
            (FailMode::Local, [0, 4, 0], "0 checks granted and 4 denied by this process alone"),
            (FailMode::Local, [0, 0, 1], "1 requests answered with status 503"),
        ] {
            assert_eq!(Requests { granted, denied, refused }.summary(mode), words);
        }
    }
}
