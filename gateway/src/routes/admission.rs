//! Whom a route lets in.
//!
//! A route is added together with its [`Access`]; there is no way to add one and forget it.

use std::sync::Arc;

use aide::{
    axum::{ApiRouter, routing::ApiMethodRouter},
    openapi::OpenApi,
};
use axum::{
    Router,
    body::HttpBody,
    extract::{Request, State},
    http::HeaderMap,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tracing::{Span, field::display};

use super::body;
use crate::{
    AppState,
    callers::{self, Caller, Callers, Refusal, Requirement, Scope},
    error::Error,
    telemetry,
};

/// Whom a route lets in, when not everybody may call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Access {
    /// Everybody.
    Everybody,
    /// Callers with this scope, as often as their limit allows.
    Callers(Scope),
    /// Whoever watches the service: everybody, or with METRICS_OPEN=false callers that may read.
    /// However often they ask, since they have to see it also while Redis cannot count.
    Operators,
}

/// Routes, each with whom it lets in.
pub(super) struct Sitemap {
    routes: Vec<(&'static str, Access, ApiMethodRouter<Arc<AppState>>)>,
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
        access: Access,
        methods: ApiMethodRouter<Arc<AppState>>,
    ) -> Self {
        self.routes.push((path, access, methods));
        self
    }

    /// The router of all routes, which are added to the description of the API. Everybody may
    /// call, unless the state says who may.
    pub(super) fn finish(
        self,
        document: &mut OpenApi,
        state: Option<&Arc<AppState>>,
    ) -> Router<Arc<AppState>> {
        let callers = state.and_then(|state| Some((state, state.callers.as_ref()?)));
        let mut requirements = Vec::new();
        let mut router = ApiRouter::new();
        for (path, access, mut methods) in self.routes {
            if let Some((state, callers)) = callers
                && let Some(requirement) = access.requirement(path, callers)
            {
                let gate = Arc::new(Gate { state: Arc::clone(state), requirement });
                // Around the handlers alone: a wrong method is a wrong method for everybody.
                methods = methods.route_layer(middleware::from_fn_with_state(gate, admit));
                requirements.push(requirement);
            }
            router = router.api_route(path, methods);
        }
        router.finish_api_with(document, |mut api| {
            if let Some((_, callers)) = callers {
                callers::document(callers, &requirements, api.inner_mut());
            }
            api
        })
    }
}

impl Access {
    /// What this asks of callers, if it asks anything.
    fn requirement(self, path: &'static str, callers: &Callers) -> Option<Requirement> {
        match self {
            Self::Everybody => None,
            Self::Callers(scope) => Some(Requirement { path, scope, limited: true }),
            Self::Operators if callers.metrics_open() => None,
            Self::Operators => Some(Requirement { path, scope: Scope::Read, limited: false }),
        }
    }
}

/// What stands before the handlers of a route.
struct Gate {
    state: Arc<AppState>,
    requirement: Requirement,
}

/// Lets a request in, or answers it.
async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    match gate.examine(request.headers()) {
        Ok(_) => next.run(request).await,
        Err(error) => {
            let body = request.into_body();
            if !body.is_end_stream() {
                // Not waited for: the answer depends on nothing in it.
                tokio::spawn(body::discard(body));
            }
            error.into_response()
        }
    }
}

impl Gate {
    /// Finds out who calls, and whether that caller may come in. Looks at nothing but the head of
    /// the request.
    fn examine(&self, headers: &HeaderMap) -> Result<Option<Arc<Caller>>, Error> {
        let Some(callers) = &self.state.callers else { return Ok(None) };
        let caller = callers.identify(headers).map_err(|refusal| {
            Span::current().record("refusal", refusal.name());
            telemetry::count_auth_failure(refusal);
            Error::Unauthenticated { shown: refusal != Refusal::Missing }
        })?;
        Span::current().record("caller", display(&caller));
        if caller.has(self.requirement.scope) {
            Ok(Some(caller))
        } else {
            Err(Error::Forbidden(self.requirement.scope))
        }
    }
}
