//! The metrics and the span of one call to Redis.

use tokio::time::Instant;

use super::span::CallSpan;
use crate::metrics::{CALLS, GaugeGuard};

/// Measures a call to Redis: from the time when the call is sent until this value is dropped, when
/// the call was answered or has timed out.
#[derive(Debug)]
#[must_use]
pub(super) struct CallRecord {
    begin: Instant,
    span: Option<CallSpan>,
    _backlog: GaugeGuard,
}

impl CallRecord {
    /// Counts `commands` as waiting, which are sent together at `begin` and answered together.
    /// `operation` is their name in a trace, without keys.
    pub(super) fn start(
        begin: Instant,
        commands: usize,
        operation: impl FnOnce() -> String,
    ) -> Self {
        Self {
            begin,
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

impl Drop for CallRecord {
    fn drop(&mut self) {
        CALLS.seconds.record(self.begin.elapsed());
    }
}
