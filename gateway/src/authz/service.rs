//! The contracts over HTTP.
//!
//! Proxies copy the headers of answers to end users, and take every status of 2xx as a grant. So these
//! paths have no CORS headers and no rules for pages, no other part of the service answers them, and
//! their answers have no body.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{
        HeaderName, HeaderValue, Request, StatusCode,
        header::{CONNECTION, RETRY_AFTER},
        request::Parts,
    },
    response::Response,
};

use super::{
    contract::{self, Call, Options},
    decide::{AuthzDecision, AuthzOutcome, decide},
    description,
    faults::{Fault, Misconfiguration},
    original::PROXY_KEY,
    proxies::{self, Peer},
};
use crate::{
    callers::scope::Scope,
    head, headers,
    request_log::{self, Answer, Pattern},
    state::AppState,
};

/// The status of a denial for end users, where the proxy needs another one.
const STATUS: HeaderName = HeaderName::from_static("x-ratelimit-status");

/// The answers of a listener to the paths of forward authentication.
#[derive(Debug, Clone)]
pub(crate) struct AuthzService {
    contracts: Contracts,
    /// True where the listener serves no other path.
    is_alone: bool,
}

/// The contracts that a listener serves.
#[derive(Debug, Clone)]
enum Contracts {
    /// All contracts.
    Serve(Arc<AppState>),
    /// No contract.
    Absent,
    /// No contract: the connection is above MAX_CONNECTIONS.
    Refuse,
}

impl AuthzService {
    /// Returns the service of a listener for clients. Without policies there is none.
    pub(crate) fn new(state: &Arc<AppState>) -> Self {
        let contracts = match state.policies {
            Some(_) => Contracts::Serve(Arc::clone(state)),
            None => Contracts::Absent,
        };
        Self { contracts, is_alone: false }
    }

    /// Returns the service of a listener without contracts.
    pub(crate) const fn absent() -> Self {
        Self { contracts: Contracts::Absent, is_alone: false }
    }

    /// Returns the service for a connection above MAX_CONNECTIONS.
    pub(crate) const fn refusal() -> Self {
        Self { contracts: Contracts::Refuse, is_alone: false }
    }

    /// Returns the service of a listener that serves nothing else. A proxy takes any answer with status
    /// 200 as a grant, such as that to OPTIONS for a page, or that of health.
    pub(crate) fn alone(self) -> Self {
        Self { is_alone: true, ..self }
    }

    /// Returns whether this service answers a request.
    pub(crate) fn answers<B>(&self, request: &Request<B>) -> bool {
        self.is_alone || contract::is_below_root(request.uri().path())
    }

    /// Returns the answer to a request of a proxy, with its log line.
    pub(crate) async fn answer<B>(&self, request: Request<B>, peer: Peer) -> Response
    where
        B: HttpBody<Data = Bytes>,
    {
        let call = target(request.uri()).and_then(Call::parse);
        let pattern = call.map_or(Pattern::None, |call| Pattern::Direct(call.contract.route()));
        let answer = async |request: Request<B>| {
            let (head, body) = request.into_parts();
            let closes = !body.is_end_stream();
            // The rest of the body is dropped after the answer, if the proxy has announced one.
            drop(body);
            let mut answer = self.answer_head(&head, peer).await;
            if closes {
                answer.response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            answer
        };
        request_log::record(request, pattern, answer).await
    }

    async fn answer_head(&self, head: &Parts, peer: Peer) -> Answer {
        let state = match &self.contracts {
            Contracts::Serve(state) => state,
            Contracts::Absent => return without_decision(StatusCode::NOT_FOUND, None),
            Contracts::Refuse => return of_fault(&Fault::Overloaded),
        };
        let Some(call) = target(&head.uri).and_then(Call::parse) else {
            return without_decision(StatusCode::NOT_FOUND, None);
        };
        if let Err(error) = head::check_host(head.version, &head.headers) {
            return without_decision(error.status(), None);
        }
        let options = match authorize(state, head, &call, peer) {
            Ok(options) => options,
            Err(fault) => {
                state.authz.faults.record(&fault);
                return of_fault(&fault);
            }
        };
        let original = match description::read(head, &call, options, peer) {
            Ok(original) => original,
            Err(fault) => {
                state.authz.faults.record(&fault);
                return of_fault(&fault);
            }
        };
        of_decision(decide(state, &original).await, options)
    }
}

/// Returns the request target of a request in any form.
fn target(uri: &axum::http::Uri) -> Option<&str> {
    uri.path_and_query().map(|target| target.as_str())
}

/// Authenticates the proxy, and returns the options that its configuration has written into the path.
fn authorize<'c, 'u>(
    state: &AppState,
    head: &Parts,
    call: &'c Call<'u>,
    peer: Peer,
) -> Result<&'c Options<'u>, Fault> {
    let keys = head.headers.get_all(PROXY_KEY).iter().map(HeaderValue::as_bytes);
    proxies::authenticate(state, peer, keys, Scope::Check)
        .map_err(|refusal| Fault::Misconfigured(Misconfiguration::Proxy(refusal)))?;
    let options = call.options.as_ref();
    options.map_err(|error| Fault::Misconfigured(Misconfiguration::Options(error.clone())))
}

/// Returns the answer with a decision.
fn of_decision(decision: AuthzDecision, options: &Options<'_>) -> Answer {
    let AuthzDecision { outcome, headers, decision } = decision;
    let status = match outcome {
        AuthzOutcome::Allowed => StatusCode::OK,
        AuthzOutcome::Denied => options.deny_status,
        AuthzOutcome::Fault(fault) => return of_fault(&fault),
    };
    let mut response = empty(status);
    response.headers_mut().extend(headers);
    if !status.is_success() && status != StatusCode::TOO_MANY_REQUESTS {
        let denied = StatusCode::TOO_MANY_REQUESTS.as_u16();
        response.headers_mut().insert(STATUS, denied.into());
    }
    Answer::to_proxy(response, decision)
}

/// Returns the answer without a decision.
fn of_fault(fault: &Fault) -> Answer {
    let wait = matches!(fault, Fault::Unavailable | Fault::Overloaded)
        .then_some((RETRY_AFTER, HeaderValue::from_static("1")));
    without_decision(fault.status(), wait)
}

fn without_decision(status: StatusCode, wait: Option<(HeaderName, HeaderValue)>) -> Answer {
    let mut response = empty(status);
    response.headers_mut().extend(headers::NO_STORE);
    response.headers_mut().extend(wait);
    Answer::to_proxy(response, None)
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
