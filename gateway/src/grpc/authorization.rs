//! The decision on a request of an end user.

use std::sync::Arc;

use axum::http::{Method, header::CACHE_CONTROL};
use envoy::original_request::{self, Authorization, AuthorizationAnswer};
use policies::host::is_host;
use store::Millis;
use tokio::time::Instant;

use crate::{
    authz::{
        decide::{self, AuthzDecision, AuthzOutcome},
        faults::Fault,
        original::OriginalRequest,
    },
    headers,
    state::AppState,
};

/// The status of a denial.
const DENIED: u16 = 429;

/// The wait after which Redis may answer again.
const RETRY: Millis = Millis(1_000);

/// Decides a request that Envoy describes. The other end of the connection to Envoy is a proxy if
/// TRUSTED_PROXIES has its address, and else the end user.
pub(super) async fn decide(
    state: &Arc<AppState>,
    request: &original_request::OriginalRequest,
) -> AuthorizationAnswer {
    let original_request::OriginalRequest { method, host, target, headers, peer, policy, max_wait } =
        request;
    if Method::from_bytes(method).is_err() || !is_host(host) {
        let fault = Fault::Malformed("the method and the host must be those of HTTP".to_owned());
        state.authz.faults.record(&fault);
        return AuthzDecision::from(fault).into();
    }
    let original = OriginalRequest {
        method,
        host: (!host.is_empty()).then_some(host),
        target,
        headers: headers.iter().map(|(name, value)| (name.as_str(), &value[..])).collect(),
        peer: *peer,
        peer_may_be_end_user: true,
        policy: policy.as_deref(),
        deadline: max_wait.map(|wait| Instant::now() + wait),
    };
    decide::decide(state, &original).await.into()
}

impl From<AuthzDecision> for AuthorizationAnswer {
    /// A fault that the end user can cause is a denial: Envoy can let a request pass after an error.
    fn from(AuthzDecision { outcome, mut headers, .. }: AuthzDecision) -> Self {
        let decision = match outcome {
            AuthzOutcome::Allowed => {
                // Envoy would overwrite that of the service.
                headers.retain(|(name, _)| *name != CACHE_CONTROL);
                Authorization::Allowed
            }
            AuthzOutcome::Denied => Authorization::Denied(DENIED),
            AuthzOutcome::Fault(fault) => {
                if matches!(fault, Fault::Unavailable | Fault::Overloaded) {
                    headers.extend(headers::of_wait(RETRY));
                }
                match fault.status() {
                    status if status.is_client_error() => Authorization::Denied(status.as_u16()),
                    status => Authorization::Failed(status.as_u16()),
                }
            }
        };
        Self { decision, headers }
    }
}

#[cfg(test)]
mod tests {
    use envoy::original_request::{Authorization, AuthorizationAnswer};

    use crate::{
        authz::{
            decide::{AuthzDecision, AuthzOutcome},
            faults::{Fault, Misconfiguration},
        },
        headers,
    };

    #[test]
    fn a_grant_leaves_the_cache_control_of_the_service() {
        for (outcome, expected) in [(AuthzOutcome::Allowed, 0), (AuthzOutcome::Denied, 1)] {
            let headers = headers::NO_STORE.to_vec();
            let decision = AuthzDecision { outcome, headers, decision: None };
            assert_eq!(AuthorizationAnswer::from(decision).headers.len(), expected);
        }
    }

    #[test]
    fn a_fault_of_the_end_user_is_a_denial_and_any_other_is_none() {
        for (fault, expected, has_wait) in [
            (Fault::Malformed(String::new()), Authorization::Denied(400), false),
            (Fault::Unavailable, Authorization::Failed(503), true),
            (Fault::Overloaded, Authorization::Failed(503), true),
            (Fault::Internal, Authorization::Failed(500), false),
            (
                Fault::Misconfigured(Misconfiguration::ClientAddressUnknown),
                Authorization::Failed(500),
                false,
            ),
        ] {
            let answer = AuthorizationAnswer::from(AuthzDecision::from(fault));
            assert_eq!((answer.decision, !answer.headers.is_empty()), (expected, has_wait));
        }
    }
}
