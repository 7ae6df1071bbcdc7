//! Several limits of one check, with their names, and what follows from the decisions on them.

use store::{Decision, LimitsCheck, LimitsDecision, Millis, QuotaRule, Source, StoreError};

/// Limits to take, with their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedLimits {
    /// The names, in the order of the limits.
    pub(crate) names: Vec<String>,
    /// The names of the limits of what happens at the same time, in their order.
    pub(crate) lease_names: Vec<String>,
    /// The limits.
    pub(crate) check: LimitsCheck,
}

/// A limit of a check, and the decision on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecidedLimit<'l> {
    pub(crate) name: &'l str,
    /// The quota; `None` for a limit of what happens at the same time.
    pub(crate) quota: Option<&'l QuotaRule>,
    pub(crate) cost: u32,
    pub(crate) decision: &'l Decision,
}

impl NamedLimits {
    /// Returns the number of limits.
    pub(crate) fn len(&self) -> usize {
        self.names.len() + self.lease_names.len()
    }

    /// Returns whether a limit takes units.
    pub(crate) fn takes(&self) -> bool {
        let of_limits = self.check.limits.iter().map(|limit| limit.cost);
        of_limits.chain(self.check.leases.iter().map(|lease| lease.cost)).any(|cost| cost > 0)
    }

    /// Returns each limit that was decided.
    pub(crate) fn with<'l>(
        &'l self,
        decision: &'l LimitsDecision,
    ) -> impl Iterator<Item = DecidedLimit<'l>> + Clone {
        let limits = self.names.iter().zip(&self.check.limits).zip(&decision.limits);
        let limits = limits.map(|((name, limit), decision)| DecidedLimit {
            name,
            quota: Some(&limit.quota),
            cost: limit.cost,
            decision,
        });
        let leases = self.lease_names.iter().zip(&self.check.leases).zip(&decision.leases);
        limits.chain(leases.map(|((name, lease), decided)| DecidedLimit {
            name,
            quota: None,
            cost: lease.cost,
            decision: &decided.decision,
        }))
    }

    /// Returns the limits with these names, and their denials of costs above their capacities. `wait` is
    /// the time until the check would be allowed.
    ///
    /// # Errors
    ///
    /// As [`LimitCheck::denial`](store::LimitCheck::denial).
    pub(crate) fn denials(
        &self,
        names: &[String],
        wait: Millis,
    ) -> Result<(Self, LimitsDecision), StoreError> {
        let LimitsCheck { limits, leases, fail_mode } = &self.check;
        let limits = self.names.iter().zip(limits).filter(|(name, _)| names.contains(name));
        let leases = self.lease_names.iter().zip(leases).filter(|(name, _)| names.contains(name));
        let (names, limits): (_, Vec<_>) =
            limits.map(|(name, limit)| (name.clone(), limit.clone())).unzip();
        let (lease_names, leases): (_, Vec<_>) =
            leases.map(|(name, lease)| (name.clone(), lease.clone())).unzip();
        let decision = LimitsDecision {
            source: Source::Local,
            limits: limits.iter().map(|limit| limit.denial(wait)).collect::<Result<_, _>>()?,
            leases: leases.iter().map(|lease| lease.denial(wait)).collect(),
        };
        let check = LimitsCheck { limits, leases, fail_mode: *fail_mode };
        Ok((Self { names, lease_names, check }, decision))
    }

    /// Counts the decision on each limit by its algorithm. A check without a cost takes nothing, so
    /// that it is no decision to count.
    pub(crate) fn count(&self, decision: &LimitsDecision) {
        let (allowed, source) = (decision.allowed(), decision.source);
        for DecidedLimit { quota, .. } in self.with(decision).filter(|limit| limit.cost > 0) {
            match quota {
                Some(quota) => store::count_decision(quota.algorithm(), allowed, source),
                None => store::count_lease_decision(allowed, source),
            }
        }
    }
}

/// Returns the decision that describes all limits; `None` without a limit. A grant has the fewest
/// remaining units and the longest time until the whole quota is available. A denial is that of the
/// limit that waits longest.
pub(crate) fn summary(decision: &LimitsDecision) -> Option<Decision> {
    let leases = decision.leases.iter().map(|lease| &lease.decision);
    let limits = decision.limits.iter().chain(leases);
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
        let (source, limits) = (Source::Redis, limits.to_vec());
        summary(&LimitsDecision { source, limits, leases: Vec::new() })
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
