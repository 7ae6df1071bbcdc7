//! The decision on a request of an end user, the same for every contract.

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue};
use store::Decision;
use tokio::time::Instant;

use super::{faults::Fault, original::OriginalRequest};
use crate::{
    policy_file::{
        end_users::RequestClaims,
        judge::{Judge, JudgedCheck, Verdict},
    },
    routes::limits_answer::{self, CheckReply},
    state::AppState,
};

/// The decision on a request of an end user.
#[derive(Debug)]
pub(crate) struct AuthzDecision {
    /// The result: the request may pass, or not.
    pub(crate) outcome: AuthzOutcome,
    /// The headers for the end user. A denial has `Retry-After`.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The decision of the limits, if limits have decided.
    pub(crate) decision: Option<Decision>,
}

/// The outcome of a request of an end user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AuthzOutcome {
    /// The request may pass.
    Allowed,
    /// The request must not pass.
    Denied,
    /// There is no decision.
    Fault(Fault),
}

impl From<Fault> for AuthzDecision {
    fn from(fault: Fault) -> Self {
        Self { outcome: AuthzOutcome::Fault(fault), headers: Vec::new(), decision: None }
    }
}

/// Decides a request of an end user: judges it by the policies in force, takes its costs, counts it, and
/// adds the policy to the log line of the current request, or logs the fault.
pub(crate) async fn decide(state: &Arc<AppState>, request: &OriginalRequest<'_>) -> AuthzDecision {
    let reply = match judge(state, request) {
        Ok(judged) => take(state, judged, request.deadline).await,
        Err(fault) => Err(fault),
    };
    match reply {
        Ok(reply) => {
            let allowed = reply.allowed();
            let outcome = if allowed { AuthzOutcome::Allowed } else { AuthzOutcome::Denied };
            let (headers, decision) = reply.for_end_user();
            AuthzDecision { outcome, headers, decision }
        }
        Err(fault) => {
            state.authz.faults.record(&fault);
            fault.into()
        }
    }
}

/// Judges a request by the policies in force.
fn judge(state: &AppState, request: &OriginalRequest<'_>) -> Result<JudgedCheck, Fault> {
    // Without policies there is no service that decides.
    let policies = state.policies.as_ref().ok_or(Fault::Internal)?;
    let judge = policies.judge();
    state.policy_decisions.follow(&judge.policies);
    judge_by(&judge, state, request)
}

fn judge_by(
    judge: &Judge,
    state: &AppState,
    request: &OriginalRequest<'_>,
) -> Result<JudgedCheck, Fault> {
    let options = &state.authz.options;
    let token = request.token(&options.cookie);
    let claims = RequestClaims::new(judge.end_users(), token.one());
    let form = judge.policies.path_form();
    let attributes = request.attributes(options, form, token, &claims)?;
    Ok(judge.judge_attributes(&attributes)?)
}

async fn take(
    state: &Arc<AppState>,
    judged: JudgedCheck,
    deadline: Option<Instant>,
) -> Result<CheckReply, Fault> {
    let decided = match judged.verdict {
        Verdict::Limits => {
            Some(limits_answer::take_until(state, &judged.limits.check, deadline).await?)
        }
        _ => None,
    };
    if let Some(Err(_)) = &decided {
        judged.names.clone().log(&[]);
    }
    Ok(CheckReply::of_policy(state, judged, decided)?)
}
