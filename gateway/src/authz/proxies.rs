//! The authentication of proxies.
//!
//! A proxy sends the head of the end user's request with its own: `Authorization`, `X-API-Key` and
//! `Cookie` are those of the end user and never authenticate the proxy.

use std::{net::IpAddr, sync::Arc};

use crate::{
    callers::{Callers, caller::Caller, refusal::Refusal, scope::Scope},
    state::AppState,
    telemetry,
};

/// The other end of a connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Peer {
    /// The address; `None` if it is not known.
    pub(crate) address: Option<IpAddr>,
    /// True if the other end has a certificate of an authority of AUTHZ_CLIENT_CA_FILE.
    pub(crate) has_certificate: bool,
}

/// Authenticates a proxy by its address, by its certificate, or by the only value of its header
/// `X-RateLimit-Key`, and requires a scope; a proxy without a key has the scope `check` alone. Where
/// callers need no key, any client may call. Adds the proxy, or the reason of the refusal, to the log
/// line of the current request, and counts a refusal.
///
/// An end user can send the header through a proxy that does not replace it, so that the header cannot
/// refuse a proxy with a known address or a certificate.
pub(crate) fn authenticate<'k>(
    state: &AppState,
    peer: Peer,
    keys: impl Iterator<Item = &'k [u8]>,
    scope: Scope,
) -> Result<(), Refusal> {
    let Some(callers) = &state.callers else { return Ok(()) };
    let peers = &state.authz.options.peers;
    let authenticated =
        if let Some(address) = peer.address.filter(|address| peers.contain(*address)) {
            telemetry::log_caller(format!("peer:{}", address.to_canonical()));
            require(scope == Scope::Check)
        } else if peer.has_certificate {
            telemetry::log_caller("certificate".to_owned());
            require(scope == Scope::Check)
        } else {
            by_key(callers, keys).and_then(|caller| {
                telemetry::log_caller(caller.to_string());
                require(caller.has(scope))
            })
        };
    authenticated.inspect_err(|refusal| {
        telemetry::log_refusal(refusal.name());
        telemetry::count_auth_failure(refusal.name());
    })
}

const fn require(has_scope: bool) -> Result<(), Refusal> {
    if has_scope { Ok(()) } else { Err(Refusal::Scope) }
}

fn by_key<'k>(
    callers: &Callers,
    mut keys: impl Iterator<Item = &'k [u8]>,
) -> Result<Arc<Caller>, Refusal> {
    match (keys.next(), keys.next()) {
        (None, _) => Err(Refusal::Missing),
        (Some(key), None) => callers.identify_key(key),
        (Some(_), Some(_)) => Err(Refusal::Ambiguous),
    }
}
