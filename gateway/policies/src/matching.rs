//! Matching: from the attributes of a request to the limits to take.

use limiter::{Instant, Units};

use crate::attribute::AttributeName;
use crate::attributes::{Attributes, RequestError, Value};
use crate::digest::HashKey;
use crate::identity::Identity;
use crate::judgement::{JudgedLimit, JudgedWindow, Judgement, Outcome, Shadow};
use crate::limit::{Cost, CostFrom, FixedWindow, LimitSpec, Rate};
use crate::model::{Limits, Matcher, Missing, Plan, Policy};
use crate::overrides::{Effect, Override};
use crate::policies::Policies;

/// A request and the time, beside the policies that judge it.
#[derive(Clone, Copy)]
struct Request<'r, 'v> {
    policies: &'r Policies,
    attributes: &'r Attributes<'v>,
    now: Instant,
}

/// The decision of one policy about a request.
pub(crate) struct PolicyJudgement<'p> {
    pub(crate) outcome: Outcome<'p>,
    pub(crate) plan: Option<&'p str>,
    pub(crate) r#override: Option<&'p Override>,
    pub(crate) limits: Vec<JudgedLimit<'p>>,
    /// Limits with `shadow: true`.
    pub(crate) shadow_limits: Vec<JudgedLimit<'p>>,
    /// A block with `shadow: true`.
    pub(crate) shadow_block: Option<&'p Override>,
}

/// The policies that a search has found before the one that applies.
#[derive(Default)]
struct Found<'p> {
    shadows: Vec<Shadow<'p>>,
    skipped: Vec<&'p Policy>,
}

impl Policies {
    /// Returns the limits to take for a request.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] where the request names a policy that does not exist or that its entry
    /// cannot select, or where an attribute that the policy reads is repeated or unknown.
    pub fn judge<'p>(
        &'p self,
        attributes: &Attributes<'_>,
        now: Instant,
    ) -> Result<Judgement<'p>, RequestError> {
        if let Some(name) = &attributes.policy {
            let policy = self.policy_for(name, attributes)?;
            return self.judge_named(policy, attributes, now);
        }
        let mut found = Found::default();
        for number in self.index.find(attributes) {
            let Some(policy) = self.policies.get(number as usize) else { continue };
            if !policy.entries.contains(attributes.entry) {
                continue;
            }
            if policy.shadow {
                let matches = policy.matches(attributes);
                self.add_trial(policy, matches, attributes, now, &mut found)?;
                continue;
            }
            if policy.matches(attributes)? {
                match self.decide(policy, attributes, now)? {
                    Some(judged) => return Ok(judged.finish(policy, found)),
                    None => found.skipped.push(policy),
                }
            }
        }
        Ok(found.unmatched(self.deny_unmatched))
    }

    /// Returns the policy that a request names.
    pub(crate) fn policy_for(
        &self,
        name: &str,
        attributes: &Attributes<'_>,
    ) -> Result<&Policy, RequestError> {
        let policy = self.policy(name).ok_or_else(|| RequestError::UnknownPolicy(name.into()))?;
        if policy.entries.contains(attributes.entry) {
            Ok(policy)
        } else {
            Err(RequestError::PolicyNotForEntry(name.into()))
        }
    }

    fn judge_named<'p>(
        &'p self,
        policy: &'p Policy,
        attributes: &Attributes<'_>,
        now: Instant,
    ) -> Result<Judgement<'p>, RequestError> {
        let mut found = Found::default();
        if policy.shadow {
            self.add_trial(policy, Ok(true), attributes, now, &mut found)?;
        } else {
            match self.decide(policy, attributes, now)? {
                Some(judged) => return Ok(judged.finish(policy, found)),
                None => found.skipped.push(policy),
            }
        }
        // The request has named the only policy that could apply.
        Ok(found.unmatched(self.deny_unmatched))
    }

    /// Adds the decision of a trial. A trial prevents nothing: with a fault of the request, the trial does
    /// not apply. Only a record lacks the values of secrets.
    fn add_trial<'p>(
        &'p self,
        policy: &'p Policy,
        matches: Result<bool, RequestError>,
        attributes: &Attributes<'_>,
        now: Instant,
        found: &mut Found<'p>,
    ) -> Result<(), RequestError> {
        let decide = |matches| match matches {
            true => self.decide(policy, attributes, now).map(Some),
            false => Ok(None),
        };
        match matches.and_then(decide) {
            Ok(Some(judged)) => found.add_trial(policy, judged),
            Err(error @ RequestError::Secret(_)) => return Err(error),
            Ok(None) | Err(_) => {}
        }
        Ok(())
    }

    /// Returns the decision of a policy that matches, or `None` when it skips the request.
    pub(crate) fn decide<'p>(
        &'p self,
        policy: &'p Policy,
        attributes: &Attributes<'_>,
        now: Instant,
    ) -> Result<Option<PolicyJudgement<'p>>, RequestError> {
        for name in &policy.fallible_reads {
            attributes.value(name)?;
        }
        let identity = Identity::of(&policy.by, attributes, self.hash_key.as_ref())?;
        let mut judged = PolicyJudgement::new(Outcome::Limited);
        if let Some(missing) = identity.missing() {
            match (policy.missing, policy.by.get(missing)) {
                (Missing::Skip, _) => return Ok(None),
                (Missing::Deny, Some(part)) => {
                    judged.outcome = Outcome::Missing { attribute: &part.attribute };
                    return Ok(Some(judged));
                }
                _ => {}
            }
        }
        for entry in policy.overrides.find(&identity) {
            if !entry.applies(&identity, attributes, now)? {
                continue;
            }
            if matches!(entry.effect, Effect::Block { shadow: true }) {
                judged.shadow_block = judged.shadow_block.or(Some(entry));
                continue;
            }
            judged.r#override = Some(entry);
            break;
        }
        let Some(limits) = self.limits_of(policy, attributes, &mut judged)? else {
            return Ok(Some(judged));
        };
        let request = Request { policies: self, attributes, now };
        judged.limits.reserve_exact(limits.len());
        for spec in limits {
            if let Some(attribute) = request.judge_limit(policy, spec, &identity, &mut judged)? {
                judged.outcome = Outcome::Missing { attribute };
                judged.limits.clear();
                judged.shadow_limits.clear();
                break;
            }
        }
        Ok(Some(judged))
    }

    /// Returns the limits that apply, and stores their plan; `None` where the override decides.
    fn limits_of<'p>(
        &'p self,
        policy: &'p Policy,
        attributes: &Attributes<'_>,
        judged: &mut PolicyJudgement<'p>,
    ) -> Result<Option<&'p [LimitSpec]>, RequestError> {
        let effect = judged.r#override.map(|entry| (&entry.effect, &entry.until));
        let position = match (effect, &policy.limits) {
            (Some((Effect::Unlimited, _)), _) => {
                judged.outcome = Outcome::Unlimited;
                return Ok(None);
            }
            (Some((Effect::Block { .. }, until)), _) => {
                let until_ms = until.as_ref().map(|until| until.ms);
                judged.outcome = Outcome::Blocked { until_ms };
                return Ok(None);
            }
            (Some((Effect::Limits(limits), _)), _) | (None, Limits::Own(limits)) => {
                return Ok(Some(limits));
            }
            (Some((Effect::Plan(position), _)), _) | (None, Limits::Plan(position)) => *position,
            (None, Limits::PlanFrom { from, default }) => {
                self.plan_named_by(&attributes.value(from)?.known(from)?).unwrap_or(*default)
            }
        };
        let plan: Option<&'p Plan> = self.plans.get(position);
        judged.plan = plan.map(|plan| &*plan.name);
        Ok(Some(plan.map_or(&[], |plan| &plan.limits)))
    }

    /// Returns the position of the plan that a value names, or that the first such item of a list
    /// names.
    fn plan_named_by(&self, value: &Value<'_>) -> Option<usize> {
        let named = |text: &[u8]| self.plan_names.get(text).copied();
        match value {
            Value::Text(text) => named(text),
            Value::List(items) => items.iter().find_map(|item| named(item)),
            Value::Missing | Value::Address(_) | Value::Secret(_) => None,
        }
    }
}

impl Policy {
    /// Returns whether a request that names no policy matches. A clause that does not hold decides
    /// before a value that cannot be read.
    pub(crate) fn matches(&self, attributes: &Attributes<'_>) -> Result<bool, RequestError> {
        let Matcher::Clauses(clauses) = &self.matcher else { return Ok(false) };
        let mut fault = None;
        for clause in clauses {
            match clause.holds(attributes) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        fault.map_or(Ok(true), Err)
    }
}

impl<'p> PolicyJudgement<'p> {
    const fn new(outcome: Outcome<'p>) -> Self {
        Self {
            outcome,
            plan: None,
            r#override: None,
            limits: Vec::new(),
            shadow_limits: Vec::new(),
            shadow_block: None,
        }
    }

    /// Returns the judgement of a request to which the policy applies.
    fn finish(self, policy: &'p Policy, found: Found<'p>) -> Judgement<'p> {
        let policy_of = Some(policy);
        let Found { mut shadows, skipped } = found;
        if !policy.enforce {
            let (plan, r#override) = (self.plan, self.r#override);
            self.into_shadows(policy, &mut shadows);
            let judgement = Judgement::new(Outcome::Limited);
            return Judgement {
                policy: policy_of,
                plan,
                r#override,
                shadows,
                skipped,
                ..judgement
            };
        }
        let Self { outcome, plan, r#override, limits, shadow_limits, shadow_block } = self;
        shadows.extend(shadow_block.map(|entry| blocked(policy, entry)));
        if !shadow_limits.is_empty() {
            let limits = shadow_limits;
            shadows.push(Shadow { policy, plan, r#override, denied: false, limits });
        }
        Judgement { outcome, policy: policy_of, plan, r#override, limits, shadows, skipped }
    }

    /// Adds the trials of a policy that prevents nothing.
    fn into_shadows(self, policy: &'p Policy, shadows: &mut Vec<Shadow<'p>>) {
        shadows.extend(self.shadow_block.map(|entry| blocked(policy, entry)));
        let denied = matches!(self.outcome, Outcome::Blocked { .. } | Outcome::Missing { .. });
        let mut limits = self.limits;
        limits.extend(self.shadow_limits);
        if denied || !limits.is_empty() {
            let (plan, r#override) = (self.plan, self.r#override);
            shadows.push(Shadow { policy, plan, r#override, denied, limits });
        }
    }
}

impl<'p> Found<'p> {
    /// Adds the decision of a policy that is a trial.
    fn add_trial(&mut self, policy: &'p Policy, judged: Option<PolicyJudgement<'p>>) {
        match judged {
            Some(judged) => judged.into_shadows(policy, &mut self.shadows),
            None => self.skipped.push(policy),
        }
    }

    /// Returns the judgement of a request to which no policy applies.
    fn unmatched(self, deny: bool) -> Judgement<'p> {
        let Self { shadows, skipped } = self;
        Judgement { shadows, skipped, ..Judgement::new(Outcome::Unmatched { deny }) }
    }
}

/// Returns the trial of an override that blocks.
const fn blocked<'p>(policy: &'p Policy, entry: &'p Override) -> Shadow<'p> {
    Shadow { policy, plan: None, r#override: Some(entry), denied: true, limits: Vec::new() }
}

impl Request<'_, '_> {
    /// Adds a limit, unless the limit does not apply. Returns the missing attribute if the request
    /// is denied because of it.
    fn judge_limit<'p>(
        &self,
        policy: &'p Policy,
        spec: &'p LimitSpec,
        identity: &Identity<'_>,
        judged: &mut PolicyJudgement<'p>,
    ) -> Result<Option<&'p AttributeName>, RequestError> {
        if matches!(spec.rate, Rate::Concurrency { .. }) && !self.attributes.lease {
            return Ok(None);
        }
        let hash_key: Option<&HashKey> = self.policies.hash_key.as_ref();
        let own = match &spec.by {
            Some(parts) => {
                let own = Identity::of(parts, self.attributes, hash_key)?;
                if let Some(part) = own.missing().and_then(|missing| parts.get(missing)) {
                    match policy.missing {
                        Missing::Skip => return Ok(None),
                        Missing::Deny => return Ok(Some(&part.attribute)),
                        Missing::Share => {}
                    }
                }
                Some(own)
            }
            None => None,
        };
        let kind = spec.rate.kind();
        let key = |identity: &Identity<'_>| {
            identity.key(&self.policies.key_prefix, &policy.name, &spec.name, kind)
        };
        let limit = JudgedLimit {
            key: own.as_ref().map_or_else(|| key(identity), key),
            name: &spec.name,
            kind,
            limit: spec.rate.limit(),
            window: self.window(&spec.rate)?,
            capacity: spec.rate.capacity(),
            resolution: match spec.rate {
                Rate::SlidingWindow { resolution, .. } => resolution,
                _ => None,
            },
            cost: self.cost(&spec.cost)?,
            charge: spec.charge,
            rate: &spec.rate,
        };
        if spec.shadow {
            judged.shadow_limits.push(limit);
        } else {
            judged.limits.push(limit);
        }
        Ok(None)
    }

    fn window(&self, rate: &Rate) -> Result<JudgedWindow, RequestError> {
        Ok(match rate {
            Rate::TokenBucket { per, .. }
            | Rate::SlidingWindow { per, .. }
            | Rate::FixedWindow { per: FixedWindow::Length(per), .. }
            | Rate::Concurrency { ttl: per, .. } => JudgedWindow::Length(*per),
            Rate::FixedWindow { per: FixedWindow::Calendar(calendar), .. } => {
                JudgedWindow::Calendar(calendar.window(self.now).ok_or(RequestError::Time)?)
            }
        })
    }

    /// Returns the units to take. A request for 0 units takes none of any limit.
    fn cost(&self, cost: &Cost) -> Result<u32, RequestError> {
        let asked = match self.attributes.cost {
            None => Units::MIN,
            Some(0) => return Ok(0),
            // Not 0, so that only a cost above the most units is no number of units.
            Some(asked) => Units::new(asked).unwrap_or(Units::MAX),
        };
        Ok(match cost {
            Cost::Request => asked.get(),
            Cost::Units(units) => units.get(),
            Cost::From(cost) => {
                cost.units(&self.attributes.value(&cost.from)?.known(&cost.from)?).get()
            }
        })
    }
}

impl CostFrom {
    /// Returns the units that a value names: a whole number, clamped, and otherwise the default.
    fn units(&self, value: &Value<'_>) -> Units {
        let Value::Text(text) = value else { return self.default };
        let (negative, digits) = match text.strip_prefix(b"-") {
            Some(digits) => (true, digits),
            None => (false, &**text),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return self.default;
        }
        if negative {
            return self.min;
        }
        let mut units: u64 = 0;
        for digit in digits {
            // Saturation is meant: the result is clamped far below.
            units = units.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
        }
        // Zero is not a number of units; the least number that counts is `min`.
        let units = Units::new(units.clamp(1, u64::from(Units::MAX.get()))).unwrap_or(self.default);
        units.clamp(self.min, self.max)
    }
}
