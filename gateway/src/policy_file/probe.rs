//! The limits of the policies, as Redis accepts them: the settings of the module can be stricter than
//! the rules of the file.

use std::collections::HashSet;

use policies::Policies;
use store::{QuotaRule, Source, Store, StoreError};

use super::{load::LoadError, quota_rule};

/// The identifier whose quotas are looked at. A look writes nothing, so that any would do.
const IDENTIFIER: &str = "policies";

/// The most refusals in one message.
const MAX_REFUSALS: usize = 10;

/// The result of looking at every limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Probe {
    /// Redis accepts every limit.
    Accepted,
    /// Redis refuses these limits: a sentence for each.
    Refused(Vec<String>),
    /// Redis does not answer.
    Unanswered,
}

/// Looks at one quota for each distinct limit of the policies. Takes and writes nothing.
pub(super) async fn probe(store: &Store, policies: &Policies) -> Probe {
    let mut refusals = Vec::new();
    for (place, rule) in distinct_limits(policies) {
        match store.peek(IDENTIFIER, &rule).await {
            Err(StoreError::Refused { rule, .. }) => refusals.push(format!("{place}: {rule}")),
            Ok(decision) if decision.source == Source::Redis || !store.is_redis() => {}
            Ok(_) | Err(_) => return Probe::Unanswered,
        }
        if refusals.len() >= MAX_REFUSALS {
            break;
        }
    }
    if refusals.is_empty() { Probe::Accepted } else { Probe::Refused(refusals) }
}

/// Returns policies whose limits Redis accepts, and whether Redis has answered. Without an answer the
/// policies are taken: Redis can be away for long.
pub(super) async fn accept(
    loaded: Result<Policies, LoadError>,
    store: &Store,
) -> (Result<Policies, LoadError>, bool) {
    let Ok(policies) = loaded else { return (loaded, true) };
    match probe(store, &policies).await {
        Probe::Accepted => (Ok(policies), true),
        Probe::Refused(refusals) => (Err(LoadError::RefusedByRedis(refusals)), true),
        Probe::Unanswered => (Ok(policies), false),
    }
}

/// Returns each distinct limit, with the policy and the name of the first that has these numbers.
/// Redis has no command that looks at a limit of what happens at the same time.
fn distinct_limits(policies: &Policies) -> Vec<(String, QuotaRule)> {
    let mut known = HashSet::new();
    let mut distinct = Vec::new();
    for policy in policies.policies() {
        for limit in policies.limits(policy) {
            let Some(rule) = quota_rule::of_rate(&limit.rate) else { continue };
            if known.insert(format!("{rule:?}")) {
                distinct.push((format!("policy `{}`, limit `{}`", policy.name, limit.name), rule));
            }
        }
    }
    distinct
}
