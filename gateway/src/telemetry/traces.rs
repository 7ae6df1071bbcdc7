//! Traces, sent with OTLP over HTTP to the URL in the settings.
//!
//! Each request is a span that continues the caller's trace (W3C Trace Context), and each call to
//! Redis is a span in it. Names and attributes are those of the OpenTelemetry semantic
//! conventions, less what could hold an identifier: no path, no query, no key. Without an endpoint
//! nothing of this runs.
//!
//! The SDK reads its own variables too, such as `OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES`
//! and `OTEL_EXPORTER_OTLP_HEADERS`.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, StatusCode};
use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry::{
    Context, KeyValue, global,
    propagation::TextMapPropagator,
    trace::{SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_http::{HeaderExtractor, hyper::HyperClient};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{self, SdkTracer, SdkTracerProvider, SpanData},
};
use rustls::crypto::aws_lc_rs;
use store::{LogThrottle, Sums};
use tokio::runtime::Handle;

/// Longest wait for the receiver to take a batch of spans.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest wait for the last spans to be sent when the process ends.
const FLUSH: Duration = Duration::from_secs(2);

/// Options of traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceOptions {
    /// The URL that takes traces as OTLP over HTTP. Without one the service makes no traces.
    pub endpoint: Option<String>,
    /// The name of the service in traces.
    pub service_name: String,
}

static TRACING: OnceLock<Tracing> = OnceLock::new();

/// How spans are made.
struct Tracing {
    tracer: SdkTracer,
    /// How clients reach this service.
    scheme: &'static str,
}

/// The traces of the process. Spans that have not been sent when it is dropped are sent then,
/// unless that takes longer than two seconds. Dropping it blocks.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

/// Starts to trace, if there is an endpoint. `scheme` is `http` or `https`: how clients reach this
/// service. Needs the runtime.
///
/// # Errors
///
/// When the system has no certificates to trust an HTTPS endpoint by, or a variable that the SDK
/// reads is wrong.
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
    // Fails only when it was started before, which goes on.
    let _ = TRACING.set(Tracing { tracer, scheme });
    Ok(Some(Traces(provider)))
}

fn exporter(endpoint: &str) -> Result<SpanExporter, ExporterBuildError> {
    let builder = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint);
    if !endpoint.starts_with("https:") {
        return builder
            .with_http_client(HyperClient::with_default_connector(PATIENCE, None))
            .build();
    }
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(aws_lc_rs::default_provider())
        .map_err(|error| ExporterBuildError::InternalFailure(error.to_string()))?;
    let connector = connector.https_only().enable_http1().build();
    builder.with_http_client(HyperClient::new(connector, PATIENCE, None)).build()
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(FLUSH) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Sends spans from a thread of their own, and logs while that fails and when it works
/// again.
#[derive(Debug)]
struct Exporter {
    exporter: SpanExporter,
    runtime: Handle,
    failures: Mutex<LogThrottle>,
}

impl trace::SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        // The client needs the runtime, to which the thread of the spans does not belong.
        let result = self.runtime.block_on(self.exporter.export(batch));
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Err(error) => {
                if let Some(Sums { count, seconds }) = failures.record(Instant::now()) {
                    let advice = "check OTEL_EXPORTER_OTLP_ENDPOINT and what listens there";
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
    /// Begins a span in the caller's trace, or in a new one; nothing when there are no traces.
    /// `method` is a well-known one or `other`, and `route` a pattern, if one matches.
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

    /// What the calls to Redis that this request makes are part of.
    pub(crate) fn context(&self) -> Context {
        self.0.clone()
    }

    /// The trace's id, as W3C Trace Context writes it.
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
