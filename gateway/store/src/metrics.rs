//! The metrics of the store: decisions, errors of Redis, calls and connections to Redis.
//!
//! The recorder of the process collects them through the `metrics` facade. A metric that every check
//! changes is looked up once, because a lookup by labels takes ten times as long as a count.

use std::sync::LazyLock;

use limiter::Algorithm;
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use crate::{decision::Source, limit_kind::CONCURRENCY};

const DECISIONS: &str = "ratelimit_decisions_total";
const NO_ROOM: &str = "ratelimit_local_no_room_total";
const PARTIAL: &str = "ratelimit_partial_decisions_total";
const ERRORS: &str = "ratelimit_redis_errors_total";
const MAX_BACKLOG: &str = "ratelimit_redis_max_backlog";
const CONNECTIONS: &str = "ratelimit_redis_connections";
const BREAKER: &str = "ratelimit_redis_breaker_open";
const CALL_SECONDS: &str = "ratelimit_redis_call_duration_seconds";
const BACKLOG: &str = "ratelimit_redis_backlog";

/// The metrics of all calls to Redis together.
pub(crate) static CALLS: LazyLock<CallMetrics> =
    LazyLock::new(|| CallMetrics { seconds: histogram!(CALL_SECONDS), backlog: gauge!(BACKLOG) });

/// The metrics of calls to Redis.
pub(crate) struct CallMetrics {
    pub(crate) seconds: Histogram,
    pub(crate) backlog: Gauge,
}

type DecisionCounters = [[[Counter; Source::ALL.len()]; 2]; Algorithm::ALL.len()];

/// By algorithm, outcome (denied, allowed) and source, each in the order of its `ALL`.
static DECISION_COUNTERS: LazyLock<DecisionCounters> = LazyLock::new(|| {
    let counter = |algorithm: Algorithm, outcome: &'static str, source: Source| {
        counter!(DECISIONS, "algorithm" => algorithm.name(), "outcome" => outcome,
            "source" => source.name())
    };
    Algorithm::ALL.map(|algorithm| {
        ["denied", "allowed"]
            .map(|outcome| Source::ALL.map(|source| counter(algorithm, outcome, source)))
    })
});

/// The decisions on leases by outcome (denied, allowed) and source, each in the order of its `ALL`.
static LEASE_COUNTERS: LazyLock<[[Counter; Source::ALL.len()]; 2]> = LazyLock::new(|| {
    ["denied", "allowed"].map(|outcome| {
        Source::ALL.map(|source| {
            counter!(DECISIONS, "algorithm" => CONCURRENCY, "outcome" => outcome,
                "source" => source.name())
        })
    })
});

/// Describes all metrics, and registers each with 0.
pub(crate) fn register(max_backlog: usize, error_kinds: impl Iterator<Item = &'static str>) {
    describe_counter!(
        DECISIONS,
        "Checks and requests for leases that were decided, by algorithm, outcome, and source: redis, local (this process), \
         cache (an earlier denial) or open (no decision: Redis could not answer)."
    );
    describe_counter!(
        NO_ROOM,
        "Checks that this process denied because LOCAL_MAX_KEYS is taken by quotas that deny."
    );
    describe_counter!(
        PARTIAL,
        "Checks of limits in several slots that took units of some of them only: they gave the units \
         back, or lost them where a server did not answer."
    );
    describe_counter!(ERRORS, "Calls that Redis did not decide, by kind of error.");
    describe_histogram!(
        CALL_SECONDS,
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
    LazyLock::force(&DECISION_COUNTERS);
    LazyLock::force(&LEASE_COUNTERS);
    counter!(NO_ROOM).increment(0);
    counter!(PARTIAL).increment(0);
    LazyLock::force(&CALLS);
    gauge!(MAX_BACKLOG).set(max_backlog as f64);
    for kind in error_kinds {
        counter!(ERRORS, "kind" => kind).increment(0);
    }
}

/// Counts a decision.
pub fn count_decision(algorithm: Algorithm, allowed: bool, source: Source) {
    DECISION_COUNTERS[algorithm as usize][usize::from(allowed)][source as usize].increment(1);
}

/// Counts a decision on a lease.
pub fn count_lease_decision(allowed: bool, source: Source) {
    LEASE_COUNTERS[usize::from(allowed)][source as usize].increment(1);
}

/// Counts a check that was denied because the local store has no room for its quota.
pub(crate) fn count_no_room() {
    counter!(NO_ROOM).increment(1);
}

/// Counts a check that took units of some limits and gave them back.
pub(crate) fn count_partial_decision() {
    counter!(PARTIAL).increment(1);
}

/// Counts a call that Redis did not decide.
pub(crate) fn count_redis_error(kind: &'static str) {
    counter!(ERRORS, "kind" => kind).increment(1);
}

/// The gauges of a Redis server.
#[derive(Debug, Clone)]
pub(crate) struct NodeGauges {
    connections: Gauge,
    breaker_open: Gauge,
}

impl NodeGauges {
    /// Registers the gauges of a server by its address, `host:port` or a path. The gauges of a
    /// server that is gone remain, without connections.
    pub(crate) fn new(address: &str) -> Self {
        let node = Self {
            connections: gauge!(CONNECTIONS, "node" => address.to_owned()),
            breaker_open: gauge!(BREAKER, "node" => address.to_owned()),
        };
        node.connections.increment(0);
        node.set_breaker_open(false);
        node
    }

    /// Counts a connection as live until the result is dropped.
    pub(crate) fn connection(&self) -> GaugeGuard {
        GaugeGuard::new(self.connections.clone(), 1)
    }

    /// Sets whether calls to the server fail at once because the server does not answer.
    pub(crate) fn set_breaker_open(&self, open: bool) {
        self.breaker_open.set(if open { 1 } else { 0 });
    }
}

/// Increments a gauge, and decrements it when this guard is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct GaugeGuard {
    gauge: Gauge,
    amount: f64,
}

impl GaugeGuard {
    pub(crate) fn new(gauge: Gauge, amount: usize) -> Self {
        let amount = amount as f64;
        gauge.increment(amount);
        Self { gauge, amount }
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.gauge.decrement(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use limiter::Algorithm;

    use crate::decision::Source;

    #[test]
    fn decisions_are_counted_by_the_place_of_their_labels() {
        for (place, algorithm) in Algorithm::ALL.into_iter().enumerate() {
            assert_eq!(algorithm as usize, place);
        }
        for (place, source) in Source::ALL.into_iter().enumerate() {
            assert_eq!(source as usize, place);
        }
        // A variant that is missing in ALL would have no place.
        assert!(matches!(Source::ALL[Source::ALL.len() - 1], Source::Open));
    }
}
