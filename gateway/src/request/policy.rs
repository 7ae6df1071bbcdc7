//! Checks by policy: the attributes of a request of an end user, from the body of a check.
//!
//! The caller writes the names of attributes and the end user their values, so no text,
//! number or boolean is an error that a caller could answer with a grant: long values are hashed later,
//! numbers clamped, and escapes of half a surrogate pair taken as bytes. Only a malformed path or address
//! has status 400. A list or an object is the fault of the caller, which builds the values.

use std::borrow::Cow;

use limiter::{Holder, Instant, Units};
use policies::{
    Policies,
    attributes::{AttributeError, Attributes, ClaimSource, RequestError},
    judgement::Judgement,
    model::Entry,
    path::PathForm,
};
use serde_json::{Value, json};

use crate::{
    error::Error,
    policy_file::end_users::{EndUserTokens, RequestClaims},
    request::{
        attribute_values::{Attribute, END_USER_NAMES, attributes, string_bytes},
        field_error::{BrokenRule, Place},
        fields::{Fields, Invalid},
        input::Input,
        lease,
        number::thousandths,
        quota_fields::QUOTA_FIELDS,
        value,
    },
};

/// The fields of limits that a caller sends. One of them makes a check inline.
const INLINE_FIELDS: [&str; 9] = {
    let [algorithm, limit, window, burst, resolution, period, timezone, starts] = QUOTA_FIELDS;
    [limit, window, burst, algorithm, "limits", resolution, period, timezone, starts]
};

/// The fields that choose policies. One of them makes a check one by policy.
pub(crate) const POLICY_FIELDS: [&str; 2] = ["policy", "attributes"];

/// The form of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckForm {
    /// The check has limits of its own.
    Inline,
    /// The check names a policy, or has attributes.
    Policy,
    /// The check has neither: the policies decide, and without a match the default limit.
    Neither,
}

/// A check that the policies judge.
#[derive(Debug)]
pub(crate) struct PolicyCheck<'a> {
    /// The location of the check, for errors.
    loc: Vec<Place>,
    policy: Option<Cow<'a, str>>,
    identifier: Option<Cow<'a, [u8]>>,
    attributes: Vec<Attribute<'a>>,
    token: Option<Cow<'a, str>>,
    cost: Option<u64>,
    /// The holder of the leases that the check takes.
    pub(crate) lease: Option<Holder>,
}

impl<'a> Fields<'a> {
    /// Returns the form of a check. `has_policies` is true if there is a file of policies.
    pub(crate) fn check_form(&mut self, has_policies: bool) -> Result<CheckForm, Invalid> {
        let inline = self.first_of(&INLINE_FIELDS);
        let by_policy = self.first_of(&POLICY_FIELDS);
        let rule = match (inline, by_policy) {
            (None, None) => return Ok(CheckForm::Neither),
            (Some(_), None) => return Ok(CheckForm::Inline),
            (None, Some(_)) if has_policies => return Ok(CheckForm::Policy),
            (None, Some(field)) => (field, format!("{field} needs POLICIES_FILE")),
            (Some(inline), Some(field)) => {
                (field, format!("{field} is for checks without {inline}"))
            }
        };
        let (field, rule) = rule;
        let rule = BrokenRule::new("value_error", format!("Value error, {rule}"));
        Err(self.add_error(field, rule))
    }

    /// Returns true when a check takes its cost in every case, whatever its limit is.
    pub(crate) fn is_forced(&self) -> bool {
        self.value("force").is_some_and(|force| value::boolean(force) == Ok(true))
    }

    /// Reads a check by policy.
    pub(crate) fn policy_check(&mut self) -> Result<PolicyCheck<'a>, Invalid> {
        let policy = self.optional("policy", text);
        let identifier = self.value_or_null("identifier", bytes);
        let attributes = self.optional("attributes", attributes);
        // A token that is no text is no token: the end user has written the token.
        let token = match self.value("token") {
            Some(Input::Text(token)) => Some(token.clone()),
            _ => None,
        };
        let cost = self.optional("cost", cost);
        let lease = self.optional("lease", lease::lease);
        Ok(PolicyCheck {
            loc: self.location().to_vec(),
            policy: policy?,
            identifier: identifier?,
            attributes: attributes?.unwrap_or_default(),
            token,
            cost: cost?,
            lease: lease?,
        })
    }

    /// Reads a check that must be one by policy.
    pub(crate) fn only_policy_check(&mut self) -> Result<PolicyCheck<'a>, Invalid> {
        let inline = INLINE_FIELDS.into_iter().find(|name| self.has(name));
        let inline = inline.map_or(Ok(()), |name| {
            let rule = format!("Value error, {name} is for checks without policies");
            Err(self.add_error(name, BrokenRule::new("value_error", rule)))
        });
        let check = self.policy_check();
        inline.and(check)
    }

    /// Reads an optional field that can be null, and whose text need not be UTF-8.
    fn value_or_null<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&Input<'a>) -> Result<T, BrokenRule>,
    ) -> Result<Option<T>, Invalid> {
        match self.value(name) {
            None | Some(Input::Null) => Ok(None),
            Some(value) => parse(value).map(Some).map_err(|rule| self.add_error(name, rule)),
        }
    }
}

impl PolicyCheck<'_> {
    /// Returns the token of the end user.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Judges the check by one version of the policies.
    ///
    /// # Errors
    ///
    /// When the check names no policy that it can name, and when its attributes are malformed.
    pub(crate) fn judge<'p>(
        &self,
        policies: &'p Policies,
        end_users: Option<&EndUserTokens>,
        now: Instant,
    ) -> Result<Judgement<'p>, Error> {
        let claims = RequestClaims::new(end_users, self.token());
        let attributes = self.attributes(policies.path_form(), &claims, false)?;
        policies.judge(&attributes, now).map_err(|error| self.error(&error))
    }

    /// Returns the attributes of the check for policies with this form of paths. With `writes_claims`
    /// the check may write `jwt.*` itself, for an explanation.
    ///
    /// # Errors
    ///
    /// When a name is none of an attribute, or a path or an address is malformed.
    pub(crate) fn attributes<'r>(
        &'r self,
        form: PathForm,
        claims: &'r dyn ClaimSource,
        writes_claims: bool,
    ) -> Result<Attributes<'r>, Error> {
        let mut attributes = Attributes::new(Entry::Check, form);
        attributes.set_claims(claims);
        if let Some(policy) = &self.policy {
            attributes.set_policy(&**policy);
        }
        if let Some(cost) = self.cost {
            attributes.set_cost(cost);
        }
        // A check without a holder is refused where a limit needs one, rather than decided without the
        // limit; the other requests take no lease.
        attributes.set_lease();
        if let Some(identifier) = &self.identifier {
            self.set(&mut attributes, "identifier", identifier)?;
        }
        for (name, value) in &self.attributes {
            let Some(value) = value else { continue };
            if writes_claims && name.starts_with("jwt.") {
                let value = String::from_utf8_lossy(value);
                attributes.set_claim(name, &value).map_err(|error| self.invalid(name, &error))?;
            } else {
                self.set(&mut attributes, name, value)?;
            }
        }
        Ok(attributes)
    }

    fn set<'r>(
        &self,
        attributes: &mut Attributes<'r>,
        name: &str,
        value: &'r [u8],
    ) -> Result<(), Error> {
        match attributes.set_bytes(name, value) {
            Ok(()) => Ok(()),
            // No policy can read such a name, and the end user can have written it.
            Err(AttributeError::Name(_))
                if END_USER_NAMES.iter().any(|prefix| name.starts_with(prefix)) =>
            {
                Ok(())
            }
            Err(
                error @ (AttributeError::Path(_) | AttributeError::Host | AttributeError::Address),
            ) => Err(Error::AttributeMalformed(error.to_string())),
            Err(error) => Err(self.invalid(name, &error)),
        }
    }

    /// Returns the error of a check without a holder by a policy that has this limit of what happens at
    /// the same time.
    pub(crate) fn without_holder(&self, limit: &str) -> Error {
        let mut loc = self.loc.clone();
        loc.push(Place::Name("lease"));
        let rule =
            format!("Value error, the limit `{limit}` needs a lease: the name of its holder");
        Error::Invalid(vec![BrokenRule::new("value_error", rule).at(loc, Value::Null)])
    }

    /// Returns the error of an attribute that the caller wrote.
    fn invalid(&self, name: &str, error: &AttributeError) -> Error {
        let mut loc = self.loc.clone();
        loc.push(Place::Name("attributes"));
        let name = Input::Text(name.into()).echo();
        let rule = BrokenRule::new("value_error", format!("Value error, {error}"));
        Error::Invalid(vec![rule.at(loc, name)])
    }

    /// Returns the error of a check that the policies cannot judge.
    pub(crate) fn error(&self, error: &RequestError) -> Error {
        match error {
            RequestError::UnknownPolicy(name) | RequestError::PolicyNotForEntry(name) => {
                let mut loc = self.loc.clone();
                loc.push(Place::Name("policy"));
                let rule = BrokenRule::new("value_error", format!("Value error, {error}"));
                Error::Invalid(vec![rule.at(loc, json!(name))])
            }
            RequestError::Repeated(_) | RequestError::ClientAddressMalformed => {
                Error::AttributeMalformed(error.to_string())
            }
            // A check has no proxy and all values, and its time is that of the gateway.
            RequestError::ClientAddressUnknown | RequestError::Secret(_) | RequestError::Time => {
                Error::Internal
            }
        }
    }
}

fn not_text() -> BrokenRule {
    BrokenRule::new("string_type", "Input should be a valid string")
}

fn text<'a>(value: &Input<'a>) -> Result<Cow<'a, str>, BrokenRule> {
    match value {
        Input::Text(text) => Ok(text.clone()),
        _ => Err(not_text()),
    }
}

/// Reads a text as bytes. Half of a surrogate pair has three bytes.
fn bytes<'a>(value: &Input<'a>) -> Result<Cow<'a, [u8]>, BrokenRule> {
    match value {
        Input::Text(Cow::Borrowed(text)) => Ok(Cow::Borrowed(text.as_bytes())),
        Input::Text(Cow::Owned(text)) => Ok(Cow::Owned(text.clone().into_bytes())),
        Input::Unreadable(json, _) => string_bytes(json).ok_or_else(not_text),
        _ => Err(not_text()),
    }
}

/// Reads the units that a check asks for. A whole number outside the bounds is clamped: 0 takes nothing,
/// so a negative number is 1.
fn cost(value: &Input<'_>) -> Result<u64, BrokenRule> {
    let number = match value {
        Input::Number(number) => {
            let text = number.to_string();
            thousandths(&text).ok().or_else(|| with_exponent(&text))
        }
        Input::Text(text) => thousandths(text).ok(),
        _ => None,
    };
    match number {
        Some(number) if number % 1000 == 0 => {
            let most = i128::from(Units::MAX.get());
            let units = number / 1000;
            let units = if units < 0 { 1 } else { units.min(most) };
            Ok(u64::try_from(units).unwrap_or(1))
        }
        _ => Err(BrokenRule::new("int_type", "Input should be a valid integer")),
    }
}

/// Reads a whole number with an exponent, such as `1e9`, as thousandths. The number is cut where every
/// range has ended.
fn with_exponent(text: &str) -> Option<i128> {
    let number = text.parse::<f64>().ok()?.clamp(-1.0, 1e15);
    (number.fract() == 0.0).then(|| format!("{number:.0}")).and_then(|text| thousandths(&text).ok())
}

#[cfg(test)]
mod tests;
