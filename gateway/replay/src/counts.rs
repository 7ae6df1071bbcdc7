//! Counts of decisions by policy, plan and limit, and of denials by key.

use hashbrown::HashMap;
use policies::judgement::{Judgement, Outcome};
use policies::model::Policy;
use serde::Serialize;

use crate::evaluator::Decision;
use crate::state::LimitDecision;

/// The most keys of a report.
const MAX_KEYS: usize = 10;

/// The counts of one side.
#[derive(Debug, Default)]
pub(crate) struct Counts<'p> {
    allowed: u64,
    denied: u64,
    rows: HashMap<Name<'p>, Outcomes>,
    keys: HashMap<String, u64>,
}

/// The names of a policy, a plan and a limit; empty where there is none.
type Name<'p> = (&'p str, &'p str, &'p str);

/// The decisions about the requests of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// Granted requests.
    pub allowed: u64,
    /// Requests that the limit denied.
    pub denied: u64,
    /// Requests that a trial would have denied.
    pub shadow_denied: u64,
}

/// The decisions of one file about a log.
#[derive(Clone, Debug, Serialize)]
pub struct SideReport {
    /// The version of the file.
    pub version: String,
    /// The allowed requests.
    pub allowed: u64,
    /// The denied requests.
    pub denied: u64,
    /// The decisions by policy, plan and limit.
    pub limits: Vec<LimitReport>,
    /// The keys with the most denials, the most first.
    pub keys: Vec<KeyReport>,
}

/// The decisions of one limit.
#[derive(Clone, Debug, Serialize)]
pub struct LimitReport {
    /// The policy; empty for requests that match none.
    pub policy: String,
    /// The plan, if the limit is of a plan.
    pub plan: String,
    /// The limit; `(override)` and `(missing)` where no limit decided, and empty without a limit.
    pub limit: String,
    /// The decisions.
    #[serde(flatten)]
    pub outcomes: Outcomes,
}

/// A key and its denials.
#[derive(Clone, Debug, Serialize)]
pub struct KeyReport {
    /// The key of a limit.
    pub key: String,
    /// The denied requests.
    pub denied: u64,
}

impl<'p> Counts<'p> {
    pub(crate) fn add(&mut self, judgement: &Judgement<'p>, decision: &Decision) {
        if decision.allowed {
            self.allowed += 1;
        } else {
            self.denied += 1;
        }
        let policy = judgement.policy.map_or("", |policy| &*policy.name);
        let plan = judgement.plan.unwrap_or_default();
        for (limit, decided) in judgement.limits.iter().zip(&decision.limits) {
            let row = self.rows.entry((policy, plan, limit.name)).or_default();
            if decision.allowed {
                row.allowed += 1;
            } else if decided.violated {
                row.denied += 1;
                *self.keys.entry_ref(limit.key.as_str()).or_default() += 1;
            }
        }
        if judgement.limits.is_empty() {
            let word = match judgement.outcome {
                Outcome::Blocked { .. } | Outcome::Unlimited => "(override)",
                Outcome::Missing { .. } => "(missing)",
                Outcome::Limited | Outcome::Unmatched { .. } => "",
            };
            let row = self.rows.entry((policy, plan, word)).or_default();
            if decision.allowed {
                row.allowed += 1;
            } else {
                row.denied += 1;
            }
        }
        for (trial, decided) in judgement.shadows.iter().zip(&decision.trials) {
            self.add_trial(trial.policy, trial.plan, trial, &decided.limits, decided.denied);
        }
    }

    fn add_trial(
        &mut self,
        policy: &'p Policy,
        plan: Option<&'p str>,
        trial: &policies::judgement::Shadow<'p>,
        limits: &[LimitDecision],
        denied: bool,
    ) {
        let (policy, plan) = (&*policy.name, plan.unwrap_or_default());
        for (limit, decided) in trial.limits.iter().zip(limits) {
            let row = self.rows.entry((policy, plan, limit.name)).or_default();
            if !denied {
                row.allowed += 1;
            } else if decided.violated {
                row.shadow_denied += 1;
            }
        }
        if trial.limits.is_empty() && denied {
            self.rows.entry((policy, plan, "(override)")).or_default().shadow_denied += 1;
        }
    }

    /// Returns the counts, in the order of the names.
    pub(crate) fn finish(self, version: &str) -> SideReport {
        let mut rows: Vec<_> = self.rows.into_iter().collect();
        rows.sort_unstable_by_key(|(name, _)| *name);
        let limits = rows.into_iter().map(|((policy, plan, limit), outcomes)| LimitReport {
            policy: policy.to_owned(),
            plan: plan.to_owned(),
            limit: limit.to_owned(),
            outcomes,
        });
        let mut keys: Vec<_> =
            self.keys.into_iter().map(|(key, denied)| KeyReport { key, denied }).collect();
        keys.sort_unstable_by(|a, b| b.denied.cmp(&a.denied).then_with(|| a.key.cmp(&b.key)));
        keys.truncate(MAX_KEYS);
        SideReport {
            version: version.to_owned(),
            allowed: self.allowed,
            denied: self.denied,
            limits: limits.collect(),
            keys,
        }
    }
}
