//! Metrics of calls over gRPC.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::{
    answer_metrics::{AnswerMetrics, Answers},
    gauge_guard::GaugeGuard,
};

const REQUESTS: &str = "grpc_requests_total";
const SECONDS: &str = "grpc_request_duration_seconds";
const CONNECTIONS: &str = "grpc_connections";
const REFUSED: &str = "grpc_connections_refused_total";
const IGNORED: &str = "ratelimit_rls_limits_ignored_total";

/// The metrics of answers, by method and code.
static ANSWERS: AnswerMetrics<(&str, &str)> = AnswerMetrics::new();

/// Registers the metrics before the first client, with 0 for each of the reasons to ignore a limit.
pub(crate) fn start_grpc_metrics(reasons: &[&'static str]) {
    describe_counter!(REQUESTS, "Calls over gRPC, by method and code.");
    describe_histogram!(
        SECONDS,
        Unit::Seconds,
        "Time from the arrival of a call over gRPC to its answer, by method."
    );
    describe_gauge!(CONNECTIONS, "Open connections to GRPC_PORT.");
    describe_counter!(
        REFUSED,
        "Connections to GRPC_PORT that were closed because of their number."
    );
    describe_counter!(IGNORED, "Limits of descriptors that were ignored, by reason.");
    gauge!(CONNECTIONS).set(0);
    counter!(REFUSED).increment(0);
    for &reason in reasons {
        counter!(IGNORED, "reason" => reason).increment(0);
    }
}

/// Counts an answer and its time. `method` and `code` are from short lists.
pub(crate) fn count_grpc_request(method: &'static str, code: &'static str, time: Duration) {
    ANSWERS.count(
        time,
        |labels| *labels == (method, code),
        || {
            let count = counter!(REQUESTS, "method" => method, "code" => code);
            let seconds = histogram!(SECONDS, "method" => method);
            ((method, code), Answers { count, seconds })
        },
    );
}

/// Counts an open connection until the result is dropped.
pub(crate) fn grpc_connection() -> GaugeGuard {
    GaugeGuard::new(gauge!(CONNECTIONS))
}

/// Counts a connection above the maximum number.
pub(crate) fn count_refused_grpc_connection() {
    counter!(REFUSED).increment(1);
}

/// Counts a limit of a descriptor that was ignored for this reason.
pub(crate) fn count_ignored_limit(reason: &'static str) {
    counter!(IGNORED, "reason" => reason).increment(1);
}
