//! The gateway as the services need it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use envoy::{
    answer::RateLimitAnswer,
    call::RateLimitCall,
    gateway::{Caller, Fault, Gateway},
    original_request::{Authorization, AuthorizationAnswer, OriginalRequest},
};
use store::FailMode;
use tracing::info;

use super::{authorization, caller, rate_limit};
use crate::{
    callers::scope::Scope,
    headers::REQUEST_ID,
    state::AppState,
    telemetry::{self, ClientAddress, LogContext, RequestId},
};

/// The gateway as the services need it.
pub(super) struct Services {
    state: Arc<AppState>,
    options: ServiceOptions,
}

/// The options of the services.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServiceOptions {
    /// The fail mode of policies without one.
    pub(super) fail_mode: FailMode,
    /// True when log lines have the addresses of callers.
    pub(super) logs_callers: bool,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

impl Services {
    pub(super) fn new(state: Arc<AppState>, options: ServiceOptions) -> Self {
        Self { state, options }
    }

    /// Runs work whose log lines have the id of a call, and the address of its caller if the log must
    /// have it.
    async fn in_log<F: Future>(&self, caller: &Caller, work: F) -> F::Output {
        let address = caller::peer(caller).address;
        let client = address.filter(|_| self.options.logs_callers).map(ClientAddress);
        let id = RequestId::of(caller.metadata.get(REQUEST_ID));
        LogContext::new(id, None, client).attach(work).await
    }
}

impl Gateway for Services {
    async fn limit(&self, caller: Caller, call: RateLimitCall) -> Result<RateLimitAnswer, Fault> {
        let start = Instant::now();
        let gives_back = call.descriptors.iter().any(|descriptor| descriptor.hits.is_refund);
        let decide = async {
            caller::require(&self.state, &caller, Scope::Check)?;
            if gives_back {
                caller::require(&self.state, &caller, Scope::Reset)?;
            }
            rate_limit::decide(&self.state, self.options.fail_mode, &call).await
        };
        self.in_log(&caller, async {
            let answer = decide.await;
            let allowed = answer.as_ref().ok().map(|answer| answer.allowed);
            log("ShouldRateLimit", allowed, answer.as_ref().err(), start);
            answer
        })
        .await
    }

    async fn authorize(
        &self,
        caller: Caller,
        request: OriginalRequest,
    ) -> Result<AuthorizationAnswer, Fault> {
        let start = Instant::now();
        let decide = async {
            caller::require(&self.state, &caller, Scope::Check)?;
            Ok(authorization::decide(&self.state, &request).await)
        };
        self.in_log(&caller, async {
            let answer = decide.await;
            let allowed = answer.as_ref().ok().and_then(|answer| match answer.decision {
                Authorization::Allowed => Some(true),
                Authorization::Denied(_) => Some(false),
                Authorization::Failed(_) => None,
            });
            log("Check", allowed, answer.as_ref().err(), start);
            answer
        })
        .await
    }

    /// As `/health/ready`.
    async fn is_ready(&self) -> bool {
        let AppState { store, stopping, .. } = &*self.state;
        !stopping.has_begun() && (store.probe().await.is_ok() || store.decides_without_redis())
    }

    fn needs_credentials(&self) -> bool {
        self.state.callers.is_some()
    }

    fn record(&self, method: &'static str, code: &'static str, time: Duration) {
        telemetry::count_grpc_request(method, code, time);
    }
}

/// Writes the line about a call.
fn log(method: &str, allowed: Option<bool>, fault: Option<&Fault>, start: Instant) {
    let time_ms = start.elapsed().as_micros() as f64 / 1_000.0;
    match fault {
        None => info!(method, route = "grpc", time_ms, allowed, "answered"),
        Some(fault) => info!(method, route = "grpc", time_ms, error = %fault, "answered"),
    }
}
