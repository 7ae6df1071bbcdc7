//! Lines of the log about the time in which Redis gives no decisions.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::{Decision, FailMode, StoreError};
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
    checks: Checks,
}

/// Checks that got something else than a decision of Redis.
#[derive(Debug, Default)]
struct Checks {
    granted: u64,
    denied: u64,
    refused: u64,
}

impl OutageLog {
    /// A log in which checks get what `mode` gives them.
    pub(super) fn new(mode: FailMode) -> Self {
        Self { mode, is_failing: AtomicBool::new(false), outage: Mutex::default() }
    }

    /// Counts what a check gets instead of a decision of Redis.
    pub(super) fn count(&self, instead: Option<&Result<Decision, StoreError>>) {
        let checks = &mut self.outage().checks;
        match instead {
            Some(Ok(decision)) if decision.allowed => checks.granted += 1,
            Some(Ok(_)) => checks.denied += 1,
            Some(Err(_)) | None => checks.refused += 1,
        }
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
                let checks = outage.checks.in_words(self.mode);
                tracing::warn!(fail_mode, "Redis unavailable for {seconds} s; {checks}");
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
        let checks = std::mem::take(&mut outage.checks).in_words(self.mode);
        if let Some(Sums { seconds, .. }) = outage.failures.end() {
            tracing::info!("Redis decides again after {seconds} s; {checks}");
        }
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Checks {
    fn in_words(&self, mode: FailMode) -> String {
        let Self { granted, denied, refused } = self;
        match mode {
            FailMode::Closed => format!("{refused} checks answered with status 503"),
            FailMode::Open => format!("{granted} checks granted without Redis"),
            FailMode::Local => {
                format!("{granted} checks granted and {denied} denied by this process alone")
            }
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
