//! The circuit breaker of a node: calls are sent only while a connection to the node works.
//!
//! ```text
//!            no answer in time, or the last connection broke
//!   closed ───────────────────────────────────────────────▶ open
//!      ▲                                                      │ ▲
//!      │ the probe is answered             a new connection is│ │ the probe is not answered
//!      │                                                      ▼ │
//!      └──────────────────────────────────────────────── half open
//! ```
//!
//! While the breaker is not closed, calls fail at once instead of after a timeout.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{
    log_throttle::{LogThrottle, Sums},
    metrics::{GaugeGuard, NodeGauges},
};

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A connection carries calls.
    Closed,
    /// A connection is probed with one call.
    HalfOpen,
    /// No connection works.
    Open,
}

/// The circuit breaker of one node. Its state follows from the numbers of connections.
#[derive(Debug)]
pub(super) struct Breaker {
    /// The name of the node in logs.
    node: String,
    gauges: NodeGauges,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    live: usize,
    probing: usize,
    /// True after a line that reports a closed breaker, until a line reports an open one.
    is_logged_closed: bool,
    losses: LogThrottle,
    /// Failures that left no live connection.
    openings: LogThrottle,
    /// Attempts to connect.
    attempts: LogThrottle,
}

/// The phase of a connection.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Probing,
    Live,
}

/// Counts a connection in its phase, until this guard is dropped.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    breaker: Arc<Breaker>,
    phase: Phase,
    _gauge: Option<GaugeGuard>,
}

impl Counts {
    fn state(&self) -> State {
        match (self.live, self.probing) {
            (1.., _) => State::Closed,
            (0, 1..) => State::HalfOpen,
            (0, 0) => State::Open,
        }
    }

    fn of(&mut self, phase: Phase) -> &mut usize {
        match phase {
            Phase::Probing => &mut self.probing,
            Phase::Live => &mut self.live,
        }
    }
}

impl Breaker {
    /// Returns a breaker that is open, since there is no connection yet.
    pub(super) fn new(node: String) -> Self {
        let gauges = NodeGauges::new(&node);
        gauges.set_breaker_open(true);
        Self { node, gauges, counts: Mutex::default() }
    }

    pub(super) fn state(&self) -> State {
        self.counts().state()
    }

    /// Counts a new connection that is probed.
    pub(super) fn count_probing(self: &Arc<Self>) -> ConnectionGuard {
        self.change(|counts| *counts.of(Phase::Probing) += 1);
        ConnectionGuard { breaker: Arc::clone(self), phase: Phase::Probing, _gauge: None }
    }

    /// Counts a connection that carries calls. Its number is a field of the log.
    pub(super) fn count_live(self: &Arc<Self>, connection: usize) -> ConnectionGuard {
        self.change(|counts| *counts.of(Phase::Live) += 1);
        let node = &self.node;
        tracing::debug!(node, connection, "connected to Redis");
        let mut counts = self.counts();
        let outage = counts.attempts.end();
        if !counts.is_logged_closed || outage.is_some() {
            counts.is_logged_closed = true;
            let Sums { count: attempts, seconds } = outage.unwrap_or_default();
            let message = "circuit breaker closed: calls go to Redis";
            tracing::info!(node, connection, attempts, seconds, "{message}");
        }
        drop(counts);
        let gauge = Some(self.gauges.connection());
        ConnectionGuard { breaker: Arc::clone(self), phase: Phase::Live, _gauge: gauge }
    }

    /// Logs that a connection was lost.
    pub(super) fn report_loss(&self, connection: usize, reason: &str) {
        let (mut counts, node) = (self.counts(), &self.node);
        if let Some(Sums { count, .. }) = counts.losses.record_without_end(Instant::now()) {
            tracing::warn!(node, connection, reason, losses = count, "lost a connection to Redis");
        }
        self.report_opening(&mut counts, connection, reason);
    }

    /// Logs that an attempt to connect has failed.
    pub(super) fn report_attempt(&self, connection: usize, error: &str, advice: &'static str) {
        const MESSAGE: &str = "cannot connect to Redis";
        let (mut counts, node) = (self.counts(), &self.node);
        self.report_opening(&mut counts, connection, MESSAGE);
        if let Some(Sums { count, seconds }) = counts.attempts.record_error(error, Instant::now()) {
            let attempts = count;
            tracing::error!(node, connection, error, advice, attempts, seconds, "{MESSAGE}");
        }
    }

    /// Logs that the breaker is open, unless the last line reports this already.
    fn report_opening(&self, counts: &mut Counts, connection: usize, reason: &str) {
        if counts.is_logged_closed
            && counts.state() == State::Open
            && let Some(Sums { count, .. }) = counts.openings.record_without_end(Instant::now())
        {
            counts.is_logged_closed = false;
            let (node, failures) = (&self.node, count);
            let message = "circuit breaker open: calls to Redis fail at once";
            tracing::warn!(node, connection, reason, failures, "{message}");
        }
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts();
        change(&mut counts);
        self.gauges.set_breaker_open(counts.state() != State::Closed);
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An alert on an open breaker must not continue for a node that is not used any more.
impl Drop for Breaker {
    fn drop(&mut self) {
        self.gauges.set_breaker_open(false);
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.breaker.change(|counts| *counts.of(self.phase) -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Breaker, State};

    #[test]
    fn a_breaker_is_closed_while_any_connection_is_live() {
        let breaker = Arc::new(Breaker::new("node".to_owned()));
        assert_eq!(breaker.state(), State::Open);
        let probe = breaker.count_probing();
        assert_eq!(breaker.state(), State::HalfOpen);
        drop(probe);
        assert_eq!(breaker.state(), State::Open);

        let connections = [breaker.count_live(1), breaker.count_live(2)];
        let probe = breaker.count_probing();
        let [first, last] = connections;
        drop(first);
        assert_eq!(breaker.state(), State::Closed);
        drop(last);
        assert_eq!(breaker.state(), State::HalfOpen);
        drop(probe);
        assert_eq!(breaker.state(), State::Open);
    }
}
