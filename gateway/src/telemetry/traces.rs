//! Traces, which are sent with OTLP over HTTP to the URL in the settings.
//!
//! Each request is a span that continues the trace of its client (W3C Trace Context), and each call
//! to Redis is a span in that span. Names and attributes are those of the OpenTelemetry semantic
//! conventions, without those that could have an identifier: no path, no query, no key. Without an
//! endpoint there are no spans.
//!
//! The SDK reads its own variables too, such as `OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES`
//! and `OTEL_EXPORTER_OTLP_HEADERS`.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, StatusCode};
use opentelemetry::{
    Context, KeyValue, global,
    propagation::TextMapPropagator,
    trace::{SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{self, SdkTracer, SdkTracerProvider, SpanData},
};
use store::{LogThrottle, Sums};
use tokio::runtime::Handle;

use super::trace_client::TraceClient;

/// Timeout for the last spans when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Options of traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceOptions {
    /// The URL that takes traces as OTLP over HTTP. Without one the service makes no traces.
    pub endpoint: Option<String>,
    /// The name of the service in traces.
    pub service_name: String,
}

static TRACING: OnceLock<Tracing> = OnceLock::new();

/// The source of spans.
struct Tracing {
    tracer: SdkTracer,
    /// The scheme by which clients reach this service.
    scheme: &'static str,
}

/// The traces of the process. Dropping it sends the remaining spans, and blocks for at most two
/// seconds.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

/// Starts to trace, if there is an endpoint. `scheme` is the one by which clients reach this service:
/// `http` or `https`. Needs the runtime.
///
/// # Errors
///
/// When the system has no certificates with which to verify an HTTPS endpoint, or a variable that
/// the SDK reads is wrong.
pub fn start_traces(
    options: TraceOptions,
    scheme: &'static str,
) -> Result<Option<Traces>, ExporterBuildError> {
    let Some(endpoint) = options.endpoint else { return Ok(None) };
    let exporter = exporter(&endpoint)?;
    let exporter = Exporter { exporter, runtime: Handle::current(), failures: Mutex::default() };
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource =
        Resource::builder().with_service_name(options.service_name).with_attribute(version);
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build();
    let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
    // Calls to Redis become spans by the provider of the process.
    global::set_tracer_provider(provider.clone());
    // Fails only when tracing was started before, and then it continues as it was.
    let _ = TRACING.set(Tracing { tracer, scheme });
    Ok(Some(Traces(provider)))
}

fn exporter(endpoint: &str) -> Result<SpanExporter, ExporterBuildError> {
    let builder = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint);
    if !endpoint.starts_with("https:") {
        return builder.with_http_client(TraceClient::http()).build();
    }
    let client = TraceClient::https()
        .map_err(|error| ExporterBuildError::InternalFailure(error.to_string()))?;
    builder.with_http_client(client).build()
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(FLUSH_TIMEOUT) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Sends spans from a separate thread, and logs failures and their end.
#[derive(Debug)]
struct Exporter {
    exporter: SpanExporter,
    runtime: Handle,
    failures: Mutex<LogThrottle>,
}

impl trace::SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        // The client needs the runtime, which the thread of the spans is not part of.
        let result = self.runtime.block_on(self.exporter.export(batch));
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Err(error) => {
                if let Some(Sums { count, seconds }) = failures.record(Instant::now()) {
                    let advice = "check OTEL_EXPORTER_OTLP_ENDPOINT and the receiver there";
                    let batches = count;
                    tracing::warn!(%error, advice, batches, seconds, "cannot send traces");
                }
            }
            Ok(()) => {
                if let Some(Sums { count, seconds }) = failures.end() {
                    tracing::info!(batches = count, seconds, "traces are sent again");
                }
            }
        }
        drop(failures);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// The span of a request, which ends when it is dropped.
pub(crate) struct RequestSpan(Context);

impl RequestSpan {
    /// Starts a span in the trace of the client, or in a new trace. Returns `None` without an
    /// endpoint. `method` is a well-known name or `other`, and `route` a pattern, if one matches.
    pub(crate) fn start(
        headers: &HeaderMap,
        method: &'static str,
        route: Option<&str>,
    ) -> Option<Self> {
        let Tracing { tracer, scheme } = TRACING.get()?;
        let caller = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HeaderExtractor(headers));
        let (name, method) = if method == "other" { ("HTTP", "_OTHER") } else { (method, method) };
        let mut attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("url.scheme", *scheme),
        ];
        let mut name = name.to_owned();
        if let Some(route) = route {
            attributes.push(KeyValue::new("http.route", route.to_owned()));
            name = format!("{name} {route}");
        }
        let span = tracer.span_builder(name).with_kind(SpanKind::Server);
        let span = span.with_attributes(attributes).start_with_context(tracer, &caller);
        Some(Self(caller.with_span(span)))
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
    pub(crate) fn end(self, status: StatusCode) {
        let span = self.0.span();
        let code = i64::from(status.as_u16());
        span.set_attribute(KeyValue::new("http.response.status_code", code));
        if status.is_server_error() {
            span.set_attribute(KeyValue::new("error.type", code.to_string()));
            span.set_status(Status::error(""));
        }
        span.end();
    }
}
