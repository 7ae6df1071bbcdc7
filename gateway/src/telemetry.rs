//! What operators see: the log and the metrics. Neither ever holds an identifier, except a log
//! at DEBUG or below.

use std::{io, time::Duration};

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing::level_filters::LevelFilter;

use crate::{config::LogFormat, quota::Algorithm};

const DECISIONS: &str = "ratelimit_decisions_total";
const REDIS_ERRORS: &str = "ratelimit_redis_errors_total";
const REQUESTS: &str = "http_requests_total";
const REQUEST_SECONDS: &str = "http_request_duration_seconds";

/// Upper bounds of the latency buckets, in seconds: from an answer without Redis to a timeout.
const LATENCY_BUCKETS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0];

/// How often metrics are tidied when nobody reads them.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts the log, on standard output.
pub fn start_log(format: LogFormat, level: LevelFilter) {
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stdout);
    match format {
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).init(),
        LogFormat::Text => log.with_ansi(false).init(),
    }
}

/// Starts to collect metrics for the whole process. Needs the runtime.
///
/// # Errors
///
/// When another recorder is installed already.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new().set_buckets(&LATENCY_BUCKETS)?.install_recorder()?;
    describe_counter!(DECISIONS, "Checks that Redis decided, by algorithm and outcome.");
    describe_counter!(REDIS_ERRORS, "Calls that Redis did not decide, by kind of error.");
    describe_counter!(REQUESTS, "Requests, by route, method and status.");
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "Time from the arrival of a request to its answer, by route and method."
    );
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP);
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// Counts a decision.
pub(crate) fn count_decision(algorithm: Algorithm, allowed: bool) {
    let outcome = if allowed { "allowed" } else { "denied" };
    counter!(DECISIONS, "algorithm" => algorithm.name(), "outcome" => outcome).increment(1);
}

/// Counts a call that Redis did not decide.
pub(crate) fn count_redis_error(kind: &'static str) {
    counter!(REDIS_ERRORS, "kind" => kind).increment(1);
}

/// Counts an answer and its time. Labels are few: `route` is a pattern, `method` is well known.
pub(crate) fn count_request(route: String, method: &'static str, status: u16, time: Duration) {
    histogram!(REQUEST_SECONDS, "route" => route.clone(), "method" => method).record(time);
    let status = status.to_string();
    counter!(REQUESTS, "route" => route, "method" => method, "status" => status).increment(1);
}
