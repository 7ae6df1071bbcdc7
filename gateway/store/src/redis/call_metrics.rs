//! Metrics and the span of one call to Redis.

use std::{sync::LazyLock, time::Instant};

use metrics::{Gauge, Histogram, gauge, histogram};

use super::span::CallSpan;
use crate::metrics::{BACKLOG, CALL_SECONDS, GaugeGuard};

static CALLS: LazyLock<Calls> =
    LazyLock::new(|| Calls { seconds: histogram!(CALL_SECONDS), backlog: gauge!(BACKLOG) });

/// The metrics of all calls together.
struct Calls {
    seconds: Histogram,
    backlog: Gauge,
}

/// Registers the metrics of calls.
pub(crate) fn register() {
    LazyLock::force(&CALLS);
}

/// A call to Redis: from the time when it is sent until this value is dropped, when the call was
/// answered or given up.
#[derive(Debug)]
#[must_use]
pub(super) struct CallMetrics {
    start: Instant,
    span: Option<CallSpan>,
    _backlog: GaugeGuard,
}

impl CallMetrics {
    /// Counts `commands` as waiting; they are sent and answered together. `operation` is their name
    /// in a trace, without keys.
    pub(super) fn start(commands: usize, operation: impl FnOnce() -> String) -> Self {
        Self {
            start: Instant::now(),
            span: CallSpan::start(commands, operation),
            _backlog: GaugeGuard::new(CALLS.backlog.clone(), commands),
        }
    }

    /// Marks the call as failed in the trace. No metric counts the failure here.
    pub(super) fn fail(&mut self, kind: &str) {
        if let Some(span) = &mut self.span {
            span.fail(kind);
        }
    }
}

impl Drop for CallMetrics {
    fn drop(&mut self) {
        CALLS.seconds.record(self.start.elapsed());
    }
}
