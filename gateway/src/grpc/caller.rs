//! The authentication of callers: by a key in the metadata, a certificate or an address.

use axum::http::{Extensions, HeaderValue};
use envoy::gateway::{Caller, Fault, KEY};

use crate::{
    authz::{
        faults::{self, Misconfiguration},
        proxies::{Peer, authenticate},
    },
    callers::{refusal::Refusal, scope::Scope},
    state::AppState,
};

/// Returns the other end of a connection with these facts.
pub(super) fn peer(connection: &Extensions) -> Peer {
    connection.get::<Peer>().copied().unwrap_or_default()
}

/// Requires that the caller has a scope. Any caller has it where callers need no credentials. The log has
/// a line about a refusal.
///
/// # Errors
///
/// When the caller is unknown, or lacks the scope.
pub(super) fn require(state: &AppState, caller: &Caller, scope: Scope) -> Result<(), Fault> {
    let keys = caller.metadata.get_all(KEY).iter().map(HeaderValue::as_bytes);
    authenticate(state, peer(&caller.connection), keys, scope).map_err(|refusal| {
        let fault = faults::Fault::Misconfigured(Misconfiguration::Proxy(refusal));
        state.authz.faults.record(&fault);
        match refusal {
            Refusal::Scope => Fault::Forbidden(scope.name()),
            _ => Fault::Unauthenticated,
        }
    })
}
