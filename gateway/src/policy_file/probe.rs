//! The limits of the policies, as Redis serves them: the settings of the module can be stricter than the
//! rules of the file, and an older module lacks commands.

use std::collections::HashSet;

use limiter::Quota;
use policies::{
    Policies,
    model::{LimitSpec, Limits, Policy},
    overrides::Effect,
    problem::{Place, Problem},
};
use store::{LimitNeed, QuotaRule, Store, Unserved};

use super::{load::LoadError, quota_rule};

/// The most refusals in one message.
const MAX_REFUSALS: usize = 10;

/// The result of looking at every limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Probe {
    /// Redis accepts every limit.
    Accepted,
    /// Redis refuses limits: a fault for each, at least one.
    Refused(Vec<Problem>),
    /// Redis does not answer.
    Unanswered,
}

/// Asks Redis about each distinct limit of the policies, and about limits that are taken at once. Takes
/// and writes nothing.
pub(super) async fn probe(store: &Store, policies: &Policies) -> Probe {
    let mut refusals = Vec::new();
    for part in parts(policies) {
        match store.serve(part.need.as_limit_need()).await {
            Err(Unserved::Refused(rule)) => refusals.push(part.refusal(&rule)),
            Err(Unserved::Unanswered) => return Probe::Unanswered,
            Ok(()) => {}
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

/// A part of the policies that Redis must serve.
#[derive(Debug)]
struct Part {
    place: Place,
    /// The names of the policy and of the limits, for messages.
    names: String,
    need: Need,
}

/// The part of Redis that a part of the policies needs.
#[derive(Debug)]
enum Need {
    Quota(QuotaRule),
    Several,
    Leases,
}

impl Need {
    const fn as_limit_need(&self) -> LimitNeed<'_> {
        match self {
            Self::Quota(rule) => LimitNeed::Quota(rule),
            Self::Several => LimitNeed::Several,
            Self::Leases => LimitNeed::Leases,
        }
    }
}

impl Part {
    /// Returns the fault of a part that Redis refuses by this rule.
    fn refusal(&self, rule: &str) -> Problem {
        /// The end of the rule about the limit of a sliding window, which a setting of Redis bounds.
        const BY_RESOLUTION: &str = " with this resolution";
        let is_log =
            matches!(&self.need, Need::Quota(QuotaRule::Constant(Quota::SlidingWindow(_))));
        let (rule, expected) = match rule.strip_suffix(BY_RESOLUTION) {
            Some(bound) if is_log => (
                bound,
                Some(
                    "a smaller limit, a longer `resolution`, or a larger setting \
                     ratelimit.sliding-window-max-limit of Redis",
                ),
            ),
            _ => (rule, None),
        };
        Problem {
            place: self.place,
            problem: format!("{}: {rule}", self.names),
            expected: expected.map(str::to_owned),
            nearest: None,
        }
    }
}

/// Returns each distinct part, with the policy and the limits of the first.
fn parts(policies: &Policies) -> Vec<Part> {
    let mut known = HashSet::new();
    let mut parts = Vec::new();
    for policy in policies.policies() {
        for limit in policies.limits(policy) {
            let need = quota_rule::of_rate(&limit.rate).map_or(Need::Leases, Need::Quota);
            if known.insert(format!("{need:?}")) {
                let names = format!("policy `{}`, limit `{}`", policy.name, limit.name);
                parts.push(Part { place: limit.place, names, need });
            }
        }
    }
    let several = |policy| lists(policies, policy).into_iter().find(|list| list.len() > 1);
    let mut found =
        policies.policies().iter().filter_map(|policy| Some((policy, several(policy)?)));
    if let Some((policy, list @ [first, ..])) = found.next() {
        let names: Vec<_> = list.iter().map(|limit| format!("`{}`", limit.name)).collect();
        let names = format!("policy `{}`, limits {}", policy.name, names.join(", "));
        parts.push(Part { place: first.place, names, need: Need::Several });
    }
    parts
}

/// Returns the lists of limits that the policy can apply.
fn lists<'p>(policies: &'p Policies, policy: &'p Policy) -> Vec<&'p [LimitSpec]> {
    let plan = |position: usize| policies.plans().get(position).map(|plan| &*plan.limits);
    let mut lists = match &policy.limits {
        Limits::Own(limits) => vec![&**limits],
        Limits::Plan(position) => plan(*position).into_iter().collect(),
        Limits::PlanFrom { .. } => policies.plans().iter().map(|plan| &*plan.limits).collect(),
    };
    lists.extend(policy.overrides.as_slice().iter().filter_map(|entry| match &entry.effect {
        Effect::Limits(limits) => Some(&**limits),
        Effect::Plan(position) => plan(*position),
        Effect::Unlimited | Effect::Block { .. } => None,
    }));
    lists
}
