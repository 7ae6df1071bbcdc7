//! The span of a call to Redis, in the trace of the request that makes the call.
//!
//! Names and attributes are those of the OpenTelemetry semantic conventions, without keys. Spans
//! are made by the tracer provider of the process, if there is one.

use std::sync::LazyLock;

use opentelemetry::{
    Context, KeyValue,
    global::{self, BoxedSpan, BoxedTracer},
    trace::{Span, SpanKind, Status, TraceContextExt, Tracer},
};

/// The name of the tracer, which is that of the spans of requests.
const TRACER: &str = "ratelimit-gateway";

/// Used only inside the span of a request, so that the provider of the process is set before.
static TRACER_OF_CALLS: LazyLock<BoxedTracer> = LazyLock::new(|| global::tracer(TRACER));

/// The span of a call to Redis, which ends when it is dropped.
#[derive(Debug)]
pub(super) struct CallSpan(BoxedSpan);

impl CallSpan {
    /// Begins a span in the request that makes the call; returns `None` when the request is not
    /// traced.
    pub(super) fn start(commands: usize, operation: impl FnOnce() -> String) -> Option<Self> {
        Context::map_current(|request| {
            request.span().is_recording().then(|| {
                let operation = operation();
                let mut attributes = vec![
                    KeyValue::new("db.system.name", "redis"),
                    KeyValue::new("db.operation.name", operation.clone()),
                ];
                if commands > 1 {
                    let size = i64::try_from(commands).unwrap_or(i64::MAX);
                    attributes.push(KeyValue::new("db.operation.batch.size", size));
                }
                let tracer = &*TRACER_OF_CALLS;
                let span = tracer.span_builder(operation).with_kind(SpanKind::Client);
                Self(span.with_attributes(attributes).start_with_context(tracer, request))
            })
        })
    }

    /// Marks the call as failed. `kind` is a name from a short list.
    pub(super) fn fail(&mut self, kind: &str) {
        self.0.set_attribute(KeyValue::new("error.type", kind.to_owned()));
        self.0.set_status(Status::error(""));
    }
}
