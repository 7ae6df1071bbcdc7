//! The limits that the policies choose for a request, as the store takes them.

use limiter::Holder;
use policies::{
    judgement::JudgedLimit,
    model::{self, Rate},
};
use store::{Charge, LeaseCheck, LimitCheck};

use super::quota_rule;

/// Returns the check of a limit, or `None` for a limit of what happens at the same time, whose units are
/// leases.
pub(crate) fn limit_check(judged: JudgedLimit<'_>) -> Option<LimitCheck> {
    Some(LimitCheck {
        key: judged.key,
        quota: quota_rule::of_rate(judged.rate)?,
        cost: judged.cost,
        charge: match judged.charge {
            model::Charge::Granted => Charge::Granted,
            model::Charge::Always => Charge::Always,
        },
    })
}

/// Returns the check of a limit of what happens at the same time, or `None` for another limit.
pub(super) fn lease_check(judged: JudgedLimit<'_>, holder: Holder) -> Option<LeaseCheck> {
    let Rate::Concurrency { limit, ttl } = *judged.rate else { return None };
    Some(LeaseCheck { key: judged.key, holder, limit, cost: judged.cost, ttl })
}
