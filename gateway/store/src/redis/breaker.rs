//! The circuit breaker of a server: whether calls are sent to it at all.
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
//! While it is not closed, calls fail at once instead of waiting.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{
    log_throttle::{LogThrottle, Sums},
    metrics::{GaugeGuard, NodeGauges},
};

/// Whether calls are sent to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// They are.
    Closed,
    /// One is, to see whether it is answered.
    HalfOpen,
    /// None is.
    Open,
}

/// The state of one server, counted from the states of the connections to it.
#[derive(Debug)]
pub(super) struct Breaker {
    /// The server, in logs.
    node: String,
    /// The server, in metrics.
    shown: NodeGauges,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    live: usize,
    probing: usize,
    /// What the log says.
    told_closed: bool,
    losses: LogThrottle,
    /// Failures that left no live connection.
    openings: LogThrottle,
    /// Attempts to connect.
    attempts: LogThrottle,
}

impl Counts {
    fn state(&self) -> State {
        match (self.live, self.probing) {
            (1.., _) => State::Closed,
            (0, 1..) => State::HalfOpen,
            (0, 0) => State::Open,
        }
    }
}

impl Breaker {
    /// A breaker that is open, since there is no connection yet.
    pub(super) fn new(node: String) -> Self {
        let counts = Counts {
            live: 0,
            probing: 0,
            told_closed: false,
            losses: LogThrottle::new(),
            openings: LogThrottle::new(),
            attempts: LogThrottle::new(),
        };
        let shown = NodeGauges::new(&node);
        shown.set_breaker_open(true);
        Self { node, shown, counts: Mutex::new(counts) }
    }

    pub(super) fn state(&self) -> State {
        self.counts().state()
    }

    /// A connection was made and is being tried, until the value is dropped.
    pub(super) fn probe(self: &Arc<Self>) -> Counted {
        self.count(|counts| &mut counts.probing, None)
    }

    /// A connection carries calls, until the value is dropped.
    pub(super) fn live(self: &Arc<Self>, connection: usize) -> Counted {
        let counted = self.count(|counts| &mut counts.live, Some(self.shown.connection()));
        tracing::debug!(node = self.node, connection, "connected to Redis");
        let mut counts = self.counts();
        let outage = counts.attempts.end();
        if !counts.told_closed || outage.is_some() {
            counts.told_closed = true;
            let Sums { count, seconds } = outage.unwrap_or_default();
            tracing::info!(
                node = self.node,
                connection,
                attempts = count,
                seconds,
                "circuit breaker closed: calls go to Redis"
            );
        }
        drop(counts);
        counted
    }

    /// A connection was lost.
    pub(super) fn note_loss(&self, connection: usize, reason: &str) {
        let mut counts = self.counts();
        if let Some(Sums { count, .. }) = counts.losses.record_without_end(Instant::now()) {
            tracing::warn!(
                node = self.node,
                connection,
                reason,
                losses = count,
                "lost a connection to Redis"
            );
        }
        self.tell_open(connection, &mut counts, reason);
    }

    /// An attempt to connect has failed.
    pub(super) fn note(&self, connection: usize, fault: &str, advice: &'static str) {
        let mut counts = self.counts();
        self.tell_open(connection, &mut counts, "cannot connect to Redis");
        if let Some(Sums { count, seconds }) = counts.attempts.record_error(fault, Instant::now()) {
            let node = &self.node;
            tracing::error!(
                node,
                connection,
                fault,
                advice,
                attempts = count,
                seconds,
                "cannot connect to Redis"
            );
        }
    }

    /// Says that the breaker is open, if the log still says that it is closed.
    fn tell_open(&self, connection: usize, counts: &mut Counts, reason: &str) {
        if counts.told_closed
            && counts.state() == State::Open
            && let Some(Sums { count, .. }) = counts.openings.record_without_end(Instant::now())
        {
            counts.told_closed = false;
            let node = &self.node;
            tracing::warn!(
                node,
                connection,
                reason,
                failures = count,
                "circuit breaker open: calls to Redis fail at once"
            );
        }
    }

    fn count(self: &Arc<Self>, number: Number, shown: Option<GaugeGuard>) -> Counted {
        self.change(|counts| *number(counts) += 1);
        Counted { breaker: Arc::clone(self), number, _shown: shown }
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts();
        change(&mut counts);
        self.shown.set_breaker_open(counts.state() != State::Closed);
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server that is no longer used is nothing to be alarmed about.
impl Drop for Breaker {
    fn drop(&mut self) {
        self.shown.set_breaker_open(false);
    }
}

/// One of the numbers in the counts.
type Number = fn(&mut Counts) -> &mut usize;

/// A connection in the counts of a breaker.
#[derive(Debug)]
pub(super) struct Counted {
    breaker: Arc<Breaker>,
    number: Number,
    _shown: Option<GaugeGuard>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.breaker.change(|counts| *(self.number)(counts) -= 1);
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
        let probe = breaker.probe();
        assert_eq!(breaker.state(), State::HalfOpen);
        drop(probe);
        assert_eq!(breaker.state(), State::Open);

        let connections = [breaker.live(1), breaker.live(2)];
        let probe = breaker.probe();
        let [first, last] = connections;
        drop(first);
        assert_eq!(breaker.state(), State::Closed);
        drop(last);
        assert_eq!(breaker.state(), State::HalfOpen);
        drop(probe);
        assert_eq!(breaker.state(), State::Open);
    }
}
