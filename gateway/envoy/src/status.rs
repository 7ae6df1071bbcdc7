//! The status of a descriptor: one limit of those that have decided.

use std::cmp::Ordering;

use store::{Decision, Millis};

use crate::{
    answer::{DescriptorAnswer, LimitAnswer},
    time_unit::TimeUnit,
};

/// The units that remain where no limit is enforced.
const WITHOUT_LIMIT: u32 = 1_000_000_000;

/// The status of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptorStatus {
    /// True if the descriptor is allowed.
    pub allowed: bool,
    /// The limit that the status describes, if the end user may see a limit: Envoy writes headers about
    /// each limit in a status.
    pub limit: Option<StatusLimit>,
    /// The units that remain.
    pub remaining: u32,
    /// Whole seconds until the call would be allowed, or until the whole quota is available.
    pub seconds_until_reset: u64,
}

/// The limit in a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusLimit {
    /// The name.
    pub name: String,
    /// Units per window.
    pub limit: u32,
    /// The unit of time that equals the window.
    pub unit: TimeUnit,
}

impl DescriptorAnswer {
    /// Returns the status. With several limits the status is that of the limit that denies for the
    /// longest time, or of the limit with the smallest share of its units left.
    #[must_use]
    pub fn status(&self) -> DescriptorStatus {
        if let Some(wait) = self.denied_for {
            return DescriptorStatus {
                allowed: false,
                limit: None,
                remaining: 0,
                seconds_until_reset: seconds_of_denial(wait),
            };
        }
        let denied = self.limits.iter().filter(|limit| !limit.decision.allowed);
        let denied = denied.max_by_key(|limit| limit.decision.retry_after);
        let fewest = || self.limits.iter().min_by(|left, right| by_share(left, right));
        let Some(LimitAnswer { name, unit, decision }) = denied.or_else(fewest) else {
            return DescriptorStatus {
                allowed: true,
                limit: None,
                remaining: WITHOUT_LIMIT,
                seconds_until_reset: 0,
            };
        };
        let limit = StatusLimit { name: name.clone(), limit: decision.limit, unit: *unit };
        DescriptorStatus {
            allowed: decision.allowed,
            limit: self.is_visible.then_some(limit),
            // The field of the protocol has 32 bits: more units are reported as the most that it has.
            remaining: u32::try_from(decision.remaining).unwrap_or(u32::MAX),
            seconds_until_reset: match decision.allowed {
                true => decision.reset_after.whole_seconds(),
                false => seconds_of_denial(decision.retry_after),
            },
        }
    }
}

/// Returns whole seconds, at least 1, so that no client retries too early.
fn seconds_of_denial(wait: Millis) -> u64 {
    wait.whole_seconds().max(1)
}

/// Compares the shares of the units that are left.
fn by_share(left: &LimitAnswer, right: &LimitAnswer) -> Ordering {
    let product = |units: &Decision, capacity: &Decision| {
        u128::from(units.remaining) * u128::from(capacity.capacity)
    };
    product(&left.decision, &right.decision).cmp(&product(&right.decision, &left.decision))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use store::{Decision, Millis, Source};

    use super::{DescriptorStatus, StatusLimit, WITHOUT_LIMIT};
    use crate::{
        answer::{DescriptorAnswer, LimitAnswer},
        time_unit::TimeUnit,
    };

    fn limit(name: &str, allowed: bool, remaining: u64, capacity: u64, wait: u64) -> LimitAnswer {
        let decision = Decision {
            source: Source::Redis,
            allowed,
            limit: 10,
            window: Some(Millis(60_000)),
            capacity,
            remaining,
            retry_after: Millis(wait),
            reset_after: Millis(2_001),
        };
        LimitAnswer { name: name.to_owned(), unit: TimeUnit::Minute, decision }
    }

    fn answer(limits: Vec<LimitAnswer>) -> DescriptorAnswer {
        DescriptorAnswer { denied_for: None, limits, is_visible: true }
    }

    fn status(allowed: bool, name: &str, remaining: u32, seconds: u64) -> DescriptorStatus {
        let limit = StatusLimit { name: name.to_owned(), limit: 10, unit: TimeUnit::Minute };
        DescriptorStatus { allowed, limit: Some(limit), remaining, seconds_until_reset: seconds }
    }

    #[test]
    fn a_grant_is_that_of_the_limit_with_the_smallest_share_left() {
        let limits = vec![
            limit("many", true, 90, 100, 0),
            limit("few", true, 80, 1_000, 0),
            limit("half", true, 5, 10, 0),
        ];
        assert_eq!(answer(limits).status(), status(true, "few", 80, 3));
        let most = limit("rate", true, u64::MAX, u64::MAX, 0);
        assert_eq!(answer(vec![most]).status(), status(true, "rate", u32::MAX, 3));
    }

    #[test]
    fn a_denial_is_that_of_the_limit_that_waits_longest() {
        let limits = vec![
            limit("short", false, 0, 10, 1),
            limit("long", false, 2, 10, 9_001),
            limit("free", true, 0, 10, 0),
        ];
        assert_eq!(answer(limits).status(), status(false, "long", 2, 10));
        assert_eq!(
            answer(vec![limit("rate", false, 0, 1, 0)]).status(),
            status(false, "rate", 0, 1)
        );
    }

    #[test]
    fn a_status_without_a_limit_writes_no_headers() {
        let free = answer(vec![]).status();
        assert_eq!((free.allowed, free.limit, free.remaining), (true, None, WITHOUT_LIMIT));
        let denied_for = Some(Millis(1_500));
        let blocked = DescriptorAnswer { denied_for, ..answer(vec![]) };
        assert_eq!(blocked.wait(), denied_for);
        let blocked = blocked.status();
        assert_eq!((blocked.allowed, blocked.limit, blocked.remaining), (false, None, 0));
        assert_eq!(blocked.seconds_until_reset, 2);
        let limits = vec![limit("rate", false, 0, 10, 5_000)];
        let hidden = DescriptorAnswer { is_visible: false, ..answer(limits) }.status();
        assert_eq!((hidden.limit, hidden.seconds_until_reset), (None, 5));
    }

    proptest! {
        #[test]
        fn a_status_agrees_with_the_decisions(
            limits in proptest::collection::vec(
                (any::<bool>(), 0u64..20, 20u64..40, any::<u64>()), 0..5),
        ) {
            let limits: Vec<_> = limits
                .into_iter()
                .map(|(allowed, left, most, wait)| limit("rate", allowed, left, most, wait))
                .collect();
            let answer = answer(limits.clone());
            let status = answer.status();
            prop_assert_eq!(status.allowed, answer.allowed());
            prop_assert_eq!(status.allowed, limits.iter().all(|limit| limit.decision.allowed));
            prop_assert_eq!(answer.wait().is_none(), status.allowed);
            for Decision { allowed, remaining, capacity, retry_after, .. } in
                limits.iter().map(|limit| limit.decision)
            {
                if status.allowed {
                    let least = limits.iter().map(|limit| limit.decision)
                        .find(|decision| decision.remaining == u64::from(status.remaining)).unwrap();
                    prop_assert!(least.remaining * capacity <= remaining * least.capacity
                        || limits.iter().any(|other| other.decision.remaining == least.remaining
                            && other.decision.capacity > least.capacity));
                } else if !allowed {
                    prop_assert!(status.seconds_until_reset >= retry_after.whole_seconds());
                }
            }
        }
    }
}
