//! Records of requests: the attributes that policies read, in a form from which the request can be
//! judged again.
//!
//! A record has the digest of a secret value in place of the value, exactly as keys have it. Policies
//! judge a request with digests as they judge the request itself, except where a glob or a network
//! needs the value: see [`RequestError::Secret`].

use crate::attribute::AttributeName;
use crate::attributes::{AttributeError, Attributes, RequestError, Value};
use crate::digest::HashKey;
use crate::policies::Policies;
use crate::recorded_attribute::RecordedAttribute;
use crate::secret_value::SecretValue;

pub use crate::recorded_value::RecordedValue;

impl Policies {
    /// Returns the attributes of a request that these policies read, by their names. Claims of a token
    /// that no policy has needed are left out.
    #[must_use]
    pub fn record(&self, attributes: &Attributes<'_>) -> Vec<(&str, RecordedValue)> {
        let value =
            |recorded: &RecordedAttribute| recorded.value(attributes, self.hash_key.as_ref());
        let recorded = self.recorded.iter();
        recorded.filter_map(|recorded| Some((&*recorded.name, value(recorded)?))).collect()
    }

    /// Sets an attribute to the value of a record. The digest of a secret attribute stands for its value:
    /// with `hash_key`, the key of the digests, globs without a star can be compared with the value.
    ///
    /// # Errors
    ///
    /// An [`AttributeError`] where the name or the value is malformed.
    pub fn restore<'r>(
        &self,
        attributes: &mut Attributes<'r>,
        name: &str,
        value: &'r RecordedValue,
        hash_key: Option<&'r HashKey>,
    ) -> Result<(), AttributeError> {
        let place = self.recorded.binary_search_by(|recorded| (*recorded.name).cmp(name));
        let recorded = place.ok().and_then(|place| self.recorded.get(place));
        match recorded.filter(|recorded| recorded.part.secret && value.has_digests()) {
            Some(RecordedAttribute { part, .. }) => {
                let secret = SecretValue { digests: value, hash_key };
                attributes.secrets.push((part.attribute.clone(), secret));
                Ok(())
            }
            None => attributes.set_recorded(name, value),
        }
    }
}

impl Value<'_> {
    /// Returns the value, unless only its digest is known.
    pub(crate) fn known(self, name: &AttributeName) -> Result<Self, RequestError> {
        match self {
            Self::Secret(_) => Err(RequestError::secret(name)),
            value => Ok(value),
        }
    }
}

impl<'r> Attributes<'r> {
    /// Sets an attribute to the value of a log, which has the target of a request as its path.
    ///
    /// # Errors
    ///
    /// An [`AttributeError`] where the name or the value is malformed.
    pub fn set_recorded(
        &mut self,
        name: &str,
        value: &'r RecordedValue,
    ) -> Result<(), AttributeError> {
        match (AttributeName::parse(name).map_err(AttributeError::Name)?, value) {
            (AttributeName::Claim(_), RecordedValue::Text(text)) => self.set_claim(name, text),
            (AttributeName::Claim(_), RecordedValue::List(items)) => {
                self.set_claim_list(name, items)
            }
            (AttributeName::Path, RecordedValue::Text(text)) => {
                self.set_target(text.as_bytes()).map_err(AttributeError::Path)
            }
            // The host of a descriptor of Envoy can be outside the rule of hosts.
            (AttributeName::Host, RecordedValue::Text(text)) => {
                self.set_host(text.as_bytes());
                Ok(())
            }
            (AttributeName::Host, RecordedValue::Bytes { hex }) => {
                self.set_host(hex);
                Ok(())
            }
            (_, RecordedValue::Text(text)) => self.set(name, text),
            (_, RecordedValue::Bytes { hex }) => self.set_bytes(name, hex),
            (_, RecordedValue::List(_)) => Err(AttributeError::Shape),
        }
    }
}
