//! The metrics of answers: their number and their times, by labels.

use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

use metrics::{Counter, Histogram};

/// The metrics of each combination of labels that has occurred: a few dozen at most. Each is looked up
/// once.
pub(super) struct AnswerMetrics<L>(RwLock<Vec<(L, Answers)>>);

/// The metrics of answers with the same labels.
pub(super) struct Answers {
    pub(super) count: Counter,
    pub(super) seconds: Histogram,
}

impl<L> AnswerMetrics<L> {
    pub(super) const fn new() -> Self {
        Self(RwLock::new(vec![]))
    }

    /// Counts an answer and its time: in the metrics whose labels `is_same` accepts, or else in those
    /// that `register` returns with their labels.
    pub(super) fn count(
        &self,
        time: Duration,
        is_same: impl Fn(&L) -> bool,
        register: impl FnOnce() -> (L, Answers),
    ) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, answers)) = known.iter().find(|(labels, _)| is_same(labels)) {
            return answers.add(time);
        }
        drop(known);
        let (labels, answers) = register();
        answers.add(time);
        // Two requests can add the same labels at once. Both entries count in the same metric.
        self.0.write().unwrap_or_else(PoisonError::into_inner).push((labels, answers));
    }
}

impl Answers {
    fn add(&self, time: Duration) {
        self.count.increment(1);
        self.seconds.record(time);
    }
}
