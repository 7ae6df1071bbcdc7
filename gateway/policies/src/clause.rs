//! Clauses: an attribute and the values for which the clause holds.

use crate::address::Network;
use crate::attribute::AttributeName;
use crate::attributes::{Attributes, RequestError, Value};
use crate::glob::Glob;
use crate::secret_value::SecretValue;

/// A condition on one attribute of a request.
#[derive(Clone, Debug)]
pub struct Clause {
    /// The attribute.
    pub attribute: AttributeName,
    /// True if explanations hide the value.
    pub secret: bool,
    /// The condition.
    pub condition: Condition,
    /// The clause as written, for explanations.
    pub written: Box<str>,
}

/// A condition on a value.
#[derive(Clone, Debug)]
pub enum Condition {
    /// One of the globs matches.
    Any(Box<[Glob]>),
    /// The value exists, and none of the globs matches.
    NotAny(Box<[Glob]>),
    /// The address is in one of the networks.
    In(Box<[Network]>),
    /// The address exists, and is in none of the networks.
    NotIn(Box<[Network]>),
    /// The value exists if true, and is missing if false.
    Exists(bool),
}

/// The text in place of a secret value.
pub(crate) const SECRET: &str = "(secret)";

impl Clause {
    /// Returns the clause as written, unless its attribute is secret.
    #[must_use]
    pub fn shown(&self) -> &str {
        if self.secret { SECRET } else { &self.written }
    }

    /// Returns whether the clause holds for a request. A clause on a missing attribute does not
    /// hold, unless the clause requires the attribute to be missing.
    pub(crate) fn holds(&self, attributes: &Attributes<'_>) -> Result<bool, RequestError> {
        self.holds_for(&attributes.value(&self.attribute)?)
    }

    /// Returns whether the clause holds for a value.
    pub(crate) fn holds_for(&self, value: &Value<'_>) -> Result<bool, RequestError> {
        Ok(match (&self.condition, value) {
            (Condition::Exists(exists), value) => *exists == (*value != Value::Missing),
            (_, Value::Missing) => false,
            (Condition::Any(globs), Value::Secret(secret)) => self.any_secret(globs, secret)?,
            (Condition::NotAny(globs), Value::Secret(secret)) => !self.any_secret(globs, secret)?,
            (Condition::In(_) | Condition::NotIn(_), Value::Secret(_)) => {
                return Err(RequestError::secret(&self.attribute));
            }
            (Condition::Any(globs), value) => any(globs, value),
            (Condition::NotAny(globs), value) => !any(globs, value),
            (Condition::In(networks), Value::Address(address)) => contains(networks, *address),
            (Condition::NotIn(networks), Value::Address(address)) => !contains(networks, *address),
            (Condition::In(_) | Condition::NotIn(_), _) => false,
        })
    }

    /// Returns whether a glob matches a secret value of which the digest is known. A glob with a star
    /// needs the value, unless another glob matches or every value matches.
    fn any_secret(&self, globs: &[Glob], secret: &SecretValue<'_>) -> Result<bool, RequestError> {
        let mut is_decided = true;
        for glob in globs {
            let matches = match glob.literal() {
                Some(text) => secret.is(text),
                None => glob.matches_everything().then_some(true),
            };
            match matches {
                Some(true) => return Ok(true),
                Some(false) => {}
                None => is_decided = false,
            }
        }
        if is_decided { Ok(false) } else { Err(RequestError::secret(&self.attribute)) }
    }

    /// Returns a measure of the work that the value of the attribute takes.
    pub(crate) const fn work(&self) -> u8 {
        match self.attribute {
            AttributeName::Method | AttributeName::Host | AttributeName::Path => 0,
            AttributeName::Word(_) | AttributeName::ClientIp(_) => 1,
            AttributeName::Header(_) => 2,
            AttributeName::Query(_) => 3,
            // The token has to be verified.
            AttributeName::Claim(_) => 4,
        }
    }
}

/// Returns whether a glob matches the value, or an element of a list.
fn any(globs: &[Glob], value: &Value<'_>) -> bool {
    let matches = |text: &[u8]| globs.iter().any(|glob| glob.matches(text));
    match value {
        Value::Text(text) => matches(text),
        Value::List(items) => items.iter().any(|item| matches(item)),
        Value::Missing | Value::Address(_) | Value::Secret(_) => false,
    }
}

fn contains(networks: &[Network], address: std::net::IpAddr) -> bool {
    let address = Network::of(address, u8::MAX);
    networks.iter().any(|network| network.contains(&address))
}
