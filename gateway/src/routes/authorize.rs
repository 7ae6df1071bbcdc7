//! Whom a route lets in.
//!
//! A route is added together with its [`AccessRule`]; there is no way to add one and forget it.

use std::sync::Arc;

use aide::{
    axum::{ApiRouter, routing::ApiMethodRouter},
    openapi::OpenApi,
};
use axum::{
    Router,
    extract::{Request, State},
    http::HeaderMap,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use store::{Check, Millis, Store};

use super::listener_kind::ListenerKind;
use crate::{
    callers::{
        Callers,
        caller::Caller,
        docs::{self, Requirement},
        refusal::Refusal,
        scope::Scope,
    },
    error::Error,
    state::AppState,
    telemetry,
};

/// Whom a route lets in, when not everybody may call.
#[derive(Debug, Clone, Copy)]
pub(super) enum AccessRule {
    /// Everybody, to see whether the service is well.
    Probes,
    /// Callers with this scope, as often as their limit allows.
    Callers(Scope),
    /// Whoever watches the service: everybody, or with METRICS_OPEN=false callers that may read.
    /// However often they ask, since they have to see it also while Redis cannot count.
    Operators,
    /// Callers that may read, at every listener, and however often they ask: to see what the
    /// service does with its clients.
    Inspection,
}

/// Routes, each with whom it lets in.
pub(super) struct Sitemap {
    routes: Vec<(&'static str, AccessRule, ApiMethodRouter<Arc<AppState>>)>,
}

impl Sitemap {
    /// A sitemap without routes.
    pub(super) fn new() -> Self {
        Self { routes: Vec::new() }
    }

    /// Adds a route.
    pub(super) fn route(
        mut self,
        path: &'static str,
        access: AccessRule,
        methods: ApiMethodRouter<Arc<AppState>>,
    ) -> Self {
        self.routes.push((path, access, methods));
        self
    }

    /// Leaves out the routes that are for others than this audience.
    pub(super) fn only_for(mut self, listener: ListenerKind) -> Self {
        self.routes.retain(|(_, access, _)| access.is_for(listener));
        self
    }

    /// The router of all routes, which are added to the description of the API. Everybody may
    /// call, unless the state says who may.
    pub(super) fn finish(
        self,
        document: &mut OpenApi,
        state: Option<&Arc<AppState>>,
    ) -> Router<Arc<AppState>> {
        let callers = state.and_then(|state| state.callers.as_ref());
        let limits = state.filter(|_| callers.is_some()).map(|state| state.store.for_callers());
        let guard = callers.zip(limits.map(Arc::new));
        let mut requirements = Vec::new();
        let mut router = ApiRouter::new();
        for (path, access, mut methods) in self.routes {
            if let Some((callers, limits)) = &guard
                && let Some(requirement) = access.requirement(path, callers)
            {
                let (callers, limits) = (Arc::clone(callers), Arc::clone(limits));
                let authorizer = Arc::new(Authorizer { callers, limits, requirement });
                // Around the handlers alone: a wrong method is a wrong method for everybody.
                methods =
                    methods.route_layer(middleware::from_fn_with_state(authorizer, authorize));
                requirements.push(requirement);
            }
            // The original service takes a slash at the end as well.
            router = router.route(&format!("{path}/"), methods.clone()).api_route(path, methods);
        }
        router.finish_api_with(document, |mut api| {
            if let Some(callers) = callers {
                docs::document(callers, &requirements, api.inner_mut());
            }
            api
        })
    }
}

impl AccessRule {
    /// Returns true when a listener for this audience serves the route.
    fn is_for(self, listener: ListenerKind) -> bool {
        match self {
            Self::Probes | Self::Inspection => true,
            Self::Callers(_) => listener != ListenerKind::Admin,
            Self::Operators => listener != ListenerKind::Clients,
        }
    }

    /// What this asks of callers, if it asks anything.
    fn requirement(self, path: &'static str, callers: &Callers) -> Option<Requirement> {
        match self {
            Self::Probes => None,
            Self::Callers(scope) => Some(Requirement { path, scope, limited: true }),
            Self::Operators if callers.metrics_open() => None,
            Self::Operators | Self::Inspection => {
                Some(Requirement { path, scope: Scope::Read, limited: false })
            }
        }
    }
}

/// What stands before the handlers of a route.
struct Authorizer {
    callers: Arc<Callers>,
    limits: Arc<Store>,
    requirement: Requirement,
}

/// A caller that was let in. Handlers find it among the extensions of a request.
#[derive(Debug, Clone)]
pub(super) struct AuthorizedCaller {
    caller: Arc<Caller>,
    limits: Arc<Store>,
}

/// Lets a request in, or answers it.
async fn authorize(
    State(authorizer): State<Arc<Authorizer>>,
    mut request: Request,
    next: Next,
) -> Response {
    match authorizer.examine(request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

impl Authorizer {
    /// Finds out who calls, and whether that caller may come in now. Looks at nothing but the head
    /// of the request.
    async fn examine(&self, headers: &HeaderMap) -> Result<AuthorizedCaller, Error> {
        let caller = self.callers.identify(headers).map_err(|refusal| {
            telemetry::log_refusal(refusal.name());
            telemetry::count_auth_failure(refusal.name());
            Error::Unauthenticated { shown: refusal != Refusal::Missing }
        })?;
        telemetry::log_caller(caller.to_string());
        if !caller.has(self.requirement.scope) {
            return Err(Error::Forbidden(self.requirement.scope));
        }
        let caller = AuthorizedCaller { caller, limits: Arc::clone(&self.limits) };
        if self.requirement.limited {
            caller.count(1).await?;
        }
        Ok(caller)
    }
}

impl AuthorizedCaller {
    /// Most requests that the caller may ever make at once.
    pub(super) fn most_requests(&self) -> usize {
        let quota = self.caller.quota();
        quota.map_or(usize::MAX, |quota| usize::try_from(quota.limit).unwrap_or(usize::MAX))
    }

    /// Counts a request, which was let in as one, as so many. Whoever comes back when it is told
    /// to is counted as one again, and needs the time for that one, too.
    ///
    /// # Errors
    ///
    /// When the caller asks more often than it may, or that cannot be found out.
    pub(super) async fn count_as(&self, requests: usize) -> Result<(), Error> {
        let more = u32::try_from(requests.saturating_sub(1)).unwrap_or(u32::MAX);
        if more == 0 {
            return Ok(());
        }
        self.count(more).await.map_err(|error| match (error, self.caller.quota()) {
            (Error::CallerLimited(wait), Some(quota)) => {
                let one = quota.window.0.div_ceil(quota.limit.into());
                Error::CallerLimited(Millis(wait.0.saturating_add(one)))
            }
            (error, _) => error,
        })
    }

    async fn count(&self, requests: u32) -> Result<(), Error> {
        let Some(quota) = self.caller.quota() else { return Ok(()) };
        let check = Check { identifier: self.caller.to_string(), quota, cost: requests };
        // A caller's limit keeps every rule of the module: none is refused.
        let decided = self.limits.check(&check).await;
        let decision = decided.map_err(|error| Error::without_answer(&error))?;
        if decision.allowed {
            Ok(())
        } else {
            telemetry::count_limited_caller();
            Err(Error::CallerLimited(decision.retry_after))
        }
    }
}
