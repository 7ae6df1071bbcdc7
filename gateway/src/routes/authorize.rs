//! The access rules of the routes, and the authorization of requests.
//!
//! The sitemap takes a route only together with its [`AccessRule`], so that no route lacks one.

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
use limiter::Units;
use serde_json::Value;
use store::{Check, Refund, Store};

use super::listener_kind::ListenerKind;
use crate::{
    callers::{
        Callers,
        caller::{CALLER_ALGORITHM, Caller},
        docs::{self, Requirement},
        refusal::Refusal,
        scope::Scope,
    },
    error::Error,
    request::field_error::{BrokenRule, Place},
    state::AppState,
    telemetry,
};

/// The requests that a route accepts when callers need a key or a token.
#[derive(Debug, Clone, Copy)]
pub(super) enum AccessRule {
    /// All requests: probes of the health of the service.
    Probes,
    /// Requests of callers with this scope, within the limit of the caller.
    Callers(Scope),
    /// Requests of callers with this scope, each of which counts as many: the handler counts them all
    /// at once, after it has read their number.
    CallersOfMany(Scope),
    /// All requests, or with METRICS_OPEN=false those of callers with the scope `read`. The limit of
    /// a caller does not hold: operators need an answer also while Redis cannot count.
    Operators,
    /// Requests of callers with the scope `read`, at every listener, without the limit of a caller.
    Inspection,
}

/// Routes, each with its access rule.
pub(super) struct Sitemap {
    routes: Vec<(&'static str, AccessRule, ApiMethodRouter<Arc<AppState>>)>,
}

impl Sitemap {
    /// Returns a sitemap without routes.
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

    /// Removes the routes that this listener does not serve.
    pub(super) fn only_for(mut self, listener: ListenerKind) -> Self {
        self.routes.retain(|(_, access, _)| access.is_for(listener));
        self
    }

    /// Returns the router of all routes, and adds the routes to the description of the API. Without
    /// callers in the state any client may call.
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
                let cost = access.cost_of_authorization();
                let authorizer = Arc::new(Authorizer { callers, limits, requirement, cost });
                // Around the handlers alone: a wrong method has status 405 also without a key.
                methods =
                    methods.route_layer(middleware::from_fn_with_state(authorizer, authorize));
                requirements.push(requirement);
            }
            // The original service accepts a slash at the end, too.
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
    /// Returns true when this listener serves the route.
    fn is_for(self, listener: ListenerKind) -> bool {
        match self {
            Self::Probes | Self::Inspection => true,
            Self::Callers(_) | Self::CallersOfMany(_) => listener != ListenerKind::Admin,
            Self::Operators => listener != ListenerKind::Clients,
        }
    }

    /// Returns the requirement for callers, if there is one.
    fn requirement(self, path: &'static str, callers: &Callers) -> Option<Requirement> {
        match self {
            Self::Probes => None,
            Self::Callers(scope) | Self::CallersOfMany(scope) => {
                Some(Requirement { path, scope, limited: true })
            }
            Self::Operators if callers.metrics_open() => None,
            Self::Operators | Self::Inspection => {
                Some(Requirement { path, scope: Scope::Read, limited: false })
            }
        }
    }

    /// Returns the units that the authorization of a request takes from the limit of its caller.
    const fn cost_of_authorization(self) -> u32 {
        match self {
            Self::CallersOfMany(_) => 0,
            Self::Probes | Self::Callers(_) | Self::Operators | Self::Inspection => 1,
        }
    }
}

/// The middleware of a route that callers need a scope for.
struct Authorizer {
    callers: Arc<Callers>,
    limits: Arc<Store>,
    requirement: Requirement,
    /// Units that the authorization takes from the limit of the caller. With 0 it takes nothing, and
    /// requires that one unit is left.
    cost: u32,
}

/// The caller of an authorized request. Handlers find it among the extensions of the request.
#[derive(Debug, Clone)]
pub(super) struct AuthorizedCaller {
    caller: Arc<Caller>,
    limits: Arc<Store>,
}

/// Passes an authorized request on, and answers any other request with its error.
async fn authorize(
    State(authorizer): State<Arc<Authorizer>>,
    mut request: Request,
    next: Next,
) -> Response {
    match authorizer.authorize(request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

impl Authorizer {
    /// Identifies the caller, tests its scope, and counts the request against its limit. Reads only
    /// the head of the request.
    async fn authorize(&self, headers: &HeaderMap) -> Result<AuthorizedCaller, Error> {
        let caller = self.callers.identify(headers).map_err(|refusal| {
            telemetry::log_refusal(refusal.name());
            telemetry::count_auth_failure(refusal.name());
            Error::Unauthenticated { has_credential: refusal != Refusal::Missing }
        })?;
        telemetry::log_caller(caller.to_string());
        let caller = AuthorizedCaller { caller, limits: Arc::clone(&self.limits) };
        caller.require(self.requirement.scope)?;
        if self.requirement.limited {
            caller.count(self.cost).await?;
        }
        Ok(caller)
    }
}

impl AuthorizedCaller {
    /// Returns the largest number of limits that the limit of the caller allows at once.
    pub(super) fn most_limits(&self) -> usize {
        let quota = self.caller.quota();
        quota.map_or(usize::MAX, |quota| usize::try_from(quota.limit().get()).unwrap_or(usize::MAX))
    }

    /// Returns an error unless the caller has this scope.
    pub(super) fn require(&self, scope: Scope) -> Result<(), Error> {
        if self.caller.has(scope) { Ok(()) } else { Err(Error::Forbidden(scope)) }
    }

    /// Counts this number of limits, all or none of them.
    ///
    /// # Errors
    ///
    /// When the caller exceeds its limit, or when the store cannot decide; [`Error::Internal`] for a
    /// number that no batch can have.
    pub(super) async fn count_all(&self, limits: usize) -> Result<(), Error> {
        let limits = u32::try_from(limits).map_err(|_| Error::Internal)?;
        self.count(limits).await
    }

    /// Counts the limits of a request, of which the authorization has counted one. If they are too many
    /// now, that one is given back, so that the caller can make room by waiting.
    ///
    /// # Errors
    ///
    /// As [`Self::count_all`], and for a request that the limit of the caller can never allow.
    pub(super) async fn count_limits(&self, limits: usize) -> Result<(), Error> {
        if limits <= 1 {
            return Ok(());
        }
        let most = self.most_limits();
        let counted = match limits <= most {
            true => self.count_all(limits - 1).await,
            false => Err(too_many_limits(vec![Place::Name("body")], most, limits)),
        };
        if counted.is_err() {
            let (identifier, algorithm) = (self.caller.to_string(), CALLER_ALGORITHM);
            let refund = Refund { identifier, algorithm, amount: Units::MIN };
            // Where the store cannot give the unit back, the unit returns with time.
            let _ = self.limits.refund(&refund).await;
        }
        counted
    }

    /// Counts limits. With 0 it counts nothing, and fails unless the limit has room for one.
    async fn count(&self, limits: u32) -> Result<(), Error> {
        let Some(quota) = self.caller.quota() else { return Ok(()) };
        let (identifier, quota) = (self.caller.to_string(), quota.into());
        let check = Check { identifier, quota, cost: limits, force: false };
        // The limit of a caller is within the bounds of the module, so the module never refuses it.
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

/// Returns the error of checks at `loc` that have more limits than the bound of all of them together.
pub(super) fn too_many_limits(loc: Vec<Place>, most: usize, limits: usize) -> Error {
    let rule =
        format!("Value error, all checks together must have at most {most} limits, not {limits}");
    Error::Invalid(vec![BrokenRule::new("value_error", rule).at(loc, Value::Null)])
}
