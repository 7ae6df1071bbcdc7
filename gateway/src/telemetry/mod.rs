//! What operators see: the log, the metrics and the traces. None of them ever holds an identifier,
//! except a log at DEBUG or below.

mod callers;
mod decisions;
mod http;
mod line;
mod log;
mod metrics;
mod recurrence;
mod redis;
mod scope;
mod traces;

pub(crate) use self::{
    callers::{count_auth_failure, count_limited_caller},
    decisions::count_no_room,
    recurrence::{Recurrence, Sums},
    scope::{ClientAddress, Scope, log_caller, log_refusal},
    traces::RequestSpan,
};
pub use self::{
    decisions::count_decision,
    http::{Slow, count_refused_connection, count_request, count_slow_connection, http_connection},
    log::{Log, start_log},
    metrics::{Capacities, Held, Metrics, start_metrics},
    redis::{RedisCall, RedisNode, count_redis_error},
    traces::{Traces, start_traces},
};
