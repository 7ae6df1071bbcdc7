//! The log, the metrics and the traces. None of them has the identifier of a request, except a log
//! at DEBUG or below, and the log of decisions.

mod answer_metrics;
mod callers;
mod gauge_guard;
#[cfg(feature = "envoy")]
mod grpc;
mod http;
mod line;
mod log;
mod log_context;
mod metrics;
mod process;
mod request_id;
mod request_span;
mod trace_client;
mod traces;

#[cfg(feature = "envoy")]
pub(crate) use self::grpc::{
    count_grpc_request, count_ignored_limit, count_refused_grpc_connection, grpc_connection,
    start_grpc_metrics,
};
pub(crate) use self::{
    callers::{count_auth_failure, count_deadline, count_limited_caller},
    log::log_line,
    log_context::{
        ClientAddress, LogContext, current_request_id, log_caller, log_policy, log_refusal,
    },
    request_id::RequestId,
    request_span::RequestSpan,
};
pub use self::{
    gauge_guard::GaugeGuard,
    http::{
        SlowPart, count_failed_handshake, count_refused_connection, count_request,
        count_slow_connection, http_connection,
    },
    line::LogFormat,
    log::{Log, start_log},
    metrics::{Metrics, Series, start_metrics},
    traces::{TraceOptions, Traces, start_traces},
};
