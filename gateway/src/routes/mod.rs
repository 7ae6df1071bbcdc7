//! The sitemap: every route, and its access rule.

mod answer_text;
mod authorize;
mod batch;
mod body;
mod check;
mod check_answer;
mod check_leases;
mod check_reader;
pub(crate) mod completion;
mod explain;
mod health;
mod held_leases;
mod lease;
mod lease_list;
mod leases;
pub(crate) mod limits_answer;
pub(crate) mod listener_kind;
mod metrics;
mod pages;
mod path;
mod policies;
mod policy_states;
mod refund;
mod reserve;
mod reset;
mod settle;
mod status;
mod top;
mod work;

use std::sync::Arc;

use aide::{
    axum::routing::{delete_with, get_with, post_with, put_with},
    openapi::OpenApi,
};
use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    http::{Method, Request},
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, future::BoxFuture};
use tower::ServiceExt;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use self::{
    authorize::{AccessRule, Sitemap},
    check::CheckBody,
    listener_kind::ListenerKind,
};
use crate::{
    authz::{proxies::Peer, service::AuthzService},
    callers::scope::Scope,
    error::Error,
    head::{self, Origins},
    headers, openapi,
    request_log::{self, Answer, PageRules, Pattern},
    state::AppState,
};

/// The path of checks.
const CHECK_PATH: &str = "/rate-limit/check";

/// The routes of a listener, with the request log.
#[derive(Debug, Clone)]
pub struct App {
    router: Router,
    /// The part that answers checks without the router.
    direct: Option<Arc<DirectChecks>>,
    /// The part that answers the paths of forward authentication, to which no rule of the router applies.
    authz: AuthzService,
}

/// The route of checks, which nearly all requests are for. The router spends as much time on a request
/// as the check takes: it boxes futures and stores the path that it has found.
#[derive(Debug)]
struct DirectChecks {
    state: Arc<AppState>,
    pages: Arc<PageRules>,
}

impl App {
    /// Returns the answer to a request from the other end of a connection.
    ///
    /// The answer is in a box: a connection has room for its future, also while the connection is idle.
    pub(crate) fn answer<B>(&self, request: Request<B>, peer: Peer) -> BoxFuture<'_, Response>
    where
        B: HttpBody<Data = Bytes, Error: std::error::Error + Send + Sync + 'static>
            + Unpin
            + Send
            + 'static,
    {
        if self.authz.answers(&request) {
            return self.authz.answer(request, peer).boxed();
        }
        if !head::is_within_bounds(&request) {
            let answer = async |_| Error::HeadTooLarge.into_response().into();
            return request_log::record(request, Pattern::None, answer).boxed();
        }
        match self.direct.as_ref().filter(|_| is_plain_check(&request)) {
            Some(direct) => {
                let answer = |request| direct.answer(request);
                request_log::record(request, Pattern::Direct(CHECK_PATH), answer).boxed()
            }
            None => {
                let answer = self.router.clone().oneshot(request.map(Body::new));
                answer.map(|answer| answer.unwrap_or_else(|never| match never {})).boxed()
            }
        }
    }
}

impl DirectChecks {
    /// Returns the answer to a check. Its future does not keep the head of the request.
    fn answer<B>(&self, request: Request<B>) -> impl Future<Output = Answer>
    where
        B: HttpBody<Data = Bytes, Error: std::error::Error + 'static> + Unpin,
    {
        let head = head::check(&request, &self.pages.origins);
        let body = request.into_body();
        async move {
            let answer = async {
                head?;
                let check = CheckBody::read(body, &self.state).await?;
                check::decide(&self.state, check).await
            };
            match answer.await {
                Ok((response, decision)) => Answer::to_check(response, decision),
                Err(error) => error.into_response().into(),
            }
        }
    }
}

/// Returns true for a check that no page of a browser sends.
fn is_plain_check<B>(request: &Request<B>) -> bool {
    request.uri().path() == CHECK_PATH && !request_log::is_for_page(request)
}

/// Returns every route of a listener, with its request log, and its forward authentication.
pub(crate) fn app(state: &Arc<AppState>, listener: ListenerKind, authz: AuthzService) -> App {
    let mut document = openapi::start();
    let mut routes = operations().only_for(listener).finish(&mut document, Some(state));
    if listener != ListenerKind::Admin {
        routes = routes.merge(pages::router(&document));
    }
    let routes = routes
        .fallback(async || Error::NotFound)
        .method_not_allowed_fallback(async || Error::MethodNotAllowed);
    let pages = Arc::new(page_rules(&state.allowed_origins));
    let router = request_log::add_to(routes, &pages).with_state(Arc::clone(state));
    // Where callers need a key, the router authorizes them.
    let is_direct = listener != ListenerKind::Admin && state.callers.is_none();
    let direct = is_direct.then(|| Arc::new(DirectChecks { state: Arc::clone(state), pages }));
    App { router, direct, authz }
}

/// Returns forward authentication alone: any other path is an error, so that no rule for paths of
/// another proxy on the way turns a question into a grant.
pub(crate) fn only_authz(authz: AuthzService) -> App {
    App { router: Router::new(), direct: None, authz: authz.alone() }
}

/// Returns the routes for a connection above MAX_CONNECTIONS: every request has the same error.
pub(crate) fn refusal() -> App {
    let routes = Router::new().fallback(async || Error::TooManyConnections);
    let pages = PageRules { origins: Origins::Any, cors: CorsLayer::new() };
    let router = request_log::add_to(routes, &Arc::new(pages));
    App { router, direct: None, authz: AuthzService::refusal() }
}

/// Returns the description of every operation.
pub(crate) fn document() -> OpenApi {
    let mut document = openapi::start();
    let _: Router<Arc<AppState>> = operations().finish(&mut document, None);
    document
}

/// Returns the operations of the API, each with its access rule.
fn operations() -> Sitemap {
    const CHECK: AccessRule = AccessRule::Callers(Scope::Check);
    const CHECK_MANY: AccessRule = AccessRule::CallersOfMany(Scope::Check);
    const READ: AccessRule = AccessRule::Callers(Scope::Read);
    const RESET: AccessRule = AccessRule::Callers(Scope::Reset);
    // A settlement can take more than the limit.
    const FORCE: AccessRule = AccessRule::Callers(Scope::Force);
    Sitemap::new()
        .route(CHECK_PATH, CHECK, post_with(check::check, check::docs))
        .route("/rate-limit/check/batch", CHECK_MANY, post_with(batch::check_all, batch::docs))
        .route("/rate-limit/refund", RESET, post_with(refund::refund, refund::docs))
        .route(
            "/rate-limit/status",
            READ,
            post_with(policy_states::status, policy_states::status_docs),
        )
        .route(
            "/rate-limit/reset",
            RESET,
            post_with(policy_states::reset, policy_states::reset_docs),
        )
        .route("/rate-limit/status/{identifier}", READ, get_with(status::status, status::docs))
        .route("/rate-limit/reset/{identifier}", RESET, delete_with(reset::reset, reset::docs))
        .route(
            "/rate-limit/leases",
            CHECK,
            post_with(leases::acquire, leases::docs)
                .put_with(check_leases::renew, check_leases::renew_docs)
                .delete_with(check_leases::release, check_leases::release_docs),
        )
        .route(
            "/rate-limit/leases/{identifier}",
            READ,
            get_with(lease_list::list, lease_list::docs),
        )
        .route(
            "/rate-limit/leases/{identifier}/{lease}",
            CHECK,
            put_with(lease::renew, lease::renew_docs)
                .delete_with(lease::release, lease::release_docs),
        )
        .route("/rate-limit/reserve", CHECK, post_with(reserve::reserve, reserve::docs))
        .route("/rate-limit/settle", FORCE, post_with(settle::settle, settle::docs))
        .route("/rate-limit/top", AccessRule::Inspection, get_with(top::top, top::docs))
        .route("/policies", AccessRule::Inspection, get_with(policies::policies, policies::docs))
        .route("/policies/explain", READ, post_with(explain::explain, explain::docs))
        .route("/health", AccessRule::Probes, get_with(health::health, health::docs))
        .route("/health/live", AccessRule::Probes, get_with(health::live, health::live_docs))
        .route("/health/ready", AccessRule::Probes, get_with(health::ready, health::ready_docs))
        .route("/metrics", AccessRule::Operators, get_with(metrics::metrics, metrics::docs))
}

fn page_rules(origins: &Origins) -> PageRules {
    let allowed = match origins {
        Origins::Any => AllowOrigin::any(),
        Origins::Only(origins) => AllowOrigin::list(origins.iter().cloned()),
    };
    let cors = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        // A wildcard does not cover Authorization.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(headers::EXPOSED);
    PageRules { origins: origins.clone(), cors }
}
