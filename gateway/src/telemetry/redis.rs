//! What is shown of Redis: its servers, and the calls to them.

use std::{sync::LazyLock, time::Instant};

use metrics::{
    Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use super::{metrics::Held, traces::RedisSpan};
use crate::store;

const ERRORS: &str = "ratelimit_redis_errors_total";
const SECONDS: &str = "ratelimit_redis_call_duration_seconds";
const BACKLOG: &str = "ratelimit_redis_backlog";
const MAX_BACKLOG: &str = "ratelimit_redis_max_backlog";
const CONNECTIONS: &str = "ratelimit_redis_connections";
const BREAKER: &str = "ratelimit_redis_breaker_open";

static CALLS: LazyLock<Calls> =
    LazyLock::new(|| Calls { seconds: histogram!(SECONDS), backlog: gauge!(BACKLOG) });

/// What is shown of all calls together.
struct Calls {
    seconds: Histogram,
    backlog: Gauge,
}

/// Shows what there is before the first call. At most `max_backlog` calls wait at once.
pub(super) fn start(max_backlog: usize) {
    describe_counter!(ERRORS, "Calls that Redis did not decide, by kind of error.");
    describe_histogram!(
        SECONDS,
        Unit::Seconds,
        "Time from sending a call to Redis to its answer or its end without one."
    );
    describe_gauge!(BACKLOG, "Calls that wait for Redis now.");
    describe_gauge!(MAX_BACKLOG, "REDIS_MAX_BACKLOG: most calls that may wait for Redis.");
    describe_gauge!(CONNECTIONS, "Live connections to Redis, by server.");
    describe_gauge!(
        BREAKER,
        "1 while a Redis server is left alone because it does not answer, else 0."
    );
    LazyLock::force(&CALLS);
    gauge!(MAX_BACKLOG).set(max_backlog as f64);
    for kind in store::error_kinds() {
        counter!(ERRORS, "kind" => kind).increment(0);
    }
}

/// Counts a call that Redis did not decide.
pub fn count_redis_error(kind: &'static str) {
    counter!(ERRORS, "kind" => kind).increment(1);
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
            _backlog: Held::new(CALLS.backlog.clone(), commands),
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
        CALLS.seconds.record(self.start.elapsed());
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
            connections: gauge!(CONNECTIONS, "node" => address.to_owned()),
            breaker_open: gauge!(BREAKER, "node" => address.to_owned()),
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
