//! What is decided while Redis cannot answer.

use limiter::Instant;

use super::{
    Decision, FailMode, Refunded, Source, StoreError, Thousandths,
    local::{LocalStore, MAX_BOUNDED_LIMIT},
    outage_log::OutageLog,
};
use crate::{
    check::{Check, Quota, Refund},
    millis::Millis,
};

/// What a check is told to wait that costs more than this process may ever grant: Redis may be
/// back by then.
const UNTIL_REDIS_IS_BACK: Millis = Millis(1_000);

/// Decides by the fail mode.
#[derive(Debug)]
pub(super) struct Fallback {
    mode: FailMode,
    share: Thousandths,
    log: OutageLog,
}

impl Fallback {
    /// A fallback that is not needed yet.
    pub(super) fn new(mode: FailMode, share: Thousandths) -> Self {
        Self { mode, share, log: OutageLog::new(mode) }
    }

    /// Whether there are decisions at all.
    pub(super) fn decides(&self) -> bool {
        self.mode != FailMode::Closed
    }

    /// Decides a check that Redis did not: `None` with [`FailMode::Closed`].
    pub(super) fn check(
        &self,
        check: &Check,
        local: &LocalStore,
        now: Instant,
    ) -> Option<Result<Decision, StoreError>> {
        match self.mode {
            FailMode::Closed => None,
            FailMode::Open => Some(Ok(granted(check))),
            FailMode::Local => Some(self.check_share(check, local, now)),
        }
    }

    /// What is left of a quota here: `None` unless this process decides by itself.
    pub(super) fn peek(
        &self,
        identifier: &str,
        quota: &Quota,
        local: &LocalStore,
        now: Instant,
    ) -> Option<Result<Decision, StoreError>> {
        let share = || local.peek(identifier, &self.share_of(quota), now);
        (self.mode == FailMode::Local).then(share)
    }

    /// Gives back units that were taken here: `None` unless this process decides by itself.
    pub(super) fn refund(
        &self,
        units: &Refund,
        local: &LocalStore,
        now: Instant,
    ) -> Option<Result<Refunded, StoreError>> {
        (self.mode == FailMode::Local).then(|| Ok(local.refund(units, now)))
    }

    /// The log of the time without Redis.
    pub(super) fn log(&self) -> &OutageLog {
        &self.log
    }

    fn check_share(
        &self,
        check: &Check,
        local: &LocalStore,
        now: Instant,
    ) -> Result<Decision, StoreError> {
        let quota = self.share_of(&check.quota);
        if check.cost > quota.capacity() {
            let decision = local.check(&Check { quota, cost: 0, ..check.clone() }, now)?;
            return Ok(Decision { allowed: false, retry_after: UNTIL_REDIS_IS_BACK, ..decision });
        }
        local.check(&Check { quota, ..check.clone() }, now)
    }

    /// The part of a quota that this process may grant: at least one unit.
    fn share_of(&self, quota: &Quota) -> Quota {
        let part = |units: u32| {
            let part = u64::from(units) * u64::from(self.share.0) / 1000;
            u32::try_from(part).unwrap_or(units).max(1)
        };
        let limit = part(quota.limit);
        Quota {
            // Redis may be set to take more, which is no reason to fail now.
            limit: match quota.algorithm.facts().has_bounded_limit {
                true => limit.min(MAX_BOUNDED_LIMIT),
                false => limit,
            },
            burst: quota.burst.map(part),
            ..quota.clone()
        }
    }
}

/// The answer to a check when everything is allowed: as if it were the first one.
fn granted(check: &Check) -> Decision {
    let capacity = check.quota.capacity();
    Decision {
        source: Source::Open,
        allowed: true,
        rate: check.quota.limit,
        limit: capacity.into(),
        remaining: capacity.saturating_sub(check.cost).into(),
        retry_after: Millis(0),
        reset_after: Millis(0),
    }
}

#[cfg(test)]
mod tests {
    use limiter::{Algorithm, Instant};

    use super::{Fallback, UNTIL_REDIS_IS_BACK};
    use crate::{
        Decision, FailMode, Source, Thousandths,
        check::{Check, Quota},
        local::LocalStore,
        millis::Millis,
    };

    const NOW: Instant = Instant::from_micros(1_800_014_400_000_000);

    fn check(limit: u32, burst: Option<u32>, cost: u32) -> Check {
        let quota =
            Quota { algorithm: Algorithm::TokenBucket, limit, window: Millis(60_000), burst };
        Check { identifier: "user".to_owned(), quota, cost }
    }

    fn local(share: u32) -> (Fallback, LocalStore) {
        (Fallback::new(FailMode::Local, Thousandths(share)), LocalStore::new(10))
    }

    #[test]
    fn closed_leaves_the_error() {
        let fallback = Fallback::new(FailMode::Closed, Thousandths(1000));
        assert_eq!(fallback.check(&check(100, None, 1), &LocalStore::new(10), NOW), None);
    }

    #[test]
    fn open_grants_whatever_is_asked_for() {
        let (fallback, store) =
            (Fallback::new(FailMode::Open, Thousandths(1000)), LocalStore::new(10));
        for _ in 0..3 {
            let decision = fallback.check(&check(100, Some(40), 30), &store, NOW);
            let granted = Decision {
                source: Source::Open,
                allowed: true,
                rate: 100,
                limit: 40,
                remaining: 10,
                retry_after: Millis(0),
                reset_after: Millis(0),
            };
            assert_eq!(decision, Some(Ok(granted)));
        }
        assert_eq!(fallback.peek("user", &check(100, None, 1).quota, &store, NOW), None);
    }

    #[test]
    fn a_share_of_limit_and_burst_is_rounded_down_and_at_least_one() {
        for (share, limit, burst, expected) in [
            (1000, 100, None, (100, None)),
            (250, 100, Some(7), (25, Some(1))),
            (333, 100, Some(1_000_000_000), (33, Some(333_000_000))),
            (1, 999, Some(1), (1, Some(1))),
        ] {
            let share = local(share).0.share_of(&check(limit, burst, 1).quota);
            assert_eq!((share.limit, share.burst), expected);
        }
    }

    #[test]
    fn a_log_that_only_redis_may_take_is_cut_to_what_is_taken_here() {
        let quota =
            Quota { algorithm: Algorithm::SlidingWindow, ..check(5_000_000, None, 1).quota };
        assert_eq!(local(1000).0.share_of(&quota).limit, 1_000_000);
    }

    #[test]
    fn local_grants_its_share_and_no_more() {
        let (fallback, store) = local(250);
        for remaining in [1, 0] {
            let decision = fallback.check(&check(8, None, 1), &store, NOW).unwrap().unwrap();
            assert_eq!((decision.allowed, decision.remaining), (true, remaining));
            assert_eq!((decision.source, decision.rate, decision.limit), (Source::Local, 2, 2));
        }
        let decision = fallback.check(&check(8, None, 1), &store, NOW).unwrap().unwrap();
        assert_eq!((decision.allowed, decision.retry_after), (false, Millis(30_000)));
    }

    #[test]
    fn a_cost_above_the_share_is_to_come_back_when_redis_may_be_back() {
        let (fallback, store) = local(250);
        let decision = fallback.check(&check(100, None, 26), &store, NOW).unwrap().unwrap();
        assert_eq!((decision.allowed, decision.remaining), (false, 25));
        assert_eq!(decision.retry_after, UNTIL_REDIS_IS_BACK);
        let decision = fallback.check(&check(100, None, 25), &store, NOW).unwrap().unwrap();
        assert_eq!((decision.allowed, decision.remaining), (true, 0));
    }
}
