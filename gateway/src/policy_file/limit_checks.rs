//! The limits that the policies choose for a request, as the store takes them.

use policies::{judgement::JudgedLimit, model};
use store::{Charge, LimitCheck};

use super::quota_rule;

/// Returns the check of a limit, or `None` for a limit of what happens at the same time, whose units are
/// leases.
pub(crate) fn limit_check(judged: &JudgedLimit<'_>) -> Option<LimitCheck> {
    Some(LimitCheck {
        key: judged.key.clone(),
        quota: quota_rule::of_rate(judged.rate)?,
        cost: judged.cost,
        charge: match judged.charge {
            model::Charge::Granted => Charge::Granted,
            model::Charge::Always => Charge::Always,
        },
    })
}
