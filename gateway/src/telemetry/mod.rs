//! What operators see: the log, the metrics and the traces. None of them ever holds an identifier,
//! except a log at DEBUG or below.

mod log;
mod metrics;
mod traces;

pub(crate) use self::traces::RequestSpan;
pub use self::{
    log::{Log, start_log},
    metrics::{
        Capacities, Held, Metrics, RedisCall, RedisNode, Slow, count_decision, count_redis_error,
        count_refused_connection, count_request, count_slow_connection, http_connection,
        start_metrics,
    },
    traces::{Traces, start_traces},
};
