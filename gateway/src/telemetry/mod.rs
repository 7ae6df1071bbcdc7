//! What operators see: the log and the metrics. Neither ever holds an identifier, except a log
//! at DEBUG or below.

mod log;
mod metrics;

pub use self::{
    log::start_log,
    metrics::{
        Capacities, Held, Metrics, RedisCall, RedisNode, count_decision, count_redis_error,
        count_refused_connection, count_request, http_connection, start_metrics,
    },
};
