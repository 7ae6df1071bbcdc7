//! The states of the limits of a request, without taking anything.

use policies::{Kind, judgement::JudgedLimit, model::Charge};
use store::{Decision, LeaseKey, Source, Store, StoreError};

use super::limit_checks::limit_check;

/// The most limits of one look.
const AT_ONCE: usize = 16;

/// The state of each limit, in their order.
#[derive(Debug)]
pub(crate) struct States {
    /// The part that answered.
    pub(crate) source: Source,
    /// The answers to checks of one unit.
    pub(crate) limits: Vec<Decision>,
}

/// Looks at limits.
///
/// # Errors
///
/// When the store cannot look at one of them.
pub(crate) async fn states(
    store: &Store,
    limits: &[JudgedLimit<'_>],
) -> Result<States, StoreError> {
    let looked: Vec<_> = limits.iter().cloned().filter_map(limit_check).collect();
    let (mut source, mut decisions) = (Source::Redis, Vec::with_capacity(looked.len()));
    for limits in looked.chunks(AT_ONCE) {
        let answer = store.peek_limits(limits).await?;
        source = answer.source;
        decisions.extend(answer.limits);
    }
    let mut decisions = decisions.into_iter();
    let mut states = Vec::with_capacity(limits.len());
    for limit in limits {
        let state = if limit.kind == Kind::Concurrency {
            let key = LeaseKey::Limit(limit.key.clone());
            let decision = store.peek_lease(&key, limit.limit, None).await?.decision;
            source = decision.source;
            decision
        } else {
            decisions.next().ok_or(StoreError::Internal)?
        };
        states.push(state);
    }
    Ok(States { source, limits: states })
}

/// Returns whether a limit in this state would allow its cost. A state that is not known prevents
/// nothing.
pub(crate) fn would_allow(limit: &JudgedLimit<'_>, state: Option<&Decision>) -> bool {
    let least = match limit.charge {
        Charge::Granted => limit.cost.max(1),
        Charge::Always => 1,
    };
    state.is_none_or(|state| state.remaining >= u64::from(least))
}
