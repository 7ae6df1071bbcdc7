//! What the lines of a task are about: a request.
//!
//! Spans of `tracing` say the same, but each is formatted and kept whether a line comes or not.
//! For a request with one line, that and writing it took a tenth of all its time.

use std::{net::IpAddr, sync::OnceLock};

use axum::http::HeaderValue;
use tokio::task_local;

task_local! {
    static SCOPE: Scope;
}

/// What lines are about.
#[derive(Debug, Clone)]
pub(crate) enum Scope {
    /// A request.
    Request(RequestScope),
}

/// The address of the client of a request. Requests have it when the log is to have it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// What lines say of a request.
#[derive(Debug, Clone)]
pub(crate) struct RequestScope {
    id: HeaderValue,
    trace_id: Option<String>,
    client: Option<String>,
    /// Who calls, or why that is not known: set when it has been found out.
    caller: OnceLock<String>,
    refusal: OnceLock<&'static str>,
}

/// What a line says of its scope.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field<'s> {
    Text(&'s str),
    Name(&'s str),
}

impl Scope {
    /// A request with this id, with that of its trace if it has one, and with the address of its
    /// client if the log is to have it.
    pub(crate) fn request(
        id: HeaderValue,
        trace_id: Option<String>,
        client: Option<ClientAddress>,
    ) -> Self {
        let (caller, refusal) = (OnceLock::new(), OnceLock::new());
        // IPv4 clients of a socket that listens on IPv6 as well.
        let client = client.map(|ClientAddress(address)| address.to_canonical().to_string());
        Self::Request(RequestScope { id, trace_id, client, caller, refusal })
    }

    /// Does work of which all lines are about this.
    pub(crate) fn around<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        SCOPE.scope(self, work)
    }

    /// Does work that waits for nothing, of which all lines are about this.
    pub(crate) fn around_call<T>(self, work: impl FnOnce() -> T) -> T {
        SCOPE.sync_scope(self, work)
    }

    /// Does work in a task of its own, of which all lines are about what the current ones are.
    pub(crate) fn around_task<F: Future>(work: F) -> impl Future<Output = F::Output> {
        let scope = SCOPE.try_with(Self::clone).ok();
        async {
            match scope {
                Some(scope) => scope.around(work).await,
                None => work.await,
            }
        }
    }

    /// Shows what the current line is about, if anything.
    pub(super) fn show_current<E>(show: impl FnOnce(&Self) -> Result<(), E>) -> Result<(), E> {
        SCOPE.try_with(show).unwrap_or(Ok(()))
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Request(_) => "request",
        }
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, Field<'_>)> {
        let fields = match self {
            Self::Request(request) => [
                ("request_id", request.id.to_str().ok().map(Field::Text)),
                ("trace_id", request.trace_id.as_deref().map(Field::Text)),
                ("client", request.client.as_deref().map(Field::Text)),
                ("caller", request.caller.get().map(|caller| Field::Name(caller))),
                ("refusal", request.refusal.get().map(|refusal| Field::Text(refusal))),
            ],
        };
        fields.into_iter().filter_map(|(name, field)| Some((name, field?)))
    }
}

/// Has the lines of the current request say who calls.
pub(crate) fn log_caller(caller: String) {
    with_request(|request| request.caller.set(caller).is_ok());
}

/// Has the lines of the current request say why nobody knows who calls.
pub(crate) fn log_refusal(refusal: &'static str) {
    with_request(|request| request.refusal.set(refusal).is_ok());
}

/// Notes something of the current request. Nothing is noted twice, nor outside of one.
fn with_request(note: impl FnOnce(&RequestScope) -> bool) {
    let _ = SCOPE.try_with(|scope| match scope {
        Scope::Request(request) => note(request),
    });
}
