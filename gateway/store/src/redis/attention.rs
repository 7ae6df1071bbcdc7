//! How often the task of a connection has had nothing left to do.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

/// Tells a connection on which nothing arrives from one whose task does not come to read. The task
/// and the calls on the connection share it.
#[derive(Debug, Default)]
pub(super) struct Attention {
    /// How often all was written and nothing was left to read.
    rests: AtomicU64,
    /// Wakes the task.
    task: Mutex<Option<Waker>>,
}

impl Attention {
    /// Notes that all is written and nothing is left to read.
    pub(super) fn note_rest(&self, task: &Waker) {
        self.rests.fetch_add(1, Ordering::AcqRel);
        let mut known = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *known {
            Some(known) => known.clone_from(task),
            None => *known = Some(task.clone()),
        }
    }

    /// Returns a test of whether the task has rested since the test was made, or made the last time.
    /// Each test has the task look again.
    pub(super) fn watch(self: &Arc<Self>) -> impl FnMut() -> bool + use<> {
        let attention = Arc::clone(self);
        let mut seen = attention.rests.load(Ordering::Acquire);
        move || {
            let rests = attention.rests.load(Ordering::Acquire);
            let has_rested = rests != seen;
            seen = rests;
            let task = attention.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(task) = task {
                task.wake();
            }
            has_rested
        }
    }
}
