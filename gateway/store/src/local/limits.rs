//! Checks of several limits at once in this process.

use super::LocalStore;
use crate::{
    check::Check,
    clock::CallTime,
    decision::Decision,
    error::StoreError,
    limit_check::{LimitCheck, is_allowed},
};

impl LocalStore {
    /// Takes the costs of all limits, or none of them. The keys of the limits are those of states.
    ///
    /// # Errors
    ///
    /// As [`LocalStore::check`].
    pub(crate) fn check_limits(
        &self,
        limits: &[LimitCheck],
        time: CallTime,
    ) -> Result<Vec<Decision>, StoreError> {
        let checks: Vec<_> = limits.iter().map(LimitCheck::required_check).collect();
        let is_simple = |limits: &[LimitCheck]| matches!(limits, [limit] if limit.rest() == 0);
        if is_simple(limits) || limits.iter().all(|limit| limit.cost == 0) {
            let alone = |check: &Check| self.check(check, time.of(check.quota.algorithm()));
            return checks.iter().map(alone).collect();
        }
        let _exclusive = self.exclude_all();
        let mut decisions = self.look_at_all(&checks, time)?;
        if !is_allowed(&decisions) || !self.grant_all(&checks, &mut decisions, time)? {
            return Ok(decisions);
        }
        for (limit, decision) in limits.iter().zip(&mut decisions) {
            if limit.rest() > 0 {
                // A grant stays one where no more debt can be counted.
                let charged = self.take(&limit.rest_check(), time)?;
                *decision = Decision { allowed: true, ..charged };
            }
        }
        Ok(decisions)
    }
}

impl LocalStore {
    /// Returns the answer to the check of each limit, as if alone. Takes nothing.
    ///
    /// # Errors
    ///
    /// As [`LocalStore::check`].
    pub(crate) fn look_at_limits(
        &self,
        limits: &[LimitCheck],
        time: CallTime,
    ) -> Result<Vec<Decision>, StoreError> {
        let checks: Vec<_> = limits.iter().map(LimitCheck::required_check).collect();
        let _exclusive = self.exclude_all();
        self.look_at_all(&checks, time)
    }
}

#[cfg(test)]
mod tests {
    use limiter::{Algorithm, Instant};

    use super::*;
    use crate::{check::quota, limit_check::Charge};

    const YEAR: u64 = 31_622_400_000;
    const NOON: Instant = Instant::from_micros(1_800_014_400_000_000);
    const TIME: CallTime = CallTime { now: NOON, system: NOON };

    fn limit(algorithm: Algorithm, limit: u32, cost: u32, charge: Charge) -> LimitCheck {
        let key = format!("policy:rate:{}:{{p|a}}", algorithm.word());
        LimitCheck { key, quota: quota(algorithm, limit, YEAR).into(), cost, charge }
    }

    /// Returns whether each limit allows the check, and what remains of each.
    fn check(store: &LocalStore, limits: &[LimitCheck]) -> Vec<(bool, u64)> {
        let decisions = store.check_limits(limits, TIME).unwrap();
        decisions.iter().map(|decision| (decision.allowed, decision.remaining)).collect()
    }

    #[test]
    fn all_limits_are_taken_or_none() {
        let store = LocalStore::new(10);
        let limits = |cost| {
            [
                limit(Algorithm::TokenBucket, 10, cost, Charge::Granted),
                limit(Algorithm::SlidingWindow, 5, cost, Charge::Granted),
            ]
        };
        assert_eq!(check(&store, &limits(3)), [(true, 7), (true, 2)]);
        assert_eq!(check(&store, &limits(3)), [(true, 7), (false, 2)]);
        assert_eq!(check(&store, &limits(0)), [(true, 7), (true, 2)]);
        assert_eq!(check(&store, &limits(2)), [(true, 5), (true, 0)]);
        assert_eq!(check(&store, &limits(0)), [(true, 5), (false, 0)]);
    }

    #[test]
    fn a_cost_that_is_always_charged_needs_one_unit_and_can_leave_a_debt() {
        let store = LocalStore::new(10);
        let tokens = |cost| [limit(Algorithm::FixedWindow, 10_000, cost, Charge::Always)];
        assert_eq!(check(&store, &tokens(5_000)), [(true, 5_000)]);
        assert_eq!(check(&store, &tokens(1_000)), [(true, 4_000)]);
        assert_eq!(check(&store, &tokens(5_000)), [(true, 0)]);
        assert_eq!(check(&store, &tokens(5_000)), [(false, 0)]);
        // The debt is counted: less than it does not make a unit available.
        let refund = |amount| {
            store.refund(
                &crate::check::Refund {
                    identifier: tokens(1)[0].key.clone(),
                    algorithm: Algorithm::FixedWindow,
                    amount: limiter::Units::new(amount).unwrap(),
                },
                NOON,
            )
        };
        refund(1_000);
        assert_eq!(check(&store, &tokens(1)), [(false, 0)]);
        refund(1);
        assert_eq!(check(&store, &tokens(1)), [(true, 0)]);
        // A limit that denies beside it leaves it as it is.
        refund(7);
        let pair = [
            limit(Algorithm::TokenBucket, 1, 1, Charge::Granted),
            limit(Algorithm::FixedWindow, 10_000, 5, Charge::Always),
        ];
        assert_eq!(check(&store, &pair), [(true, 0), (true, 2)]);
        assert_eq!(check(&store, &pair), [(false, 0), (true, 2)]);
    }
}
