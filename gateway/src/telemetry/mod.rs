//! What operators see: the log, the metrics and the traces. None of them ever holds an identifier,
//! except a log at DEBUG or below.

mod callers;
mod gauge_guard;
mod http;
mod line;
mod log;
mod metrics;
mod scope;
mod traces;

pub(crate) use self::{
    callers::{count_auth_failure, count_limited_caller},
    scope::{ClientAddress, Scope, log_caller, log_refusal},
    traces::RequestSpan,
};
pub use self::{
    gauge_guard::GaugeGuard,
    http::{Slow, count_refused_connection, count_request, count_slow_connection, http_connection},
    line::LogFormat,
    log::{Log, start_log},
    metrics::{Metrics, start_metrics},
    traces::{TraceOptions, Traces, start_traces},
};
