//! Secret values in a request that was made of a record.

use crate::digest::HashKey;
use crate::recorded_value::RecordedValue;

/// A secret value of which only the digest is known; of a list, the digests of its items.
#[derive(Clone, Debug)]
pub(crate) struct SecretValue<'v> {
    pub(crate) digests: &'v RecordedValue,
    /// The key of the digests, if it is known.
    pub(crate) hash_key: Option<&'v HashKey>,
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
