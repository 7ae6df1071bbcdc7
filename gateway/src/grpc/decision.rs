//! The decision on the limits of a call, within the time that the call leaves.

use std::sync::Arc;

use envoy::gateway::Fault;
use store::{Decision, FailMode, LimitCheck, LimitsCheck, StoreError};
use tokio::time::Instant;

use crate::{routes::limits_answer::take_until, state::AppState};

/// Takes the costs of all limits, or nothing. A limit with a cost of 0 only looks, and comes before the
/// others. Answers in the order of the limits.
///
/// # Errors
///
/// When there is no decision, which the fail mode makes from `deadline` on.
pub(super) async fn decide(
    state: &Arc<AppState>,
    limits: &[LimitCheck],
    fail_mode: FailMode,
    deadline: Option<Instant>,
) -> Result<Vec<Decision>, Fault> {
    let (looks, takes): (Vec<_>, Vec<_>) =
        limits.iter().cloned().partition(|limit| limit.cost == 0);
    if looks.is_empty() || takes.is_empty() {
        return check(state, limits.to_vec(), fail_mode, deadline).await;
    }
    let looked = check(state, looks, fail_mode, deadline).await?;
    let takes = match looked.iter().all(|look| look.allowed) {
        true => takes,
        false => takes.into_iter().map(|limit| LimitCheck { cost: 0, ..limit }).collect(),
    };
    let taken = check(state, takes, fail_mode, deadline).await?;
    let (mut looked, mut taken) = (looked.into_iter(), taken.into_iter());
    let next = |limit: &LimitCheck| if limit.cost == 0 { looked.next() } else { taken.next() };
    limits.iter().map(next).collect::<Option<_>>().ok_or(Fault::Internal)
}

/// Decides limits of which either all take something or none.
async fn check(
    state: &Arc<AppState>,
    limits: Vec<LimitCheck>,
    fail_mode: FailMode,
    deadline: Option<Instant>,
) -> Result<Vec<Decision>, Fault> {
    if limits.is_empty() {
        return Ok(Vec::new());
    }
    let check = LimitsCheck { limits, leases: Vec::new(), fail_mode: Some(fail_mode) };
    let decided = take_until(state, &check, deadline).await.map_err(|_| Fault::Internal)?;
    decided.map(|decision| decision.limits).map_err(|error| fault(&error))
}

/// Returns the fault of a call without a decision.
pub(super) fn fault(error: &StoreError) -> Fault {
    match error {
        StoreError::Unavailable { .. } | StoreError::Overloaded => Fault::Unavailable,
        StoreError::Refused { rule, .. } => {
            tracing::error!(rule, "Redis refuses a limit of the policies");
            Fault::Internal
        }
        StoreError::Internal => Fault::Internal,
    }
}
