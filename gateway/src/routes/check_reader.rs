//! The reading of checks: with a quota or limits of their own, or by policy.

use store::Check;

use super::authorize::AuthorizedCaller;
use crate::{
    callers::scope::Scope,
    error::Error,
    limits::NamedLimits,
    policy_file::judge::{Judge, JudgedCheck},
    request::{
        field_error::BrokenRule,
        fields::{Defaults, Fields, Invalid},
        policy::CheckForm,
        quota::DEFAULT_UNITS,
        value,
    },
    state::AppState,
};

/// A check that was read.
#[derive(Debug)]
pub(super) enum CheckRequest {
    /// One quota of an identifier.
    One(Check),
    /// Several limits of an identifier.
    Limits(NamedLimits),
    /// A check by policy.
    Policy(Box<JudgedCheck>),
    /// A check that no policy applies to, and that the default limit decides.
    Unmatched(Check, Box<JudgedCheck>),
}

/// The rules by which the checks of one request are read. One version of the policies judges all of
/// them.
#[derive(Debug)]
pub(super) struct CheckReader {
    defaults: Defaults,
    inline_limits: bool,
    judge: Option<Judge>,
}

impl CheckReader {
    /// Returns the rules of now.
    pub(super) fn new(state: &AppState) -> Self {
        let judge = state.policies.as_ref().map(|policies| {
            let judge = policies.judge();
            state.policy_decisions.follow(&judge.policies);
            judge
        });
        Self { defaults: state.defaults, inline_limits: state.inline_limits, judge }
    }

    /// Reads a check.
    ///
    /// # Errors
    ///
    /// All faults of the fields; or the reason why the check is not accepted or not judged.
    pub(super) fn read(&self, mut fields: Fields<'_>) -> Result<CheckRequest, Error> {
        let form = match fields.check_form(self.judge.is_some()) {
            Ok(form) => form,
            Err(Invalid) => return fields.finish(Err(Invalid)),
        };
        if !self.inline_limits && (form == CheckForm::Inline || fields.is_forced()) {
            return Err(Error::InlineLimits);
        }
        match (form, &self.judge) {
            (CheckForm::Inline, _) if fields.has("limits") => {
                let limits = fields.inline_limits(self.defaults);
                fields.finish(limits).map(CheckRequest::Limits)
            }
            (CheckForm::Inline, _) | (CheckForm::Neither, None) => {
                let check = read_one(&mut fields, self.defaults);
                fields.finish(check).map(CheckRequest::One)
            }
            (_, Some(judge)) => self.read_judged(fields, judge, form),
            // The form is an error of the fields.
            (CheckForm::Policy, None) => Err(Error::Internal),
        }
    }

    fn read_judged(
        &self,
        mut fields: Fields<'_>,
        judge: &Judge,
        form: CheckForm,
    ) -> Result<CheckRequest, Error> {
        let Ok(check) = fields.policy_check() else { return fields.finish(Err(Invalid)) };
        let judged = judge.judge(&check)?;
        if form == CheckForm::Neither && judged.is_unmatched() {
            let check = read_one(&mut fields, self.defaults);
            return Ok(CheckRequest::Unmatched(fields.finish(check)?, judged));
        }
        let force = fields.optional("force", value::boolean);
        let unforced = force.and_then(|force| match force {
            Some(true) => {
                let rule = "Value error, force is for checks without policies";
                Err(fields.add_error("force", BrokenRule::new("value_error", rule)))
            }
            _ => Ok(()),
        });
        fields.finish(unforced)?;
        Ok(CheckRequest::Policy(judged))
    }
}

impl CheckRequest {
    /// Returns the number of limits that decide the check; 1 where none does.
    pub(super) fn limit_count(&self) -> usize {
        match self {
            Self::One(_) | Self::Unmatched(..) => 1,
            Self::Limits(limits) => limits.len(),
            Self::Policy(judged) => judged.limits.len().max(1),
        }
    }

    /// Returns the check, or an error if it is forced and its caller lacks the scope.
    pub(super) fn authorize(self, caller: Option<&AuthorizedCaller>) -> Result<Self, Error> {
        if let (Self::One(check) | Self::Unmatched(check, _), Some(caller)) = (&self, caller)
            && check.force
        {
            caller.require(Scope::Force)?;
        }
        Ok(self)
    }
}

/// Reads a check of one quota, with defaults for fields that are left out.
fn read_one(fields: &mut Fields<'_>, defaults: Defaults) -> Result<Check, Invalid> {
    let identifier = fields.required("identifier", value::identifier);
    let quota = fields.quota(defaults);
    let cost = fields.optional("cost", value::cost);
    let force = fields.optional("force", value::boolean);
    let (quota, cost, force) =
        (quota?, cost?.unwrap_or(DEFAULT_UNITS.get()), force?.unwrap_or(false));
    let capacity = quota.capacity().get();
    if cost > capacity && !force {
        return Err(fields.add_error("cost", value::above_capacity(capacity)));
    }
    Ok(Check { identifier: identifier?, quota, cost, force })
}
