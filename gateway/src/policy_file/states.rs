//! The states of the limits of a request, without taking anything.

use policies::{judgement::JudgedLimit, model::Charge};
use store::{Decision, Source, Store, StoreError};

use super::limit_checks::limit_check;

/// The most limits of one look.
const AT_ONCE: usize = 16;

/// The state of each limit, in their order.
#[derive(Debug)]
pub(crate) struct States {
    /// The part that answered.
    pub(crate) source: Source,
    /// The answer to a check of one unit, or `None` for a limit of what happens at the same time.
    pub(crate) limits: Vec<Option<Decision>>,
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
    let checks: Vec<_> = limits.iter().map(limit_check).collect();
    let looked: Vec<_> = checks.iter().flatten().cloned().collect();
    let (mut source, mut decisions) = (Source::Redis, Vec::with_capacity(looked.len()));
    for limits in looked.chunks(AT_ONCE) {
        let answer = store.peek_limits(limits).await?;
        source = answer.source;
        decisions.extend(answer.limits);
    }
    let mut decisions = decisions.into_iter();
    let limits = checks.iter().map(|check| check.as_ref().and_then(|_| decisions.next())).collect();
    Ok(States { source, limits })
}

/// Returns whether a limit in this state would allow its cost. The state of a limit of what happens at
/// the same time is not known, and prevents nothing.
pub(crate) fn would_allow(limit: &JudgedLimit<'_>, state: Option<&Decision>) -> bool {
    let least = match limit.charge {
        Charge::Granted => limit.cost.max(1),
        Charge::Always => 1,
    };
    state.is_none_or(|state| state.remaining >= u64::from(least))
}
