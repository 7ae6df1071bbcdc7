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

use opentelemetry::{KeyValue, global, trace::TracerProvider};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
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
pub(super) struct Tracing {
    pub(super) tracer: SdkTracer,
    /// The scheme by which clients reach this service.
    pub(super) scheme: &'static str,
}

/// Returns the source of spans, if there is an endpoint for them.
pub(super) fn tracing() -> Option<&'static Tracing> {
    TRACING.get()
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
