//! The gateway as the services need it.

use std::{fmt, sync::Arc};

use axum::http::{Extensions, HeaderMap};
use envoy::{
    answer::RateLimitAnswer,
    call::RateLimitCall,
    gateway::{Caller, Fault, Gateway},
    original_request::{AuthorizationAnswer, OriginalRequest},
};
use store::FailMode;

use super::{authorization, call_record::CallRecord, caller, rate_limit};
use crate::{callers::scope::Scope, state::AppState, telemetry::ClientAddress};

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
}

impl Gateway for Services {
    type Record = CallRecord;

    fn record(
        &self,
        method: Option<&'static str>,
        metadata: &HeaderMap,
        connection: &Extensions,
    ) -> CallRecord {
        let address = caller::peer(connection).address;
        let client = address.filter(|_| self.options.logs_callers).map(ClientAddress);
        CallRecord::begin(method, metadata, client)
    }

    async fn limit(&self, caller: Caller, call: RateLimitCall) -> Result<RateLimitAnswer, Fault> {
        caller::require(&self.state, &caller, Scope::Check)?;
        if call.descriptors.iter().any(|descriptor| descriptor.hits.is_refund) {
            caller::require(&self.state, &caller, Scope::Reset)?;
        }
        rate_limit::decide(&self.state, self.options.fail_mode, &call).await
    }

    async fn authorize(
        &self,
        caller: Caller,
        request: OriginalRequest,
    ) -> Result<AuthorizationAnswer, Fault> {
        caller::require(&self.state, &caller, Scope::Check)?;
        Ok(authorization::decide(&self.state, &request).await)
    }

    /// As `/health/ready`.
    async fn is_ready(&self) -> bool {
        let AppState { store, stopping, .. } = &*self.state;
        !stopping.has_begun() && (store.probe().await.is_ok() || store.decides_without_redis())
    }

    fn needs_credentials(&self) -> bool {
        self.state.callers.is_some()
    }
}
