//! Several limits of one check, with their names, and what follows from the decisions on them.

use store::{Decision, LimitCheck, LimitsCheck, LimitsDecision};

/// Limits to take, with their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedLimits {
    /// The names, in the order of the limits.
    pub(crate) names: Vec<String>,
    /// The limits.
    pub(crate) check: LimitsCheck,
}

impl NamedLimits {
    /// Returns each limit with its name and its decision.
    pub(crate) fn with<'l>(
        &'l self,
        decision: &'l LimitsDecision,
    ) -> impl Iterator<Item = (&'l str, &'l LimitCheck, &'l Decision)> {
        let names = self.names.iter().map(String::as_str);
        names
            .zip(&self.check.limits)
            .zip(&decision.limits)
            .map(|((name, limit), decision)| (name, limit, decision))
    }

    /// Counts the decision on each limit by its algorithm. A check without a cost takes nothing, so
    /// that it is no decision to count.
    pub(crate) fn count(&self, decision: &LimitsDecision) {
        let allowed = decision.allowed();
        for limit in self.check.limits.iter().filter(|limit| limit.cost > 0) {
            store::count_decision(limit.quota.algorithm(), allowed, decision.source);
        }
    }
}

/// Returns the decision that describes all limits; `None` without a limit. A grant has the fewest
/// remaining units and the longest time until the whole quota is available. A denial is that of the
/// limit that waits longest.
pub(crate) fn summary(decision: &LimitsDecision) -> Option<Decision> {
    let limits = decision.limits.iter();
    if !decision.allowed() {
        let denied = limits.filter(|limit| !limit.allowed);
        return denied.max_by_key(|limit| limit.retry_after).copied();
    }
    let reset_after = limits.clone().map(|limit| limit.reset_after).max()?;
    let fewest = limits.min_by_key(|limit| limit.remaining)?;
    Some(Decision { reset_after, ..*fewest })
}

#[cfg(test)]
mod tests {
    use store::{Decision, LimitsDecision, Millis, Source};

    use super::summary;

    fn limit(allowed: bool, remaining: u64, wait: u64, reset: u64) -> Decision {
        Decision {
            source: Source::Redis,
            allowed,
            limit: 10,
            window: None,
            capacity: remaining + 1,
            remaining,
            retry_after: Millis(wait),
            reset_after: Millis(reset),
        }
    }

    fn summary_of(limits: &[Decision]) -> Option<Decision> {
        summary(&LimitsDecision { source: Source::Redis, limits: limits.to_vec() })
    }

    #[test]
    fn a_grant_has_the_fewest_units_and_the_longest_reset() {
        let grant = summary_of(&[limit(true, 7, 0, 1), limit(true, 3, 0, 2), limit(true, 5, 0, 9)]);
        assert_eq!(grant, Some(Decision { reset_after: Millis(9), ..limit(true, 3, 0, 2) }));
        assert_eq!(summary_of(&[]), None);
    }

    #[test]
    fn a_denial_is_that_of_the_limit_that_waits_longest() {
        let longest = limit(false, 4, 20, 30);
        let limits = [limit(false, 0, 10, 90), longest, limit(true, 0, 0, 99)];
        assert_eq!(summary_of(&limits), Some(longest));
    }
}
