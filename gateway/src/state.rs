//! The state that handlers share.

use std::sync::Arc;

use axum::http::StatusCode;
use store::Store;

use crate::{
    authz::Authz,
    callers::Callers,
    error::Error,
    head::Origins,
    policy_file::{PolicyFile, decisions::PolicyDecisions},
    request::fields::Defaults,
    server::stopping::Stopping,
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
    /// The policies, if there is a file of policies.
    pub policies: Option<PolicyFile>,
    /// The numbers of decisions by the policies.
    pub policy_decisions: Arc<PolicyDecisions>,
    /// The options and the log of forward authentication.
    pub authz: Authz,
    /// True if callers may send limits of their own.
    pub inline_limits: bool,
    /// The part that decides.
    pub store: Arc<Store>,
    /// The metrics of the process.
    pub metrics: Metrics,
    /// True when the process is about to end.
    pub stopping: Stopping,
}

impl AppState {
    /// Returns an error unless callers may send limits of their own.
    pub(crate) const fn require_inline_limits(&self) -> Result<(), Error> {
        if self.inline_limits { Ok(()) } else { Err(Error::InlineLimits) }
    }
}
