//! The state that handlers share.

use std::sync::Arc;

use axum::http::StatusCode;
use store::Store;

use crate::{
    callers::Callers, head::Origins, request::fields::Defaults, server::stopping::Stopping,
    telemetry::Metrics,
};

/// The state that handlers share.
#[derive(Debug)]
pub struct AppState {
    /// The quota of a request that leaves it out.
    pub defaults: Defaults,
    /// The status of a denial.
    pub deny_status: StatusCode,
    /// The origins whose pages may call from a browser.
    pub allowed_origins: Origins,
    /// The callers; `None` lets any client call.
    pub callers: Option<Arc<Callers>>,
    /// The part that decides.
    pub store: Store,
    /// The metrics of the process.
    pub metrics: Metrics,
    /// True when the process is about to end.
    pub stopping: Stopping,
}
