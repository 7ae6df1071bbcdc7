//! The time until a quota has one unit more than now.
//!
//! The reply of Redis has no such time. It follows from the times that the reply has: of a bucket,
//! because it drains steadily; of a log, as an upper bound; of a fixed window, because nothing
//! returns before its end.

use limiter::{Limit, Quota};
use store::{Decision, Millis, QuotaRule};

/// Times in replies are at most this: a longer one is cut.
const LONGEST: u64 = (1 << 53) - 1;

/// Returns the time until more can be taken than now, and nothing when all of it is there. A `cost`
/// of 0 looks at one unit.
///
/// Of a log only two times are known: after a denial, the time until the oldest grants have made
/// room for the cost, and otherwise, the time until the newest grant has left. More comes by then at
/// the latest.
pub(crate) fn wait(quota: &QuotaRule, cost: u32, decision: &Decision) -> Option<Millis> {
    if decision.remaining >= decision.capacity {
        return None;
    }
    let wait = match quota {
        QuotaRule::Constant(Quota::TokenBucket(limit)) => Bucket::new(limit, cost, decision).wait(),
        QuotaRule::Constant(Quota::SlidingWindow(_)) if decision.allowed => decision.reset_after.0,
        QuotaRule::Constant(Quota::SlidingWindow(_)) => decision.retry_after.0,
        QuotaRule::Constant(Quota::FixedWindow(_)) | QuotaRule::Calendar { .. } => {
            decision.reset_after.0
        }
    };
    Some(Millis(wait.max(1)))
}

/// A bucket of which something is used, as a reply describes it. It drains at the rate of the call
/// or of an earlier grant, whichever is faster. Times are in milliseconds.
struct Bucket<'a> {
    decision: &'a Decision,
    window: u64,
    cost: u64,
}

impl<'a> Bucket<'a> {
    fn new(limit: &Limit, cost: u32, decision: &'a Decision) -> Self {
        Self { decision, window: limit.window.as_millis(), cost: cost.max(1).into() }
    }

    fn wait(&self) -> u64 {
        let Decision { allowed, remaining, retry_after: Millis(retry), .. } = *self.decision;
        if allowed {
            return self.at_rate_of_call();
        }
        let wait = if remaining + 1 == self.cost {
            retry
        } else if self.drains_at_rate_of_call() || self.is_cut() {
            self.at_rate_of_call()
        } else {
            self.at_measured_rate()
        };
        wait.min(retry)
    }

    /// Returns the wait if the bucket drains at the rate of the call. The time until it is empty is
    /// that of the next unit and of all units after it.
    fn at_rate_of_call(&self) -> u64 {
        if self.is_cut() {
            return match self.decision.remaining {
                0 if !self.decision.allowed => LONGEST,
                _ => self.window.div_ceil(self.decision.limit.into()),
            };
        }
        let Millis(reset) = self.decision.reset_after;
        match reset.saturating_sub(self.time_of(self.units_after_next())) {
            // The bucket drains faster, and more may be used than there is.
            0 if !self.decision.allowed && self.decision.remaining == 0 => LONGEST,
            // The bucket drains faster, and the next unit is one of those that are used.
            0 => reset.div_ceil(self.units_after_next() + 1),
            wait => wait,
        }
    }

    /// Returns the wait at the rate between the two times of a denial: units beyond the cost take
    /// their difference. The product can exceed 64 bits, and the wait is then 0.
    fn at_measured_rate(&self) -> u64 {
        let Decision { capacity, retry_after, reset_after, .. } = *self.decision;
        let between = u128::from(reset_after.0.saturating_sub(retry_after.0));
        let units = u128::from(capacity.saturating_sub(self.cost).max(1));
        let after_next = between * u128::from(self.units_after_next()) / units;
        reset_after.0.saturating_sub(u64::try_from(after_next).unwrap_or(u64::MAX))
    }

    /// Returns true when the two times of a denial are as far apart as the rate of the call says.
    /// Both are rounded up.
    fn drains_at_rate_of_call(&self) -> bool {
        let Decision { capacity, retry_after, reset_after, .. } = *self.decision;
        let between = reset_after.0.saturating_sub(retry_after.0);
        between + 1 >= self.time_of(capacity.saturating_sub(self.cost))
    }

    /// Returns true when the time until the bucket is empty does not fit into a reply.
    fn is_cut(&self) -> bool {
        self.decision.reset_after.0 >= LONGEST
    }

    fn units_after_next(&self) -> u64 {
        self.decision.capacity - self.decision.remaining - 1
    }

    /// Returns the time in which so many units drain at the rate of the call, rounded down. A time
    /// that does not fit into 64 bits is cut: no reply has a time as long.
    fn time_of(&self, units: u64) -> u64 {
        let time = u128::from(units) * u128::from(self.window) / u128::from(self.decision.limit);
        u64::try_from(time).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use limiter::{Algorithm, Limit, Quota, Units, Window};
    use store::{Decision, Millis, QuotaRule, Source};

    use super::{LONGEST, wait};

    fn quota(algorithm: Algorithm, limit: u32, window: u64) -> QuotaRule {
        let limit = Units::new(limit.into()).unwrap();
        Quota::new(algorithm, limit, Window::from_millis(window).unwrap()).into()
    }

    fn decision(limit: u32, remaining: u64, retry_after: u64, reset_after: u64) -> Decision {
        Decision {
            source: Source::Redis,
            allowed: retry_after == 0,
            limit,
            window: Some(Millis(60_000)),
            capacity: limit.into(),
            remaining,
            retry_after: Millis(retry_after),
            reset_after: Millis(reset_after),
        }
    }

    #[test]
    fn a_bucket_has_more_with_its_next_unit() {
        // 100 units a minute: one every 600 ms.
        let quota = quota(Algorithm::TokenBucket, 100, 60_000);
        for (cost, remaining, retry_after, reset_after, expected) in [
            (1, 99, 0, 600, 600),
            (1, 99, 0, 1, 1),
            (1, 50, 0, 30_000, 600),
            (0, 50, 0, 29_500, 100),
            (1, 0, 600, 60_000, 600),
            // A cost of 10 has to wait for longer than one unit.
            (10, 0, 6_000, 60_000, 600),
            (10, 4, 3_500, 57_500, 500),
            (100, 50, 29_500, 29_500, 100),
            // After the limit was lowered more is used than there is.
            (1, 0, 60_600, 120_000, 60_600),
        ] {
            let decision = decision(100, remaining, retry_after, reset_after);
            assert_eq!(wait(&quota, cost, &decision), Some(Millis(expected)), "{decision:?}");
        }
    }

    #[test]
    fn a_bucket_that_drains_faster_than_the_call_has_more_when_it_says() {
        // 100 units in 5 s are used, and drain in 5 s; the call asks for 5 per hour.
        let slow = quota(Algorithm::TokenBucket, 5, 3_600_000);
        for (cost, retry_after, reset_after, expected) in
            [(1, 4_800, 5_000, 4_800), (0, 4_800, 5_000, 4_800), (3, 4_900, 5_000, 4_800)]
        {
            let decision = decision(5, 0, retry_after, reset_after);
            assert_eq!(wait(&slow, cost, &decision), Some(Millis(expected)));
        }
        // Nothing else is known of a call for the whole capacity.
        assert_eq!(wait(&slow, 5, &decision(5, 0, 5_000, 5_000)), Some(Millis(5_000)));
        // 50.5 of 100 units in 5 s are used, and a status asks for 100 per hour: 25 ms or 50 ms.
        let slow = quota(Algorithm::TokenBucket, 100, 3_600_000);
        assert_eq!(wait(&slow, 0, &decision(100, 49, 0, 2_525)), Some(Millis(50)));
    }

    #[test]
    fn a_time_that_is_cut_is_not_used() {
        let year = 31_622_400_000;
        let window = Window::from_millis(year).unwrap();
        let limit = Limit { capacity: Units::MAX, ..Limit::new(Units::MIN, window) };
        let quota = QuotaRule::Constant(Quota::TokenBucket(limit));
        let of = |cost, remaining, retry_after| {
            let decision = decision(1_000_000_000, remaining, retry_after, LONGEST);
            wait(&quota, cost, &Decision { limit: 1, ..decision }).unwrap().0
        };
        assert_eq!(of(1_000_000_000, 0, 0), year);
        assert_eq!(of(1, 0, year), year);
        assert_eq!(of(2, 0, 2 * year), 2 * year);
        assert_eq!(of(2, 1, year), year);
    }

    #[test]
    fn a_denial_without_times_of_a_bucket_has_more_when_it_ends() {
        // The local store has no room: neither time is that of a bucket.
        let quota = quota(Algorithm::TokenBucket, 5, 60_000);
        assert_eq!(wait(&quota, 1, &decision(5, 0, 600_000, 600_000)), Some(Millis(600_000)));
    }

    #[test]
    fn a_log_has_more_at_the_latest_when_its_newest_grant_leaves() {
        let quota = quota(Algorithm::SlidingWindow, 100, 60_000);
        assert_eq!(wait(&quota, 1, &decision(100, 99, 0, 60_000)), Some(Millis(60_000)));
        assert_eq!(wait(&quota, 1, &decision(100, 0, 1_500, 60_000)), Some(Millis(1_500)));
    }

    #[test]
    fn a_fixed_window_has_more_when_it_ends() {
        let quota = quota(Algorithm::FixedWindow, 100, 60_000);
        for (cost, remaining, retry_after) in [(1, 99, 0), (1, 0, 1_500), (5, 4, 1_500)] {
            let decision = decision(100, remaining, retry_after, 1_500);
            assert_eq!(wait(&quota, cost, &decision), Some(Millis(1_500)));
        }
    }

    #[test]
    fn a_whole_quota_has_no_more() {
        for algorithm in Algorithm::ALL {
            let quota = quota(algorithm, 100, 60_000);
            assert_eq!(wait(&quota, 1, &decision(100, 100, 0, 0)), None);
        }
    }

    #[test]
    fn no_wait_is_zero() {
        // What a cached denial waits for may have come.
        let quota = quota(Algorithm::TokenBucket, 5, 60_000);
        assert_eq!(wait(&quota, 1, &decision(5, 0, 1, 1)), Some(Millis(1)));
    }
}
