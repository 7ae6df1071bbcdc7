//! The account of a request: the policies that were tried, and the limits that apply.

use std::iter;

use policies::{
    explain::{Explanation, PolicyExplanation},
    judgement::{JudgedLimit, JudgedWindow},
    model::Charge,
    overrides::OverrideInfo,
};
use schemars::JsonSchema;
use serde::Serialize;
use store::{Decision, Millis};

use super::states::{States, would_allow};
use crate::seconds::Seconds;

/// The account of a request.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ExplainAnswer")]
pub(crate) struct ExplainAnswer<'p> {
    /// The version of the policies.
    version: &'p str,
    /// True if the request would be allowed now; where the states of limits are null, if the limits can
    /// allow the request at all.
    pub(super) allowed: bool,
    /// The decision without the states of limits: `limited`, `unlimited`, `blocked`, `missing`,
    /// `unmatched` or `error`.
    outcome: &'static str,
    /// The fault of the request.
    error: Option<String>,
    /// The policy that applies.
    policy: Option<&'p str>,
    /// The plan that applies.
    plan: Option<&'p str>,
    /// The override that applies.
    r#override: Option<OverrideInfo<'p>>,
    /// The limits that are enforced.
    limits: Vec<LimitExplanation<'p>>,
    /// The limits that are only counted.
    shadow_limits: Vec<LimitExplanation<'p>>,
    /// The policies that were tried, in order.
    tried: Vec<PolicyExplanation<'p>>,
    /// The attributes of the request that no policy reads.
    unread: Vec<String>,
}

/// A limit, and its state.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct LimitExplanation<'p> {
    /// The name.
    name: &'p str,
    /// The key in Redis.
    key: String,
    /// The kind: `token_bucket`, `sliding_window`, `fixed_window` or `concurrency`.
    algorithm: &'static str,
    /// Units per window, or at the same time.
    limit: u32,
    /// The most units at once.
    capacity: u32,
    /// The window in seconds; null for a window of the calendar.
    window_seconds: Option<Seconds>,
    /// The begin and the end of a window of the calendar, in milliseconds since 1970.
    window_ms: Option<[u64; 2]>,
    /// Units that the request takes.
    cost: u32,
    /// True if the whole cost is taken when at least one unit was left.
    charge_always: bool,
    /// The state; null while Redis does not answer.
    state: Option<LimitState>,
}

/// The state of a limit.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[schemars(inline)]
struct LimitState {
    /// Whole units that could be taken now.
    remaining: u64,
    /// Seconds until nothing is used.
    reset_in_seconds: Seconds,
}

impl<'p> ExplainAnswer<'p> {
    /// Returns the account with the states of the limits that are enforced and of those that are only
    /// counted, unless they are not known. Keys begin with `key_prefix`.
    pub(crate) fn new(
        explanation: Explanation<'p>,
        enforced: Option<States>,
        trials: Option<States>,
        key_prefix: &str,
    ) -> Self {
        let enforced = enforced.map(|states| states.limits).unwrap_or_default();
        let trials = trials.map(|states| states.limits).unwrap_or_default();
        let would_allow = |(number, limit)| would_allow(limit, enforced.get(number));
        Self {
            version: explanation.version,
            allowed: explanation.allowed && explanation.limits.iter().enumerate().all(would_allow),
            outcome: explanation.outcome,
            error: explanation.error,
            policy: explanation.policy,
            plan: explanation.plan,
            r#override: explanation.r#override,
            limits: with_states(&explanation.limits, &enforced, key_prefix),
            shadow_limits: with_states(&explanation.shadow_limits, &trials, key_prefix),
            tried: explanation.tried,
            unread: explanation.unread,
        }
    }
}

fn with_states<'p>(
    limits: &[JudgedLimit<'p>],
    states: &[Decision],
    key_prefix: &str,
) -> Vec<LimitExplanation<'p>> {
    let state = |decision: &Decision| LimitState {
        remaining: decision.remaining,
        reset_in_seconds: Seconds(decision.reset_after),
    };
    let states = states.iter().map(|known| Some(state(known))).chain(iter::repeat(None));
    let explain =
        |(limit, state)| LimitExplanation { state, ..LimitExplanation::new(limit, key_prefix) };
    limits.iter().zip(states).map(explain).collect()
}

impl<'p> LimitExplanation<'p> {
    /// Returns a limit without its state.
    fn new(limit: &JudgedLimit<'p>, key_prefix: &str) -> Self {
        let (window_seconds, window_ms) = match limit.window {
            JudgedWindow::Length(window) => (Some(Seconds(Millis::from(window))), None),
            JudgedWindow::Calendar(bounds) => {
                (None, Some([bounds.begin_millis(), bounds.end_millis()]))
            }
        };
        Self {
            name: limit.name,
            key: [key_prefix, &limit.key].concat(),
            algorithm: limit.kind.name(),
            limit: limit.limit.get(),
            capacity: limit.capacity.get(),
            window_seconds,
            window_ms,
            cost: limit.cost,
            charge_always: limit.charge == Charge::Always,
            state: None,
        }
    }
}
