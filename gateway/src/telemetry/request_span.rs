//! The span of a request, over HTTP or gRPC.

use axum::http::{HeaderMap, StatusCode};
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator,
    trace::{SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;

use super::traces::{Tracing, tracing};

/// The span of a request, which ends when it is dropped.
pub(crate) struct RequestSpan(Context);

impl RequestSpan {
    /// Starts the span of a request over HTTP in the trace of the client, or in a new trace. Returns
    /// `None` without an endpoint. `method` is a well-known name or `other`, and `route` a pattern, if
    /// one matches.
    pub(crate) fn start_http(
        headers: &HeaderMap,
        method: &'static str,
        route: Option<&str>,
    ) -> Option<Self> {
        let tracing = tracing()?;
        let (name, method) = if method == "other" { ("HTTP", "_OTHER") } else { (method, method) };
        let mut attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("url.scheme", tracing.scheme),
        ];
        let mut name = name.to_owned();
        if let Some(route) = route {
            attributes.push(KeyValue::new("http.route", route.to_owned()));
            name = format!("{name} {route}");
        }
        Some(Self::start(tracing, headers, name, attributes))
    }

    /// As [`Self::start_http`], for a call over gRPC: to a method of a service, if one is called.
    #[cfg(feature = "envoy")]
    pub(crate) fn start_grpc(
        metadata: &HeaderMap,
        names: Option<(&'static str, &'static str)>,
    ) -> Option<Self> {
        let tracing = tracing()?;
        let mut attributes = vec![KeyValue::new("rpc.system", "grpc")];
        let name = match names {
            Some((service, method)) => {
                attributes.push(KeyValue::new("rpc.service", service));
                attributes.push(KeyValue::new("rpc.method", method));
                format!("{service}/{method}")
            }
            None => {
                attributes.push(KeyValue::new("rpc.method", "_OTHER"));
                "gRPC".to_owned()
            }
        };
        Some(Self::start(tracing, metadata, name, attributes))
    }

    fn start(
        Tracing { tracer, .. }: &Tracing,
        headers: &HeaderMap,
        name: String,
        attributes: Vec<KeyValue>,
    ) -> Self {
        let caller = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HeaderExtractor(headers));
        let span = tracer.span_builder(name).with_kind(SpanKind::Server);
        let span = span.with_attributes(attributes).start_with_context(tracer, &caller);
        Self(caller.with_span(span))
    }

    /// Returns the context in which the calls to Redis of this request are spans.
    pub(crate) fn context(&self) -> Context {
        self.0.clone()
    }

    /// Returns the id of the trace, in the form of W3C Trace Context.
    pub(crate) fn trace_id(&self) -> String {
        self.0.span().span_context().trace_id().to_string()
    }

    /// Ends the span with the status of the answer.
    pub(crate) fn end_http(self, status: StatusCode) {
        let code = i64::from(status.as_u16());
        let error = status.is_server_error().then(|| code.to_string());
        self.end(KeyValue::new("http.response.status_code", code), error);
    }

    /// Ends the span with the code of the call.
    #[cfg(feature = "envoy")]
    pub(crate) fn end_grpc(self, code: envoy::code::Code) {
        let error = code.is_server_fault().then(|| code.name().to_owned());
        self.end(KeyValue::new("rpc.grpc.status_code", i64::from(code.number())), error);
    }

    fn end(self, status: KeyValue, error: Option<String>) {
        let span = self.0.span();
        span.set_attribute(status);
        if let Some(error) = error {
            span.set_attribute(KeyValue::new("error.type", error));
            span.set_status(Status::error(""));
        }
        span.end();
    }
}
