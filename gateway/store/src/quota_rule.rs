//! The quotas of checks, some of which depend on the time.

use calendar::Calendar;
use limiter::{Algorithm, Bounds, FixedLimit, Instant, Quota, Units};

use crate::{error::StoreError, millis::Millis};

/// The rule that gives the quota of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuotaRule {
    /// The same quota at all times.
    Constant(Quota),
    /// A fixed window of the calendar.
    Calendar {
        /// Units per window.
        limit: Units,
        /// The windows.
        calendar: Calendar,
    },
}

/// The quota that a rule gives at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DatedQuota {
    pub(crate) quota: Quota,
    /// The length of the window.
    pub(crate) window: Millis,
}

impl QuotaRule {
    /// Returns the algorithm that counts grants.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Constant(quota) => quota.algorithm(),
            Self::Calendar { .. } => Algorithm::FixedWindow,
        }
    }

    /// Returns the units per window.
    #[must_use]
    pub const fn limit(&self) -> Units {
        match self {
            Self::Constant(quota) => quota.limit(),
            Self::Calendar { limit, .. } => *limit,
        }
    }

    /// Returns the most units that can be taken at once.
    #[must_use]
    pub const fn capacity(&self) -> Units {
        match self {
            Self::Constant(quota) => quota.capacity(),
            Self::Calendar { limit, .. } => *limit,
        }
    }

    /// Returns the quota at the time of a clock, which only the rules of a calendar read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Internal`] after the year 9998, where the calendar ends.
    pub(crate) fn at(&self, now: impl FnOnce() -> Instant) -> Result<DatedQuota, StoreError> {
        match self {
            Self::Constant(quota) => {
                let window = quota.window().ok_or(StoreError::Internal)?.into();
                Ok(DatedQuota { quota: *quota, window })
            }
            Self::Calendar { limit, calendar } => {
                let now = now();
                let period = calendar.period(now).ok_or(StoreError::Internal)?;
                let bounds = period.bounds_at(now).ok_or(StoreError::Internal)?;
                let quota = Quota::FixedWindow(FixedLimit { limit: *limit, period });
                Ok(DatedQuota { quota, window: length(bounds) })
            }
        }
    }
}

impl From<Quota> for QuotaRule {
    fn from(quota: Quota) -> Self {
        Self::Constant(quota)
    }
}

fn length(bounds: Bounds) -> Millis {
    Millis(bounds.end_millis().saturating_sub(bounds.begin_millis()))
}

#[cfg(test)]
mod tests {
    use calendar::{Calendar, Start, Unit};
    use limiter::{Bounds, Instant, Period, Quota, Units};

    use super::{DatedQuota, QuotaRule};
    use crate::{error::StoreError, millis::Millis};

    const NOW: Instant = Instant::from_micros(1_800_014_400_000_000);

    fn rule(calendar: Calendar) -> QuotaRule {
        QuotaRule::Calendar { limit: Units::MIN, calendar }
    }

    fn period(rule: &QuotaRule, now: Instant) -> (Period, Millis) {
        let DatedQuota { quota, window } = rule.at(|| now).unwrap();
        let Quota::FixedWindow(limit) = quota else { panic!("{quota:?}") };
        (limit.period, window)
    }

    #[test]
    fn months_of_utc_are_those_of_redis_and_others_have_bounds() {
        let month = Unit::Month.with_usual_start();
        let days = |days: u64| Millis(days * 86_400_000);
        assert_eq!(period(&rule(Calendar::in_utc(month)), NOW), (Period::Month, days(31)));

        // 2027-01-15T12:00:00Z is in the month from 2026-12-31 to 2027-01-31.
        let billing = Unit::Month.with_start(Start::Day(31)).unwrap();
        let bounds = Bounds::from_millis(1_798_675_200_000, 1_801_353_600_000).unwrap();
        let expected = (Period::Bounds(bounds), days(31));
        assert_eq!(period(&rule(Calendar::in_utc(billing)), NOW), expected);
    }

    #[test]
    fn there_is_no_quota_after_the_calendar() {
        let day = Calendar::in_utc(Unit::Day.with_start(Start::Text("06:00")).unwrap());
        assert_eq!(rule(day).at(|| Instant::MAX), Err(StoreError::Internal));
    }
}
