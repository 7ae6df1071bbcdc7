//! The decisions by the policies, counted by policy, plan, limit and outcome.
//!
//! Names come from a file that changes, so that the series of removed names go with the next version.

use std::{
    fmt::Write,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use hashbrown::HashMap;
use policies::Policies;
use tokio::sync::watch;

use super::{PolicyFile, state::FileState};
use crate::telemetry::Series;

const DECISIONS: &str = "ratelimit_policy_decisions_total";

/// The policy and the limit of limits that callers bring themselves, whose names are not counted.
pub(crate) const INLINE: &str = "inline";

/// The policy of all decisions beyond [`MAX_ROWS`].
const OTHER: &str = "other";

/// The most combinations of a policy, a plan and a limit that are counted by their names.
const MAX_ROWS: usize = 1_000;

/// The outcome of a decision for one limit, or for a whole check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyOutcome {
    /// The check took its cost, or no limit is enforced.
    Allowed,
    /// The limit denied the check.
    Denied,
    /// The limit would have denied the check, and is a trial.
    ShadowDenied,
    /// An override, or a missing attribute, denied the check.
    Blocked,
    /// An override exempts the check from all limits.
    Unlimited,
    /// No policy applies.
    Unmatched,
    /// The policy matches, and skips the check because of a missing attribute.
    Skipped,
}

impl PolicyOutcome {
    const ALL: [Self; 7] = [
        Self::Allowed,
        Self::Denied,
        Self::ShadowDenied,
        Self::Blocked,
        Self::Unlimited,
        Self::Unmatched,
        Self::Skipped,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::ShadowDenied => "shadow_denied",
            Self::Blocked => "blocked",
            Self::Unlimited => "unlimited",
            Self::Unmatched => "unmatched",
            Self::Skipped => "skipped",
        }
    }
}

/// The numbers of decisions by the policies.
#[derive(Debug, Default)]
pub struct PolicyDecisions {
    table: RwLock<Table>,
    /// The policies in force, if there is a file.
    policies: Option<watch::Receiver<FileState>>,
}

#[derive(Debug, Default)]
struct Table {
    /// The version of the policies whose names are counted.
    version: String,
    /// The rows by policy.
    policies: HashMap<String, Vec<Row>>,
    rows: usize,
}

/// The decisions of one plan and limit of a policy. Both are empty where a whole check is counted.
#[derive(Debug)]
struct Row {
    plan: String,
    limit: String,
    counts: [AtomicU64; PolicyOutcome::ALL.len()],
}

impl PolicyDecisions {
    /// Returns no decisions, for the policies of this file, if there is one.
    #[must_use]
    pub fn new(policies: Option<&PolicyFile>) -> Self {
        Self { table: RwLock::default(), policies: policies.map(PolicyFile::states) }
    }

    /// Removes the names that these policies do not have, unless the names are theirs already.
    pub(crate) fn follow(&self, policies: &Policies) {
        let version = policies.version();
        if self.table.read().unwrap_or_else(PoisonError::into_inner).version == version {
            return;
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.version = version.to_owned();
        table.policies.retain(|name, rows| {
            if [INLINE, OTHER, ""].contains(&name.as_str()) {
                return true;
            }
            let Some(policy) = policies.policy(name) else { return false };
            rows.retain(|row| {
                let mut limits = policies.limits(policy);
                row.limit.is_empty() || limits.any(|limit| *limit.name == *row.limit)
            });
            true
        });
        table.rows = table.policies.values().map(Vec::len).sum();
    }

    /// Counts the policies that have skipped a check.
    pub(crate) fn count_skipped(&self, policies: &[String]) {
        for policy in policies {
            self.count(policy, "", "", PolicyOutcome::Skipped);
        }
    }

    /// Counts a decision.
    pub(crate) fn count(&self, policy: &str, plan: &str, limit: &str, outcome: PolicyOutcome) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = table.row(policy, plan, limit) {
            row.count(outcome);
            return;
        }
        drop(table);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.add(policy, plan, limit).count(outcome);
    }
}

impl Table {
    fn row(&self, policy: &str, plan: &str, limit: &str) -> Option<&Row> {
        self.policies.get(policy)?.iter().find(|row| row.plan == plan && row.limit == limit)
    }

    /// Returns a row, which another thread may have added meanwhile, or that of all other names when
    /// there are too many.
    fn add(&mut self, policy: &str, plan: &str, limit: &str) -> &Row {
        let is_known = self.row(policy, plan, limit).is_some();
        let [policy, plan, limit] = match is_known || self.rows < MAX_ROWS {
            true => [policy, plan, limit],
            false => [OTHER, "", ""],
        };
        let rows = self.policies.entry(policy.to_owned()).or_default();
        let place = rows.iter().position(|row| row.plan == plan && row.limit == limit);
        let place = place.unwrap_or_else(|| {
            let (plan, limit, counts) = (plan.to_owned(), limit.to_owned(), Default::default());
            rows.push(Row { plan, limit, counts });
            self.rows += 1;
            rows.len() - 1
        });
        &rows[place]
    }
}

impl Row {
    fn count(&self, outcome: PolicyOutcome) {
        self.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Series for PolicyDecisions {
    fn write(&self, page: &mut String) {
        // Names of a former version go also when no check comes after a load.
        if let Some(state) = &self.policies {
            let policies = Arc::clone(&state.borrow().policies);
            self.follow(&policies);
        }
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let help = "Decisions by the policies, by policy, plan, limit and outcome.";
        // Writing to text cannot fail.
        let _ = write!(page, "# HELP {DECISIONS} {help}\n# TYPE {DECISIONS} counter\n");
        for (policy, rows) in &table.policies {
            for Row { plan, limit, counts } in rows {
                for outcome in PolicyOutcome::ALL {
                    let count = counts[outcome as usize].load(Ordering::Relaxed);
                    if count > 0 {
                        let outcome = outcome.name();
                        let _ = writeln!(
                            page,
                            "{DECISIONS}{{policy=\"{policy}\",plan=\"{plan}\",limit=\"{limit}\",\
                             outcome=\"{outcome}\"}} {count}"
                        );
                    }
                }
            }
        }
        page.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use policies::{LoadOptions, Policies};
    use tokio::sync::watch;

    use super::{FileState, PolicyDecisions, PolicyOutcome};
    use crate::telemetry::Series;

    fn page(decisions: &PolicyDecisions) -> Vec<String> {
        let mut page = String::new();
        decisions.write(&mut page);
        let lines = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn series_of_removed_names_go_with_the_next_version_before_its_first_check() {
        let load = |limit: &str| {
            let file = format!(
                "{{version: 1, policies: [{{name: api, by: [], limits: [{{name: {limit}, limit: 1, \
                 per: 1s}}]}}]}}"
            );
            let now = limiter::Instant::from_micros(0);
            let options =
                LoadOptions { key_prefix: String::new(), hash_key: None, require_end: false, now };
            Policies::load(file.as_bytes(), &options).unwrap()
        };
        let (file, states) = watch::channel(FileState::loaded(load("old")));
        let decisions = PolicyDecisions { policies: Some(states), ..PolicyDecisions::default() };
        decisions.follow(&load("old"));
        decisions.count("api", "", "old", PolicyOutcome::Allowed);
        decisions.count("api", "", "old", PolicyOutcome::Denied);
        decisions.count("inline", "", "inline", PolicyOutcome::Denied);
        let of = |policy: &str, plan: &str, limit: &str, outcome: &str, count: u32| {
            format!(
                "ratelimit_policy_decisions_total{{policy=\"{policy}\",plan=\"{plan}\",\
                 limit=\"{limit}\",outcome=\"{outcome}\"}} {count}"
            )
        };
        let inline = of("inline", "", "inline", "denied", 1);
        let old = ["allowed", "denied"].map(|outcome| of("api", "", "old", outcome, 1));
        assert_eq!(page(&decisions), [&old[..], std::slice::from_ref(&inline)].concat());
        file.send_replace(FileState::loaded(load("new")));
        assert_eq!(page(&decisions), [inline]);
    }

    #[test]
    fn names_beyond_the_most_are_counted_together() {
        let decisions = PolicyDecisions::default();
        for number in 0..1_100 {
            decisions.count("api", "", &number.to_string(), PolicyOutcome::Allowed);
        }
        decisions.count("api", "", "0", PolicyOutcome::Allowed);
        let page = page(&decisions);
        assert_eq!(page.len(), 1_001);
        let other = page.iter().find(|line| line.contains("policy=\"other\"")).unwrap();
        assert!(other.ends_with(" 100"), "{other}");
    }
}
