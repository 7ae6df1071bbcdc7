//! Records of requests: the attributes that policies read, in a form from which the request can be
//! judged again.
//!
//! A record has the digest of a secret value in place of the value, exactly as keys have it. Policies
//! judge a request with digests as they judge the request itself, except where a glob or a network
//! needs the value: see [`RequestError::Secret`].

use serde::{Serialize, Serializer};

use crate::address::Grouping;
use crate::attribute::AttributeName;
use crate::attributes::{AttributeError, Attributes, RequestError, Value};
use crate::identity::{HashKey, IdentityPart, PartValue, is_digest, part_value};
use crate::policies::Policies;

/// The value of an attribute in a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RecordedValue {
    /// Text, or the digest of a secret value.
    Text(String),
    /// The items of a claim that is a list, or their digests.
    List(Vec<String>),
    /// Bytes that are no text.
    Bytes {
        /// The bytes, which are written as hexadecimal digits.
        #[serde(serialize_with = "write_hex")]
        hex: Vec<u8>,
    },
}

impl RecordedValue {
    /// Returns the bytes that hexadecimal digits stand for, or `None` for another text.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let mut hex = Vec::with_capacity(digits.len() / 2);
        for pair in digits.as_bytes().chunks(2) {
            let [high, low] = *pair else { return None };
            hex.push((digit(high)? << 4 | digit(low)?) as u8);
        }
        Some(Self::Bytes { hex })
    }

    /// Returns true for the digest of a secret value, and for a list of digests.
    fn has_digests(&self) -> bool {
        match self {
            Self::Text(text) => is_digest(text),
            Self::List(items) => !items.is_empty() && items.iter().all(|item| is_digest(item)),
            Self::Bytes { .. } => false,
        }
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        match str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes { hex: bytes.to_vec() },
        }
    }
}

fn write_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    serializer.serialize_str(&digits)
}

/// An attribute that records have, with its name as a file writes it.
#[derive(Clone, Debug)]
pub(crate) struct RecordedAttribute {
    name: Box<str>,
    part: IdentityPart,
}

impl RecordedAttribute {
    /// Returns the attributes of records, in the order of their names.
    pub(crate) fn list<'n>(
        reads: impl Iterator<Item = &'n AttributeName>,
        is_secret: impl Fn(&AttributeName) -> bool,
    ) -> Box<[Self]> {
        let mut list: Vec<_> = reads.map(|name| Self::new(name, is_secret(name))).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list.dedup_by(|a, b| a.name == b.name);
        list.into()
    }

    fn new(name: &AttributeName, secret: bool) -> Self {
        let attribute = match name {
            // The address has all groups. Each group has a digest of its own.
            AttributeName::ClientIp(_) if !secret => AttributeName::ClientIp(Grouping::default()),
            name => name.clone(),
        };
        Self { name: attribute.to_string().into(), part: IdentityPart { attribute, secret } }
    }

    /// Returns the value of the attribute. A value that cannot be read has no record: a policy that
    /// needs it answers the request with an error.
    fn value(
        &self,
        attributes: &Attributes<'_>,
        hash_key: Option<&HashKey>,
    ) -> Option<RecordedValue> {
        let Self { part, .. } = self;
        // A token that no policy has needed is not verified for a record.
        if matches!(part.attribute, AttributeName::Claim(_)) && !attributes.knows_claims() {
            return None;
        }
        match (attributes.value(&part.attribute).ok()?, part.secret) {
            (Value::Missing, _) => None,
            (Value::Secret(secret), _) => Some(secret.digests.clone()),
            (Value::Text(bytes), false) => Some(RecordedValue::of_bytes(&bytes)),
            (Value::Address(address), false) => Some(RecordedValue::Text(address.to_string())),
            (Value::List(items), false) => {
                let items = items.iter().map(|item| String::from_utf8_lossy(item).into_owned());
                Some(RecordedValue::List(items.collect()))
            }
            (Value::List(items), true) => {
                let key = hash_key?;
                Some(RecordedValue::List(items.iter().map(|item| key.digest(item)).collect()))
            }
            (Value::Text(_) | Value::Address(_), true) => {
                match part_value(part, attributes, Some(hash_key?)).ok()? {
                    PartValue::Text(digest) => Some(RecordedValue::of_bytes(&digest)),
                    PartValue::Missing | PartValue::Group(_) => None,
                }
            }
        }
    }
}

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

/// A secret value of which only the digest is known; of a list, the digests of its items.
#[derive(Clone, Debug)]
pub(crate) struct SecretValue<'v> {
    digests: &'v RecordedValue,
    /// The key of the digests, if it is known.
    hash_key: Option<&'v HashKey>,
}

impl SecretValue<'_> {
    /// Returns the digest that is a value of an identity. A list names no one identity.
    pub(crate) fn identity(&self) -> Option<&str> {
        match self.digests {
            RecordedValue::Text(digest) => Some(digest),
            RecordedValue::List(_) | RecordedValue::Bytes { .. } => None,
        }
    }

    /// Returns whether the value, or an item of the list, is this text; `None` without the key.
    pub(crate) fn is(&self, text: &[u8]) -> Option<bool> {
        let digest = self.hash_key?.digest(text);
        Some(match self.digests {
            RecordedValue::Text(known) => *known == digest,
            RecordedValue::List(items) => items.contains(&digest),
            RecordedValue::Bytes { .. } => false,
        })
    }
}

impl PartialEq for SecretValue<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.digests == other.digests
    }
}

impl Eq for SecretValue<'_> {}

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
            (_, RecordedValue::Text(text)) => self.set(name, text),
            (_, RecordedValue::Bytes { hex }) => self.set_bytes(name, hex),
            (_, RecordedValue::List(_)) => Err(AttributeError::Shape),
        }
    }
}
