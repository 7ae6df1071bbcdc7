//! The activity of the task that drives a connection, which reads and writes for all its calls.
//!
//! A call without an answer in time has one of two reasons: the server sent nothing, or the driver
//! did not run to read it. A driver that has been idle since the call was sent has read everything.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

/// Counts how often the driver of a connection was idle. The driver and the calls on the connection
/// share it.
#[derive(Debug, Default)]
pub(super) struct DriverActivity {
    /// Times at which everything was written and nothing was left to read.
    idle_count: AtomicU64,
    /// Wakes the driver.
    driver: Mutex<Option<Waker>>,
}

impl DriverActivity {
    /// Counts a time at which everything is written and nothing is left to read.
    pub(super) fn count_idle(&self, driver: &Waker) {
        self.idle_count.fetch_add(1, Ordering::AcqRel);
        let mut waker = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *waker {
            Some(waker) => waker.clone_from(driver),
            None => *waker = Some(driver.clone()),
        }
    }

    /// Returns a test of whether the driver was idle since the previous test, at first since now.
    /// Each test wakes the driver, so that a driver with nothing to do passes the next one.
    pub(super) fn watch(self: &Arc<Self>) -> impl FnMut() -> bool + use<> {
        let activity = Arc::clone(self);
        let mut previous = activity.idle_count.load(Ordering::Acquire);
        move || {
            let count = activity.idle_count.load(Ordering::Acquire);
            let was_idle = count != previous;
            previous = count;
            let driver = activity.driver.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(driver) = driver {
                driver.wake();
            }
            was_idle
        }
    }
}
