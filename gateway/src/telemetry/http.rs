//! Metrics of clients: their requests and their connections.

use std::{sync::LazyLock, time::Duration};

use metrics::{
    Gauge, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::{
    answer_metrics::{AnswerMetrics, Answers},
    gauge_guard::GaugeGuard,
};

const REQUESTS: &str = "http_requests_total";
const SECONDS: &str = "http_request_duration_seconds";
const CONNECTIONS: &str = "http_connections";
const MAX_CONNECTIONS: &str = "http_max_connections";
const REFUSED: &str = "http_connections_refused_total";
const SLOW: &str = "http_connections_slow_total";
const FAILED_HANDSHAKES: &str = "http_tls_handshakes_failed_total";

static ANSWERS: AnswerMetrics<Labels> = AnswerMetrics::new();

static OPEN: LazyLock<Gauge> = LazyLock::new(|| gauge!(CONNECTIONS));

/// The labels of answers.
struct Labels {
    route: Box<str>,
    method: &'static str,
    status: u16,
}

/// Registers the metrics before the first client. At most `max_connections` are open at once.
pub(super) fn start(max_connections: usize) {
    describe_counter!(REQUESTS, "Requests, by route, method and status.");
    describe_histogram!(
        SECONDS,
        Unit::Seconds,
        "Time from the arrival of a request to its answer, by route and method."
    );
    describe_gauge!(CONNECTIONS, "Open connections of clients.");
    describe_gauge!(MAX_CONNECTIONS, "MAX_CONNECTIONS: most open connections of clients.");
    describe_counter!(REFUSED, "Connections that were refused because MAX_CONNECTIONS were open.");
    describe_counter!(
        SLOW,
        "Connections of clients that were closed because a part took too long: handshake (TLS), \
         head (of a request) or answer (not read by the client)."
    );
    describe_counter!(
        FAILED_HANDSHAKES,
        "TLS handshakes of clients that failed, such as one with plain HTTP."
    );
    LazyLock::force(&OPEN);
    gauge!(MAX_CONNECTIONS).set(max_connections as f64);
    counter!(REFUSED).increment(0);
    counter!(FAILED_HANDSHAKES).increment(0);
    for part in SlowPart::ALL {
        counter!(SLOW, "part" => part.name()).increment(0);
    }
}

/// Counts an answer and its time. `route` is a pattern and `method` a well-known name, so that there
/// are few labels.
pub fn count_request(route: &str, method: &'static str, status: u16, time: Duration) {
    let is_same = |labels: &Labels| {
        labels.status == status && labels.method == method && *labels.route == *route
    };
    ANSWERS.count(time, is_same, || register(route, method, status));
}

fn register(route: &str, method: &'static str, status: u16) -> (Labels, Answers) {
    let labels = [("route", route.to_owned()), ("method", method.to_owned())];
    let seconds = histogram!(SECONDS, &labels);
    let [route_label, method_label] = labels;
    let labels = [route_label, method_label, ("status", status.to_string())];
    let count = counter!(REQUESTS, &labels);
    (Labels { route: route.into(), method, status }, Answers { count, seconds })
}

/// Counts a connection above MAX_CONNECTIONS.
pub fn count_refused_connection() {
    counter!(REFUSED).increment(1);
}

/// Counts a TLS handshake that failed.
pub fn count_failed_handshake() {
    counter!(FAILED_HANDSHAKES).increment(1);
}

/// The part of a connection in which a client was too slow.
#[derive(Debug, Clone, Copy)]
pub enum SlowPart {
    /// The TLS handshake.
    Handshake,
    /// The head of a request.
    Head,
    /// Reading an answer.
    Answer,
}

impl SlowPart {
    const ALL: [Self; 3] = [Self::Handshake, Self::Head, Self::Answer];

    const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Head => "head",
            Self::Answer => "answer",
        }
    }
}

/// Counts a connection that was closed because its client was too slow.
pub fn count_slow_connection(part: SlowPart) {
    counter!(SLOW, "part" => part.name()).increment(1);
}

/// Counts an open connection of a client until the result is dropped.
pub fn http_connection() -> GaugeGuard {
    GaugeGuard::new(OPEN.clone())
}
