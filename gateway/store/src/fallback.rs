//! Decisions while Redis does not answer, by the fail mode.

use limiter::{FixedLimit, Instant, Limit, LogLimit, Quota, Units};

use crate::{
    check::{Check, Refund},
    clock::CallTime,
    decision::{Decision, RefundOutcome, Source},
    error::StoreError,
    limit_check::{LimitCheck, LimitsCheck, LimitsDecision},
    local::{LocalStore, MOST_ENTRIES, is_short},
    millis::Millis,
    options::{FailMode, Thousandths},
    outage_log::OutageLog,
    quota_rule::QuotaRule,
};

/// The wait of a check that costs more than this process may ever grant. Redis may answer again by
/// then.
const OUTAGE_RETRY: Millis = Millis(1_000);

/// Makes decisions by the fail mode.
#[derive(Debug)]
pub(super) struct Fallback {
    mode: FailMode,
    share: Thousandths,
    log: OutageLog,
}

impl Fallback {
    /// Returns the fallback of a store with this fail mode.
    pub(super) fn new(mode: FailMode, share: Thousandths) -> Self {
        Self { mode, share, log: OutageLog::new(mode) }
    }

    /// Returns whether checks are decided at all.
    pub(super) fn decides(&self) -> bool {
        self.mode != FailMode::Closed
    }

    /// Decides a check. Returns `None` with [`FailMode::Closed`], and for a forced check.
    pub(super) fn check(
        &self,
        check: &Check,
        local: &LocalStore,
        now: Instant,
    ) -> Option<Result<Decision, StoreError>> {
        match self.mode {
            FailMode::Closed => None,
            // Debt that Redis does not count is lost.
            _ if check.force => None,
            FailMode::Open => Some(grant(&check.quota, check.cost, now)),
            FailMode::Local => Some(self.check_share(check, local, now)),
        }
    }

    /// Decides a check of several limits, by its own fail mode if it has one.
    pub(super) fn check_limits(
        &self,
        check: &LimitsCheck,
        local: &LocalStore,
        time: CallTime,
    ) -> Option<Result<LimitsDecision, StoreError>> {
        let (source, decisions) = match check.fail_mode.unwrap_or(self.mode) {
            FailMode::Closed => return None,
            FailMode::Open => {
                let grant = |limit: &LimitCheck| grant(&limit.quota, limit.cost, time.system);
                (Source::Open, check.limits.iter().map(grant).collect())
            }
            FailMode::Local => (Source::Local, self.check_shares(&check.limits, local, time)),
        };
        Some(decisions.map(|limits| LimitsDecision::of_limits(source, limits)))
    }

    /// Returns the answer to a check of one unit, or `None` unless this process decides alone.
    pub(super) fn peek(
        &self,
        identifier: &str,
        quota: &QuotaRule,
        local: &LocalStore,
        now: Instant,
    ) -> Option<Result<Decision, StoreError>> {
        let share = || local.peek(identifier, &self.share_of(quota), now);
        (self.mode == FailMode::Local).then(share)
    }

    /// Gives back units that this process granted. Returns `None` unless this process decides alone.
    pub(super) fn refund(
        &self,
        refund: &Refund,
        local: &LocalStore,
        now: Instant,
    ) -> Option<Result<RefundOutcome, StoreError>> {
        (self.mode == FailMode::Local).then(|| Ok(local.refund(refund, now)))
    }

    /// Returns the log of the outages.
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
        if check.cost > quota.capacity().get() {
            let decision = local.check(&Check { quota, cost: 0, ..check.clone() }, now)?;
            return Ok(Decision { allowed: false, retry_after: OUTAGE_RETRY, ..decision });
        }
        local.check(&Check { quota, ..check.clone() }, now)
    }

    fn check_shares(
        &self,
        limits: &[LimitCheck],
        local: &LocalStore,
        time: CallTime,
    ) -> Result<Vec<Decision>, StoreError> {
        let share =
            |limit: &LimitCheck| LimitCheck { quota: self.share_of(&limit.quota), ..limit.clone() };
        let mut shares: Vec<_> = limits.iter().map(share).collect();
        let exceeds = |share: &LimitCheck| share.required() > share.quota.capacity().get();
        let exceeding: Vec<_> = shares.iter().map(exceeds).collect();
        if !exceeding.contains(&true) {
            return local.check_limits(&shares, time);
        }
        shares.iter_mut().for_each(|share| share.cost = 0);
        let mut decisions = local.check_limits(&shares, time)?;
        for (decision, exceeds) in decisions.iter_mut().zip(exceeding) {
            if exceeds {
                (decision.allowed, decision.retry_after) = (false, OUTAGE_RETRY);
            }
        }
        Ok(decisions)
    }

    /// Returns the share of a quota that this process may grant: at least one unit.
    fn share_of(&self, rule: &QuotaRule) -> QuotaRule {
        let part = |units: Units| {
            let part = u64::from(units.get()) * u64::from(self.share.0) / 1000;
            // A part is at most the whole, so that only a part of less than one unit has no units.
            Units::new(part).unwrap_or(Units::MIN)
        };
        let quota = match rule {
            QuotaRule::Calendar { limit, calendar } => {
                return QuotaRule::Calendar { limit: part(*limit), calendar: calendar.clone() };
            }
            QuotaRule::Constant(quota) => quota,
        };
        QuotaRule::Constant(match *quota {
            Quota::TokenBucket(Limit { limit, window, capacity }) => {
                Quota::TokenBucket(Limit { limit: part(limit), window, capacity: part(capacity) })
            }
            Quota::SlidingWindow(limit) => {
                let share = LogLimit { limit: part(limit.limit), ..limit };
                // Redis may accept a greater limit, which must not be an error now.
                let is_short = is_short(&share);
                let limit = if is_short { share.limit } else { share.limit.min(MOST_ENTRIES) };
                Quota::SlidingWindow(LogLimit { limit, ..share })
            }
            Quota::FixedWindow(limit) => {
                Quota::FixedWindow(FixedLimit { limit: part(limit.limit), ..limit })
            }
        })
    }
}

/// Returns the decision that grants a check as if it were the first one of its quota.
fn grant(quota: &QuotaRule, cost: u32, now: Instant) -> Result<Decision, StoreError> {
    let capacity = quota.capacity().get();
    Ok(Decision {
        source: Source::Open,
        allowed: true,
        limit: quota.limit().get(),
        window: Some(quota.at(|| now)?.window),
        capacity: capacity.into(),
        remaining: capacity.saturating_sub(cost).into(),
        retry_after: Millis(0),
        reset_after: Millis(0),
    })
}

#[cfg(test)]
mod tests {
    use calendar::{Calendar, Unit};
    use limiter::{Algorithm, Instant, Quota, Units};

    use super::{Fallback, OUTAGE_RETRY};
    use crate::{
        check::{Check, bucket, quota},
        clock::CallTime,
        decision::{Decision, Source},
        limit_check::{Charge, LimitCheck, LimitsCheck},
        local::{LocalStore, MOST_ENTRIES},
        millis::Millis,
        options::{FailMode, Thousandths},
        quota_rule::QuotaRule,
    };

    const NOW: Instant = Instant::from_micros(1_800_014_400_000_000);

    fn check(limit: u32, capacity: Option<u32>, cost: u32) -> Check {
        let quota = bucket(limit, 60_000, capacity.unwrap_or(limit)).into();
        Check { identifier: "user".to_owned(), quota, cost, force: false }
    }

    fn local(share: u32) -> (Fallback, LocalStore) {
        (Fallback::new(FailMode::Local, Thousandths(share)), LocalStore::new(10))
    }

    #[test]
    fn closed_makes_no_decision() {
        let fallback = Fallback::new(FailMode::Closed, Thousandths(1000));
        assert_eq!(fallback.check(&check(100, None, 1), &LocalStore::new(10), NOW), None);
    }

    #[test]
    fn open_grants_every_check() {
        let (fallback, store) =
            (Fallback::new(FailMode::Open, Thousandths(1000)), LocalStore::new(10));
        for _ in 0..3 {
            let decision = fallback.check(&check(100, Some(40), 30), &store, NOW);
            let granted = Decision {
                source: Source::Open,
                allowed: true,
                limit: 100,
                window: Some(Millis(60_000)),
                capacity: 40,
                remaining: 10,
                retry_after: Millis(0),
                reset_after: Millis(0),
            };
            assert_eq!(decision, Some(Ok(granted)));
        }
        assert_eq!(fallback.peek("user", &check(100, None, 1).quota, &store, NOW), None);
    }

    #[test]
    fn a_share_of_limit_and_capacity_is_rounded_down_and_at_least_one() {
        for (share, limit, capacity, expected) in [
            (1000, 100, None, (100, 100)),
            (250, 100, Some(7), (25, 1)),
            (333, 100, Some(1_000_000_000), (33, 333_000_000)),
            (1, 999, Some(1), (1, 1)),
        ] {
            let share = local(share).0.share_of(&check(limit, capacity, 1).quota);
            assert_eq!((share.limit().get(), share.capacity().get()), expected);
        }
    }

    #[test]
    fn a_limit_that_only_redis_accepts_is_reduced_to_the_local_maximum() {
        let share = |quota: Quota| match local(1000).0.share_of(&quota.into()) {
            QuotaRule::Constant(quota) => quota,
            rule => panic!("{rule:?}"),
        };
        let daily = |limit| quota(Algorithm::SlidingWindow, limit, 86_400_000);
        assert_eq!(share(daily(5_000_000)), daily(MOST_ENTRIES.get()));
        // A minute has fewer ticks than that.
        let minutely = quota(Algorithm::SlidingWindow, 5_000_000, 60_000);
        assert_eq!(share(minutely), minutely);
    }

    #[test]
    fn a_share_of_a_calendar_window_has_the_same_windows() {
        let calendar = Calendar::in_utc(Unit::Month.with_usual_start());
        let of = |limit| {
            let limit = Units::new(limit).unwrap();
            QuotaRule::Calendar { limit, calendar: calendar.clone() }
        };
        assert_eq!(local(250).0.share_of(&of(10)), of(2));
        assert_eq!(local(250).0.share_of(&of(1)), of(1));
    }

    #[test]
    fn a_forced_check_is_decided_by_no_mode() {
        for mode in [FailMode::Closed, FailMode::Open, FailMode::Local] {
            let fallback = Fallback::new(mode, Thousandths(1000));
            let forced = Check { force: true, ..check(100, None, 1) };
            assert_eq!(fallback.check(&forced, &LocalStore::new(10), NOW), None);
        }
    }

    #[test]
    fn local_grants_its_share_and_no_more() {
        let (fallback, store) = local(250);
        for remaining in [1, 0] {
            let decision = fallback.check(&check(8, None, 1), &store, NOW).unwrap().unwrap();
            assert_eq!((decision.allowed, decision.remaining), (true, remaining));
            assert_eq!((decision.source, decision.limit, decision.capacity), (Source::Local, 2, 2));
        }
        let decision = fallback.check(&check(8, None, 1), &store, NOW).unwrap().unwrap();
        assert_eq!((decision.allowed, decision.retry_after), (false, Millis(30_000)));
    }

    #[test]
    fn a_cost_above_the_share_is_denied_until_redis_may_answer_again() {
        let (fallback, store) = local(250);
        let decision = fallback.check(&check(100, None, 26), &store, NOW).unwrap().unwrap();
        assert_eq!((decision.allowed, decision.remaining), (false, 25));
        assert_eq!(decision.retry_after, OUTAGE_RETRY);
        let decision = fallback.check(&check(100, None, 25), &store, NOW).unwrap().unwrap();
        assert_eq!((decision.allowed, decision.remaining), (true, 0));
    }

    #[test]
    fn a_check_of_limits_has_a_fail_mode_of_its_own_and_shares_of_every_limit() {
        let limit = |key: &str, limit, cost| LimitCheck {
            key: key.to_owned(),
            quota: bucket(limit, 31_622_400_000, limit).into(),
            cost,
            charge: Charge::Granted,
        };
        let of = |fail_mode, cost| LimitsCheck {
            limits: vec![limit("a", 8, cost), limit("b", 40, cost)],
            leases: Vec::new(),
            fail_mode,
        };
        let (fallback, store) = local(250);
        let time = CallTime { now: NOW, system: NOW };
        let check = |check: &LimitsCheck| {
            let decision = fallback.check_limits(check, &store, time)?.unwrap();
            let limits = decision.limits.iter().map(|limit| (limit.allowed, limit.remaining));
            Some((decision.source, limits.collect::<Vec<_>>()))
        };
        assert_eq!(check(&of(Some(FailMode::Closed), 1)), None);
        let open = vec![(true, 7), (true, 39)];
        assert_eq!(check(&of(Some(FailMode::Open), 1)), Some((Source::Open, open)));
        for (cost, expected) in [
            (2, [(true, 0), (true, 8)]),
            (1, [(false, 0), (true, 8)]),
            // More than a share is denied until Redis may answer again.
            (3, [(false, 0), (true, 8)]),
        ] {
            assert_eq!(check(&of(None, cost)), Some((Source::Local, expected.to_vec())), "{cost}");
        }
    }
}
