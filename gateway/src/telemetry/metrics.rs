//! The metrics, as `/metrics` shows them.
//!
//! Labels are few and known: a route is a pattern, a node is a server, a kind is one of a list.
//! What has a known list is shown from the start, with 0: an alert cannot tell a metric that is
//! missing from one that is fine, and the first event of a new metric is no increase.

use std::{
    sync::{LazyLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

use super::{log, traces::RedisSpan};
use crate::{
    quota::Algorithm,
    store::{self, Source},
};

const DECISIONS: &str = "ratelimit_decisions_total";
const REDIS_ERRORS: &str = "ratelimit_redis_errors_total";
const REDIS_SECONDS: &str = "ratelimit_redis_call_duration_seconds";
const REDIS_BACKLOG: &str = "ratelimit_redis_backlog";
const REDIS_MAX_BACKLOG: &str = "ratelimit_redis_max_backlog";
const REDIS_CONNECTIONS: &str = "ratelimit_redis_connections";
const REDIS_BREAKER: &str = "ratelimit_redis_breaker_open";
const REQUESTS: &str = "http_requests_total";
const REQUEST_SECONDS: &str = "http_request_duration_seconds";
const CONNECTIONS: &str = "http_connections";
const MAX_CONNECTIONS: &str = "http_max_connections";
const REFUSED: &str = "http_connections_refused_total";
const DROPPED_LINES: &str = "log_lines_dropped_total";
const SLOW: &str = "http_connections_slow_total";
const BUILD: &str = "ratelimit_build_info";

/// Upper bounds of the latency buckets, in seconds: from an answer without Redis to a time-out.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// How often times are put into their buckets when nobody reads them. Until then each takes
/// memory, and more of them hold up whoever sorts them for longer.
const UPKEEP: Duration = Duration::from_secs(1);

/// What is counted at every request. Found once, since finding a metric by its labels takes
/// longer than counting.
static HOT: LazyLock<Hot> = LazyLock::new(Hot::register);

struct Hot {
    /// By algorithm, by whether it was allowed, and by source, each in the order of its `ALL`.
    decisions: [[[Counter; Source::ALL.len()]; 2]; Algorithm::ALL.len()],
    redis_seconds: Histogram,
    redis_backlog: Gauge,
    http_connections: Gauge,
    http_refused: Counter,
    /// One for each combination of labels that has occurred: a few dozen at most.
    answers: RwLock<Vec<Answers>>,
}

/// Answers that share all labels.
struct Answers {
    route: Box<str>,
    method: &'static str,
    status: u16,
    count: Counter,
    seconds: Histogram,
}

impl Hot {
    fn register() -> Self {
        let decisions = |algorithm: Algorithm, outcome: &'static str| {
            Source::ALL.map(|source| {
                counter!(DECISIONS, "algorithm" => algorithm.name(), "outcome" => outcome,
                    "source" => source.name())
            })
        };
        Self {
            decisions: Algorithm::ALL
                .map(|algorithm| ["denied", "allowed"].map(|name| decisions(algorithm, name))),
            redis_seconds: histogram!(REDIS_SECONDS),
            redis_backlog: gauge!(REDIS_BACKLOG),
            http_connections: gauge!(CONNECTIONS),
            http_refused: counter!(REFUSED),
            answers: RwLock::default(),
        }
    }

    fn count_answer(&self, route: &str, method: &'static str, status: u16, time: Duration) {
        let known = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        let same = |answers: &&Answers| {
            answers.status == status && answers.method == method && *answers.route == *route
        };
        if let Some(answers) = known.iter().find(same) {
            return answers.add(time);
        }
        drop(known);
        let answers = Answers::register(route, method, status);
        answers.add(time);
        // When two requests get here at once both are listed, and count in the same place.
        self.answers.write().unwrap_or_else(PoisonError::into_inner).push(answers);
    }
}

impl Answers {
    fn register(route: &str, method: &'static str, status: u16) -> Self {
        let labels = [("route", route.to_owned()), ("method", method.to_owned())];
        let seconds = histogram!(REQUEST_SECONDS, &labels);
        let [route_label, method_label] = labels;
        let labels = [route_label, method_label, ("status", status.to_string())];
        let count = counter!(REQUESTS, &labels);
        Self { route: route.into(), method, status, count, seconds }
    }

    fn add(&self, time: Duration) {
        self.count.increment(1);
        self.seconds.record(time);
    }
}

/// The most that there may be of what is counted; constant.
#[derive(Debug, Clone, Copy)]
pub struct Capacities {
    /// Calls that wait for Redis.
    pub redis_backlog: usize,
    /// Connections of clients.
    pub http_connections: usize,
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    recorder: PrometheusHandle,
    process: Collector,
}

impl Metrics {
    /// The page in the Prometheus text format. Reads files of the system, so it can block.
    #[must_use]
    pub fn render(&self) -> String {
        self.process.collect();
        counter!(DROPPED_LINES).absolute(log::dropped_lines());
        self.recorder.render()
    }
}

/// Starts to collect metrics for the whole process. What is counted before is lost. Needs the
/// runtime.
///
/// # Errors
///
/// When another recorder is installed already.
pub fn start_metrics(capacities: Capacities) -> Result<Metrics, BuildError> {
    let recorder = PrometheusBuilder::new().set_buckets(&LATENCY_BUCKETS)?.install_recorder()?;
    let process = Collector::default();
    describe();
    process.describe();

    LazyLock::force(&HOT);
    for kind in store::error_kinds() {
        counter!(REDIS_ERRORS, "kind" => kind).increment(0);
    }
    for part in Slow::ALL {
        counter!(SLOW, "part" => part.name()).increment(0);
    }
    gauge!(REDIS_MAX_BACKLOG).set(capacities.redis_backlog as f64);
    gauge!(MAX_CONNECTIONS).set(capacities.http_connections as f64);
    let (version, rustc) = (env!("CARGO_PKG_VERSION"), env!("RUSTC_VERSION"));
    gauge!(BUILD, "version" => version, "rustc" => rustc).set(1);

    let upkeep = recorder.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP);
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(Metrics { recorder, process })
}

fn describe() {
    describe_counter!(
        DECISIONS,
        "Checks that were decided, by algorithm, outcome, and source: redis, local (this process), \
         cache (an earlier denial) or open (nobody: Redis could not answer)."
    );
    describe_counter!(REDIS_ERRORS, "Calls that Redis did not decide, by kind of error.");
    describe_histogram!(
        REDIS_SECONDS,
        Unit::Seconds,
        "Time from sending a call to Redis to its answer or its end without one."
    );
    describe_gauge!(REDIS_BACKLOG, "Calls that wait for Redis now.");
    describe_gauge!(REDIS_MAX_BACKLOG, "REDIS_MAX_BACKLOG: most calls that may wait for Redis.");
    describe_gauge!(REDIS_CONNECTIONS, "Live connections to Redis, by server.");
    describe_gauge!(
        REDIS_BREAKER,
        "1 while a Redis server is left alone because it does not answer, else 0."
    );
    describe_counter!(REQUESTS, "Requests, by route, method and status.");
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "Time from the arrival of a request to its answer, by route and method."
    );
    describe_gauge!(CONNECTIONS, "Open connections of clients.");
    describe_gauge!(MAX_CONNECTIONS, "MAX_CONNECTIONS: most open connections of clients.");
    describe_counter!(REFUSED, "Connections of clients that were refused: there were too many.");
    describe_counter!(DROPPED_LINES, "Lines of the log that were not written: nobody read them.");
    describe_counter!(
        SLOW,
        "Connections of clients that were closed because a part took too long: handshake (TLS), \
         head (of a request) or answer (not taken by the client)."
    );
    describe_gauge!(BUILD, "Always 1; the labels tell the version and the compiler.");
}

/// Counts a decision.
pub fn count_decision(algorithm: Algorithm, allowed: bool, source: Source) {
    HOT.decisions[algorithm as usize][usize::from(allowed)][source as usize].increment(1);
}

/// Counts a call that Redis did not decide.
pub fn count_redis_error(kind: &'static str) {
    counter!(REDIS_ERRORS, "kind" => kind).increment(1);
}

/// Counts an answer and its time. Labels are few: `route` is a pattern, `method` is well known.
pub fn count_request(route: &str, method: &'static str, status: u16, time: Duration) {
    HOT.count_answer(route, method, status, time);
}

/// Counts a connection of a client that was refused because there were too many.
pub fn count_refused_connection() {
    HOT.http_refused.increment(1);
}

/// Which part of a connection took a client too long.
#[derive(Debug, Clone, Copy)]
pub enum Slow {
    /// The TLS handshake.
    Handshake,
    /// The head of a request.
    Head,
    /// Taking an answer.
    Answer,
}

impl Slow {
    const ALL: [Self; 3] = [Self::Handshake, Self::Head, Self::Answer];

    const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Head => "head",
            Self::Answer => "answer",
        }
    }
}

/// Counts a connection of a client that was closed because a part of it took too long.
pub fn count_slow_connection(part: Slow) {
    counter!(SLOW, "part" => part.name()).increment(1);
}

/// Counts a connection of a client as open until the result is dropped.
pub fn http_connection() -> Held {
    Held::new(HOT.http_connections.clone(), 1)
}

/// A part of what a gauge shows, for as long as this exists.
#[derive(Debug)]
#[must_use]
pub struct Held {
    gauge: Gauge,
    amount: f64,
}

impl Held {
    fn new(gauge: Gauge, amount: usize) -> Self {
        let amount = amount as f64;
        gauge.increment(amount);
        Self { gauge, amount }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gauge.decrement(self.amount);
    }
}

/// A call to Redis, from being sent until this is dropped, when it was answered or given up.
#[derive(Debug)]
#[must_use]
pub struct RedisCall {
    start: Instant,
    span: Option<RedisSpan>,
    _backlog: Held,
}

impl RedisCall {
    /// Counts so many commands as waiting, which are sent and answered together. A trace shows
    /// them by the name of the `operation`, which has no keys in it.
    pub fn start(commands: usize, operation: impl FnOnce() -> String) -> Self {
        Self {
            start: Instant::now(),
            span: RedisSpan::start(commands, operation),
            _backlog: Held::new(HOT.redis_backlog.clone(), commands),
        }
    }

    /// Shows in the trace that the call failed; counting that is another matter.
    pub fn fail(&mut self, kind: &str) {
        if let Some(span) = &mut self.span {
            span.fail(kind);
        }
    }
}

impl Drop for RedisCall {
    fn drop(&mut self) {
        HOT.redis_seconds.record(self.start.elapsed());
    }
}

/// What is shown of a Redis server.
#[derive(Debug, Clone)]
pub struct RedisNode {
    connections: Gauge,
    breaker_open: Gauge,
}

impl RedisNode {
    /// Shows a server by its address, `host:port` or a path. A server that is gone stays there,
    /// without connections.
    #[must_use]
    pub fn new(address: &str) -> Self {
        let node = Self {
            connections: gauge!(REDIS_CONNECTIONS, "node" => address.to_owned()),
            breaker_open: gauge!(REDIS_BREAKER, "node" => address.to_owned()),
        };
        node.connections.increment(0);
        node.set_breaker_open(false);
        node
    }

    /// Counts a connection as live until the result is dropped.
    pub fn connection(&self) -> Held {
        Held::new(self.connections.clone(), 1)
    }

    /// Shows whether the server is left alone because it does not answer.
    pub fn set_breaker_open(&self, open: bool) {
        self.breaker_open.set(if open { 1 } else { 0 });
    }
}

#[cfg(test)]
mod tests {
    use crate::{quota::Algorithm, store::Source};

    #[test]
    fn decisions_are_counted_by_the_place_of_their_labels() {
        for (place, algorithm) in Algorithm::ALL.into_iter().enumerate() {
            assert_eq!(algorithm as usize, place);
        }
        for (place, source) in Source::ALL.into_iter().enumerate() {
            assert_eq!(source as usize, place);
        }
        // A variant that is missing in ALL would have no place.
        assert!(matches!(Algorithm::ALL[Algorithm::ALL.len() - 1], Algorithm::SlidingWindow));
        assert!(matches!(Source::ALL[Source::ALL.len() - 1], Source::Open));
    }
}
