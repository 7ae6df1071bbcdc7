//! The record of a call: a line of the log, a count in the metrics, and a span.

use std::time::Instant;

use axum::http::HeaderMap;
use envoy::{
    code::Code,
    gateway::{Outcome, Record},
};
use opentelemetry::context::FutureExt;
use tracing::{debug, info};

use crate::{
    headers::REQUEST_ID,
    request_log::{DISCONNECTED, OTHER, UNMATCHED, millis},
    telemetry::{self, ClientAddress, LogContext, RequestId, RequestSpan},
};

/// The service that probes call again and again. In a log and in traces they would be more than all
/// other calls.
const HEALTH: &str = "grpc.health.v1.Health";

/// The record of a call that has begun.
pub(super) struct CallRecord {
    call: OpenCall,
    context: LogContext,
}

impl CallRecord {
    /// Returns the record of a call to the method with this path, if a method has the path of the call.
    pub(super) fn begin(
        path: Option<&'static str>,
        metadata: &HeaderMap,
        client: Option<ClientAddress>,
    ) -> Self {
        let start = Instant::now();
        let names = path.and_then(|path| path.strip_prefix('/')?.split_once('/'));
        let is_probe = names.is_some_and(|(service, _)| service == HEALTH);
        let span = if is_probe { None } else { RequestSpan::start_grpc(metadata, names) };
        let trace_id = span.as_ref().map(RequestSpan::trace_id);
        let context = LogContext::new(RequestId::of(metadata.get(REQUEST_ID)), trace_id, client);
        let (service, method) = names.unwrap_or((UNMATCHED, OTHER));
        let path = path.unwrap_or(OTHER);
        let call = OpenCall { start, path, service, method, is_probe, span, is_open: true };
        Self { call, context }
    }
}

impl Record for CallRecord {
    fn run<T: Send>(
        self,
        work: impl Future<Output = (T, Outcome)> + Send,
    ) -> impl Future<Output = T> + Send {
        let Self { mut call, context } = self;
        context.attach(async move {
            let (answer, outcome) = match call.span.as_ref().map(RequestSpan::context) {
                Some(context) => work.with_context(context).await,
                None => work.await,
            };
            call.end(&outcome, "answered");
            answer
        })
    }
}

/// A call from its arrival to its end, which is recorded once, also when the client disconnects.
struct OpenCall {
    start: Instant,
    path: &'static str,
    service: &'static str,
    method: &'static str,
    is_probe: bool,
    span: Option<RequestSpan>,
    /// True until the end.
    is_open: bool,
}

impl OpenCall {
    fn end(&mut self, outcome: &Outcome, message: &'static str) {
        self.is_open = false;
        let Outcome { code, allowed, error } = outcome;
        let (time, error) = (self.start.elapsed(), error.as_deref());
        let (route, method, time_ms, name) = (self.service, self.method, millis(time), code.name());
        if self.is_probe {
            debug!(method, route, code = name, time_ms, error, "{message}");
        } else {
            info!(method, route, code = name, time_ms, allowed, error, "{message}");
        }
        if let Some(span) = self.span.take() {
            span.end_grpc(*code);
        }
        telemetry::count_grpc_request(self.path, name, time);
    }
}

impl Drop for OpenCall {
    /// Ends a call whose client has gone, or whose time was over before the answer. A command that Redis
    /// has received is not undone.
    fn drop(&mut self) {
        if self.is_open {
            self.end(&Outcome { code: Code::CANCELLED, allowed: None, error: None }, DISCONNECTED);
        }
    }
}
