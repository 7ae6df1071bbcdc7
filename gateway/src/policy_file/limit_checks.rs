//! The limits that the policies choose for a request, as the store takes them.

use limiter::{FixedLimit, Limit, LogLimit, LogOptions, Period, Quota};
use policies::{
    Kind,
    judgement::{JudgedLimit, JudgedWindow},
    model,
};
use store::{Charge, LimitCheck, QuotaRule};

/// Returns the check of a limit, or `None` for a limit of what happens at the same time, whose units are
/// leases.
pub(crate) fn limit_check(judged: &JudgedLimit<'_>) -> Option<LimitCheck> {
    Some(LimitCheck {
        key: judged.key.clone(),
        quota: QuotaRule::Constant(quota(judged)?),
        cost: judged.cost,
        charge: match judged.charge {
            model::Charge::Granted => Charge::Granted,
            model::Charge::Always => Charge::Always,
        },
    })
}

fn quota(judged: &JudgedLimit<'_>) -> Option<Quota> {
    let JudgedLimit { kind, limit, capacity, resolution, .. } = *judged;
    Some(match (kind, judged.window) {
        (Kind::TokenBucket, JudgedWindow::Length(window)) => {
            Quota::TokenBucket(Limit { limit, window, capacity })
        }
        (Kind::SlidingWindow, JudgedWindow::Length(window)) => {
            let options = LogOptions { resolution, ..LogOptions::USUAL };
            Quota::SlidingWindow(LogLimit { limit, window, options })
        }
        (Kind::FixedWindow, JudgedWindow::Length(window)) => {
            Quota::FixedWindow(FixedLimit { limit, period: Period::every(window) })
        }
        (Kind::FixedWindow, JudgedWindow::Calendar(bounds)) => {
            Quota::FixedWindow(FixedLimit { limit, period: Period::Bounds(bounds) })
        }
        (Kind::Concurrency, _) | (_, JudgedWindow::Calendar(_)) => return None,
    })
}
