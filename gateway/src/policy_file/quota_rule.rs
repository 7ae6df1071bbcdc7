//! The quotas of the limits of policies.

use limiter::{FixedLimit, Limit, LogLimit, LogOptions, Period, Quota};
use policies::model::{FixedWindow, Rate};
use store::QuotaRule;

/// Returns the rule of a limit, or `None` for a limit of what happens at the same time.
pub(super) fn of_rate(rate: &Rate) -> Option<QuotaRule> {
    Some(QuotaRule::Constant(match rate {
        Rate::TokenBucket { limit, per, burst } => {
            Quota::TokenBucket(Limit { limit: *limit, window: *per, capacity: *burst })
        }
        Rate::SlidingWindow { limit, per, resolution } => {
            let options = LogOptions { resolution: *resolution, ..LogOptions::USUAL };
            Quota::SlidingWindow(LogLimit { limit: *limit, window: *per, options })
        }
        Rate::FixedWindow { limit, per: FixedWindow::Length(per) } => {
            Quota::FixedWindow(FixedLimit { limit: *limit, period: Period::every(*per) })
        }
        Rate::FixedWindow { limit, per: FixedWindow::Calendar(calendar) } => {
            return Some(QuotaRule::Calendar { limit: *limit, calendar: calendar.clone() });
        }
        Rate::Concurrency { .. } => return None,
    }))
}
